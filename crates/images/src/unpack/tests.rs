use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::*;

/// One entry of an archive made by hand, so that it can be as wrong as one likes.
struct Made {
    kind: EntryType,
    path: &'static str,
    link: &'static str,
    mode: u32,
    owner: u64,
    body: &'static [u8],
}

const FILE: Made =
    Made { kind: EntryType::Regular, path: "", link: "", mode: 0o644, owner: 0, body: b"" };

fn archive(entries: &[Made]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for made in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(made.kind);
        header.set_mode(made.mode);
        header.set_uid(made.owner);
        header.set_gid(made.owner);
        header.set_mtime(1_000_000_000);
        header.set_size(made.body.len() as u64);
        let bytes = header.as_mut_bytes();
        bytes[..made.path.len()].copy_from_slice(made.path.as_bytes());
        bytes[157..157 + made.link.len()].copy_from_slice(made.link.as_bytes());
        header.set_cksum();
        builder.append(&header, made.body).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(entries: &[Made]) -> (tempfile::TempDir, io::Result<u64>) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("layer")).unwrap();
    let done = unpack(archive(entries).as_slice(), &dir.path().join("layer"));
    (dir, done)
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: owners and whiteouts need root");
    }
    root
}

#[test]
fn keeps_what_files_are() {
    if !root() {
        return;
    }
    let (dir, done) = unpacked(&[
        Made { kind: EntryType::Directory, path: "./d/", mode: 0o1777, ..FILE },
        Made { path: "d/suid", mode: 0o4755, owner: 12, body: b"x", ..FILE },
        Made { kind: EntryType::Link, path: "d/hard", link: "./d/suid", ..FILE },
        Made { kind: EntryType::Symlink, path: "d/soft", link: "/etc/passwd", ..FILE },
        Made { kind: EntryType::Fifo, path: "/pipe", mode: 0o600, ..FILE },
        Made { path: "deep/er/file", body: b"twice", ..FILE },
        Made { path: "deep/er/file", body: b"once", ..FILE },
    ]);
    done.unwrap();
    let layer = dir.path().join("layer");
    let meta = |p: &str| fs::symlink_metadata(layer.join(p)).unwrap();
    assert_eq!(meta("d").mode() & 0o7777, 0o1777);
    assert_eq!(meta("d").mtime(), 1_000_000_000);
    let file = meta("d/suid");
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o4755, 12, 12));
    assert_eq!(file.mtime(), 1_000_000_000);
    assert_eq!(meta("d/hard").ino(), file.ino());
    assert_eq!(fs::read_link(layer.join("d/soft")).unwrap(), Path::new("/etc/passwd"));
    assert!(meta("pipe").file_type().is_fifo());
    assert_eq!(fs::read(layer.join("deep/er/file")).unwrap(), b"once");
}

#[test]
fn whiteouts_are_overlayfs_own() {
    if !root() {
        return;
    }
    let (dir, done) = unpacked(&[
        Made { path: "a/.wh.gone", ..FILE },
        Made { path: "b/.wh..wh..opq", ..FILE },
        Made { path: ".wh..wh.plnk", ..FILE },
    ]);
    done.unwrap();
    let layer = dir.path().join("layer");
    let gone = fs::symlink_metadata(layer.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let opaque = File::open(layer.join("b")).unwrap();
    let value = sys::xattr::get(&opaque, "trusted.overlay.opaque").unwrap();
    assert_eq!(value.as_deref(), Some(&b"y"[..]));
    assert_eq!(fs::read_dir(&layer).unwrap().count(), 2);
}

#[test]
fn nothing_gets_out() {
    if !root() {
        return;
    }
    let escapes: &[&[Made]] = &[
        &[Made { path: "../out", body: b"x", ..FILE }],
        &[Made { path: "a/../../out", body: b"x", ..FILE }],
        &[
            Made { kind: EntryType::Symlink, path: "l", link: "..", ..FILE },
            Made { path: "l/out", body: b"x", ..FILE },
        ],
        &[
            Made { kind: EntryType::Symlink, path: "l", link: "/", ..FILE },
            Made { path: "l/out", body: b"x", ..FILE },
        ],
        &[
            Made { kind: EntryType::Symlink, path: "out", link: "../out", ..FILE },
            Made { path: "out", body: b"x", ..FILE },
        ],
        &[Made { kind: EntryType::Link, path: "l", link: "../secret", ..FILE }],
        &[Made { path: ".wh.../secret", ..FILE }],
        &[
            Made { kind: EntryType::Symlink, path: "l", link: "../", ..FILE },
            Made { path: "l/.wh.secret", ..FILE },
        ],
    ];
    for entries in escapes {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("layer")).unwrap();
        fs::write(dir.path().join("secret"), "kept").unwrap();
        // Refused or kept inside: both are right.
        let _ = unpack(archive(entries).as_slice(), &dir.path().join("layer"));
        assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"kept");
        assert_eq!(fs::metadata(dir.path().join("secret")).unwrap().nlink(), 1);
        assert!(!dir.path().join("out").exists() && !Path::new("/out").exists());
    }
}

#[test]
fn broken_archives_are_errors() {
    if !root() {
        return;
    }
    let good = archive(&[Made { path: "f", body: &[7; 2000], ..FILE }]);
    let dir = tempfile::tempdir().unwrap();
    for cut in [100, 600, 1500] {
        assert!(unpack(&good[..cut], dir.path()).is_err(), "cut at {cut}");
    }
    let mut broken = good;
    broken[3] = b'!';
    assert!(unpack(broken.as_slice(), dir.path()).is_err(), "checksum");
}
