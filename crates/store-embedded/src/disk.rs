//! The folder and the file: opening, snapshots, room, and opening anew after the engine gave up.
//!
//! Files: `lock` (held while open), `store.redb` (the data), `reserve` (room kept back),
//! `store.redb.new` (a store being made; never data).
use crate::{OpenError, Options};
use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, StorageBackend, StorageError, TableDefinition, WriteTransaction,
    backends::FileBackend,
};
use std::{
    collections::{BTreeMap, btree_map},
    fs::{self, File, OpenOptions, TryLockError},
    io,
    iter::Peekable,
    ops::Range,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use store::{Entry, Error, Revision};

pub(crate) const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const REVISION: &str = "revision";
const FORMAT: &str = "format";
/// The format of the tables. Raise it when an older version would misread them.
pub(crate) const FORMAT_NOW: u64 = 1;
/// The revisions of creation and last change stand before the value.
pub(crate) const HEADER: usize = 16;
/// What a commit may need beside its writes.
const ROOM_BASE: u64 = 1 << 20;

/// What the store needs of the operating system, so that tests can make it fail.
pub(crate) trait Host: Send + Sync {
    type Backend: StorageBackend;
    fn backend(&self, file: File) -> io::Result<Self::Backend>;
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

pub(crate) struct Real;

impl Host for Real {
    type Backend = FileBackend;

    fn backend(&self, file: File) -> io::Result<FileBackend> {
        FileBackend::new(file).map_err(io::Error::other)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(dir)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }
}

type FreeBytes = dyn Fn(&Path) -> io::Result<u64> + Send + Sync;
type Opener = dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync;

pub(crate) struct Disk {
    dir: PathBuf,
    options: Options,
    opener: Box<Opener>,
    free_bytes: Box<FreeBytes>,
    /// `None` between the engine's giving up and its being opened anew.
    database: RwLock<Option<Database>>,
    // Let go last: fields are dropped in order.
    _lock: File,
}

impl Disk {
    pub(crate) fn open(dir: &Path, options: Options) -> Result<Disk, OpenError> {
        Self::open_on(dir, options, Real)
    }

    pub(crate) fn open_on<H: Host + 'static>(
        dir: &Path,
        options: Options,
        host: H,
    ) -> Result<Disk, OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let lock = lock(dir)?;
        let host = Arc::new(host);
        let backends = Arc::clone(&host);
        let opener = move |path: &Path| {
            let file = open_private(path)?;
            let backend = backends.backend(file)?;
            Builder::new().set_cache_size(options.cache_bytes).create_with_backend(backend)
        };
        let disk = Disk {
            dir: dir.to_owned(),
            options,
            opener: Box::new(opener),
            free_bytes: Box::new(move |dir| host.free_bytes(dir)),
            database: RwLock::new(None),
            _lock: lock,
        };
        if !disk.file().try_exists().map_err(failed)? {
            disk.make()?;
        }
        disk.reopen()?;
        disk.check_format()?;
        disk.keep_reserve();
        Ok(disk)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn latest(&self) -> Result<Revision, OpenError> {
        let read = self.snapshot().and_then(|snapshot| snapshot.revision());
        read.map_err(|error| self.damaged(error))
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| closed(&self.dir))?;
        let transaction = database.begin_read().map_err(|error| classify(error.into()))?;
        let entries = transaction.open_table(ENTRIES).map_err(|error| classify(error.into()))?;
        Ok(Snapshot { transaction, entries })
    }

    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        Ok(database.begin_write()?)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether a commit that needs `bytes` has the room for it.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<(), Error> {
        let needed = bytes.saturating_add(ROOM_BASE);
        match (self.free_bytes)(&self.dir) {
            Ok(free) if free < needed => Err(Error::Full(format!(
                "{} has {free} bytes left where {needed} are needed",
                self.dir.display()
            ))),
            // Not knowing is no reason to refuse: the write itself will tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Closes the engine and opens it anew from what is on disk: after an error it refuses
    /// everything. On a full disk the reserve is given up for that.
    pub(crate) fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        let opened = match (self.opener)(&self.file()) {
            Err(error) if is_full_error(&error) => {
                // It may not be there; then the second try fails as the first did.
                let _ = fs::remove_file(self.dir.join("reserve"));
                (self.opener)(&self.file())
            }
            opened => opened,
        };
        *database = Some(opened.map_err(|error| self.open_error(error))?);
        Ok(())
    }

    /// Sets room aside, when there is enough.
    pub(crate) fn keep_reserve(&self) {
        let path = self.dir.join("reserve");
        let bytes = self.options.reserve_bytes;
        let kept = fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes);
        if kept || bytes == 0 || self.check_room(bytes.saturating_mul(2)).is_err() {
            return;
        }
        let allocate = || -> io::Result<()> {
            let file = open_private(&path)?;
            let length = i64::try_from(bytes).map_err(io::Error::other)?;
            Ok(nix::fcntl::posix_fallocate(&file, 0, length)?)
        };
        if let Err(error) = allocate() {
            tracing::debug!(%error, "no reserve could be set aside for the store");
            let _ = fs::remove_file(&path);
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.join("store.redb")
    }

    /// Makes an empty store beside its place and moves it there whole.
    fn make(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { dir: self.dir.clone(), source };
        let new = self.dir.join("store.redb.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let database = (self.opener)(&new).map_err(|error| self.open_error(error))?;
        let fill = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(ENTRIES)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(FORMAT, FORMAT_NOW)?;
            // etcd's first write has revision 2 as well: 0 means "any" to Kubernetes' clients.
            meta.insert(REVISION, 1)?;
            drop(meta);
            Ok(transaction.commit()?)
        };
        fill().map_err(|error| self.engine_error(error))?;
        database.close().map_err(|error| self.open_error(error))?;
        fs::rename(&new, self.file()).map_err(failed)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let snapshot = self.snapshot().map_err(|error| self.damaged(error))?;
        let found = snapshot.meta(FORMAT).map_err(|error| self.damaged(error))?;
        if found > FORMAT_NOW {
            let dir = self.dir.clone();
            return Err(OpenError::Newer { dir, found, supported: FORMAT_NOW });
        }
        Ok(())
    }

    fn damaged(&self, reason: impl ToString) -> OpenError {
        OpenError::Damaged { dir: self.dir.clone(), reason: reason.to_string() }
    }

    fn open_error(&self, error: DatabaseError) -> OpenError {
        match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { dir: self.dir.clone() },
            error => self.engine_error(error.into()),
        }
    }

    fn engine_error(&self, error: redb::Error) -> OpenError {
        let dir = self.dir.clone();
        match error {
            redb::Error::Io(source) if is_full(&source) => {
                OpenError::Full { dir, reason: source.to_string() }
            }
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                OpenError::Io { dir, source }
            }
            error => self.damaged(error),
        }
    }
}

/// A state of the store that does not change.
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
    entries: ReadOnlyTable<&'static str, &'static [u8]>,
}

/// An entry that is loaded only when it is wanted.
pub(crate) enum Lazy<'a> {
    Stored(&'a str, &'a [u8]),
    Loaded(&'a Entry),
}

impl Lazy<'_> {
    pub(crate) fn load(&self) -> Option<Entry> {
        match self {
            Lazy::Stored(key, value) => decode(Arc::from(*key), value),
            Lazy::Loaded(entry) => Some((*entry).clone()),
        }
    }
}

impl Snapshot {
    pub(crate) fn revision(&self) -> Result<Revision, Error> {
        self.meta(REVISION).map(Revision)
    }

    fn meta(&self, name: &str) -> Result<u64, Error> {
        let meta = self.transaction.open_table(META).map_err(|error| classify(error.into()))?;
        let value = meta.get(name).map_err(|error| classify(error.into()))?;
        value.map(|value| value.value()).ok_or_else(|| damaged(name))
    }

    /// Every entry of the range in order, with `instead` (the state of some keys at another time)
    /// in place of what is stored.
    pub(crate) fn merged(
        &self,
        keys: &Range<String>,
        instead: BTreeMap<Arc<str>, Option<Entry>>,
        mut each: impl FnMut(Lazy<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if keys.start >= keys.end {
            return Ok(());
        }
        let failed = |error: StorageError| classify(error.into());
        let stored = self.entries.range(keys.start.as_str()..keys.end.as_str()).map_err(failed)?;
        let mut instead = instead.into_iter().peekable();
        for item in stored {
            let (key, value) = item.map_err(failed)?;
            let replaced = give_until(&mut instead, key.value(), &mut each)?;
            if !replaced {
                each(Lazy::Stored(key.value(), value.value()))?;
            }
        }
        for entry in instead.filter_map(|(_, entry)| entry) {
            each(Lazy::Loaded(&entry))?;
        }
        Ok(())
    }
}

/// Gives the entries up to `key`, and tells whether there was one in the place of `key` itself.
fn give_until(
    instead: &mut Peekable<btree_map::IntoIter<Arc<str>, Option<Entry>>>,
    key: &str,
    each: &mut impl FnMut(Lazy<'_>) -> Result<(), Error>,
) -> Result<bool, Error> {
    while let Some((found, entry)) = instead.next_if(|(found, _)| &**found <= key) {
        if let Some(entry) = &entry {
            each(Lazy::Loaded(entry))?;
        }
        if &*found == key {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The entry that is stored under the key, read in a transaction that writes.
pub(crate) fn current(
    entries: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &Arc<str>,
) -> Result<Option<Entry>, redb::Error> {
    let Some(stored) = entries.get(&**key)? else { return Ok(None) };
    let entry = decode(Arc::clone(key), stored.value());
    entry.map(Some).ok_or_else(|| redb::Error::Corrupted(format!("entry {key}")))
}

/// What stands before the value.
pub(crate) fn header(entry: &Entry) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&entry.created.0.to_le_bytes());
    header[8..].copy_from_slice(&entry.modified.0.to_le_bytes());
    header
}

fn decode(key: Arc<str>, stored: &[u8]) -> Option<Entry> {
    let (created, rest) = stored.split_first_chunk::<8>()?;
    let (modified, value) = rest.split_first_chunk::<8>()?;
    Some(Entry {
        key,
        value: Bytes::copy_from_slice(value),
        created: Revision(u64::from_le_bytes(*created)),
        modified: Revision(u64::from_le_bytes(*modified)),
    })
}

/// The error that a caller of the store sees.
pub(crate) fn classify(error: redb::Error) -> Error {
    match error {
        redb::Error::Io(error) if is_full(&error) => Error::Full(error.to_string()),
        error => Error::Unavailable(error.to_string()),
    }
}

pub(crate) fn damaged(what: &str) -> Error {
    Error::Unavailable(format!("{what} cannot be read; restore the store from a backup"))
}

fn closed(dir: &Path) -> Error {
    Error::Unavailable(format!("the disk of {} failed; see the log", dir.display()))
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn is_full_error(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Storage(StorageError::Io(error)) if is_full(error))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
    let lock = open_private(&dir.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
