//! Watches: every change once and in order, progress, lag.
use super::{Bench, next, until};
use crate::{Change, Changes, Entry, Error, Expect, Revision, Store, prefix};
use futures_util::{FutureExt, StreamExt, future::join_all};
use std::{collections::BTreeMap, future::Future, sync::Arc};

const WATCHERS: usize = 100;
const LAG_WRITES: usize = 3000;

pub(super) async fn run<F, M>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Store>>,
{
    changes_carry_old_and_new(Bench::new(make().await, "changes")).await;
    a_watch_resumes_in_the_past(Bench::new(make().await, "resume")).await;
    a_watch_sees_its_range_only(Bench::new(make().await, "scope")).await;
    asking_for_latest_brings_progress(Bench::new(make().await, "progress")).await;
    a_watch_may_start_in_the_future(Bench::new(make().await, "ahead")).await;
    concurrent_writes_are_seen_gapless(Bench::new(make().await, "gapless")).await;
    many_watchers_see_the_same(Bench::new(make().await, "many")).await;
    a_slow_watcher_slows_nobody(Bench::new(make().await, "lag")).await;
}

async fn changes_carry_old_and_new(bench: Bench) {
    let mut changes = bench.watch(bench.latest().await).await;
    let a1 = bench.create("a", "1").await;
    let a2 = bench.update(&a1, "2").await;
    let at = bench.delete(&a2).await;
    let a3 = bench.create("a", "3").await;
    for expected in [
        Change::Put { entry: a1.clone(), old: None },
        Change::Put { entry: a2.clone(), old: Some(a1) },
        Change::Deleted { old: a2, at },
        Change::Put { entry: a3, old: None },
    ] {
        assert_eq!(next(&mut changes).await, Ok(expected));
    }
}

async fn a_watch_resumes_in_the_past(bench: Bench) {
    let mut made = Vec::new();
    for index in 0..20 {
        made.push(bench.create(&format!("k{index:02}"), "v").await);
    }
    for start in [0, 7, 19] {
        let mut changes = bench.watch(made[start].modified).await;
        let seen = until(&mut changes, made[19].modified).await;
        let expected: Vec<Change> =
            made[start + 1..].iter().map(|e| Change::Put { entry: e.clone(), old: None }).collect();
        assert_eq!(seen, expected, "after the change {start}");
    }
}

async fn a_watch_sees_its_range_only(bench: Bench) {
    let after = bench.latest().await;
    let inside = prefix(&bench.key("in/"));
    let mut changes = bench.store.watch(inside, after).await.expect("the watch starts");
    bench.create("im", "v").await;
    let seen = bench.create("in/a", "v").await;
    bench.create("in", "v").await;
    bench.create("in0", "v").await;
    let last = bench.create("in/b", "v").await;
    for entry in [seen, last] {
        assert_eq!(next(&mut changes).await, Ok(Change::Put { entry, old: None }));
    }
}

async fn asking_for_latest_brings_progress(bench: Bench) {
    let start = bench.latest().await;
    let quiet = prefix(&bench.key("quiet/"));
    let mut changes = bench.store.watch(quiet, start).await.expect("the watch starts");
    // Caught up from the start.
    assert_eq!(until(&mut changes, start).await, []);
    let mut last = bench.create("loud/a", "0").await;
    for round in 1..4 {
        last = bench.update(&last, &round.to_string()).await;
        let latest = bench.latest().await;
        assert!(latest >= last.modified);
        assert_eq!(until(&mut changes, latest).await, []);
    }
    // Progress comes after what it covers, also when that was not read yet.
    let noise = bench.create("quiet/a", "v").await;
    let latest = bench.latest().await;
    assert_eq!(until(&mut changes, latest).await, [Change::Put { entry: noise, old: None }]);
}

async fn a_watch_may_start_in_the_future(bench: Bench) {
    let a = bench.create("a", "0").await;
    let after = Revision(a.modified.0 + 2);
    let mut changes = bench.watch(after).await;
    let mut entry = a;
    while entry.modified <= after {
        entry = bench.update(&entry, "x").await;
    }
    match next(&mut changes).await {
        Ok(Change::Put { entry: seen, .. }) => assert_eq!(seen, entry),
        other => panic!("{other:?}"),
    }
}

async fn concurrent_writes_are_seen_gapless(bench: Bench) {
    const ROUNDS: usize = 20;
    let mut changes = bench.watch(bench.latest().await).await;
    let writers = (0..32).map(|writer| {
        let bench = &bench;
        async move {
            let mut done = Vec::new();
            let name = format!("w{writer}");
            let mut entry: Option<Entry> = None;
            for round in 0..ROUNDS {
                entry = match entry {
                    Some(entry) if round % 5 == 4 => {
                        done.push(bench.delete(&entry).await);
                        None
                    }
                    Some(entry) => Some(bench.update(&entry, &round.to_string()).await),
                    None => Some(bench.create(&name, &round.to_string()).await),
                };
                done.extend(entry.as_ref().map(|entry| entry.modified));
            }
            done
        }
    });
    let mut written: Vec<Revision> = join_all(writers).await.into_iter().flatten().collect();
    written.sort();
    let seen = until(&mut changes, bench.latest().await).await;
    let revisions: Vec<Revision> = seen.iter().map(Change::revision).collect();
    assert_eq!(revisions, written, "every acknowledged write is seen once and in order");
    let mut state: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
    for change in seen {
        let key = Arc::clone(change.key().expect("a change has a key"));
        assert_eq!(change.old(), state.get(&key), "a change follows the one before it");
        match change {
            Change::Put { entry, .. } => state.insert(key, entry),
            _ => state.remove(&key),
        };
    }
}

async fn many_watchers_see_the_same(bench: Bench) {
    let start = bench.latest().await;
    let mut watchers: Vec<Changes> =
        join_all((0..WATCHERS).map(|_| bench.watch(start)).collect::<Vec<_>>()).await;
    let mut expected = Vec::new();
    for index in 0..20 {
        let entry = bench.create(&format!("k{index}"), "v").await;
        expected.push(Change::Put { entry, old: None });
    }
    let latest = bench.latest().await;
    let all = join_all(watchers.iter_mut().map(|changes| until(changes, latest))).await;
    for seen in all {
        assert_eq!(seen, expected);
    }
    // Leaving is noticed: what is left goes on.
    watchers.truncate(1);
    let entry = bench.create("last", "v").await;
    assert_eq!(next(&mut watchers[0]).await, Ok(Change::Put { entry, old: None }));
}

/// Nobody reads while much is written: all writes succeed, and the watcher then sees all of them,
/// or a beginning of them and that it was cut off.
async fn a_slow_watcher_slows_nobody(bench: Bench) {
    let mut changes = bench.watch(bench.latest().await).await;
    let big = "x".repeat(10_000);
    let mut entry = bench.create("a", &big).await;
    let mut written = vec![entry.modified];
    for _ in 1..LAG_WRITES {
        entry = bench.update(&entry, &big).await;
        written.push(entry.modified);
    }
    let mut seen = Vec::new();
    while seen.len() < written.len() {
        match next(&mut changes).await {
            Ok(change) => seen.push(change.revision()),
            Err(Error::Lagged) => {
                let after = changes.next().now_or_never().flatten();
                assert!(after.is_none(), "a watch that was cut off yielded {after:?}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(seen, written[..seen.len()], "what was seen before the cut is gapless");
    let fresh = bench.put("b", "v", Expect::Absent).await.expect("writing goes on");
    let mut changes = bench.watch(entry.modified).await;
    assert_eq!(next(&mut changes).await, Ok(Change::Put { entry: fresh, old: None }));
}
