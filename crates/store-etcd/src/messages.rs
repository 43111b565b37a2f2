//! The messages of etcd's v3 API that the store needs, with their field numbers.
use crate::wire::{Malformed, Writer, read};
use bytes::Bytes;

pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(crate) const STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub(crate) const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: Bytes,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) value: Bytes,
}

impl KeyValue {
    fn read(message: Bytes) -> Result<KeyValue, Malformed> {
        let mut pair = KeyValue::default();
        read(message, |field, value| {
            match field {
                1 => pair.key = value.bytes()?,
                2 => pair.created = value.number()?,
                3 => pair.modified = value.number()?,
                5 => pair.value = value.bytes()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(pair)
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Range<'a> {
    pub(crate) key: &'a [u8],
    /// Empty: the one key.
    pub(crate) end: &'a [u8],
    pub(crate) limit: u64,
    pub(crate) revision: u64,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
}

impl Range<'_> {
    fn write(&self) -> Writer {
        Writer::default()
            .bytes(1, self.key)
            .bytes(2, self.end)
            .number(3, self.limit)
            .number(4, self.revision)
            .flag(8, self.keys_only)
            .flag(9, self.count_only)
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.write().finish()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ranged {
    pub(crate) revision: u64,
    pub(crate) pairs: Vec<KeyValue>,
    pub(crate) count: u64,
}

impl Ranged {
    pub(crate) fn read(message: Bytes) -> Result<Ranged, Malformed> {
        let mut ranged = Ranged::default();
        read(message, |field, value| {
            match field {
                1 => ranged.revision = header_revision(value.bytes()?)?,
                2 => ranged.pairs.push(KeyValue::read(value.bytes()?)?),
                4 => ranged.count = value.number()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(ranged)
    }
}

/// What a transaction does if the key was last changed at `modified` (0: if it is absent).
pub(crate) enum Write<'a> {
    Put(&'a [u8]),
    Delete,
}

/// Writes the key if it is as expected; reads it if it is not.
pub(crate) fn conditional(key: &[u8], modified: u64, write: &Write<'_>) -> Bytes {
    const MOD: u64 = 2;
    // EQUAL is 0, and what is zero is left out: an absent key was modified at 0.
    let compare = Writer::default().number(2, MOD).bytes(3, key);
    let compare = match modified {
        0 => compare,
        revision => compare.number(6, revision),
    };
    let range = |keys_only| {
        let range = Range { key, keys_only, ..Range::default() };
        Writer::default().message(1, range.write())
    };
    let txn = Writer::default().message(1, compare);
    let txn = match write {
        Write::Put(value) => {
            let put = Writer::default().bytes(1, key).bytes(2, value);
            // Read back without its value, for the revision of its creation.
            txn.message(2, Writer::default().message(2, put)).message(2, range(true))
        }
        Write::Delete => {
            let delete = Writer::default().bytes(1, key).flag(3, true);
            txn.message(2, Writer::default().message(3, delete))
        }
    };
    txn.message(3, range(false)).finish()
}

#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) revision: u64,
    pub(crate) succeeded: bool,
    /// What was read or deleted.
    pub(crate) pair: Option<KeyValue>,
}

impl Done {
    pub(crate) fn read(message: Bytes) -> Result<Done, Malformed> {
        let mut done = Done::default();
        read(message, |field, value| {
            match field {
                1 => done.revision = header_revision(value.bytes()?)?,
                2 => done.succeeded = value.flag()?,
                3 => read(value.bytes()?, |kind, value| {
                    // In a range the pairs are field 2, in a deletion field 3.
                    let pairs = match kind {
                        1 => 2,
                        3 => 3,
                        _ => return Ok(()),
                    };
                    read(value.bytes()?, |field, value| {
                        if field == pairs {
                            done.pair = Some(KeyValue::read(value.bytes()?)?);
                        }
                        Ok(())
                    })
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(done)
    }
}

pub(crate) fn put(key: &[u8], value: &[u8]) -> Bytes {
    Writer::default().bytes(1, key).bytes(2, value).finish()
}

pub(crate) fn compact(upto: u64) -> Bytes {
    Writer::default().number(1, upto).finish()
}

/// Starts a watch that tells old values too.
pub(crate) fn watch(key: &[u8], end: &[u8], from: u64) -> Bytes {
    let create = Writer::default()
        .bytes(1, key)
        .bytes(2, end)
        .number(3, from)
        .flag(4, true)
        .flag(6, true)
        .flag(8, true);
    Writer::default().message(1, create).finish()
}

pub(crate) fn ask_progress() -> Bytes {
    Writer::default().message(3, Writer::default()).finish()
}

#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) revision: u64,
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    pub(crate) compacted: u64,
    pub(crate) reason: String,
    /// More of the same revision follows.
    pub(crate) fragment: bool,
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) deleted: bool,
    pub(crate) pair: KeyValue,
    pub(crate) old: Option<KeyValue>,
}

impl Watched {
    pub(crate) fn read(message: Bytes) -> Result<Watched, Malformed> {
        let mut watched = Watched::default();
        read(message, |field, value| {
            match field {
                1 => watched.revision = header_revision(value.bytes()?)?,
                3 => watched.created = value.flag()?,
                4 => watched.canceled = value.flag()?,
                5 => watched.compacted = value.number()?,
                6 => watched.reason = value.text()?,
                7 => watched.fragment = value.flag()?,
                11 => watched.events.push(Event::read(value.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(watched)
    }
}

impl Event {
    fn read(message: Bytes) -> Result<Event, Malformed> {
        let mut event = Event::default();
        read(message, |field, value| {
            match field {
                1 => event.deleted = value.number()? == 1,
                2 => event.pair = KeyValue::read(value.bytes()?)?,
                3 => event.old = Some(KeyValue::read(value.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(event)
    }
}

/// What the server that answers says of itself.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// Alarms, and what else is wrong with it.
    pub(crate) errors: Vec<String>,
}

impl Status {
    pub(crate) fn read(message: Bytes) -> Result<Status, Malformed> {
        let mut status = Status::default();
        read(message, |field, value| {
            match field {
                2 => status.version = value.text()?,
                8 => status.errors.push(value.text()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(status)
    }
}

pub(crate) fn authenticate(user: &str, password: &str) -> Bytes {
    Writer::default().bytes(1, user.as_bytes()).bytes(2, password.as_bytes()).finish()
}

/// The token that calls carry from then on.
pub(crate) fn token(message: Bytes) -> Result<String, Malformed> {
    let mut token = String::new();
    read(message, |field, value| {
        if field == 2 {
            token = value.text()?;
        }
        Ok(())
    })?;
    Ok(token)
}

fn header_revision(header: Bytes) -> Result<u64, Malformed> {
    let mut revision = 0;
    read(header, |field, value| {
        if field == 3 {
            revision = value.number()?;
        }
        Ok(())
    })?;
    Ok(revision)
}
