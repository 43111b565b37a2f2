//! Writes: order, expectations, concurrency.
use super::{Bench, names};
use crate::{Error, Expect, ReadAt, Revision, Store};
use futures_util::future::join_all;
use std::{collections::BTreeSet, future::Future, sync::Arc};

const WRITERS: usize = 64;

pub(super) async fn run<F, M>(make: &M)
where
    M: Fn() -> F,
    F: Future<Output = Arc<dyn Store>>,
{
    revisions_increase(Bench::new(make().await, "revisions")).await;
    unmet_expectations_tell_what_was_found(Bench::new(make().await, "unmet")).await;
    a_key_created_again_is_a_new_one(Bench::new(make().await, "again")).await;
    of_concurrent_creations_one_wins(Bench::new(make().await, "race")).await;
    concurrent_increments_add_up(Bench::new(make().await, "increments")).await;
    values_are_kept_as_they_are(Bench::new(make().await, "values")).await;
}

async fn revisions_increase(bench: Bench) {
    let before = bench.latest().await;
    let a = bench.create("a", "1").await;
    assert!(a.modified > before, "{:?} after {before:?}", a.modified);
    assert_eq!(a.created, a.modified);
    let b = bench.create("b", "1").await;
    assert!(b.modified > a.modified);
    let a2 = bench.update(&a, "2").await;
    assert!(a2.modified > b.modified);
    assert_eq!(a2.created, a.created);
    assert_eq!(a2.value, "2");
    let deleted = bench.delete(&b).await;
    assert!(deleted > a2.modified);
    assert!(bench.latest().await >= deleted);
    let page = bench.read(ReadAt::Latest, 0).await.expect("reads");
    assert!(page.at >= deleted);
    assert_eq!(page.entries, [a2]);
}

async fn unmet_expectations_tell_what_was_found(bench: Bench) {
    let absent = bench.put("a", "1", Expect::At(Revision(1))).await;
    assert_eq!(absent, Err(Error::Unmet { found: None }));
    let absent = bench.store.delete(&bench.key("a"), Revision(1)).await;
    assert_eq!(absent, Err(Error::Unmet { found: None }));

    let a = bench.create("a", "1").await;
    let found = || Some(Box::new(a.clone()));
    let exists = bench.put("a", "2", Expect::Absent).await;
    assert_eq!(exists, Err(Error::Unmet { found: found() }));
    let stale = Revision(a.modified.0 - 1);
    let moved = bench.put("a", "2", Expect::At(stale)).await;
    assert_eq!(moved, Err(Error::Unmet { found: found() }));
    let moved = bench.store.delete(&bench.key("a"), stale).await;
    assert_eq!(moved, Err(Error::Unmet { found: found() }));
    let page = bench.read(ReadAt::Latest, 0).await.expect("reads");
    assert_eq!(page.entries, [a], "what failed changed nothing");
}

async fn a_key_created_again_is_a_new_one(bench: Bench) {
    let first = bench.create("a", "1").await;
    let deleted = bench.delete(&first).await;
    let second = bench.create("a", "2").await;
    assert!(second.created > deleted);
    let stale = bench.put("a", "3", Expect::At(first.modified)).await;
    assert_eq!(stale, Err(Error::Unmet { found: Some(Box::new(second)) }));
}

async fn of_concurrent_creations_one_wins(bench: Bench) {
    let values: Vec<String> = (0..WRITERS).map(|writer| writer.to_string()).collect();
    let tries = values.iter().map(|value| bench.put("a", value, Expect::Absent));
    let outcomes = join_all(tries).await;
    let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "exactly one creation wins: {outcomes:?}");
    for outcome in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(outcome, &Error::Unmet { found: Some(Box::new(won[0].clone())) });
    }
}

/// Compare and swap from what a failed try found, as every writer of objects does.
async fn concurrent_increments_add_up(bench: Bench) {
    let zero = bench.create("counter", "0").await;
    let increments = (0..WRITERS).map(|_| async {
        let mut seen = zero.clone();
        loop {
            let text = str::from_utf8(&seen.value).expect("the counter is text");
            let next = text.parse::<u64>().expect("the counter is a number") + 1;
            match bench.put("counter", &next.to_string(), Expect::At(seen.modified)).await {
                Ok(entry) => return entry.modified,
                Err(Error::Unmet { found: Some(found) }) => seen = *found,
                Err(error) => panic!("an increment failed: {error}"),
            }
        }
    });
    let revisions: BTreeSet<Revision> = join_all(increments).await.into_iter().collect();
    assert_eq!(revisions.len(), WRITERS, "each write has a revision of its own");
    let page = bench.read(ReadAt::Latest, 0).await.expect("reads");
    assert_eq!(names(&page), ["counter"]);
    assert_eq!(page.entries[0].value, WRITERS.to_string());
    assert_eq!(Some(&page.entries[0].modified), revisions.last());
}

async fn values_are_kept_as_they_are(bench: Bench) {
    let all_bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for (name, value) in [("empty", Vec::new()), ("binary", all_bytes)] {
        let key = bench.key(name);
        let put = bench.store.put(&key, value.clone().into(), Expect::Absent).await;
        assert_eq!(put.expect("puts").value, value);
    }
    let page = bench.read(ReadAt::Latest, 0).await.expect("reads");
    assert_eq!(names(&page), ["binary", "empty"]);
    assert_eq!(page.entries[0].value.len(), 300_000);
    assert!(page.entries[0].value.iter().zip((0..=255).cycle()).all(|(a, b): (_, u8)| *a == b));
    assert!(page.entries[1].value.is_empty());
}
