//! Events go away after a while: one timer, set to the next that is due.
use crate::cache::feed::{Observer, object_key};
use crate::clock;
use crate::server::Server;
use api::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use store::Revision;
use tokio::sync::Notify;

#[derive(Default)]
struct Due {
    /// Written at, key.
    queue: BTreeSet<(i64, String)>,
    of_key: HashMap<String, i64>,
}

#[derive(Default)]
pub(crate) struct Expiry {
    due: Mutex<Due>,
    changed: Notify,
}

impl Observer for Expiry {
    fn changed(&self, group: &str, plural: &str, key: &str, new: Option<&Value>) {
        if (group, plural) != ("", "events") {
            return;
        }
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = due.of_key.remove(key) {
            due.queue.remove(&(at, key.to_owned()));
        }
        let Some(event) = new else { return };
        let at = last_seen(event);
        let first = due.queue.first().is_none_or(|(first, _)| at < *first);
        due.of_key.insert(key.to_owned(), at);
        due.queue.insert((at, key.to_owned()));
        if first {
            self.changed.notify_one();
        }
    }
}

/// When the event was last told.
fn last_seen(event: &Value) -> i64 {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["deprecatedLastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    let times = times.into_iter().filter_map(|time| clock::parse(time.as_str()?));
    times.max().unwrap_or_else(clock::now)
}

/// Deletes what is due, for good.
pub(crate) async fn run(server: Server, expiry: std::sync::Arc<Expiry>) {
    let ttl = server.config.event_ttl_seconds;
    loop {
        let first = {
            let due = expiry.due.lock().unwrap_or_else(PoisonError::into_inner);
            due.queue.first().cloned()
        };
        let Some((at, key)) = first else {
            expiry.changed.notified().await;
            continue;
        };
        let left = u64::try_from(at + ttl - clock::now()).unwrap_or_default();
        if left > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(left)) => {}
                () = expiry.changed.notified() => {}
            }
            continue;
        }
        {
            let mut due = expiry.due.lock().unwrap_or_else(PoisonError::into_inner);
            due.queue.remove(&(at, key.clone()));
            due.of_key.remove(&key);
        }
        let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
        let Some(cache) = server.caches.of("", "events") else { return };
        let Some(item) = cache.get(&object_key(namespace, name)) else { continue };
        let path = crate::cache::feed::store_key(&cache.row, &key);
        // If it has just been told again, it is queued anew.
        if let Err(error) = server.caches.delete(&path, Revision(item.revision)).await {
            tracing::debug!(%key, %error, "an expired event stays");
        }
    }
}
