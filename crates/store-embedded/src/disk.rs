//! The folder and the file: opening, snapshots, room, and opening anew after the engine gave up.
//!
//! Files: `lock` (held while open), `store.redb` (the tree), `log` (the writes that the tree does
//! not have on disk yet), `reserve` (room kept back), `store.redb.new` (a store being made; never
//! data).
use crate::log::{self, Log};
use crate::{OpenError, Options};
use bytes::Bytes;
use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, StorageError, Table, TableDefinition, WriteTransaction, backends::FileBackend,
};
use std::{
    collections::{BTreeMap, btree_map},
    fs::{self, File, OpenOptions, TryLockError},
    io,
    iter::Peekable,
    ops::Range,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};
use store::{Entry, Error, Revision};

pub(crate) const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const REVISION: &str = "revision";
const FORMAT: &str = "format";
/// The format of the files. Raise it when an older version would misread them. Before the second,
/// there was no log.
pub(crate) const FORMAT_NOW: u64 = 2;
/// The revisions of creation and last change stand before the value.
pub(crate) const HEADER: usize = 16;
/// What a commit may need beside its writes.
const ROOM_BASE: u64 = 1 << 20;
/// What one write may cost in pages of the tree's file beside its value: a path of it, copied.
const ROOM_PER_WRITE: u64 = 32 << 10;

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
type Opener<T> = dyn Fn(&Path) -> Result<T, redb::Error> + Send + Sync;

pub(crate) struct Disk {
    dir: PathBuf,
    options: Options,
    open_tree: Box<Opener<Database>>,
    open_log: Box<Opener<Log>>,
    free_bytes: Box<FreeBytes>,
    /// `None` between the engine's giving up and its being opened anew.
    engine: RwLock<Option<Engine>>,
    // Let go last: fields are dropped in order.
    _lock: File,
}

/// The tree of all entries, and what it does not have on disk yet.
struct Engine {
    // Let go first: the tree closes when no transaction is open.
    ahead: Mutex<Ahead>,
    tree: Database,
}

/// What was acknowledged since the tree was synced: the log has it on disk.
struct Ahead {
    /// Holds what no reader has asked for yet: its commit waits for that, or for the sync.
    open: Option<Open>,
    log: Log,
}

/// A transaction that goes on over many batches.
pub(crate) struct Open {
    pub(crate) transaction: WriteTransaction,
    /// The last revision in it.
    revision: Revision,
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
        let open_tree = move |path: &Path| {
            let backend = backends.backend(open_private(path)?)?;
            Ok(Builder::new().set_cache_size(options.cache_bytes).create_with_backend(backend)?)
        };
        let backends = Arc::clone(&host);
        let open_log = move |path: &Path| {
            let file = open_private(path)?;
            if file.metadata()?.len() < options.log_bytes {
                allocate(&file, options.log_bytes)?;
            }
            Ok(Log::new(Box::new(backends.backend(file)?))?)
        };
        let disk = Disk {
            dir: dir.to_owned(),
            options,
            open_tree: Box::new(open_tree),
            open_log: Box::new(open_log),
            free_bytes: Box::new(move |dir| host.free_bytes(dir)),
            engine: RwLock::new(None),
            _lock: lock,
        };
        if !disk.tree_file().try_exists().map_err(failed)? {
            disk.make()?;
        }
        disk.reopen()?;
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

    fn engine(&self) -> RwLockReadGuard<'_, Option<Engine>> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was acknowledged; waits for the batch that is under way.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        let engine = self.engine();
        let engine = engine.as_ref().ok_or_else(|| closed(&self.dir))?;
        if let Some(open) = engine.ahead().open.take() {
            open.finish(Durability::None).map_err(classify)?;
        }
        Snapshot::of(&engine.tree).map_err(classify)
    }

    /// Takes a batch in: `write` puts it into the tree and yields what the log is told of it, with
    /// its last revision; nothing if nothing changed. It is durable when this returns: by the log,
    /// or where that has no place for it with the whole tree. `room` is what the tree may need of
    /// the disk for it. After an error the engine must be opened anew.
    pub(crate) fn write(
        &self,
        room: u64,
        write: impl FnOnce(&WriteTransaction) -> Result<Option<(Revision, Vec<u8>)>, redb::Error>,
    ) -> Result<Option<Vec<u8>>, redb::Error> {
        let engine = self.engine();
        let engine = engine.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut ahead = engine.ahead();
        let mut open = match ahead.open.take() {
            Some(open) => open,
            None => Open { transaction: engine.tree.begin_write()?, revision: Revision(0) },
        };
        // What is in the transaction and not in the log goes with it, should this fail.
        let Some((revision, batch)) = write(&open.transaction)? else {
            match open.revision {
                Revision(0) => open.transaction.abort()?,
                _ => ahead.open = Some(open),
            }
            return Ok(None);
        };
        open.revision = revision;
        if ahead.log.append(&batch)? {
            ahead.log.owed += room;
            ahead.open = Some(open);
        } else {
            open.finish(Durability::Immediate)?;
            ahead.log.restart();
        }
        Ok(Some(batch))
    }

    /// Brings to the tree's file what only the log has on disk.
    pub(crate) fn checkpoint(&self) -> Result<(), redb::Error> {
        let engine = self.engine();
        let engine = engine.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut ahead = engine.ahead();
        if ahead.log.owed == 0 {
            return Ok(());
        }
        match ahead.open.take() {
            Some(open) => open.finish(Durability::Immediate)?,
            // Readers have had it committed already.
            None => commit(engine.tree.begin_write()?, Durability::Immediate)?,
        }
        ahead.log.restart();
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.engine().is_some()
    }

    /// Whether the tree has room for `bytes` more; where what it still owes takes too much, that
    /// is brought to its file first.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<Result<(), Error>, redb::Error> {
        let owed = self.engine().as_ref().map_or(0, |engine| engine.ahead().log.owed);
        let room = self.check_room(owed.saturating_add(bytes));
        if room.is_ok() || owed == 0 || self.check_room(0).is_err() {
            return Ok(room);
        }
        self.checkpoint()?;
        Ok(self.check_room(bytes))
    }

    /// Whether a commit that needs `bytes` has the room for it.
    fn check_room(&self, bytes: u64) -> Result<(), Error> {
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
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        *engine = None;
        let opened = match self.open_engine() {
            Err(OpenError::Full { .. }) => {
                // It may not be there; then the second try fails as the first did.
                let _ = fs::remove_file(self.dir.join("reserve"));
                self.open_engine()
            }
            opened => opened,
        };
        *engine = Some(opened?);
        Ok(())
    }

    fn open_engine(&self) -> Result<Engine, OpenError> {
        let failed = |error| self.engine_error(error);
        let tree = (self.open_tree)(&self.tree_file()).map_err(failed)?;
        let format = Snapshot::of(&tree).and_then(|snapshot| snapshot.meta(FORMAT));
        let format = format.map_err(failed)?;
        if format > FORMAT_NOW {
            return Err(OpenError::Newer {
                dir: self.dir.clone(),
                found: format,
                supported: FORMAT_NOW,
            });
        }
        if format == FORMAT_NOW && !self.log_file().exists() {
            return Err(self.damaged("the file `log` is missing"));
        }
        let mut log = (self.open_log)(&self.log_file()).map_err(failed)?;
        replay(&tree, &mut log).map_err(failed)?;
        if format < FORMAT_NOW {
            self.sync_dir()?;
            upgrade(&tree).map_err(failed)?;
        }
        Ok(Engine { tree, ahead: Mutex::new(Ahead { open: None, log }) })
    }

    /// Sets room aside, when there is enough.
    pub(crate) fn keep_reserve(&self) {
        let path = self.dir.join("reserve");
        let bytes = self.options.reserve_bytes;
        let kept = fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes);
        if kept || bytes == 0 || self.check_room(bytes.saturating_mul(2)).is_err() {
            return;
        }
        if let Err(error) = open_private(&path).and_then(|file| allocate(&file, bytes)) {
            tracing::debug!(%error, "no reserve could be set aside for the store");
            let _ = fs::remove_file(&path);
        }
    }

    fn tree_file(&self) -> PathBuf {
        self.dir.join("store.redb")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn sync_dir(&self) -> Result<(), OpenError> {
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| OpenError::Io { dir: self.dir.clone(), source })
    }

    /// Makes an empty store beside its place and moves it there whole.
    fn make(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { dir: self.dir.clone(), source };
        let new = self.dir.join("store.redb.new");
        for old in [&new, &self.log_file()] {
            match fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        let tree = (self.open_tree)(&new).map_err(|error| self.engine_error(error))?;
        let fill = || -> Result<(), redb::Error> {
            let transaction = tree.begin_write()?;
            transaction.open_table(ENTRIES)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(FORMAT, FORMAT_NOW)?;
            // etcd's first write has revision 2 as well: 0 means "any" to Kubernetes' clients.
            meta.insert(REVISION, 1)?;
            drop(meta);
            transaction.commit()?;
            (self.open_log)(&self.log_file()).map(drop)
        };
        fill().map_err(|error| self.engine_error(error))?;
        tree.close().map_err(|error| self.engine_error(error.into()))?;
        fs::rename(&new, self.tree_file()).map_err(failed)?;
        self.sync_dir()
    }

    fn damaged(&self, reason: impl ToString) -> OpenError {
        OpenError::Damaged { dir: self.dir.clone(), reason: reason.to_string() }
    }

    fn engine_error(&self, error: redb::Error) -> OpenError {
        let dir = self.dir.clone();
        match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse { dir },
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

impl Engine {
    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn finish(self, durability: Durability) -> Result<(), redb::Error> {
        self.transaction.open_table(META)?.insert(REVISION, self.revision.0)?;
        commit(self.transaction, durability)
    }
}

/// Without durability, what is committed is shown to readers and synced with the next that has it.
fn commit(mut transaction: WriteTransaction, durability: Durability) -> Result<(), redb::Error> {
    transaction.set_durability(durability)?;
    Ok(transaction.commit()?)
}

/// Does again what the log tells of and the tree lost, and leaves the log where it ends.
fn replay(tree: &Database, log: &mut Log) -> Result<(), redb::Error> {
    let transaction = tree.begin_write()?;
    let mut meta = transaction.open_table(META)?;
    let mut entries = transaction.open_table(ENTRIES)?;
    let mut last = meta.get(REVISION)?.map_or(0, |revision| revision.value());
    let mut end = None;
    while let Some(batch) = log.next(Revision(last))? {
        for write in log::writes(&batch) {
            let write = write?;
            last += 1;
            log.owed += room(write.put.map_or(0, |(_, value)| value.len()));
            match write.put {
                Some((created, value)) => {
                    let header = header(created, Revision(last));
                    insert(&mut entries, write.key, header, value)?;
                }
                None => drop(entries.remove(write.key)?),
            }
        }
        end = Some(batch);
    }
    let Some(end) = end else { return Ok(()) };
    log.confirm(&end)?;
    meta.insert(REVISION, last)?;
    drop((meta, entries));
    commit(transaction, Durability::None)
}

/// From the format before the log.
fn upgrade(tree: &Database) -> Result<(), redb::Error> {
    let transaction = tree.begin_write()?;
    transaction.open_table(META)?.insert(FORMAT, FORMAT_NOW)?;
    Ok(transaction.commit()?)
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
    fn of(tree: &Database) -> Result<Self, redb::Error> {
        let transaction = tree.begin_read()?;
        let entries = transaction.open_table(ENTRIES)?;
        Ok(Snapshot { transaction, entries })
    }

    pub(crate) fn revision(&self) -> Result<Revision, Error> {
        self.meta(REVISION).map(Revision).map_err(classify)
    }

    fn meta(&self, name: &str) -> Result<u64, redb::Error> {
        let value = self.transaction.open_table(META)?.get(name)?;
        let value = value.ok_or_else(|| redb::Error::Corrupted(format!("{name} is missing")))?;
        Ok(value.value())
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

/// What a write of a value of this length may cost on disk.
pub(crate) fn room(value: usize) -> u64 {
    // The engine rounds large values up to a power of two.
    ROOM_PER_WRITE + (value as u64).saturating_mul(2)
}

/// What stands before the value.
pub(crate) fn header(created: Revision, modified: Revision) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&created.0.to_le_bytes());
    header[8..].copy_from_slice(&modified.0.to_le_bytes());
    header
}

pub(crate) fn insert(
    entries: &mut Table<'_, &'static str, &'static [u8]>,
    key: &str,
    header: [u8; HEADER],
    value: &[u8],
) -> Result<(), redb::Error> {
    let mut place = entries.insert_reserve(key, HEADER + value.len())?;
    place.as_mut()[..HEADER].copy_from_slice(&header);
    place.as_mut()[HEADER..].copy_from_slice(value);
    Ok(())
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

/// So many bytes of the file are there, also when the disk is full later.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    Ok(nix::fcntl::posix_fallocate(file, 0, length)?)
}
