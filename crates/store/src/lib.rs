//! A revisioned key-value store with watch. Knows bytes and ranges; nothing of Kubernetes.
//!
//! Contract, checked by [`conformance`] against every backend:
//! 1. All writes are in one total order; revisions strictly increase (gaps are allowed: etcd has
//!    them).
//! 2. A watch after `r` yields every later change in its range, in order, once.
//! 3. Reading or watching well behind the compaction point fails with `Compacted`
//!    (backends differ by one at the boundary, so callers must not depend on it).
//! 4. A failed write reports the entry that made it fail.
//! 5. A deletion carries the last value.
//! 6. A slow watcher is cut off with `Lagged`; it never slows a writer.
//! 7. An acknowledged write is durable, where the backend is durable at all.
//! 8. Asking for `latest` makes every open watch that is behind yield a `Progress` at or past the
//!    answer once it has yielded what comes before; a new watch yields one when it has caught up.
//! 9. `AtLeast` and `Exactly` past the latest revision fail with `Future`; a watch may start there.
pub mod conformance;
pub mod mem;
pub mod window;

use bytes::Bytes;
use futures_core::Stream;
use std::{future::Future, ops::Range, pin::Pin, sync::Arc};

pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub type Changes = Pin<Box<dyn Stream<Item = Result<Change, Error>> + Send>>;

/// A point in the store's total order of writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    pub value: Bytes,
    pub created: Revision,
    pub modified: Revision,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put {
        entry: Entry,
        old: Option<Entry>,
    },
    Deleted {
        old: Entry,
        at: Revision,
    },
    /// Nothing in the range up to this revision is still to come.
    Progress(Revision),
}

/// What must hold of the key for the write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Absent,
    At(Revision),
}

impl Expect {
    /// Whether a key in the state `found` may be written.
    pub fn met_by(self, found: Option<&Entry>) -> bool {
        match self {
            Expect::Absent => found.is_none(),
            Expect::At(revision) => found.is_some_and(|entry| entry.modified == revision),
        }
    }
}

impl Change {
    /// The key that changed; `None` for progress.
    pub fn key(&self) -> Option<&Arc<str>> {
        match self {
            Change::Put { entry, .. } => Some(&entry.key),
            Change::Deleted { old, .. } => Some(&old.key),
            Change::Progress(_) => None,
        }
    }

    pub fn revision(&self) -> Revision {
        match self {
            Change::Put { entry, .. } => entry.modified,
            Change::Deleted { at, .. } | Change::Progress(at) => *at,
        }
    }

    /// The entry as it was before the change.
    pub fn old(&self) -> Option<&Entry> {
        match self {
            Change::Put { old, .. } => old.as_ref(),
            Change::Deleted { old, .. } => Some(old),
            Change::Progress(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAt {
    Latest,
    AtLeast(Revision),
    Exactly(Revision),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub at: Revision,
    /// How many entries of the range are left out by the limit.
    pub remaining: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the key is not in the expected state")]
    Unmet { found: Option<Box<Entry>> },
    #[error("the revision is compacted; the oldest kept is {}", oldest.0)]
    Compacted { oldest: Revision },
    #[error("the revision is in the future; the latest is {}", latest.0)]
    Future { latest: Revision },
    #[error("the watcher fell behind and was cut off")]
    Lagged,
    /// The disk is full: reads still work, writes are refused until there is room.
    #[error("no space left for the store: {0}")]
    Full(String),
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// The range of all keys that start with `prefix`.
pub fn prefix(prefix: &str) -> Range<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // The next scalar value; the gap of the surrogates has none in it.
        let next =
            if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            end.push(next);
            return prefix.to_owned()..end;
        }
    }
    prefix.to_owned()..char::MAX.to_string().repeat(8)
}

pub trait Store: Send + Sync {
    /// A `limit` of zero means all.
    fn range(&self, keys: Range<String>, at: ReadAt, limit: u32) -> Boxed<'_, Result<Page, Error>>;
    fn put(&self, key: &str, value: Bytes, expect: Expect) -> Boxed<'_, Result<Entry, Error>>;
    /// Yields the entry as it was; its deletion has the revision beside it.
    fn delete(&self, key: &str, expect: Revision) -> Boxed<'_, Result<(Entry, Revision), Error>>;
    fn watch(&self, keys: Range<String>, after: Revision) -> Boxed<'_, Result<Changes, Error>>;
    fn compact(&self, upto: Revision) -> Boxed<'_, Result<(), Error>>;
    /// The latest revision that a read would see.
    fn latest(&self) -> Boxed<'_, Result<Revision, Error>>;
}
