//! The contract of [`crate::Store`] as checks that run against every backend.
//!
//! The caller makes the stores (a fresh one for each check, or views of a shared one: every check
//! keeps to keys of its own) and bounds the time: a check that breaks may wait for ever. A broken
//! contract panics with what was seen.
mod read;
mod watch;
mod write;

use crate::{Change, Changes, Entry, Error, Expect, Page, ReadAt, Revision, Store, prefix};
use bytes::Bytes;
use futures_util::StreamExt;
use std::{future::Future, ops::Range, sync::Arc};

/// Runs every check, each on a store from `make`.
pub async fn run<F, M>(make: M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Store>>,
{
    write::run(&make).await;
    read::run(&make).await;
    watch::run(&make).await;
}

/// A store seen through the keys of one check.
struct Bench {
    store: Arc<dyn Store>,
    prefix: String,
}

impl Bench {
    fn new(store: Arc<dyn Store>, check: &str) -> Bench {
        Bench { store, prefix: format!("/conformance/{check}/") }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn all(&self) -> Range<String> {
        prefix(&self.prefix)
    }

    async fn create(&self, name: &str, value: &str) -> Entry {
        self.put(name, value, Expect::Absent).await.expect("a new key can be created")
    }

    async fn update(&self, entry: &Entry, value: &str) -> Entry {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let expect = Expect::At(entry.modified);
        self.store.put(&entry.key, value, expect).await.expect("an entry can be updated")
    }

    async fn put(&self, name: &str, value: &str, expect: Expect) -> Result<Entry, Error> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.store.put(&self.key(name), value, expect).await
    }

    async fn delete(&self, entry: &Entry) -> Revision {
        let (old, at) = self
            .store
            .delete(&entry.key, entry.modified)
            .await
            .expect("an entry can be deleted at its revision");
        assert_eq!(&old, entry, "a deletion yields the entry as it was");
        at
    }

    async fn read(&self, at: ReadAt, limit: u32) -> Result<Page, Error> {
        self.store.range(self.all(), at, limit).await
    }

    async fn latest(&self) -> Revision {
        self.store.latest().await.expect("the latest revision can be read")
    }

    async fn watch(&self, after: Revision) -> Changes {
        self.store.watch(self.all(), after).await.expect("the watch starts")
    }
}

/// The next change that is not progress.
async fn next(changes: &mut Changes) -> Result<Change, Error> {
    loop {
        match changes.next().await.expect("a watch does not just end") {
            Ok(Change::Progress(_)) => {}
            other => return other,
        }
    }
}

/// Reads on until progress at or past `until`, and yields the changes before it.
async fn until(changes: &mut Changes, until: Revision) -> Vec<Change> {
    let mut seen = Vec::new();
    let mut reached = Revision(0);
    loop {
        let change = changes.next().await.expect("a watch does not just end");
        let change = change.expect("the watch goes on");
        assert!(change.revision() >= reached, "{change:?} after {reached:?}");
        reached = change.revision();
        match change {
            Change::Progress(at) if at >= until => return seen,
            Change::Progress(_) => {}
            change => seen.push(change),
        }
    }
}

fn names(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.key.rsplit('/').next().unwrap_or_default()).collect()
}
