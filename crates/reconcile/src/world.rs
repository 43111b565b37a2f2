//! A read-only view of the caches and of how far each has come.
//!
//! Look-ups go by name, namespace, controlling owner, labels or a declared index, never by scan.
use crate::{Stored, Target, meta};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::selector::Operator;
use api::{Key, Kind, LabelSelector, Revision};
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// A way to look objects of a kind up: `value` gives what they are found by.
pub struct Index<K> {
    pub name: &'static str,
    pub value: fn(&K) -> Option<String>,
}

/// What a controller wants kept for it.
pub struct Declare(Box<dyn FnOnce(&mut World) + Send>);

#[derive(Default)]
pub struct World {
    slots: HashMap<TypeId, Slot>,
}

struct Slot {
    cache: Box<dyn ErasedCache>,
    seen: Revision,
    synced: bool,
}

impl Declare {
    pub fn index<K: Kind>(index: &'static Index<K>) -> Self {
        Self(Box::new(|world| world.cache_mut::<K>().declare(index.name, index.value)))
    }
    /// Needed by [`World::select`].
    pub fn labels<K: Kind>() -> Self {
        Self(Box::new(|world| world.cache_mut::<K>().declare_labels()))
    }
}

impl World {
    pub fn declare(&mut self, declare: Declare) {
        (declare.0)(self);
    }
    pub fn get<K: Kind>(&self, key: &Key) -> Option<&Arc<K>> {
        self.cache::<K>()?.get(key)
    }
    /// A cluster-scoped object.
    pub fn named<K: Kind>(&self, name: &str) -> Option<&Arc<K>> {
        self.get(&Key::new("", name))
    }
    pub fn all<K: Kind>(&self) -> impl Iterator<Item = &Arc<K>> {
        self.cache::<K>()
            .into_iter()
            .flat_map(|cache| cache.keys.values())
            .filter_map(|&id| self.cache::<K>()?.object(id))
    }
    pub fn count<K: Kind>(&self) -> usize {
        self.cache::<K>().map_or(0, |cache| cache.by_key.len())
    }
    pub fn in_namespace<K: Kind>(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        let from = Key::new(namespace, "");
        let namespace = namespace.to_owned();
        self.cache::<K>().into_iter().flat_map(move |cache| {
            let namespace = namespace.clone();
            cache
                .keys
                .range((Bound::Included(from.clone()), Bound::Unbounded))
                .take_while(move |(key, _)| key.namespace == namespace)
                .filter_map(|(_, &id)| cache.object(id))
        })
    }
    /// Those whose controlling owner has this uid.
    pub fn owned_by<K: Kind>(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        self.cache::<K>().into_iter().flat_map(move |cache| cache.find(OWNER, uid))
    }
    /// Those of a namespace without a controlling owner.
    pub fn orphans<K: Kind>(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        let value = format!("/{namespace}");
        self.cache::<K>().into_iter().flat_map(move |cache| cache.find(OWNER, &value))
    }
    pub fn by<K: Kind>(&self, index: &Index<K>, value: &str) -> impl Iterator<Item = &Arc<K>> {
        self.cache::<K>().into_iter().flat_map(move |cache| cache.find(index.name, value))
    }
    /// Those of a namespace that a selector matches, by one of its label pairs.
    pub fn select<K: Kind>(&self, namespace: &str, selector: &LabelSelector) -> Vec<&Arc<K>> {
        let Some(cache) = self.cache::<K>() else { return Vec::new() };
        let matches = |object: &&Arc<K>| match &object.metadata().labels {
            Some(labels) => selector.matches(labels),
            None => selector.matches(&BTreeMap::new()),
        };
        let pairs = selector.requirements.iter().filter_map(|requirement| {
            match (requirement.operator, requirement.values.as_slice()) {
                (Operator::In, [value]) => Some(label_value(namespace, &requirement.key, value)),
                _ => None,
            }
        });
        let fewest = pairs.min_by_key(|value| cache.count(LABELS, value));
        match fewest {
            Some(value) => cache.find(LABELS, &value).filter(matches).collect(),
            None => self.in_namespace::<K>(namespace).filter(matches).collect(),
        }
    }
    /// Every object that has this label pair in this namespace.
    pub fn labelled<K: Kind>(&self, namespace: &str, key: &str, value: &str) -> Vec<&Arc<K>> {
        let value = label_value(namespace, key, value);
        self.cache::<K>().map_or(Vec::new(), |cache| cache.find(LABELS, &value).collect())
    }

    /// How far the cache of a kind has come.
    pub fn seen(&self, target: Target) -> Revision {
        self.slots.get(&target.id()).map_or(Revision(0), |slot| slot.seen)
    }
    /// Whether the cache of a kind has held a complete list.
    pub fn is_synced(&self, target: Target) -> bool {
        self.slots.get(&target.id()).is_some_and(|slot| slot.synced)
    }
    pub fn meta(&self, target: Target, key: &Key) -> Option<&ObjectMeta> {
        self.slots.get(&target.id())?.cache.meta(key)
    }
    pub fn object(&self, target: Target, key: &Key) -> Option<Stored> {
        self.slots.get(&target.id())?.cache.stored(key)
    }
    pub fn keys(&self, target: Target) -> Vec<Key> {
        self.slots.get(&target.id()).map_or(Vec::new(), |slot| slot.cache.keys())
    }

    // What follows is for the shell.

    /// Keeps a kind from now on.
    pub fn register(&mut self, target: Target) {
        self.slots.entry(target.id()).or_insert_with(|| Slot {
            cache: target.new_cache(),
            seen: Revision(0),
            synced: false,
        });
    }
    /// Returns what was there.
    pub fn upsert(&mut self, target: Target, object: Stored) -> Option<Stored> {
        self.register(target);
        self.slots.get_mut(&target.id())?.cache.upsert(object)
    }
    pub fn remove(&mut self, target: Target, key: &Key) -> Option<Stored> {
        self.slots.get_mut(&target.id())?.cache.remove(key)
    }
    pub fn advance(&mut self, target: Target, to: Revision) {
        self.register(target);
        if let Some(slot) = self.slots.get_mut(&target.id()) {
            slot.seen = to.max(slot.seen);
        }
    }
    pub fn set_synced(&mut self, target: Target) {
        self.register(target);
        if let Some(slot) = self.slots.get_mut(&target.id()) {
            slot.synced = true;
        }
    }
    /// For tests and for objects that are known before any cache is.
    pub fn insert<K: Kind>(&mut self, object: K) {
        self.upsert(Target::of::<K>(), Arc::new(object));
    }

    fn cache<K: Kind>(&self) -> Option<&Cache<K>> {
        self.slots.get(&TypeId::of::<K>())?.cache.any().downcast_ref()
    }
    fn cache_mut<K: Kind>(&mut self) -> &mut Cache<K> {
        self.register(Target::of::<K>());
        let slot = self.slots.get_mut(&TypeId::of::<K>()).expect("registered just above");
        slot.cache.any_mut().downcast_mut().expect("slots are keyed by their type")
    }
}

/// The objects of one kind. Indexes hold numbers of slots, so that they cost little.
pub(crate) struct Cache<K> {
    slots: Vec<Option<Arc<K>>>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32>,
    /// The same, in order.
    keys: BTreeMap<Key, u32>,
    indexes: Vec<Indexed<K>>,
}

struct Indexed<K> {
    name: &'static str,
    values: Values<K>,
    ids: HashMap<Box<str>, BTreeSet<u32>>,
}

enum Values<K> {
    One(fn(&K) -> Option<String>),
    Many(fn(&K) -> Vec<String>),
}

const OWNER: &str = "owner";
const LABELS: &str = "labels";

impl<K: Kind> Default for Cache<K> {
    fn default() -> Self {
        let owner = Indexed { name: OWNER, values: Values::One(owner_value), ids: HashMap::new() };
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            keys: BTreeMap::new(),
            indexes: vec![owner],
        }
    }
}

fn owner_value<K: Kind>(object: &K) -> Option<String> {
    let meta = object.metadata();
    Some(match meta::controller_of(meta) {
        Some(owner) => owner.uid.clone(),
        None => format!("/{}", meta.namespace.as_deref().unwrap_or_default()),
    })
}

fn label_values<K: Kind>(object: &K) -> Vec<String> {
    let meta = object.metadata();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let labels = meta.labels.iter().flatten();
    labels.map(|(key, value)| label_value(namespace, key, value)).collect()
}

fn label_value(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}/{key}={value}")
}

impl<K: Kind> Cache<K> {
    fn object(&self, id: u32) -> Option<&Arc<K>> {
        self.slots.get(id as usize)?.as_ref()
    }
    fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.object(*self.by_key.get(key)?)
    }
    fn indexed(&self, name: &str) -> &Indexed<K> {
        let found = self.indexes.iter().find(|index| index.name == name);
        found.unwrap_or_else(|| panic!("index {name} of {} is not declared", K::KIND))
    }
    fn find<'a>(
        &'a self,
        name: &str,
        value: &str,
    ) -> impl Iterator<Item = &'a Arc<K>> + use<'a, K> {
        let ids = self.indexed(name).ids.get(value);
        ids.into_iter().flatten().filter_map(|&id| self.object(id))
    }
    fn count(&self, name: &str, value: &str) -> usize {
        self.indexed(name).ids.get(value).map_or(0, BTreeSet::len)
    }
    fn declare(&mut self, name: &'static str, value: fn(&K) -> Option<String>) {
        self.add_index(name, Values::One(value));
    }
    fn declare_labels(&mut self) {
        self.add_index(LABELS, Values::Many(label_values));
    }
    fn add_index(&mut self, name: &'static str, values: Values<K>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Indexed { name, values, ids: HashMap::new() };
        for (&id, object) in
            self.by_key.values().filter_map(|id| Some((id, self.slots[*id as usize].as_ref()?)))
        {
            index.add(id, object);
        }
        self.indexes.push(index);
    }
}

impl<K> Indexed<K> {
    fn values(&self, object: &K) -> Vec<String> {
        match self.values {
            Values::One(value) => value(object).into_iter().collect(),
            Values::Many(values) => values(object),
        }
    }
    fn add(&mut self, id: u32, object: &K) {
        for value in self.values(object) {
            self.ids.entry(value.into_boxed_str()).or_default().insert(id);
        }
    }
    fn drop(&mut self, id: u32, object: &K) {
        for value in self.values(object) {
            if let Some(ids) = self.ids.get_mut(value.as_str()) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.ids.remove(value.as_str());
                }
            }
        }
    }
}

/// A [`Cache`] of any kind.
pub(crate) trait ErasedCache: Send + Sync {
    fn upsert(&mut self, object: Stored) -> Option<Stored>;
    fn remove(&mut self, key: &Key) -> Option<Stored>;
    fn meta(&self, key: &Key) -> Option<&ObjectMeta>;
    fn stored(&self, key: &Key) -> Option<Stored>;
    fn keys(&self) -> Vec<Key>;
    fn any(&self) -> &dyn Any;
    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<K: Kind> ErasedCache for Cache<K> {
    fn upsert(&mut self, object: Stored) -> Option<Stored> {
        let object: Arc<K> = object.downcast().ok()?;
        let key = object.key();
        if let Some(&id) = self.by_key.get(&key) {
            let old = self.slots[id as usize].replace(object.clone())?;
            for index in &mut self.indexes {
                index.drop(id, &old);
                index.add(id, &object);
            }
            return Some(old);
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 objects of a kind")
        });
        for index in &mut self.indexes {
            index.add(id, &object);
        }
        self.slots[id as usize] = Some(object);
        self.keys.insert(key.clone(), id);
        self.by_key.insert(key, id);
        None
    }
    fn remove(&mut self, key: &Key) -> Option<Stored> {
        let id = self.by_key.remove(key)?;
        self.keys.remove(key);
        let old = self.slots[id as usize].take()?;
        for index in &mut self.indexes {
            index.drop(id, &old);
        }
        self.free.push(id);
        Some(old)
    }
    fn meta(&self, key: &Key) -> Option<&ObjectMeta> {
        Some(self.get(key)?.metadata())
    }
    fn stored(&self, key: &Key) -> Option<Stored> {
        Some(self.get(key)?.clone())
    }
    fn keys(&self) -> Vec<Key> {
        self.keys.keys().cloned().collect()
    }
    fn any(&self) -> &dyn Any {
        self
    }
    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
