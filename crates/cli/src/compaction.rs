//! Forgets the past of the datastore.
//!
//! As upstream's API server does: every five minutes, up to where the log was five minutes ago, so
//! that a watch or a paged list of less than that age goes on, and clients that page through a list
//! for longer are told so. etcd would keep all of the past; the embedded and the in-memory backend
//! bound theirs in number and size too.
use std::sync::Arc;
use std::time::Duration;
use store::{Error, Revision, Store};

pub(crate) const INTERVAL: Duration = Duration::from_secs(300);

/// Goes on until the task is ended.
pub(crate) async fn run(store: Arc<dyn Store>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut earlier = Revision(0);
    loop {
        ticks.tick().await;
        match step(&*store, earlier).await {
            Ok(latest) => earlier = latest,
            Err(error) => tracing::warn!(%error, "cannot compact the datastore: tried again later"),
        }
    }
}

/// Compacts up to `earlier`; where the log is now.
async fn step(store: &dyn Store, earlier: Revision) -> Result<Revision, Error> {
    let latest = store.latest().await?;
    // Compacting up to the revision of a settled log would say the same thing twice.
    if earlier.0 > 0 && earlier < latest {
        store.compact(earlier).await?;
        tracing::debug!(upto = earlier.0, "the datastore is compacted");
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Expect, ReadAt, mem::Mem};

    async fn exactly(store: &Mem, revision: Revision) -> Result<store::Page, Error> {
        store.range(store::prefix("/"), ReadAt::Exactly(revision), 0).await
    }

    #[tokio::test]
    async fn the_past_is_kept_for_one_interval() {
        let store = Mem::default();
        let put = |value: &'static str, expect| store.put("/a", value.into(), expect);
        let first = put("1", Expect::Absent).await.unwrap();
        let second = put("2", Expect::At(first.modified)).await.unwrap();
        let mark = step(&store, Revision(0)).await.unwrap();
        assert_eq!(mark, second.modified);
        let third = put("3", Expect::At(second.modified)).await.unwrap();
        exactly(&store, first.modified).await.expect("nothing is forgotten at first");
        let mark = step(&store, mark).await.unwrap();
        let gone = exactly(&store, first.modified).await;
        assert!(matches!(gone, Err(Error::Compacted { .. })), "{gone:?}");
        exactly(&store, second.modified).await.expect("the state of one interval ago stays");
        assert_eq!(step(&store, mark).await.unwrap(), third.modified);
        exactly(&store, third.modified).await.expect("a settled log loses nothing");
    }
}
