//! Takes objects from the queue, and carries out what is planned for them.
use crate::{Shared, State};
use api::k8s::api::core::v1::ObjectReference;
use client::{DeleteParams, Error, Patch, Propagation, Resource};
use controllers::garbage::{Action, Place, Policy, Uid};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;
use tokio::time::Instant;

/// Objects that are worked on at once.
const WORKERS: usize = 20;
const FIRST_WAIT: Duration = Duration::from_millis(5);
const MOST_WAIT: Duration = Duration::from_secs(60);

pub(crate) async fn run(shared: &Shared) {
    let mut working = FuturesUnordered::new();
    loop {
        let mut next_due = None;
        while working.len() < WORKERS {
            let mut state = shared.lock();
            next_due = state.queue.advance(Instant::now());
            let Some(uid) = state.queue.take() else { break };
            drop(state);
            working.push(turn(shared, uid));
        }
        let due = async {
            match next_due {
                Some(when) => tokio::time::sleep_until(when).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = working.next(), if !working.is_empty() => {}
            () = shared.wake.notified() => {}
            () = due => {}
        }
    }
}

async fn turn(shared: &Shared, uid: Uid) {
    let actions = shared.lock().graph.plan(&uid);
    let mut again = false;
    for action in actions {
        again |= carry_out(shared, action).await;
    }
    let mut state = shared.lock();
    if again {
        let attempts = state.attempts.entry(uid.clone()).or_insert(0);
        let factor = 1u32 << (*attempts).min(20);
        *attempts += 1;
        let wait = FIRST_WAIT.saturating_mul(factor).min(MOST_WAIT);
        state.queue.add_at(uid.clone(), Instant::now() + wait);
    } else {
        state.attempts.remove(&uid);
    }
    state.queue.done(&uid);
}

/// Whether the object has to be looked at again, even if nothing is seen to change.
async fn carry_out(shared: &Shared, action: Action) -> bool {
    let place = match &action {
        Action::Look { place, .. } | Action::Patch { place, .. } | Action::Delete { place, .. } => {
            place.clone()
        }
    };
    let Some(resource) = resource(shared, &place) else { return false };
    let result = match action {
        Action::Look { place, uid } => return look(shared, &resource, place, uid).await,
        Action::Patch { patch, .. } => {
            let patch = Patch::Merge(patch);
            shared.client.patch_value(&resource, &place.key, &patch, None).await
        }
        Action::Delete { uid, revision, policy, .. } => {
            let policy = match policy {
                Policy::Background => Propagation::Background,
                Policy::Foreground => Propagation::Foreground,
                Policy::Orphan => Propagation::Orphan,
            };
            let mut params = DeleteParams::of_uid(&*uid).propagation(policy);
            params.preconditions.resource_version = Some(revision);
            tracing::debug!(kind = &*place.kind.kind, key = %place.key, "collecting");
            shared.client.delete_value(&resource, &place.key, &params).await
        }
    };
    match result {
        Ok(_) => false,
        // Gone already; the watch will tell.
        Err(error) if error.is_not_found() => false,
        Err(error) => {
            if !error.is_conflict() {
                let kind = &*place.kind.kind;
                tracing::debug!(kind, key = %place.key, %error, "cannot collect yet");
            }
            true
        }
    }
}

/// An owner that is there will be seen, if it is of a kind that is followed; it is asked for until
/// then, ever more rarely.
async fn look(shared: &Shared, resource: &Resource, place: Place, uid: Uid) -> bool {
    let is_absent = match shared.client.get_value(resource, &place.key).await {
        Ok(object) => object["metadata"]["uid"].as_str() != Some(&*uid),
        Err(Error::Api(status)) if status.code == 404 => true,
        Err(error) => {
            tracing::debug!(key = %place.key, %error, "cannot look for an owner");
            return true;
        }
    };
    if !is_absent {
        return true;
    }
    let mut state = shared.lock();
    for uid in state.graph.absent(place, uid) {
        state.queue.add(uid);
    }
    drop(state);
    shared.wake.notify_one();
    false
}

fn resource(shared: &Shared, place: &Place) -> Option<Resource> {
    Some(shared.lock().served.get(&place.kind)?.resource.clone())
}

/// What an event about an object refers to it by.
pub(crate) fn reference(state: &State, place: &Place, uid: &Uid) -> ObjectReference {
    let version = state.served.get(&place.kind).map_or("", |served| &*served.resource.version);
    let api_version = match &*place.kind.group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(place.kind.kind.to_string()),
        namespace: Some(place.key.namespace.clone()),
        name: Some(place.key.name.clone()),
        uid: Some(uid.to_string()),
        ..ObjectReference::default()
    }
}
