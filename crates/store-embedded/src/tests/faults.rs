//! A disk that fails, fills up or loses its power.
use crate::disk::{Host, Real};
use redb::{StorageBackend, backends::FileBackend};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

/// A xorshift: the same faults every time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    free: Option<u64>,
    failing: bool,
    full_while: Option<PathBuf>,
    syncs: usize,
    /// Operations that are still done before the power is cut.
    left: Option<u64>,
    unsynced: Vec<Unsynced>,
}

struct Unsynced {
    file: Arc<File>,
    offset: u64,
    /// The length of the file and the bytes before.
    length: u64,
    before: Vec<u8>,
    after: After,
}

enum After {
    Bytes(Vec<u8>),
    Length(u64),
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn set_free(&self, bytes: u64) {
        self.lock().free = Some(bytes);
    }

    pub(super) fn fail(&self) {
        self.lock().failing = true;
    }

    pub(super) fn fail_while_there(&self, path: &Path) {
        self.lock().full_while = Some(path.to_owned());
    }

    pub(super) fn heal(&self) {
        let mut state = self.lock();
        state.failing = false;
        state.full_while = None;
    }

    pub(super) fn syncs(&self) -> usize {
        self.lock().syncs
    }

    pub(super) fn cut_after(&self, operations: u64) {
        self.lock().left = Some(operations);
    }

    /// Takes each file back to its last sync, and then does some of what followed.
    pub(super) fn lose(&self, random: &mut Random) {
        let mut state = self.lock();
        let unsynced = std::mem::take(&mut state.unsynced);
        for write in unsynced.iter().rev() {
            write.file.set_len(write.length).unwrap();
            write.file.write_all_at(&write.before, write.offset).unwrap();
        }
        for write in unsynced {
            match write.after {
                // The engine syncs a new length before it depends on it.
                After::Length(length) => write.file.set_len(length).unwrap(),
                After::Bytes(bytes) if random.below(2) == 0 => {
                    let torn = if random.below(4) == 0 { bytes.len() / 2 } else { bytes.len() };
                    write.file.write_all_at(&bytes[..torn], write.offset).unwrap();
                }
                After::Bytes(_) => {}
            }
        }
    }
}

impl State {
    fn admit(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the power is cut"))?;
        }
        if self.failing {
            return Err(io::Error::other("the disk fails"));
        }
        if self.full_while.as_ref().is_some_and(|path| path.exists()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Host for Faults {
    type Backend = Faulty;

    fn backend(&self, file: File) -> io::Result<Faulty> {
        if self.lock().failing {
            return Err(io::Error::other("the disk fails"));
        }
        let raw = Arc::new(file.try_clone()?);
        Ok(Faulty { inner: Real.backend(file)?, raw, faults: self.clone() })
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.lock().free.unwrap_or(u64::MAX))
    }
}

#[derive(Debug)]
pub(super) struct Faulty {
    inner: FileBackend,
    raw: Arc<File>,
    faults: Faults,
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faults")
    }
}

impl Faulty {
    fn before(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let end = self.raw.metadata()?.len().min(offset.saturating_add(length));
        let mut before = vec![0; end.saturating_sub(offset) as usize];
        self.raw.read_exact_at(&mut before, offset)?;
        Ok(before)
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.faults.lock();
        state.admit()?;
        let length = self.raw.metadata()?.len();
        let before = self.before(len, length.saturating_sub(len))?;
        let (file, after) = (Arc::clone(&self.raw), After::Length(len));
        state.unsynced.push(Unsynced { file, offset: len, length, before, after });
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.faults.lock();
        state.admit()?;
        state.syncs += 1;
        let synced = self.raw.metadata()?.ino();
        state.unsynced.retain(|write| write.file.metadata().unwrap().ino() != synced);
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.faults.lock();
        state.admit()?;
        let length = self.raw.metadata()?.len();
        let before = self.before(offset, data.len() as u64)?;
        let after = After::Bytes(data.to_vec());
        let file = Arc::clone(&self.raw);
        state.unsynced.push(Unsynced { file, offset, length, before, after });
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
