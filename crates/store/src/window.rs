//! The recent changes of a store that lives in this process, and the watchers that follow them.
//!
//! One bounded ring of changes is shared by all watchers; a watcher is a place in it. So a watcher
//! costs no memory for what it has not read yet, never slows a writer, and is cut off with
//! `Lagged` when a change that it still had to see has left the ring.
//!
//! Writers are serialised by the store that owns the window. They `stage` changes, make them
//! durable, then `reveal` them (or `retract`, when that failed): readers of older states can undo
//! staged changes, watchers see revealed ones only.
//!
//! Invariants: revisions in the ring increase; every change after `floor` is in the ring;
//! a watcher that has nothing pending is at `visible`.
use crate::{Change, Changes, Entry, Error, Revision};
use futures_core::Stream;
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// How much of the past is kept for watchers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub changes: usize,
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { changes: 8192, bytes: 16 << 20 }
    }
}

/// A watcher takes at most so many changes each time it holds the lock.
const TAKE_LIMIT: usize = 64;
/// A watcher that saw nothing for so many revisions is told of progress unasked, so that whoever
/// resumes from what it saw last still finds it in the window.
const QUIET_LIMIT: u64 = 1000;
/// What an entry costs beside its key and value.
const ENTRY_OVERHEAD: usize = 128;

pub struct Window {
    limits: Limits,
    inner: Mutex<Inner>,
}

struct Inner {
    ring: VecDeque<Change>,
    bytes: usize,
    floor: u64,
    visible: u64,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
}

struct Watcher {
    keys: Range<String>,
    /// Has seen everything up to here.
    cursor: u64,
    /// The last revision that it was told of.
    told: u64,
    pending: bool,
    wants_progress: bool,
    lagged: bool,
    waker: Option<Waker>,
}

impl Window {
    /// A window over a store whose last write was at `latest`.
    pub fn new(limits: Limits, latest: Revision) -> Window {
        let inner = Inner {
            ring: VecDeque::new(),
            bytes: 0,
            floor: latest.0,
            visible: latest.0,
            watchers: BTreeMap::new(),
            next_watcher: 0,
        };
        Window { limits, inner: Mutex::new(inner) }
    }

    /// Adds changes that no watcher may see yet.
    pub fn stage(&self, changes: impl IntoIterator<Item = Change>) {
        let mut inner = self.lock();
        for change in changes {
            inner.bytes += cost(&change);
            inner.ring.push_back(change);
        }
    }

    /// Lets watchers see all that was staged.
    pub fn reveal(&self) {
        let mut inner = self.lock();
        let upto = inner.ring.back().map_or(0, |change| change.revision().0);
        let wakers = inner.reveal(self.limits, upto);
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets watchers know that there is nothing up to `upto` but what was staged.
    pub fn advance(&self, upto: Revision) {
        let mut inner = self.lock();
        let wakers = inner.reveal(self.limits, upto.0);
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes back all that was staged.
    pub fn retract(&self) {
        let mut inner = self.lock();
        while inner.ring.back().is_some_and(|change| change.revision().0 > inner.visible) {
            let change = inner.ring.pop_back();
            inner.bytes -= change.as_ref().map_or(0, cost);
        }
    }

    /// Starts over at `latest`, when what led there is not known: every watcher is cut off.
    pub fn reset(&self, latest: Revision) {
        let mut inner = self.lock();
        inner.ring.clear();
        inner.bytes = 0;
        inner.floor = latest.0;
        inner.visible = latest.0;
        let mut wakers = Vec::new();
        for watcher in inner.watchers.values_mut() {
            watcher.lagged = true;
            wakers.extend(watcher.waker.take());
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The latest revealed revision.
    pub fn latest(&self) -> Revision {
        Revision(self.lock().visible)
    }

    /// Every later change is kept.
    pub fn floor(&self) -> Revision {
        Revision(self.lock().floor)
    }

    /// The latest revealed revision; watchers behind it are told.
    pub fn latest_with_progress(&self) -> Revision {
        let mut inner = self.lock();
        let visible = inner.visible;
        let mut wakers = Vec::new();
        for watcher in inner.watchers.values_mut().filter(|watcher| watcher.told < visible) {
            watcher.wants_progress = true;
            wakers.extend(watcher.waker.take());
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        Revision(visible)
    }

    /// How the keys that changed in `(at, newest]` stood at `at`. `newest` is the revision of the
    /// state which the caller is about to undo.
    pub fn undo(
        &self,
        keys: &Range<String>,
        at: Revision,
        newest: Revision,
    ) -> Result<BTreeMap<Arc<str>, Option<Entry>>, Error> {
        let inner = self.lock();
        if at.0 < inner.floor {
            return Err(Error::Compacted { oldest: Revision(inner.floor) });
        }
        let mut undone = BTreeMap::new();
        for change in inner.ring.range(inner.position_after(at.0)..) {
            if change.revision() > newest {
                break;
            }
            if let Some(key) = change.key().filter(|key| contains(keys, key)) {
                undone.entry(Arc::clone(key)).or_insert_with(|| change.old().cloned());
            }
        }
        Ok(undone)
    }

    pub fn watch(self: &Arc<Self>, keys: Range<String>, after: Revision) -> Result<Changes, Error> {
        let mut inner = self.lock();
        if after.0 < inner.floor {
            return Err(Error::Compacted { oldest: Revision(inner.floor) });
        }
        let id = inner.next_watcher;
        inner.next_watcher += 1;
        let watcher = Watcher {
            keys,
            cursor: after.0,
            told: after.0,
            pending: true,
            wants_progress: true,
            lagged: false,
            waker: None,
        };
        inner.watchers.insert(id, watcher);
        Ok(Box::pin(Following {
            window: Arc::clone(self),
            id,
            taken: VecDeque::new(),
            over: false,
        }))
    }

    /// Forgets all changes up to `upto`.
    pub fn compact(&self, upto: Revision) -> Result<(), Error> {
        let mut inner = self.lock();
        if upto.0 > inner.visible {
            return Err(Error::Future { latest: Revision(inner.visible) });
        }
        while inner.ring.front().is_some_and(|change| change.revision() <= upto) {
            inner.evict();
        }
        inner.floor = inner.floor.max(upto.0);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the state whole, so a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn reveal(&mut self, limits: Limits, upto: u64) -> Vec<Waker> {
        let fresh = self.position_after(self.visible);
        self.visible = self.visible.max(upto);
        let mut wakers = Vec::new();
        for watcher in self.watchers.values_mut() {
            if !watcher.pending {
                watcher.pending = self.ring.range(fresh..).any(|change| {
                    change.revision().0 > watcher.cursor
                        && change.key().is_some_and(|key| contains(&watcher.keys, key))
                });
                if !watcher.pending {
                    watcher.cursor = watcher.cursor.max(self.visible);
                }
            }
            if !watcher.pending && self.visible.saturating_sub(watcher.told) >= QUIET_LIMIT {
                watcher.wants_progress = true;
            }
            if watcher.pending || watcher.wants_progress {
                wakers.extend(watcher.waker.take());
            }
        }
        // The newest change always stays: a watcher must be able to follow one write at a time.
        while self.ring.len() > 1 && (self.ring.len() > limits.changes || self.bytes > limits.bytes)
        {
            self.evict();
        }
        wakers
    }

    fn evict(&mut self) {
        let Some(change) = self.ring.pop_front() else { return };
        self.bytes -= cost(&change);
        self.floor = change.revision().0;
        for watcher in self.watchers.values_mut().filter(|watcher| watcher.pending) {
            let unseen = watcher.cursor < self.floor;
            if unseen && change.key().is_some_and(|key| contains(&watcher.keys, key)) {
                watcher.lagged = true;
            }
        }
    }

    fn position_after(&self, revision: u64) -> usize {
        self.ring.partition_point(|change| change.revision().0 <= revision)
    }

    /// Moves the watcher on and yields what it passed that concerns it.
    fn advance(&mut self, id: u64, taken: &mut VecDeque<Change>, waker: &Waker) -> Step {
        let start = self.watchers.get(&id).map_or(0, |watcher| watcher.cursor);
        let start = self.position_after(start);
        let Some(watcher) = self.watchers.get_mut(&id) else { return Step::Cut };
        if watcher.lagged {
            return Step::Cut;
        }
        if watcher.pending {
            for change in self.ring.range(start..) {
                let revision = change.revision().0;
                if revision > self.visible || taken.len() == TAKE_LIMIT {
                    break;
                }
                watcher.cursor = revision;
                if change.key().is_some_and(|key| contains(&watcher.keys, key)) {
                    watcher.told = revision;
                    taken.push_back(change.clone());
                }
            }
            if taken.len() == TAKE_LIMIT {
                return Step::Took;
            }
            watcher.pending = false;
            watcher.cursor = watcher.cursor.max(self.visible);
        }
        if watcher.wants_progress {
            watcher.wants_progress = false;
            watcher.told = watcher.cursor;
            taken.push_back(Change::Progress(Revision(watcher.cursor)));
        }
        if taken.is_empty() {
            watcher.waker = Some(waker.clone());
            return Step::Wait;
        }
        Step::Took
    }
}

enum Step {
    Took,
    Wait,
    Cut,
}

/// A watcher's end: what it took and has not yielded yet.
struct Following {
    window: Arc<Window>,
    id: u64,
    taken: VecDeque<Change>,
    over: bool,
}

impl Stream for Following {
    type Item = Result<Change, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.taken.is_empty() && !this.over {
            let mut inner = this.window.lock();
            match inner.advance(this.id, &mut this.taken, context.waker()) {
                Step::Took => {}
                Step::Wait => return Poll::Pending,
                Step::Cut => {
                    this.over = true;
                    return Poll::Ready(Some(Err(Error::Lagged)));
                }
            }
        }
        Poll::Ready(this.taken.pop_front().map(Ok))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.window.lock().watchers.remove(&self.id);
    }
}

fn contains(keys: &Range<String>, key: &str) -> bool {
    keys.start.as_str() <= key && key < keys.end.as_str()
}

fn cost(change: &Change) -> usize {
    let entry_cost = |entry: &Entry| ENTRY_OVERHEAD + entry.key.len() + entry.value.len();
    let new = match change {
        Change::Put { entry, .. } => entry_cost(entry),
        Change::Deleted { .. } | Change::Progress(_) => 0,
    };
    new + change.old().map_or(0, entry_cost)
}
