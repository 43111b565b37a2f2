//! The shared caches: one per kind and process, fed by one reflector each.
//!
//! Register all listeners first, then [`Caches::start`]. Listeners run while the world is held,
//! right after the change is in it: they only note what to do.
use crate::{Reflector, Step};
use api::{Key, Kind, Revision};
use client::{Client, Resource};
use reconcile::{Declare, Stored, Target, World};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One object before and after; no object for "was not" and "is not any more".
pub struct Change {
    pub target: Target,
    /// Nothing if no object changed, only the revision.
    pub key: Option<Key>,
    pub old: Option<Stored>,
    pub new: Option<Stored>,
    pub seen: Revision,
}

impl Change {
    pub fn old<K: Kind>(&self) -> Option<Arc<K>> {
        self.old.clone()?.downcast().ok()
    }
    pub fn new<K: Kind>(&self) -> Option<Arc<K>> {
        self.new.clone()?.downcast().ok()
    }
}

type Listener = Box<dyn Fn(&World, &Change) + Send + Sync>;

/// Cheap to clone; all clones are the same caches.
#[derive(Clone)]
pub struct Caches {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    world: RwLock<World>,
    listeners: RwLock<HashMap<Target, Vec<Listener>>>,
    /// How many kinds have been complete once.
    synced: watch::Sender<usize>,
    tasks: Mutex<JoinSet<()>>,
}

impl Caches {
    pub fn new(client: Client) -> Self {
        let inner = Inner {
            client,
            world: RwLock::default(),
            listeners: RwLock::default(),
            synced: watch::Sender::new(0),
            tasks: Mutex::new(JoinSet::new()),
        };
        Self { inner: Arc::new(inner) }
    }
    pub fn client(&self) -> &Client {
        &self.inner.client
    }
    pub fn world(&self) -> RwLockReadGuard<'_, World> {
        self.inner.world.read().expect("no holder of the world panics")
    }
    pub fn declare(&self, declare: Declare) {
        self.inner.world.write().expect("no holder of the world panics").declare(declare);
    }
    /// Keeps a kind.
    pub fn register(&self, target: Target) {
        self.inner.world.write().expect("no holder of the world panics").register(target);
        let mut listeners = self.inner.listeners.write().expect("no listener panics");
        listeners.entry(target).or_default();
    }
    /// Keeps a kind and tells of its changes.
    pub fn listen(
        &self,
        target: Target,
        listener: impl Fn(&World, &Change) + Send + Sync + 'static,
    ) {
        self.register(target);
        let mut listeners = self.inner.listeners.write().expect("no listener panics");
        listeners.entry(target).or_default().push(Box::new(listener));
    }
    /// Starts one reflector for every kind that is kept. They end with [`Self::stop`].
    pub fn start(&self) {
        let targets: Vec<Target> =
            self.inner.listeners.read().expect("no listener panics").keys().copied().collect();
        let mut tasks = self.inner.tasks.lock().expect("no holder panics");
        for target in targets {
            if target.plural().is_empty() {
                let nothing = Step::Reset { items: Vec::new(), revision: Revision(0) };
                self.inner.step(target, nothing);
                continue;
            }
            let inner = Arc::downgrade(&self.inner);
            let resource = Resource::fixed(target.group(), target.version(), target.plural());
            let reflector = Reflector::new(self.inner.client.clone(), resource);
            tasks.spawn(async move {
                let decode = |json: &[u8]| {
                    let object = target.decode(json)?;
                    Ok(with_revision(target, object))
                };
                let sink = |step| {
                    if let Some(inner) = inner.upgrade() {
                        inner.step(target, step);
                    }
                };
                reflector.run_raw(decode, sink).await;
            });
        }
    }
    /// Tells of an object of a kind that no API serves: this process makes it.
    pub fn tell<K: Kind>(&self, object: K, is_there: bool) {
        let (target, key) = (Target::of::<K>(), object.key());
        let object: Keyed = (Arc::new(object), key);
        let step = match is_there {
            true => Step::Changed { object, revision: Revision(0) },
            false => Step::Deleted { object, revision: Revision(0) },
        };
        self.inner.step(target, step);
    }
    pub fn stop(&self) {
        self.inner.tasks.lock().expect("no holder panics").abort_all();
    }
    /// Returns when the caches of these kinds have been complete once.
    pub async fn synced(&self, targets: &[Target]) {
        let mut changes = self.inner.synced.subscribe();
        let all = || {
            let world = self.world();
            targets.iter().all(|target| world.is_synced(*target))
        };
        while !all() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

type Keyed = (Stored, Key);

/// The object's key is worked out here, outside of any lock.
fn with_revision(target: Target, object: Stored) -> (Keyed, Revision) {
    let (key, revision) = target.identify(&object);
    ((object, key), revision)
}

impl Inner {
    fn step(&self, target: Target, step: Step<Keyed>) {
        let mut world = self.world.write().expect("no holder of the world panics");
        let listeners = self.listeners.read().expect("no listener panics");
        let listeners = listeners.get(&target).map_or(&[][..], Vec::as_slice);
        let tell = |world: &World, change: &Change| {
            for listener in listeners {
                listener(world, change);
            }
        };
        match step {
            Step::Changed { object: (object, key), revision } => {
                let old = world.upsert(target, object.clone());
                world.advance(target, revision);
                let change =
                    Change { target, key: Some(key), old, new: Some(object), seen: revision };
                tell(&world, &change);
            }
            Step::Deleted { object: (object, key), revision } => {
                let old = world.remove(target, &key).or(Some(object));
                world.advance(target, revision);
                let change = Change { target, key: Some(key), old, new: None, seen: revision };
                tell(&world, &change);
            }
            Step::Progress { revision } => {
                world.advance(target, revision);
                let change = Change { target, key: None, old: None, new: None, seen: revision };
                tell(&world, &change);
            }
            Step::Reset { items, revision } => {
                let mut gone: std::collections::HashSet<Key> =
                    world.keys(target).into_iter().collect();
                world.advance(target, revision);
                for (object, key) in items {
                    gone.remove(&key);
                    let old = world.upsert(target, object.clone());
                    let change =
                        Change { target, key: Some(key), old, new: Some(object), seen: revision };
                    tell(&world, &change);
                }
                for key in gone {
                    let old = world.remove(target, &key);
                    let change = Change { target, key: Some(key), old, new: None, seen: revision };
                    tell(&world, &change);
                }
                let first = !world.is_synced(target);
                world.set_synced(target);
                let change = Change { target, key: None, old: None, new: None, seen: revision };
                tell(&world, &change);
                drop(world);
                if first {
                    self.synced.send_modify(|n| *n += 1);
                }
            }
        }
    }
}
