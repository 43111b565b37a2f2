//! The store in etcd v3, for several servers: the contract of [`store::Store`] over gRPC.
//!
//! Invariants:
//! - One watch a process follows all keys; local watchers share its recent changes
//!   ([`store::window::Window`]), as they do in the other backends. A lost connection is taken up
//!   where it was; where etcd has compacted that, local watchers are cut off.
//! - A write is one transaction: done if the key is as expected, else telling what is there. It is
//!   never sent twice: a write whose answer is lost fails as `Unavailable`, done or not.
//!   Reads are sent again, to another endpoint.
//! - Reads are linearizable. Long ones are made of pages of one revision.
//! - Keys in etcd are the prefix and the store's key, which begins with a slash; beside them there
//!   is one marker key.
mod config;
mod connect;
mod follow;
mod grpc;
mod messages;
mod wire;

pub use config::{Config, ConfigError, Login, Tls};

use bytes::Bytes;
use follow::Follower;
use grpc::{CallError, Channel};
use messages::{Done, KeyValue, Ranged, Write};
use std::{fmt, future::ready, ops::Range, sync::Arc};
use store::{Boxed, Changes, Entry, Error, Expect, Page, ReadAt, Revision, Store, window::Window};
use tokio::{sync::watch, task::JoinHandle};

/// How many entries are asked for at once.
const PAGE: u64 = 1000;
/// All keys of the store begin with a slash: they lie between these, and other prefixes do not.
const KEYS: Range<&str> = "/\x01".."0";
/// The key, after the prefix, that is written to see its event. The store's keys come after it.
const MARKER: &str = "/\0progress";

pub struct Etcd {
    shared: Arc<Shared>,
    follower: JoinHandle<()>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the datastore: {0}")]
pub struct ConnectError(String);

struct Shared {
    channel: Channel,
    window: Arc<Window>,
    prefix: String,
    /// Somebody waits until the window has reached this.
    wanted: watch::Sender<Revision>,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("prefix", &self.shared.prefix).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Fails if none of the endpoints answers, or not as it should.
    pub async fn connect(config: &Config) -> Result<Etcd, ConnectError> {
        let channel = Channel::new(config.clone());
        let prefix = config.prefix.clone();
        let latest = match first_look(&channel, &prefix).await {
            Ok(latest) => latest,
            Err(error) => return Err(ConnectError(channel.explained(error).await.to_string())),
        };
        let window = Arc::new(Window::new(config.window, latest));
        let wanted = watch::Sender::new(Revision(0));
        let shared = Arc::new(Shared { channel, window, prefix, wanted });
        let follower = tokio::spawn(Follower::new(Arc::clone(&shared)).run());
        Ok(Etcd { shared, follower })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Store for Etcd {
    fn range(&self, keys: Range<String>, at: ReadAt, limit: u32) -> Boxed<'_, Result<Page, Error>> {
        Box::pin(async move { self.shared.range(keys, at, limit).await })
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> Boxed<'_, Result<Entry, Error>> {
        let key = key.to_owned();
        Box::pin(async move { self.shared.put(&key, value, expect).await })
    }

    fn delete(&self, key: &str, expect: Revision) -> Boxed<'_, Result<(Entry, Revision), Error>> {
        let key = key.to_owned();
        Box::pin(async move { self.shared.delete(&key, expect).await })
    }

    fn watch(&self, keys: Range<String>, after: Revision) -> Boxed<'_, Result<Changes, Error>> {
        Box::pin(ready(self.shared.window.watch(keys, after)))
    }

    fn compact(&self, upto: Revision) -> Boxed<'_, Result<(), Error>> {
        Box::pin(async move { self.shared.compact(upto).await })
    }

    fn latest(&self) -> Boxed<'_, Result<Revision, Error>> {
        Box::pin(async move {
            let shared = &self.shared;
            let read = latest(&shared.channel, &shared.prefix).await;
            let latest = read.map_err(|error| shared.error(error, Revision(0)))?;
            shared.want(latest);
            Ok(latest)
        })
    }
}

impl Shared {
    /// Watchers are told of progress once there is that much.
    fn want(&self, revision: Revision) {
        if self.window.latest() >= revision {
            self.window.latest_with_progress();
            return;
        }
        self.wanted.send_if_modified(|wanted| {
            let more = revision > *wanted;
            *wanted = revision.max(*wanted);
            more
        });
    }

    async fn range(&self, keys: Range<String>, at: ReadAt, limit: u32) -> Result<Page, Error> {
        let (mut from, end) = (self.key(&keys.start), self.key(&keys.end));
        let asked = match at {
            ReadAt::Latest => Revision(0),
            ReadAt::AtLeast(revision) | ReadAt::Exactly(revision) => revision,
        };
        let mut revision = if matches!(at, ReadAt::Exactly(_)) { asked.0 } else { 0 };
        let mut page = Page { entries: Vec::new(), at: asked, remaining: 0 };
        loop {
            let left = match limit {
                0 => u64::MAX,
                limit => u64::from(limit) - page.entries.len() as u64,
            };
            // An empty range is asked for as the count of one key: etcd has no word for it.
            let empty = keys.start >= keys.end;
            let range = messages::Range {
                key: from.as_bytes(),
                end: if empty { b"" } else { end.as_bytes() },
                limit: left.min(PAGE),
                revision,
                count_only: empty,
                ..messages::Range::default()
            };
            let answer = self.channel.read(messages::RANGE, range.encode()).await;
            let answer = answer.and_then(|answer| Ok(Ranged::read(answer)?));
            let ranged = answer.map_err(|error| self.error(error, asked))?;
            if revision == 0 {
                revision = ranged.revision;
                page.at = Revision(revision);
                if page.at < asked {
                    return Err(Error::Future { latest: page.at });
                }
            }
            if empty {
                return Ok(page);
            }
            page.remaining = ranged.count.saturating_sub(ranged.pairs.len() as u64);
            if let Some(last) = ranged.pairs.last() {
                from = format!("{}\0", String::from_utf8_lossy(&last.key));
            }
            for pair in &ranged.pairs {
                page.entries.push(self.entry(pair)?);
            }
            if page.remaining == 0 || (limit > 0 && page.entries.len() >= limit as usize) {
                return Ok(page);
            }
        }
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<Entry, Error> {
        let modified = match expect {
            Expect::Absent => 0,
            Expect::At(Revision(0)) => return Err(self.unmet(key).await?),
            Expect::At(revision) => revision.0,
        };
        let done = self.write(key, modified, &Write::Put(&value)).await?;
        let pair = done.pair.ok_or_else(unreadable)?;
        let (created, modified) = (Revision(pair.created), Revision(done.revision));
        Ok(Entry { key: Arc::from(key), value, created, modified })
    }

    async fn delete(&self, key: &str, expect: Revision) -> Result<(Entry, Revision), Error> {
        if expect.0 == 0 {
            return Err(self.unmet(key).await?);
        }
        let done = self.write(key, expect.0, &Write::Delete).await?;
        let pair = done.pair.ok_or_else(unreadable)?;
        Ok((self.entry(&pair)?, Revision(done.revision)))
    }

    async fn write(&self, key: &str, modified: u64, write: &Write<'_>) -> Result<Done, Error> {
        if !KEYS.contains(&key) {
            return Err(Error::Unavailable(format!("the key {key:?} does not begin with a slash")));
        }
        let key = self.key(key);
        let message = messages::conditional(key.as_bytes(), modified, write);
        let answer = self.channel.call(messages::TXN, message).await;
        let answer = answer.and_then(|answer| Ok(Done::read(answer)?));
        let done = answer.map_err(|error| self.error(error, Revision(0)))?;
        if done.succeeded {
            return Ok(done);
        }
        let found = done.pair.as_ref().map(|pair| self.entry(pair)).transpose()?;
        Err(Error::Unmet { found: found.map(Box::new) })
    }

    /// No entry was ever last changed at revision 0.
    async fn unmet(&self, key: &str) -> Result<Error, Error> {
        let only = key.to_owned()..format!("{key}\0");
        let page = self.range(only, ReadAt::Latest, 1).await?;
        Ok(Error::Unmet { found: page.entries.into_iter().next().map(Box::new) })
    }

    async fn compact(&self, upto: Revision) -> Result<(), Error> {
        let done = self.channel.call(messages::COMPACT, messages::compact(upto.0)).await;
        match done.map_err(|error| self.error(error, upto)) {
            // Another server was faster.
            Ok(_) | Err(Error::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
        self.window.compact(upto.min(self.window.latest()))
    }

    fn key(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.clamp(KEYS.start, KEYS.end))
    }

    fn entry(&self, pair: &KeyValue) -> Result<Entry, Error> {
        let key = str::from_utf8(&pair.key).ok().and_then(|key| key.strip_prefix(&*self.prefix));
        Ok(Entry {
            key: Arc::from(key.ok_or_else(unreadable)?),
            // Not a part of the answer, which would be kept whole with it.
            value: Bytes::copy_from_slice(&pair.value),
            created: Revision(pair.created),
            modified: Revision(pair.modified),
        })
    }

    fn error(&self, error: CallError, asked: Revision) -> Error {
        const RESOURCE_EXHAUSTED: u32 = 8;
        const OUT_OF_RANGE: u32 = 11;
        match error {
            CallError::Status { code: RESOURCE_EXHAUSTED, message }
                if message.contains("space exceeded") =>
            {
                Error::Full(message)
            }
            CallError::Status { code: OUT_OF_RANGE, message } if message.contains("compacted") => {
                // etcd does not say what it keeps; what is followed here is at least not older.
                Error::Compacted { oldest: self.window.floor().max(Revision(asked.0 + 1)) }
            }
            CallError::Status { code: OUT_OF_RANGE, message } if message.contains("future") => {
                Error::Future { latest: self.window.latest() }
            }
            error => Error::Unavailable(error.to_string()),
        }
    }
}

/// The revision to begin with, from an etcd that does what it should.
async fn first_look(channel: &Channel, prefix: &str) -> Result<Revision, CallError> {
    // Not tried again, so that what is wrong is told at once.
    channel.call(messages::STATUS, Bytes::new()).await?;
    let latest = latest(channel, prefix).await?;
    follow::status(channel).await?;
    Ok(latest)
}

/// A linearizable look at the revision, without any entry.
async fn latest(channel: &Channel, prefix: &str) -> Result<Revision, CallError> {
    // A key that whoever may use the prefix may read.
    let marker = format!("{prefix}{MARKER}");
    let range =
        messages::Range { key: marker.as_bytes(), count_only: true, ..messages::Range::default() };
    let answer = channel.read(messages::RANGE, range.encode()).await?;
    Ok(Revision(Ranged::read(answer)?.revision))
}

fn unreadable() -> Error {
    Error::Unavailable(wire::Malformed.to_string())
}
