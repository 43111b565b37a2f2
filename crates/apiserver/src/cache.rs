//! The watch cache of one stored resource: the objects as they are now, and the recent past.
//!
//! One task (see [`feed`]) writes, in the store's order; everyone else reads snapshots, which cost
//! a reference each. Every event is encoded at most once per form, however many watch it.
pub mod feed;
pub mod item;
pub mod watchers;

use crate::negotiate::Encoding;
use crate::table::Row;
use api::Value;
use bytes::Bytes;
use imbl::OrdMap;
use item::{Filter, Item};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::Waker;
use watchers::{Subscription, Watchers, Wish};

/// Events kept for watches that begin in the past.
const MAX_EVENTS: usize = 4096;
const MAX_EVENT_BYTES: usize = 8 << 20;
/// Snapshots kept for pages.
const MAX_SNAPSHOTS: usize = 32;

pub type Map = OrdMap<Arc<str>, Arc<Item>>;

/// A change of one object.
#[derive(Debug)]
pub struct Event {
    pub revision: u64,
    pub old: Option<Arc<Item>>,
    pub new: Option<Arc<Item>>,
    /// What is sent, by encoding and kind.
    frames: [[OnceLock<Bytes>; 3]; 3],
}

/// What a change means to one watcher, after its selectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Added,
    Modified,
    Deleted,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Event {
    fn new(revision: u64, old: Option<Arc<Item>>, new: Option<Arc<Item>>) -> Self {
        Self { revision, old, new, frames: Default::default() }
    }

    /// What the filter's watcher should hear of it.
    pub fn seen_by(&self, filter: &Filter) -> Option<Kind> {
        let matches = |item: &Option<Arc<Item>>| item.as_ref().is_some_and(|i| filter.matches(i));
        match (matches(&self.old), matches(&self.new)) {
            (false, true) => Some(Kind::Added),
            (true, true) => Some(Kind::Modified),
            (true, false) => Some(Kind::Deleted),
            (false, false) => None,
        }
    }

    /// The object that goes with the kind: for a deletion the last one, at the new revision.
    pub fn object(&self, kind: Kind) -> Bytes {
        match (kind, &self.old, &self.new) {
            (Kind::Deleted, Some(old), _) => item::with_revision(&old.json, self.revision),
            (_, _, Some(new)) => new.json.clone(),
            (_, Some(old), None) => old.json.clone(),
            _ => Bytes::new(),
        }
    }

    /// What every watch in this encoding is sent; `make` makes it the first time.
    pub(crate) fn frame(
        &self,
        encoding: Encoding,
        kind: Kind,
        make: impl FnOnce(Bytes) -> Bytes,
    ) -> Bytes {
        let slot = &self.frames[encoding as usize][kind as usize];
        slot.get_or_init(|| make(self.object(kind))).clone()
    }

    fn bytes(&self) -> usize {
        let size = |item: &Option<Arc<Item>>| item.as_ref().map_or(0, |item| item.json.len());
        size(&self.old) + size(&self.new)
    }
}

/// `{"type":"ADDED","object":…}` and a line's end.
pub fn json_frame(kind: &str, object: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(object.len() + 40);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
    frame.into()
}

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub map: Map,
    pub revision: u64,
}

struct State {
    map: Map,
    /// The last change here.
    revision: u64,
    events: VecDeque<Arc<Event>>,
    event_bytes: usize,
    /// Every change after this is in `events`.
    floor: u64,
    watchers: Watchers,
    snapshots: VecDeque<Snapshot>,
}

pub struct Cache {
    pub row: Row,
    state: RwLock<State>,
}

/// A watch cannot begin there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOld {
    pub floor: u64,
}

impl Cache {
    pub fn new(row: Row) -> Self {
        let state = State {
            map: Map::new(),
            revision: 0,
            events: VecDeque::new(),
            event_bytes: 0,
            floor: 0,
            watchers: Watchers::default(),
            snapshots: VecDeque::new(),
        };
        Self { row, state: RwLock::new(state) }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything as of now. `progress` is how far the feed is known to have come.
    pub fn snapshot(&self, progress: u64) -> Snapshot {
        let state = self.read();
        Snapshot { map: state.map.clone(), revision: state.revision.max(progress) }
    }

    pub fn get(&self, key: &str) -> Option<Arc<Item>> {
        self.read().map.get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.read().map.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a snapshot for the pages to come.
    pub fn keep(&self, snapshot: &Snapshot) {
        let mut state = self.write();
        if state.snapshots.iter().any(|kept| kept.revision == snapshot.revision) {
            return;
        }
        if state.snapshots.len() >= MAX_SNAPSHOTS {
            state.snapshots.pop_front();
        }
        state.snapshots.push_back(snapshot.clone());
    }

    pub fn kept(&self, revision: u64) -> Option<Snapshot> {
        self.read().snapshots.iter().find(|kept| kept.revision == revision).cloned()
    }

    /// Lets go of the snapshots that nobody can be paging through any more.
    pub fn drop_snapshots_before(&self, revision: u64) {
        self.write().snapshots.retain(|kept| kept.revision >= revision);
    }

    /// Watches what comes after a revision; what has come already is in the subscription.
    pub fn subscribe(&self, after: u64, wish: Wish) -> Result<Subscription, TooOld> {
        let mut state = self.write();
        if after < state.floor {
            return Err(TooOld { floor: state.floor });
        }
        let first = state.events.partition_point(|event| event.revision <= after);
        let mut backlog = Vec::new();
        for event in state.events.range(first..) {
            let mut items = event.old.iter().chain(&event.new);
            let here =
                wish.namespace.is_empty() || items.any(|item| item.namespace() == &*wish.namespace);
            if here && let Some(kind) = event.seen_by(&wish.filter) {
                backlog.push((Arc::clone(event), kind));
            }
        }
        let receiver = state.watchers.add(wish);
        Ok(Subscription { backlog: backlog.into(), receiver })
    }

    /// As [`Cache::subscribe`], from now; with everything that is there now.
    pub fn subscribe_now(&self, progress: u64, wish: Wish) -> (Snapshot, Subscription) {
        let mut state = self.write();
        let snapshot = Snapshot { map: state.map.clone(), revision: state.revision.max(progress) };
        let receiver = state.watchers.add(wish);
        (snapshot, Subscription { backlog: VecDeque::new(), receiver })
    }

    /// Tells watchers that want it how far the world has come.
    pub fn bookmark(&self, revision: u64) {
        self.write().watchers.bookmark(revision);
    }

    fn apply(&self, key: &Arc<str>, new: Option<Arc<Item>>, revision: u64) {
        let mut state = self.write();
        if revision <= state.revision {
            return;
        }
        let old = match &new {
            Some(item) => state.map.insert(Arc::clone(key), Arc::clone(item)),
            None => state.map.remove(key),
        };
        state.revision = revision;
        if old.is_none() && new.is_none() {
            return;
        }
        let event = Arc::new(Event::new(revision, old, new));
        state.event_bytes += event.bytes();
        state.events.push_back(Arc::clone(&event));
        while state.events.len() > MAX_EVENTS || state.event_bytes > MAX_EVENT_BYTES {
            let Some(gone) = state.events.pop_front() else { break };
            state.event_bytes -= gone.bytes();
            state.floor = gone.revision;
        }
        let wakers = state.watchers.dispatch(&event);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The same objects and the same past, kept by another row.
    fn renewed(&self, row: Row) -> Self {
        let state = self.read();
        let renew = |(key, item): (&Arc<str>, &Arc<Item>)| {
            let mut value = item.value();
            let outdated = row.freshen(&mut value);
            let json = if outdated { canonical(&value) } else { item.json.clone() };
            let mut new = Item::new(Arc::clone(key), &json, item.revision, &row, &value);
            new.outdated = outdated || item.outdated;
            (Arc::clone(key), Arc::new(new))
        };
        let renewed = State {
            map: state.map.iter().map(renew).collect(),
            revision: state.revision,
            events: state.events.clone(),
            event_bytes: state.event_bytes,
            floor: state.floor,
            watchers: Watchers::default(),
            snapshots: state.snapshots.clone(),
        };
        drop(state);
        Self { row, state: RwLock::new(renewed) }
    }

    /// Ends all watches: what comes is heard of elsewhere, or nothing comes any more.
    pub(crate) fn close(&self) {
        self.write().watchers = Watchers::default();
    }

    /// Everything anew, after the feed has lost its place: watchers are told to begin again.
    fn replace(&self, map: Map, revision: u64) {
        let mut state = self.write();
        state.map = map;
        state.revision = revision;
        state.floor = revision;
        state.events.clear();
        state.event_bytes = 0;
        state.watchers = Watchers::default();
    }
}

/// The part of a map in a namespace (empty: all), from a key on.
pub fn slice<'a>(
    map: &'a Map,
    namespace: &str,
    from: Option<&str>,
) -> Box<dyn Iterator<Item = &'a Arc<Item>> + 'a> {
    use std::ops::Bound;
    let (low, high) = if namespace.is_empty() {
        (String::new(), None)
    } else {
        (format!("{namespace}/"), Some(format!("{namespace}0")))
    };
    let low: Arc<str> = from.filter(|from| **from > *low).map_or(low.as_str().into(), Into::into);
    let high = high.map_or(Bound::Unbounded, |high| Bound::Excluded(Arc::<str>::from(high)));
    if let Bound::Excluded(high) = &high
        && low >= *high
    {
        return Box::new(std::iter::empty());
    }
    Box::new(map.range((Bound::Included(low), high)).map(|(_, item)| item))
}

/// A row's bytes for the store: canonical order, no resource version.
pub fn canonical(object: &Value) -> Bytes {
    const HEAD: [&str; 3] = ["apiVersion", "kind", "metadata"];
    let Some(map) = object.as_object() else { return Bytes::from_static(b"{}") };
    let none = value::Map::new();
    let metadata = map.get("metadata").and_then(Value::as_object).unwrap_or(&none);
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in &HEAD[..2] {
        if let Some(value) = map.get(*key) {
            field(&mut out, key, value);
        }
    }
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(b"\"metadata\":{");
    for (key, value) in metadata {
        if !matches!(key.as_str(), "resourceVersion" | "selfLink") {
            field(&mut out, key, value);
        }
    }
    out.push(b'}');
    for (key, value) in map {
        if !HEAD.contains(&key.as_str()) {
            field(&mut out, key, value);
        }
    }
    out.push(b'}');
    out.into()
}

/// One more field of the object that is being written.
fn field(out: &mut Vec<u8>, key: &str, value: &Value) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    // Writing JSON values to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, key);
    out.push(b':');
    let _ = serde_json::to_writer(&mut *out, value);
}
