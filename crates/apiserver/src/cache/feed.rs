//! From the store to all caches: one range at the start, then one watch for good.
use super::{Cache, Map, item::Item};
use crate::kinds::{Kept, Kinds};
use crate::table::Row;
use api::{ApiError, Objects, Value};
use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use store::{Change, Entry, Expect, ReadAt, Revision, Store};
use tokio::sync::watch;

/// All that the API server keeps is under this prefix.
pub const PREFIX: &str = "/registry/";
const END: &str = "/registry0";
const DEFINITIONS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// How long a read waits for the caches to come up to the store.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// What every request is judged by is kept decoded, of kinds that have no more objects than this.
const DECODED_MAX: usize = 1000;
/// Between attempts to reach a store that is away.
const RETRY: Duration = Duration::from_millis(200);

/// Told of every change of every object, in order. Must be quick.
pub trait Observer: Send + Sync {
    fn changed(&self, group: &str, plural: &str, key: &str, new: Option<&Value>);
}

type Id = (String, String);

/// Every resource's cache.
pub struct Caches {
    store: Arc<dyn Store>,
    kinds: Arc<Kinds>,
    caches: RwLock<HashMap<Id, Arc<Cache>>>,
    progress: watch::Sender<u64>,
    /// The last revision that this server has written.
    written: AtomicU64,
    observers: Vec<Arc<dyn Observer>>,
    /// What this server is writing, by key: it need not be decoded when it comes back.
    underway: Mutex<HashMap<String, (Bytes, Value)>>,
}

/// What did not come to be written, or whose writer has gone, is forgotten.
struct Lost<'a> {
    caches: &'a Caches,
    key: &'a str,
    bytes: &'a Bytes,
    failed: bool,
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if self.failed {
            drop(self.caches.arrived(self.key, self.bytes));
        }
    }
}

impl Caches {
    /// Caches that are empty until [`Caches::load`].
    pub fn new(
        store: Arc<dyn Store>,
        kinds: Arc<Kinds>,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Self {
        let mut caches = HashMap::new();
        let stored = || kinds.built_in().iter().filter(|row| row.is_stored());
        // The row whose own name is the stored one decides what can be selected by.
        let own = stored().filter(|row| row.info().stored_as.is_none());
        for row in own.chain(stored()) {
            let (group, plural) = row.info().storage();
            let id = (group.to_owned(), plural.to_owned());
            caches.entry(id).or_insert_with(|| Arc::new(Cache::new(row.clone())));
        }
        Self {
            store,
            caches: RwLock::new(caches),
            kinds,
            progress: watch::Sender::new(0),
            written: AtomicU64::new(0),
            observers,
            underway: Mutex::default(),
        }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn of(&self, group: &str, plural: &str) -> Option<Arc<Cache>> {
        let caches = self.caches.read().unwrap_or_else(PoisonError::into_inner);
        caches.get(&(group.to_owned(), plural.to_owned())).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Cache>> {
        let caches = self.caches.read().unwrap_or_else(PoisonError::into_inner);
        caches.values().cloned().collect()
    }

    pub fn progress(&self) -> u64 {
        *self.progress.borrow()
    }

    /// Returns when the caches have everything up to the revision.
    pub async fn reach(&self, revision: u64) -> Result<(), ApiError> {
        if self.progress() >= revision {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        let reached = tokio::time::timeout(MAX_WAIT, progress.wait_for(|at| *at >= revision)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(too_large(revision, self.progress())),
        }
    }

    /// Returns when the caches have everything that was in the store at the time of the call.
    pub async fn catch_up(&self) -> Result<(), ApiError> {
        let latest = self.store.latest().await.map_err(store_error)?;
        self.reach(latest.0).await
    }

    /// Writes, for requests of this server.
    pub async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<Entry, store::Error> {
        let entry = self.store.put(key, value, expect).await?;
        self.written.fetch_max(entry.modified.0, Ordering::AcqRel);
        Ok(entry)
    }

    /// As [`Self::put`], with what the bytes say.
    pub async fn put_object(
        &self,
        key: &str,
        (bytes, mut object): (Bytes, Value),
        expect: Expect,
    ) -> Result<Entry, store::Error> {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("selfLink");
        }
        self.underway().insert(key.to_owned(), (bytes.clone(), object));
        let mut lost = Lost { caches: self, key, bytes: &bytes, failed: true };
        let written = self.put(key, bytes.clone(), expect).await;
        lost.failed = written.is_err();
        written
    }

    fn underway(&self) -> MutexGuard<'_, HashMap<String, (Bytes, Value)>> {
        self.underway.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The object that was written with these bytes, if it was by this server.
    fn arrived(&self, key: &str, bytes: &Bytes) -> Option<Value> {
        let mut underway = self.underway();
        underway.get(key).filter(|(written, _)| written == bytes)?;
        underway.remove(key).map(|(_, object)| object)
    }

    /// Deletes, for requests of this server; yields the deletion's revision.
    pub async fn delete(&self, key: &str, expect: Revision) -> Result<Revision, store::Error> {
        let (_, at) = self.store.delete(key, expect).await?;
        self.written.fetch_max(at.0, Ordering::AcqRel);
        Ok(at)
    }

    /// Returns when the caches have everything that this server has answered for: what a client was
    /// told of, its next write is judged by.
    pub async fn own_writes(&self) -> Result<(), ApiError> {
        self.reach(self.written.load(Ordering::Acquire)).await
    }

    /// Reads everything, and returns where the watch has to begin.
    pub async fn load(&self) -> Result<Revision, store::Error> {
        self.underway().clear();
        let page = self.store.range(PREFIX.to_owned()..END.to_owned(), ReadAt::Latest, 0).await?;
        self.define_all(&page.entries);
        let mut maps: HashMap<Id, Map> = HashMap::new();
        for entry in &page.entries {
            let Some((cache, key)) = self.place(&entry.key) else { continue };
            let Some((item, value)) = decode(&cache, key, entry, None) else { continue };
            let (group, plural) = cache.row.info().storage();
            for observer in &self.observers {
                observer.changed(group, plural, key, Some(&value));
            }
            let id = (group.to_owned(), plural.to_owned());
            maps.entry(id).or_default().insert(Arc::clone(&item.key), item);
        }
        let caches: Vec<(Id, Arc<Cache>)> = {
            let caches = self.caches.read().unwrap_or_else(PoisonError::into_inner);
            caches.iter().map(|(id, cache)| (id.clone(), Arc::clone(cache))).collect()
        };
        for (id, cache) in caches {
            let new = maps.remove(&id).unwrap_or_default();
            // After a gap, observers hear of what went away in it.
            for (key, _) in cache.snapshot(0).map.iter().filter(|(key, _)| !new.contains_key(*key))
            {
                for observer in &self.observers {
                    observer.changed(&id.0, &id.1, key, None);
                }
            }
            cache.replace(new, page.at.0);
        }
        self.progress.send_replace(page.at.0);
        Ok(page.at)
    }

    /// Follows the store for good. Ends only with the task that runs it.
    pub async fn follow(&self, mut after: Revision) {
        loop {
            if let Err(error) = self.follow_once(&mut after).await {
                tracing::warn!(%error, "the watch of the store broke");
            }
            loop {
                match self.load().await {
                    Ok(at) => {
                        after = at;
                        break;
                    }
                    Err(error) => tracing::warn!(%error, "the store cannot be read"),
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn follow_once(&self, after: &mut Revision) -> Result<(), store::Error> {
        let mut changes = self.store.watch(PREFIX.to_owned()..END.to_owned(), *after).await?;
        while let Some(change) = changes.next().await {
            let change = change?;
            *after = change.revision();
            match &change {
                Change::Put { entry, .. } => {
                    self.defined(entry).await?;
                    self.stored(entry);
                }
                Change::Deleted { old, at } => {
                    self.undefined(&old.key);
                    self.deleted(old, *at);
                }
                Change::Progress(_) => {}
            }
            self.progress.send_if_modified(|at| {
                let newer = after.0 > *at;
                *at = after.0.max(*at);
                newer
            });
        }
        Ok(())
    }

    fn keep(&self, cache: Cache) -> Option<Arc<Cache>> {
        let (group, plural) = cache.row.info().storage();
        let id = (group.to_owned(), plural.to_owned());
        let mut caches = self.caches.write().unwrap_or_else(PoisonError::into_inner);
        caches.insert(id, Arc::new(cache))
    }

    /// All definitions that there are: their caches, still empty, and the table.
    fn define_all(&self, entries: &[Entry]) {
        let mut gone = self.kinds.names();
        for entry in entries {
            let Some(name) = entry.key.strip_prefix(DEFINITIONS) else { continue };
            gone.retain(|old| old != name);
            let Ok(crd) = serde_json::from_slice::<Value>(&entry.value) else { continue };
            if let Kept::By(row) = self.kinds.define(name, &crd)
                && let Some(old) = self.keep(Cache::new(row))
            {
                old.close();
            }
        }
        gone.iter().for_each(|name| self.undefined(&format!("{DEFINITIONS}{name}")));
        self.kinds.publish();
    }

    /// Serves what a definition, if this is one, says now.
    async fn defined(&self, entry: &Entry) -> Result<(), store::Error> {
        let Some(name) = entry.key.strip_prefix(DEFINITIONS) else { return Ok(()) };
        let Ok(crd) = serde_json::from_slice::<Value>(&entry.value) else { return Ok(()) };
        match self.kinds.define(name, &crd) {
            Kept::Unchanged => return Ok(()),
            Kept::Same => {}
            Kept::By(row) => {
                let (group, plural) = row.info().storage();
                match self.of(group, plural) {
                    Some(old) => {
                        self.keep(old.renewed(row));
                        old.close();
                    }
                    None => {
                        let cache = self.opened(row).await?;
                        self.keep(cache);
                    }
                }
            }
        }
        self.kinds.publish();
        Ok(())
    }

    /// A cache with what an earlier definition of the same name may have left.
    async fn opened(&self, row: Row) -> Result<Cache, store::Error> {
        let prefix = store_key(&row, "");
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let page = self.store.range(prefix.clone()..end, ReadAt::Latest, 0).await?;
        let cache = Cache::new(row);
        let items = page.entries.iter().filter_map(|entry| {
            let (item, _) = decode(&cache, entry.key.strip_prefix(&prefix)?, entry, None)?;
            Some((Arc::clone(&item.key), item))
        });
        let map = items.collect();
        cache.replace(map, page.at.0);
        Ok(cache)
    }

    /// Serves no more what a definition, if this is one, was about; its watches end.
    fn undefined(&self, path: &str) {
        let Some(name) = path.strip_prefix(DEFINITIONS) else { return };
        let Some(id) = self.kinds.forget(name) else { return };
        self.kinds.publish();
        let mut caches = self.caches.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = caches.remove(&id) {
            cache.close();
        }
    }

    fn stored(&self, entry: &Entry) {
        let Some((cache, key)) = self.place(&entry.key) else { return };
        let known = self.arrived(&entry.key, &entry.value);
        let Some((item, value)) = decode(&cache, key, entry, known) else { return };
        let (group, plural) = cache.row.info().storage();
        for observer in &self.observers {
            observer.changed(group, plural, key, Some(&value));
        }
        let key = Arc::clone(&item.key);
        cache.apply(&key, Some(item), entry.modified.0);
    }

    fn deleted(&self, old: &Entry, at: Revision) {
        let Some((cache, key)) = self.place(&old.key) else { return };
        let (group, plural) = cache.row.info().storage();
        for observer in &self.observers {
            observer.changed(group, plural, key, None);
        }
        cache.apply(&Arc::from(key), None, at.0);
    }

    /// `/registry/GROUP/PLURAL/KEY`, where the core group is `core`.
    fn place<'a>(&self, path: &'a str) -> Option<(Arc<Cache>, &'a str)> {
        let mut parts = path.strip_prefix(PREFIX)?.splitn(3, '/');
        let (group, plural, key) = (parts.next()?, parts.next()?, parts.next()?);
        let group = if group == "core" { "" } else { group };
        Some((self.of(group, plural)?, key))
    }
}

/// Where the store has an object.
pub fn store_key(row: &Row, key: &str) -> String {
    let (group, plural) = row.info().storage();
    let group = if group.is_empty() { "core" } else { group };
    format!("{PREFIX}{group}/{plural}/{key}")
}

/// `known` is what is in the entry, where that is known.
fn decode(
    cache: &Cache,
    key: &str,
    entry: &Entry,
    known: Option<Value>,
) -> Option<(Arc<Item>, Value)> {
    match known.map_or_else(|| serde_json::from_slice(&entry.value), Ok) {
        Ok(mut value) => {
            let key = Arc::from(key);
            let (row, revision) = (&cache.row, entry.modified.0);
            let outdated = row.freshen(&mut value);
            let mut item = match outdated {
                true => Item::new(key, &super::canonical(&value), revision, row, &value),
                false => Item::new(key, &entry.value, revision, row, &value),
            };
            item.outdated = outdated;
            Some((Arc::new(item), value))
        }
        Err(error) => {
            tracing::error!(key = %entry.key, %error, "a stored object is not JSON; it is left out");
            None
        }
    }
}

fn too_large(wanted: u64, have: u64) -> ApiError {
    ApiError::timeout(format!("Too large resource version: {wanted}, current: {have}"), 1)
        .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
}

/// What the store says, as clients may hear it.
pub fn store_error(error: store::Error) -> ApiError {
    match error {
        store::Error::Compacted { .. } => {
            ApiError::expired("The resourceVersion for the provided watch is too old.")
        }
        store::Error::Future { latest } => {
            ApiError::timeout(format!("Too large resource version, current: {}", latest.0), 1)
        }
        store::Error::Full(why) => {
            ApiError::insufficient_storage(format!("no space left for the cluster's state: {why}"))
        }
        other => ApiError::unavailable(other.to_string()),
    }
}

impl Objects for Caches {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = object_key(namespace, name);
        let cache = self.of(group, plural)?;
        let item = cache.get(&key)?;
        Some(if cache.len() <= DECODED_MAX { item.decoded() } else { Arc::new(item.value()) })
    }
    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let Some(cache) = self.of(group, plural) else { return Vec::new() };
        let map = cache.snapshot(0).map;
        let items = super::slice(&map, namespace.unwrap_or_default(), None);
        let few = map.len() <= DECODED_MAX;
        items.map(|item| if few { item.decoded() } else { Arc::new(item.value()) }).collect()
    }
}

/// `namespace/name`, or the name alone.
pub fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}
