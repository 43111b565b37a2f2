use super::*;
use crate::conformance;
use futures_util::{FutureExt, StreamExt};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn put(store: &Mem, key: &str, expect: Expect) -> Entry {
    store.put_now(key, Bytes::from_static(b"value"), expect).unwrap()
}

fn watch(store: &Mem, after: u64) -> Changes {
    store.window.watch(crate::prefix("/"), Revision(after)).unwrap()
}

#[tokio::test]
async fn conforms() {
    let make = || async { Arc::new(Mem::default()) as Arc<dyn Store> };
    tokio::time::timeout(PATIENCE, conformance::run(make)).await.expect("the suite ends");
}

#[test]
fn a_watcher_that_missed_a_change_is_cut_off_and_a_quiet_one_is_not() {
    let store = Mem::new(Limits { changes: 4, bytes: 1 << 20 });
    let mut loud = watch(&store, 0);
    let mut quiet = store.window.watch(crate::prefix("/quiet/"), Revision(0)).unwrap();
    for index in 0..10 {
        put(&store, &format!("/loud/{index}"), Expect::Absent);
    }
    assert_eq!(loud.next().now_or_never(), Some(Some(Err(Error::Lagged))));
    assert_eq!(loud.next().now_or_never(), Some(None));
    let progress = Change::Progress(Revision(10));
    assert_eq!(quiet.next().now_or_never(), Some(Some(Ok(progress))));
    let entry = put(&store, "/quiet/a", Expect::Absent);
    let seen = Change::Put { entry, old: None };
    assert_eq!(quiet.next().now_or_never(), Some(Some(Ok(seen))));
}

#[test]
fn the_window_is_bounded_by_bytes_too() {
    let store = Mem::new(Limits { changes: 1000, bytes: 10_000 });
    for index in 0..100 {
        let value = Bytes::from(vec![0; 1000]);
        store.put_now(&format!("/{index}"), value, Expect::Absent).unwrap();
    }
    let refused = store.window.watch(crate::prefix("/"), Revision(50));
    assert!(matches!(refused, Err(Error::Compacted { oldest }) if oldest.0 > 90));
    drop(watch(&store, 99));
}

#[test]
fn a_watcher_that_sees_nothing_for_long_is_told_of_progress() {
    let store = Mem::default();
    let mut quiet = store.window.watch(crate::prefix("/quiet/"), Revision(0)).unwrap();
    assert_eq!(quiet.next().now_or_never(), Some(Some(Ok(Change::Progress(Revision(0))))));
    assert_eq!(quiet.next().now_or_never(), None);
    for index in 0..999 {
        put(&store, &format!("/{index}"), Expect::Absent);
    }
    assert_eq!(quiet.next().now_or_never(), None);
    put(&store, "/last", Expect::Absent);
    assert_eq!(quiet.next().now_or_never(), Some(Some(Ok(Change::Progress(Revision(1000))))));
    assert_eq!(quiet.next().now_or_never(), None);
}

#[test]
fn staged_changes_are_unseen_until_revealed_and_can_be_retracted() {
    let window = Arc::new(Window::new(Limits::default(), Revision(0)));
    let entry = |revision| Entry {
        key: Arc::from("/a"),
        value: Bytes::new(),
        created: Revision(1),
        modified: Revision(revision),
    };
    let first = Change::Put { entry: entry(1), old: None };
    let mut changes = window.watch(crate::prefix("/"), Revision(0)).unwrap();
    assert_eq!(changes.next().now_or_never(), Some(Some(Ok(Change::Progress(Revision(0))))));
    window.stage([Change::Put { entry: entry(1), old: None }]);
    assert_eq!(changes.next().now_or_never(), None);
    let undone = window.undo(&crate::prefix("/"), Revision(0), Revision(1)).unwrap();
    assert_eq!(undone.get("/a"), Some(&None));
    window.retract();
    assert_eq!(changes.next().now_or_never(), None);
    window.stage([first.clone()]);
    window.reveal();
    assert_eq!(changes.next().now_or_never(), Some(Some(Ok(first))));
    assert_eq!(window.latest(), Revision(1));
}

#[test]
fn a_prefix_ends_where_its_keys_do() {
    for (given, end) in [("/a/", "/a0"), ("a\u{d7ff}", "a\u{e000}"), ("a\u{10ffff}", "b")] {
        assert_eq!(crate::prefix(given), given.to_owned()..end.to_owned());
    }
    assert!(crate::prefix("").contains(&"anything".to_owned()));
}
