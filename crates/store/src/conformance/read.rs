//! Reads: order, limits, pages, older states, compaction.
use super::{Bench, names};
use crate::{Error, ReadAt, Revision, Store};
use std::{future::Future, sync::Arc};

pub(super) async fn run<F, M>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Store>>,
{
    ranges_are_half_open_and_ordered(Bench::new(make().await, "ranges")).await;
    a_limit_tells_what_remains(Bench::new(make().await, "limit")).await;
    pages_of_one_revision_agree(Bench::new(make().await, "pages")).await;
    an_older_state_can_be_read(Bench::new(make().await, "older")).await;
    the_future_cannot_be_read(Bench::new(make().await, "future")).await;
    compacted_states_are_refused(Bench::new(make().await, "compact")).await;
}

async fn ranges_are_half_open_and_ordered(bench: Bench) {
    for name in ["b", "a-", "a", "c", "a0", "ä"] {
        bench.create(name, name).await;
    }
    let page = bench.read(ReadAt::Latest, 0).await.expect("reads");
    assert_eq!(names(&page), ["a", "a-", "a0", "b", "c", "ä"], "keys are ordered by their bytes");
    let some = bench.key("a-")..bench.key("c");
    let page = bench.store.range(some, ReadAt::Latest, 0).await.expect("reads");
    assert_eq!(names(&page), ["a-", "a0", "b"]);
    let one = bench.key("a")..bench.key("a\0");
    let page = bench.store.range(one, ReadAt::Latest, 0).await.expect("reads");
    assert_eq!(names(&page), ["a"]);
    for empty in [bench.key("c")..bench.key("a"), bench.key("b")..bench.key("b")] {
        let page = bench.store.range(empty, ReadAt::Latest, 0).await.expect("reads");
        assert_eq!((page.entries.len(), page.remaining), (0, 0));
    }
}

async fn a_limit_tells_what_remains(bench: Bench) {
    for name in ["a", "b", "c", "d", "e"] {
        bench.create(name, name).await;
    }
    for (limit, remaining) in [(0, 0), (1, 4), (4, 1), (5, 0), (6, 0)] {
        let page = bench.read(ReadAt::Latest, limit).await.expect("reads");
        let expected = if limit == 0 { 5 } else { limit.min(5) as usize };
        assert_eq!(page.entries.len(), expected, "limit {limit}");
        assert_eq!(page.remaining, remaining, "limit {limit}");
    }
}

async fn pages_of_one_revision_agree(bench: Bench) {
    let mut entries = Vec::new();
    for index in 0..10 {
        entries.push(bench.create(&format!("k{index}"), "old").await);
    }
    let first = bench.read(ReadAt::Latest, 4).await.expect("reads");
    // Later pages must not show any of this.
    bench.delete(&entries[5]).await;
    bench.update(&entries[6], "new").await;
    bench.create("k5b", "new").await;
    let mut seen = first.entries;
    let mut remaining = first.remaining;
    while remaining > 0 {
        let last = seen.last().map(|entry| format!("{}\0", entry.key)).unwrap_or_default();
        let keys = last..bench.all().end;
        let page = bench.store.range(keys, ReadAt::Exactly(first.at), 4).await.expect("reads");
        assert_eq!(page.at, first.at);
        assert_eq!(page.remaining, remaining - page.entries.len() as u64);
        remaining = page.remaining;
        seen.extend(page.entries);
    }
    assert_eq!(seen, entries);
}

async fn an_older_state_can_be_read(bench: Bench) {
    let a1 = bench.create("a", "1").await;
    let b1 = bench.create("b", "1").await;
    let a2 = bench.update(&a1, "2").await;
    let b_gone = bench.delete(&b1).await;
    let b2 = bench.create("b", "2").await;
    for (at, expected) in [
        (a1.modified, vec![a1.clone()]),
        (b1.modified, vec![a1.clone(), b1.clone()]),
        (a2.modified, vec![a2.clone(), b1.clone()]),
        (b_gone, vec![a2.clone()]),
        (b2.modified, vec![a2.clone(), b2.clone()]),
    ] {
        let page = bench.read(ReadAt::Exactly(at), 0).await.expect("reads");
        assert_eq!(page.entries, expected, "at {at:?}");
        let page = bench.read(ReadAt::AtLeast(at), 0).await.expect("reads");
        assert!(page.at >= at);
        assert_eq!(page.entries, [a2.clone(), b2.clone()], "at least {at:?} may be the latest");
    }
}

async fn the_future_cannot_be_read(bench: Bench) {
    let a = bench.create("a", "1").await;
    let future = Revision(a.modified.0 + 1_000_000);
    for at in [ReadAt::AtLeast(future), ReadAt::Exactly(future)] {
        match bench.read(at, 0).await {
            Err(Error::Future { latest }) => assert!(latest >= a.modified && latest < future),
            other => panic!("{at:?} yielded {other:?}"),
        }
    }
    match bench.store.compact(future).await {
        Err(Error::Future { .. }) => {}
        other => panic!("compaction up to the future yielded {other:?}"),
    }
}

async fn compacted_states_are_refused(bench: Bench) {
    let mut entry = bench.create("a", "0").await;
    let first = entry.modified;
    for value in 1..10 {
        entry = bench.update(&entry, &value.to_string()).await;
    }
    let kept = entry.modified;
    bench.store.compact(kept).await.expect("compacts");
    match bench.read(ReadAt::Exactly(first), 0).await {
        Err(Error::Compacted { oldest }) => assert!(oldest > first && oldest <= kept),
        other => panic!("a compacted state yielded {other:?}"),
    }
    match bench.store.watch(bench.all(), first).await {
        Err(Error::Compacted { oldest }) => assert!(oldest > first && oldest <= kept),
        Err(error) => panic!("a watch from a compacted revision failed with {error:?}"),
        Ok(_) => panic!("a watch from a compacted revision started"),
    }
    let latest = bench.read(ReadAt::Latest, 0).await.expect("the latest state stays");
    assert_eq!(latest.entries, [entry.clone()]);
    let exact = bench.read(ReadAt::Exactly(kept), 0).await.expect("the kept state stays");
    assert_eq!(exact.entries, [entry]);
    // Compacting the same again may be refused or not; it must not harm.
    let _ = bench.store.compact(kept).await;
    drop(bench.watch(kept).await);
}
