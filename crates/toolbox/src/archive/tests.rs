use std::fs;
use std::io::Read;
use std::path::Path;

fn run(args: &[&str]) -> i32 {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    super::main(&args).unwrap_or_else(|fault| panic!("{args:?}: {fault}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An archive of one entry with exactly this name, as a hostile sender could make it.
fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, body) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let data = match kind {
            tar::EntryType::Regular => body.as_bytes(),
            _ => {
                header.as_old_mut().linkname[..body.len()].copy_from_slice(body.as_bytes());
                b""
            }
        };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn what_goes_in_comes_out() {
    for zip in ["", "z"] {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("inner/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", from.join("inner/link")).unwrap();
        let tar = folder.path().join("a.tar");
        // The letters' values follow them in the old style; a zipped archive is recognized.
        assert_eq!(run(&["tar", &format!("c{zip}f"), text(&tar), text(&from)]), 0);
        let zipped = fs::read(&tar).unwrap().starts_with(&[0x1f, 0x8b]);
        assert_eq!(zipped, !zip.is_empty());
        assert_eq!(run(&["tar", "xmf", text(&tar), "-C", text(&to)]), 0);
        let out = to.join(from.strip_prefix("/").unwrap()).join("inner");
        assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "text");
        assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("file"));
        let strip = from.components().count() - 1;
        let flat = folder.path().join("flat");
        fs::create_dir(&flat).unwrap();
        let strip = format!("--strip-components={strip}");
        assert_eq!(run(&["tar", "-xf", text(&tar), "-C", text(&flat), &strip]), 0);
        assert_eq!(fs::read_to_string(flat.join("inner/file")).unwrap(), "text");
    }
}

#[test]
fn extraction_stays_inside() {
    use tar::EntryType::{Link, Regular, Symlink};
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "kept").unwrap();
    let way_out = text(outside.path());
    type Entries<'a> = &'a [(&'a str, tar::EntryType, &'a str)];
    let cases: [(Entries<'_>, i32); 5] = [
        (&[("../escaped", Regular, "x")], 1),
        (&[("a/../../escaped", Regular, "x")], 1),
        (&[("out", Symlink, way_out), ("out/secret", Regular, "x")], 1),
        (&[("out", Symlink, way_out), ("hard", Link, "out/secret")], 1),
        (&[("file", Symlink, text(&secret)), ("file", Regular, "x")], 0),
    ];
    for (entries, code) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (tar, to) = (folder.path().join("a.tar"), folder.path().join("to"));
        fs::write(&tar, archive(entries)).unwrap();
        fs::create_dir(&to).unwrap();
        assert_eq!(run(&["tar", "-xf", text(&tar), "-C", text(&to)]), code, "{entries:?}");
        assert!(!folder.path().join("escaped").exists(), "{entries:?}");
        assert!(!to.join("hard").exists(), "{entries:?}");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "kept", "{entries:?}");
    }
    let absolute = archive(&[("/absolute", Regular, "x")]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.tar"), absolute).unwrap();
    let tar = folder.path().join("a.tar");
    assert_eq!(run(&["tar", "xf", text(&tar), "-C", text(folder.path())]), 0);
    let mut found = String::new();
    let mut file = fs::File::open(folder.path().join("absolute")).unwrap();
    file.read_to_string(&mut found).unwrap();
    assert_eq!(found, "x");
}

#[test]
fn nonsense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("a.tar");
    fs::write(&tar, "this is no archive ".repeat(100)).unwrap();
    let words = ["tar", "xf", text(&tar), "-C", text(folder.path())].map(str::to_owned);
    assert!(super::main(&words).is_err());
    assert!(super::main(&["tar".to_owned(), "cx".to_owned()]).is_err());
    assert!(super::main(&["tar".to_owned(), "--unknown".to_owned()]).is_err());
}
