//! The garbage collector's shell: follows the metadata of every kind that can be deleted, and
//! carries out what [`controllers::garbage`] plans.
//!
//! It acts only when every kind has been listed once, or some could not be for [`SYNC_MAX`]. Which
//! kinds there are is asked again when a custom resource definition or an API service changes.
mod discovery;
mod work;

use api::Key;
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use client::{Client, Resource};
use controllers::garbage::{Graph, GroupKind, Uid};
use controllers::tally::Tally;
use discovery::Served;
use informer::{Backoff, Caches, Queue, Recorder, Reflector, Step};
use reconcile::{Note, NoteKind};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};

/// How upstream names it, in events and as the user agent.
pub const NAME: &str = "garbage-collector-controller";
/// A kind that cannot be listed holds the collector up no longer than this.
const SYNC_MAX: Duration = Duration::from_secs(30);
/// A kind may be served a moment after its definition says so.
const DISCOVER_AGAIN: Duration = Duration::from_secs(2);

/// At work until it is dropped.
pub struct Collector {
    _tasks: JoinSet<()>,
}

pub(crate) struct Shared {
    pub(crate) client: Client,
    /// Told how many objects there are.
    caches: Caches,
    recorder: Recorder,
    state: Mutex<State>,
    wake: Notify,
    kinds_changed: Notify,
    /// How many kinds have not been listed yet; nothing before the first discovery.
    unlisted: watch::Sender<Option<usize>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) graph: Graph,
    pub(crate) queue: Queue<Uid>,
    /// How often in a row each object's plan could not be carried out.
    pub(crate) attempts: HashMap<Uid, u32>,
    pub(crate) served: HashMap<GroupKind, Served>,
    unlisted: HashSet<GroupKind>,
}

/// Begins to collect, and to tell `caches` how many objects of each kind there are.
pub fn start(client: &Client, caches: &Caches) -> Collector {
    let client = client.named(NAME);
    let shared = Arc::new(Shared {
        recorder: Recorder::start(client.clone(), NAME, ""),
        client,
        caches: caches.clone(),
        state: Mutex::default(),
        wake: Notify::new(),
        kinds_changed: Notify::new(),
        unlisted: watch::Sender::new(None),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(follow_kinds(shared.clone()));
    tasks.spawn(async move {
        shared.listed().await;
        work::run(&shared).await;
    });
    Collector { _tasks: tasks }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the graph panics")
    }
    async fn listed(&self) {
        let mut unlisted = self.unlisted.subscribe();
        if unlisted.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let all = unlisted.wait_for(|left| *left == Some(0));
        if tokio::time::timeout(SYNC_MAX, all).await.is_err() {
            let kinds: Vec<_> =
                self.lock().unlisted.iter().map(|kind| kind.kind.to_string()).collect();
            tracing::warn!(?kinds, "garbage is collected although some kinds cannot be listed");
        }
    }
    fn step(&self, kind: &GroupKind, step: Step<ObjectMeta>) {
        let mut state = self.lock();
        let mut again = Vec::new();
        let listed = matches!(step, Step::Reset { .. });
        match step {
            Step::Changed { object, .. } => again = state.graph.observe(kind, &object),
            Step::Deleted { object, .. } => {
                let key = key_of(&object);
                again = state.graph.forget(kind, &key, object.uid.as_deref());
            }
            Step::Progress { .. } => return,
            Step::Reset { items, .. } => {
                let mut gone = state.graph.keys(kind);
                for object in items {
                    gone.remove(&key_of(&object));
                    again.extend(state.graph.observe(kind, &object));
                }
                for key in gone {
                    again.extend(state.graph.forget(kind, &key, None));
                }
                state.unlisted.remove(kind);
                self.unlisted.send_replace(Some(state.unlisted.len()));
            }
        }
        for misplaced in state.graph.take_misplaced() {
            let about = work::reference(&state, &misplaced.place, &misplaced.uid);
            let reason = "OwnerRefInvalidNamespace";
            self.recorder.record(Note::new(about, NoteKind::Warning, reason, misplaced.message));
        }
        let tallies = state.tallies(kind, listed);
        let acts = !again.is_empty();
        for uid in again {
            state.queue.add(uid);
        }
        drop(state);
        for tally in tallies {
            let is_there = tally.count > 0 || tally.metadata.namespace.is_none();
            self.caches.tell(tally, is_there);
        }
        if acts {
            self.wake.notify_one();
        }
        if discovery::is_about_kinds(kind) {
            self.kinds_changed.notify_one();
        }
    }
}

impl State {
    /// What has been counted anew; of a kind that has been listed, that it is counted.
    fn tallies(&mut self, kind: &GroupKind, listed: bool) -> Vec<Tally> {
        let served = &self.served;
        let tally = |kind: &GroupKind, namespace: &str, count| {
            let resource = &served.get(kind)?.resource;
            let (group, plural) = (&*resource.group, &*resource.plural);
            let wanted = Tally::is_wanted(group, plural);
            wanted.then(|| Tally::new(group, plural, namespace, count))
        };
        let known = listed.then(|| tally(kind, "", 0)).flatten();
        let counted = self.graph.take_recounted().into_iter();
        let counted = counted
            .filter(|(_, namespace, _)| !namespace.is_empty())
            .filter_map(|(kind, namespace, count)| tally(&kind, &namespace, count));
        known.into_iter().chain(counted).collect()
    }
}

/// Keeps one follower per kind.
async fn follow_kinds(shared: Arc<Shared>) {
    let mut followers = Followers::default();
    let mut backoff = Backoff::new(Duration::from_millis(100), SYNC_MAX);
    loop {
        match discovery::discover(&shared.client).await {
            Ok(found) => {
                backoff.reset();
                followers.set(&shared, found);
            }
            Err(error) => {
                tracing::debug!(%error, "cannot discover which kinds there are");
                tokio::time::sleep(backoff.next_wait()).await;
                continue;
            }
        }
        shared.kinds_changed.notified().await;
        if let Ok(found) = discovery::discover(&shared.client).await {
            followers.set(&shared, found);
        }
        tokio::time::sleep(DISCOVER_AGAIN).await;
    }
}

#[derive(Default)]
struct Followers {
    tasks: JoinSet<()>,
    by_kind: HashMap<GroupKind, (Resource, AbortHandle)>,
}

impl Followers {
    fn set(&mut self, shared: &Arc<Shared>, mut found: discovery::Found) {
        let mut state = shared.lock();
        // What a group that did not answer had before is still there.
        for (kind, served) in &state.served {
            if found.unknown.contains(&*kind.group) && !found.served.contains_key(kind) {
                found.served.insert(kind.clone(), served.clone());
            }
        }
        let wanted = found.served.iter().filter(|(_, served)| served.collected);
        let wanted: HashMap<GroupKind, Resource> =
            wanted.map(|(kind, served)| (kind.clone(), served.resource.clone())).collect();
        let mut gone = Vec::new();
        self.by_kind.retain(|kind, (resource, task)| {
            let stays = wanted.get(kind) == Some(resource);
            if !stays {
                task.abort();
                gone.push(kind.clone());
            }
            stays
        });
        for kind in gone.iter().filter(|kind| !wanted.contains_key(*kind)) {
            state.graph.drop_kind(kind);
            state.unlisted.remove(kind);
        }
        for (kind, resource) in wanted {
            if self.by_kind.contains_key(&kind) {
                continue;
            }
            state.unlisted.insert(kind.clone());
            let task = self.tasks.spawn(follow(shared.clone(), kind.clone(), resource.clone()));
            self.by_kind.insert(kind, (resource, task));
        }
        let kinds = found.served.iter().map(|(kind, served)| (kind.clone(), served.namespaced));
        let again = state.graph.set_kinds(kinds.collect());
        state.served = found.served;
        for uid in again {
            state.queue.add(uid);
        }
        shared.unlisted.send_replace(Some(state.unlisted.len()));
        drop(state);
        shared.wake.notify_one();
    }
}

async fn follow(shared: Arc<Shared>, kind: GroupKind, resource: Resource) {
    let mut reflector = Reflector::new(shared.client.clone(), resource);
    reflector.metadata_only = true;
    let decode = |json: &[u8]| {
        let partial: Partial = serde_json::from_slice(json)?;
        let meta = partial.metadata.into_meta();
        let revision = meta.resource_version.as_deref().and_then(|text| text.parse().ok());
        Ok((meta, api::Revision(revision.unwrap_or_default())))
    };
    reflector.run_raw(decode, |step| shared.step(&kind, step)).await;
}

fn key_of(meta: &ObjectMeta) -> Key {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Key::new(text(&meta.namespace), text(&meta.name))
}

#[derive(Deserialize)]
struct Partial {
    metadata: Slim,
}

/// The part of metadata that the graph is made of. The rest, the larger, is never kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slim {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<Time>,
}

impl Slim {
    fn into_meta(self) -> ObjectMeta {
        ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            owner_references: self.owner_references,
            finalizers: self.finalizers,
            deletion_timestamp: self.deletion_timestamp,
            ..ObjectMeta::default()
        }
    }
}

#[cfg(test)]
mod tests;
