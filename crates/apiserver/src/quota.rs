//! Writers that a quota bounds go one after the other: each is judged by all that came before it.
//!
//! Admission counts what is in the cache. Two writers at once would both be judged by a cache that
//! has neither; so within a namespace whose quotas are about a kind, the next writer of that kind
//! begins when the last one's object is in the cache.
use crate::cache::slice;
use crate::server::Context;
use api::ApiError;
use api::quota::bears;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Namespaces whose locks are kept although nobody holds them.
const IDLE_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// Held from the judgement to the write.
pub(crate) struct Turn(#[expect(dead_code, reason = "dropping it ends the turn")] Guard);

type Guard = Option<OwnedMutexGuard<()>>;

impl Turns {
    /// Waits for the request's turn; at once where no quota is about its kind.
    pub(crate) async fn turn(&self, context: &Context) -> Result<Turn, ApiError> {
        if !is_bounded(context) {
            return Ok(Turn(None));
        }
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if locks.len() > IDLE_MAX {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(context.info.namespace.clone()).or_default())
        };
        let guard = lock.lock_owned().await;
        context.server.caches.own_writes().await?;
        Ok(Turn(Some(guard)))
    }
}

fn is_bounded(context: &Context) -> bool {
    let namespace = context.info.namespace.as_str();
    let Some(quotas) = context.server.caches.of("", "resourcequotas") else { return false };
    if namespace.is_empty() || !context.info.subresource.is_empty() || quotas.is_empty() {
        return false;
    }
    let map = quotas.snapshot(0).map;
    let (group, plural) = (context.row.group(), context.row.plural());
    slice(&map, namespace, None).any(|quota| {
        let hard = quota.value()["spec"]["hard"].take();
        hard.as_object().is_some_and(|hard| hard.keys().any(|name| bears(group, plural, name)))
    })
}
