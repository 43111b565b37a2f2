//! The file that makes writes durable before the tree has them on disk.
//!
//! Batches stand one after the other, each on pages of its own, so that no write touches what was
//! acknowledged. Once the tree is synced the file is begun again, over what stands there: what
//! counts is what follows the tree's revision without a gap. A batch that is torn or left from
//! earlier ends it.
//!
//! A batch, in little endian: CRC-32 of all that follows, bytes after the head, first revision;
//! then for each write, whose revisions follow each other, the length of its key and of its value
//! ([`DELETED`] for none), the revision that made the key, key, value.
use redb::StorageBackend;
use std::io;
use store::{Change, Revision};

const PAGE: usize = 4096;
const HEAD: usize = 16;
const DELETED: u32 = u32::MAX;

/// A write as the log tells of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Logged<'a> {
    pub(crate) key: &'a str,
    /// The revision that made the key, and the value; `None` for a deletion.
    pub(crate) put: Option<(Revision, &'a [u8])>,
}

/// Writes the changes, which follow each other, as one batch.
pub(crate) fn encode(changes: &[Change], batch: &mut Vec<u8>) {
    batch.clear();
    batch.resize(HEAD, 0);
    for change in changes {
        let (entry, put) = match change {
            Change::Put { entry, .. } => (entry, true),
            Change::Deleted { old, .. } => (old, false),
            Change::Progress(_) => continue,
        };
        let value: &[u8] = if put { &entry.value } else { &[] };
        batch.extend_from_slice(&length(entry.key.len()).to_le_bytes());
        let size = if put { length(value.len()) } else { DELETED };
        batch.extend_from_slice(&size.to_le_bytes());
        batch.extend_from_slice(&entry.created.0.to_le_bytes());
        batch.extend_from_slice(entry.key.as_bytes());
        batch.extend_from_slice(value);
    }
    let first = changes.first().map_or(0, |change| change.revision().0);
    let rest = length(batch.len() - HEAD);
    batch[4..8].copy_from_slice(&rest.to_le_bytes());
    batch[8..HEAD].copy_from_slice(&first.to_le_bytes());
    let checksum = crc32fast::hash(&batch[4..]);
    batch[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Objects of gigabytes do not get here; one that did would end the log, not harm it.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(DELETED - 1)
}

/// The writes of a batch; an error where it is none, for all its checksum.
pub(crate) fn writes(batch: &[u8]) -> impl Iterator<Item = io::Result<Logged<'_>>> {
    let mut rest = batch.get(HEAD..).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let one = logged(&mut rest);
        if one.is_none() {
            rest = &[];
        }
        Some(one.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a batch of the log")))
    })
}

fn logged<'a>(rest: &mut &'a [u8]) -> Option<Logged<'a>> {
    let (key, after) = rest.split_first_chunk::<4>()?;
    let (value, after) = after.split_first_chunk::<4>()?;
    let (created, after) = after.split_first_chunk::<8>()?;
    let (key, after) = after.split_at_checked(u32::from_le_bytes(*key) as usize)?;
    let key = str::from_utf8(key).ok()?;
    let (put, after) = match u32::from_le_bytes(*value) {
        DELETED => (None, after),
        size => {
            let (value, after) = after.split_at_checked(size as usize)?;
            (Some((Revision(u64::from_le_bytes(*created)), value)), after)
        }
    };
    *rest = after;
    Some(Logged { key, put })
}

#[derive(Debug)]
pub(crate) struct Log {
    file: Box<dyn StorageBackend>,
    bytes: u64,
    /// Where the next batch goes.
    at: u64,
    /// What the tree may need of the disk for the writes that are here only.
    pub(crate) owed: u64,
}

impl Log {
    pub(crate) fn new(file: Box<dyn StorageBackend>) -> io::Result<Log> {
        let bytes = file.len()?;
        Ok(Log { file, bytes, at: 0, owed: 0 })
    }

    /// The next batch, if it is whole and follows `after`.
    pub(crate) fn next(&mut self, after: Revision) -> io::Result<Option<Vec<u8>>> {
        let left = self.bytes.saturating_sub(self.at);
        let mut head = [0; HEAD];
        if left < HEAD as u64 {
            return Ok(None);
        }
        self.file.read(self.at, &mut head)?;
        let [a, b, c, d, e, f, g, h, first @ ..] = head;
        let checksum = u32::from_le_bytes([a, b, c, d]);
        let rest = u32::from_le_bytes([e, f, g, h]);
        let follows = u64::from_le_bytes(first) == after.0 + 1;
        if !follows || rest == 0 || u64::from(rest) > left - HEAD as u64 {
            return Ok(None);
        }
        let mut batch = vec![0; HEAD + rest as usize];
        self.file.read(self.at, &mut batch)?;
        if crc32fast::hash(&batch[4..]) != checksum {
            return Ok(None);
        }
        self.at += pages(batch.len());
        Ok(Some(batch))
    }

    /// Writes the batch that was read last once more: when its sync failed, it may be in the
    /// machine's memory only, and what comes after it would be lost with it.
    pub(crate) fn confirm(&mut self, batch: &[u8]) -> io::Result<()> {
        self.file.write(self.at - pages(batch.len()), batch)?;
        self.file.sync_data()
    }

    /// Returns once the disk has the batch; `false` if there is no place for it.
    pub(crate) fn append(&mut self, batch: &[u8]) -> io::Result<bool> {
        let end = self.at + pages(batch.len());
        if end > self.bytes {
            return Ok(false);
        }
        self.file.write(self.at, batch)?;
        self.file.sync_data()?;
        self.at = end;
        Ok(true)
    }

    /// After the tree was synced with all that is here.
    pub(crate) fn restart(&mut self) {
        self.at = 0;
        self.owed = 0;
    }
}

fn pages(bytes: usize) -> u64 {
    bytes.next_multiple_of(PAGE) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use redb::backends::InMemoryBackend;
    use std::sync::Arc;
    use store::Entry;

    const WRITE_HEAD: usize = 16;

    fn put(key: &str, value: &[u8], at: u64) -> Change {
        let value = Bytes::copy_from_slice(value);
        let entry = Entry {
            key: Arc::from(key),
            value,
            created: Revision(at.min(3)),
            modified: Revision(at),
        };
        Change::Put { entry, old: None }
    }

    fn deleted(key: &str, at: u64) -> Change {
        let Change::Put { entry, .. } = put(key, b"old", at - 1) else { unreachable!() };
        Change::Deleted { old: entry, at: Revision(at) }
    }

    fn encoded(changes: &[Change]) -> Vec<u8> {
        let mut batch = Vec::new();
        encode(changes, &mut batch);
        batch
    }

    fn log(pages: u64) -> Log {
        let file = InMemoryBackend::new();
        file.set_len(pages * PAGE as u64).unwrap();
        Log::new(Box::new(file)).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let batch = encoded(&[put("/a", b"1", 7), deleted("/b", 8), put("/c", b"", 9)]);
        let all: Vec<_> = writes(&batch).map(Result::unwrap).collect();
        let put = |key, created, value| Logged { key, put: Some((Revision(created), value)) };
        let gone = Logged { key: "/b", put: None };
        assert_eq!(all, [put("/a", 3, &b"1"[..]), gone, put("/c", 3, &[])]);
    }

    #[test]
    fn what_follows_without_a_gap_counts() {
        let mut log = log(4);
        for (at, key) in [(2, "/a"), (3, "/b"), (4, "/c")] {
            assert!(log.append(&encoded(&[put(key, b"1", at)])).unwrap());
        }
        log.restart();
        assert_eq!(log.next(Revision(2)).unwrap(), None, "it begins with the one after 1");
        assert!(log.next(Revision(1)).unwrap().is_some());
        assert!(log.next(Revision(2)).unwrap().is_some());
        // Begun again after 4: what is left from before ends it.
        log.restart();
        assert!(log.append(&encoded(&[put("/d", b"1", 5)])).unwrap());
        log.restart();
        assert!(log.next(Revision(4)).unwrap().is_some());
        assert_eq!(log.next(Revision(5)).unwrap(), None);
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let mut log = log(2);
        let page = vec![1; PAGE - HEAD - WRITE_HEAD - 2];
        assert!(log.append(&encoded(&[put("/a", &page, 2)])).unwrap());
        assert!(!log.append(&encoded(&[put("/b", &[1; PAGE], 3)])).unwrap());
        assert!(log.append(&encoded(&[put("/b", &page, 3)])).unwrap());
        assert!(!log.append(&encoded(&[put("/c", b"", 4)])).unwrap());
    }

    #[test]
    fn damage_ends_the_log_and_nothing_else() {
        let batch = encoded(&[put("/a", b"value", 2), put("/b", b"value", 3)]);
        for at in 0..batch.len() {
            let mut log = log(1);
            let mut damaged = batch.clone();
            damaged[at] ^= 0x10;
            log.append(&damaged).unwrap();
            log.restart();
            assert_eq!(log.next(Revision(1)).unwrap(), None, "byte {at}");
        }
        // Whatever it holds, with a checksum or without, is read or refused.
        for end in 0..batch.len() {
            drop(writes(&batch[..end]).map(|write| write.is_ok()).collect::<Vec<_>>());
        }
    }
}
