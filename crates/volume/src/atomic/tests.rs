use super::*;

fn files(list: &[(&str, &str, u32)]) -> Files {
    list.iter()
        .map(|(path, text, mode)| {
            let file = File { bytes: text.as_bytes().to_vec(), mode: *mode, owner: None };
            ((*path).to_owned(), file)
        })
        .collect()
}

/// Every name in the folder, sorted; folders of a time all look alike.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| if name.starts_with("..2") { "TIME".into() } else { name })
        .collect();
    names.sort();
    names
}

#[test]
fn files_appear_with_their_modes() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("v");
    let list = files(&[("a", "1", 0o644), ("d/b", "2", 0o400), ("d/e/c", "3", 0o777)]);
    assert!(write(&dir, &list, None).unwrap());
    assert_eq!(names(&dir), ["..data", "TIME", "a", "d"]);
    assert_eq!(fs::read_to_string(dir.join("d/e/c")).unwrap(), "3");
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a"), mode("d/b"), mode("d/e/c"), mode("d")), (0o644, 0o400, 0o777, 0o755));
}

#[test]
fn unchanged_content_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let list = files(&[("a", "1", 0o644)]);
    assert!(write(root.path(), &list, None).unwrap());
    let before = fs::read_link(root.path().join(DATA)).unwrap();
    assert!(!write(root.path(), &list, None).unwrap());
    assert_eq!(fs::read_link(root.path().join(DATA)).unwrap(), before);
}

#[test]
fn changes_replace_the_link_and_remove_what_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    write(dir, &files(&[("a", "1", 0o644), ("b", "x", 0o644)]), None).unwrap();
    let open = fs::File::open(dir.join("a")).unwrap();
    for (next, want) in [
        (files(&[("a", "2", 0o644), ("c/d", "y", 0o644)]), vec!["..data", "TIME", "a", "c"]),
        (files(&[("a", "2", 0o600)]), vec!["..data", "TIME", "a"]),
        (files(&[]), vec!["..data", "TIME"]),
    ] {
        assert!(write(dir, &next, None).unwrap());
        assert_eq!(names(dir), want);
    }
    let text = io::read_to_string(open).unwrap();
    assert_eq!(text, "1", "who has a file open keeps what it had");
}

#[test]
fn a_file_becomes_a_folder_and_back() {
    let root = tempfile::tempdir().unwrap();
    for list in [&[("a", "1", 0o644)], &[("a/b", "2", 0o644)], &[("a", "3", 0o644)]] {
        assert!(write(root.path(), &files(list), None).unwrap());
        let (path, text, _) = list[0];
        assert_eq!(fs::read_to_string(root.path().join(path)).unwrap(), text);
    }
}

#[test]
fn a_write_that_was_cut_off_is_mended() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    fs::create_dir(dir.join("..2020_01_01_00_00_00.1")).unwrap();
    symlink("..2020_01_01_00_00_00.1", dir.join(NEW_DATA)).unwrap();
    symlink("nowhere", dir.join(DATA)).unwrap();
    write(dir, &files(&[("a", "1", 0o644)]), None).unwrap();
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
    assert_eq!(names(dir), ["..data", "TIME", "a"]);
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in ["", "/a", "..", "../a", "a/../b", "a/..", "..a", "./a"] {
        let result = write(tempfile::tempdir().unwrap().path(), &files(&[(path, "", 0)]), None);
        assert!(matches!(result, Err(Error::Refused(_))), "{path:?}");
    }
    for path in ["a", "a.b", "a/..b/c", ".a"] {
        check(path).unwrap();
    }
}

#[test]
fn the_group_may_read() {
    let root = tempfile::tempdir().unwrap();
    // Changing to another group than one's own needs a privilege that the test may lack.
    let own = fs::metadata(root.path()).unwrap().gid();
    let dir = root.path().join("v");
    write(&dir, &files(&[("a", "1", 0o400)]), Some(own)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&dir.join("a")), 0o440);
    assert_eq!(mode(&dir), 0o2775);
}
