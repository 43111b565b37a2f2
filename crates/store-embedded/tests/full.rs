//! A disk that is really full: a small one in memory, mounted where only this test sees it.
#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::{fs, path::Path, thread};
use store::{Error, Expect, ReadAt, Store};
use store_embedded::{Embedded, Options};

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    // A thread may have mounts of its own; those it starts share them.
    let test = thread::spawn(move || {
        if let Err(error) = mount_small_disk(&path) {
            eprintln!("skipped: mounting a small disk needs root ({error})");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(fill(&path));
    });
    test.join().unwrap();
}

fn mount_small_disk(path: &Path) -> Result<(), Errno> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=24m"))
}

async fn fill(dir: &Path) {
    let store = Embedded::open(&dir.join("store"), Options::default()).unwrap();
    let value = Bytes::from(vec![7; 50_000]);
    let mut written = 0;
    let refused = loop {
        match store.put(&format!("/{written}"), value.clone(), Expect::Absent).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "a disk of 24 MiB took it all");
    };
    assert!(matches!(refused, Error::Full(_)), "{refused:?}");
    assert!(written > 10, "full after {written} writes");
    // To the last byte, by somebody else.
    let mut filler = Vec::new();
    for size in [1 << 20, 1 << 16, 1 << 12] {
        loop {
            let path = dir.join(format!("filler-{}", filler.len()));
            filler.push(path.clone());
            if fs::write(path, vec![1_u8; size]).is_err() {
                break;
            }
        }
    }
    let refused = store.put("/more", value.clone(), Expect::Absent).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    let page = store.range(store::prefix("/"), ReadAt::Latest, 0).await.unwrap();
    assert_eq!(page.entries.len(), written);
    // It also opens when there is no room at all.
    drop(store);
    let store = Embedded::open(&dir.join("store"), Options::default()).unwrap();
    let page = store.range(store::prefix("/"), ReadAt::Latest, 0).await.unwrap();
    assert_eq!(page.entries.len(), written);
    for path in filler {
        fs::remove_file(path).unwrap();
    }
    fs::remove_file(dir.join("store/reserve")).unwrap();
    store.put("/more", value, Expect::Absent).await.expect("there is room again");
}
