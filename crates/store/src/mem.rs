//! The store in memory: for tests, simulation and clusters that need not outlive their process.
use crate::{
    Boxed, Change, Changes, Entry, Error, Expect, Page, ReadAt, Revision, Store,
    window::{Limits, Window},
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    future::ready,
    ops::{Bound, Range},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub struct Mem {
    state: Mutex<State>,
    window: Arc<Window>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Arc<str>, Entry>,
    latest: Revision,
}

impl Default for Mem {
    fn default() -> Mem {
        Mem::new(Limits::default())
    }
}

impl Mem {
    pub fn new(window: Limits) -> Mem {
        let window = Arc::new(Window::new(window, Revision(0)));
        Mem { state: Mutex::default(), window }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A write is complete or not begun whenever the lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn range_now(&self, keys: &Range<String>, at: ReadAt, limit: u32) -> Result<Page, Error> {
        let state = self.lock();
        let latest = state.latest;
        let asked = match at {
            ReadAt::Latest => latest,
            ReadAt::AtLeast(revision) | ReadAt::Exactly(revision) if revision > latest => {
                return Err(Error::Future { latest });
            }
            ReadAt::AtLeast(_) => latest,
            ReadAt::Exactly(revision) => revision,
        };
        if keys.start >= keys.end {
            return Ok(Page { entries: Vec::new(), at: asked, remaining: 0 });
        }
        let bounds = (Bound::Included(keys.start.as_str()), Bound::Excluded(keys.end.as_str()));
        let live = state.entries.range::<str, _>(bounds).map(|(_, entry)| entry);
        if asked == latest {
            return Ok(page(live.cloned(), asked, limit));
        }
        let mut entries: BTreeMap<Arc<str>, Entry> =
            live.map(|entry| (Arc::clone(&entry.key), entry.clone())).collect();
        for (key, old) in self.window.undo(keys, asked, latest)? {
            match old {
                Some(old) => entries.insert(key, old),
                None => entries.remove(&key),
            };
        }
        Ok(page(entries.into_values(), asked, limit))
    }

    fn put_now(&self, key: &str, value: Bytes, expect: Expect) -> Result<Entry, Error> {
        let mut state = self.lock();
        let old = state.entries.get(key).cloned();
        if !expect.met_by(old.as_ref()) {
            return Err(Error::Unmet { found: old.map(Box::new) });
        }
        let modified = Revision(state.latest.0 + 1);
        let entry = Entry {
            key: old.as_ref().map_or_else(|| Arc::from(key), |old| Arc::clone(&old.key)),
            value,
            created: old.as_ref().map_or(modified, |old| old.created),
            modified,
        };
        state.latest = modified;
        state.entries.insert(Arc::clone(&entry.key), entry.clone());
        self.window.stage([Change::Put { entry: entry.clone(), old }]);
        self.window.reveal();
        Ok(entry)
    }

    fn delete_now(&self, key: &str, expect: Revision) -> Result<(Entry, Revision), Error> {
        let mut state = self.lock();
        let Some(old) = state.entries.get(key).filter(|old| old.modified == expect).cloned() else {
            return Err(Error::Unmet { found: state.entries.get(key).cloned().map(Box::new) });
        };
        let at = Revision(state.latest.0 + 1);
        state.latest = at;
        state.entries.remove(key);
        self.window.stage([Change::Deleted { old: old.clone(), at }]);
        self.window.reveal();
        Ok((old, at))
    }
}

impl Store for Mem {
    fn range(&self, keys: Range<String>, at: ReadAt, limit: u32) -> Boxed<'_, Result<Page, Error>> {
        Box::pin(ready(self.range_now(&keys, at, limit)))
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> Boxed<'_, Result<Entry, Error>> {
        Box::pin(ready(self.put_now(key, value, expect)))
    }

    fn delete(&self, key: &str, expect: Revision) -> Boxed<'_, Result<(Entry, Revision), Error>> {
        Box::pin(ready(self.delete_now(key, expect)))
    }

    fn watch(&self, keys: Range<String>, after: Revision) -> Boxed<'_, Result<Changes, Error>> {
        Box::pin(ready(self.window.watch(keys, after)))
    }

    fn compact(&self, upto: Revision) -> Boxed<'_, Result<(), Error>> {
        Box::pin(ready(self.window.compact(upto)))
    }

    fn latest(&self) -> Boxed<'_, Result<Revision, Error>> {
        Box::pin(ready(Ok(self.window.latest_with_progress())))
    }
}

fn page(mut entries: impl Iterator<Item = Entry>, at: Revision, limit: u32) -> Page {
    let limit = if limit == 0 { usize::MAX } else { limit as usize };
    let taken = entries.by_ref().take(limit).collect();
    Page { entries: taken, at, remaining: entries.count() as u64 }
}

#[cfg(test)]
mod tests;
