//! The store on disk, for a server that has its data to itself: the contract of [`store::Store`]
//! over a log and a `redb` tree.
//!
//! Invariants:
//! - A write is acknowledged, and shown to watchers, only after the log has it on disk. One thread
//!   writes; what waits while it syncs goes together into the next batch.
//! - The tree holds the current entries and the latest revision, committed together: when somebody
//!   reads, and with the sync, when the log is full. A start does again what was lost. The past
//!   lives in memory only ([`store::window::Window`]): a watch cannot resume across a restart.
//! - Reads go to the tree's own cache, so that entries are not held in memory twice. They are
//!   snapshots, and wait at most for the batch that is under way.
//! - A full disk refuses writes and nothing else: room is checked before a commit begins, and a
//!   reserve is given up if one runs out of room all the same.
//! - Nothing runs while nothing is asked.
mod disk;
mod log;
mod writer;

use bytes::Bytes;
use disk::Disk;
use std::{
    collections::BTreeMap,
    fmt,
    future::ready,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};
use store::{
    Boxed, Changes, Entry, Error, Expect, Page, ReadAt, Revision, Store,
    window::{Limits, Window},
};
use tokio::sync::{mpsc, oneshot};
use writer::{Request, Write, Writer};

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How much of the past is kept for watchers.
    pub window: Limits,
    /// What the engine may use to cache pages.
    pub cache_bytes: usize,
    /// How many writes may wait; who comes after waits to wait.
    pub queue: usize,
    /// How many writes share a commit at most.
    pub batch: usize,
    /// The log's size: how much may be written before the tree is synced.
    pub log_bytes: u64,
    /// Kept back on disk, so that a full disk does not keep the store from opening.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            window: Limits::default(),
            cache_bytes: 16 << 20,
            queue: 1024,
            batch: 512,
            log_bytes: 8 << 20,
            reserve_bytes: 4 << 20,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the store in {dir} is in use by another process; stop that one first")]
    InUse { dir: PathBuf },
    #[error(
        "the store in {dir} has format {found}, made by a newer version; this one reads up to \
         {supported}: start the newer version"
    )]
    Newer { dir: PathBuf, found: u64, supported: u64 },
    #[error("the store in {dir} is damaged ({reason}); restore it from a backup")]
    Damaged { dir: PathBuf, reason: String },
    #[error("no space left to open the store in {dir}: {reason}; make room and start again")]
    Full { dir: PathBuf, reason: String },
    #[error("cannot open the store in {dir}")]
    Io { dir: PathBuf, source: std::io::Error },
}

pub struct Embedded {
    disk: Arc<Disk>,
    window: Arc<Window>,
    // Taken on drop: the writer ends when there is nobody left to send to it.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("latest", &self.window.latest()).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in the folder `dir`, or makes one there.
    pub fn open(dir: &Path, options: Options) -> Result<Embedded, OpenError> {
        let disk = Disk::open(dir, options)?;
        Self::start(disk, options)
    }

    fn start(disk: Disk, options: Options) -> Result<Embedded, OpenError> {
        let disk = Arc::new(disk);
        let window = Arc::new(Window::new(options.window, disk.latest()?));
        let (requests, queue) = mpsc::channel(options.queue.max(1));
        let writer = Writer::new(Arc::clone(&disk), Arc::clone(&window), options.batch.max(1));
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|source| OpenError::Io { dir: disk.dir().to_owned(), source })?;
        Ok(Embedded { disk, window, requests: Some(requests), writer: Some(writer) })
    }

    async fn write(&self, write: Write) -> Result<writer::Done, Error> {
        let closed = || Error::Unavailable("the store is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(closed)?;
        requests.send(Request { write, reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Embedded {
    /// Writes that were taken are finished, and the folder is free when this returns.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Store for Embedded {
    fn range(&self, keys: Range<String>, at: ReadAt, limit: u32) -> Boxed<'_, Result<Page, Error>> {
        let (disk, window) = (Arc::clone(&self.disk), Arc::clone(&self.window));
        Box::pin(async move {
            let read = move || read(&disk, &window, &keys, at, limit);
            let done = tokio::task::spawn_blocking(read).await;
            done.map_err(|error| Error::Unavailable(error.to_string()))?
        })
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> Boxed<'_, Result<Entry, Error>> {
        let write = Write::Put { key: Arc::from(key), value, expect };
        Box::pin(async move { Ok(self.write(write).await?.entry) })
    }

    fn delete(&self, key: &str, expect: Revision) -> Boxed<'_, Result<(Entry, Revision), Error>> {
        let write = Write::Delete { key: Arc::from(key), expect };
        Box::pin(async move {
            let done = self.write(write).await?;
            Ok((done.entry, done.at))
        })
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

fn read(
    disk: &Disk,
    window: &Window,
    keys: &Range<String>,
    at: ReadAt,
    limit: u32,
) -> Result<Page, Error> {
    let limit = if limit == 0 { usize::MAX } else { limit as usize };
    let snapshot = disk.snapshot()?;
    let latest = snapshot.revision()?;
    let at = match at {
        ReadAt::Latest => latest,
        ReadAt::AtLeast(asked) | ReadAt::Exactly(asked) if asked > latest => {
            return Err(Error::Future { latest });
        }
        ReadAt::AtLeast(_) => latest,
        ReadAt::Exactly(asked) => asked,
    };
    let undone = match at == latest {
        true => BTreeMap::new(),
        false => window.undo(keys, at, latest)?,
    };
    let mut page = Page { entries: Vec::new(), at, remaining: 0 };
    snapshot.merged(keys, undone, |entry| {
        if page.entries.len() < limit {
            page.entries.push(entry.load().ok_or_else(|| disk::damaged("an entry"))?);
        } else {
            page.remaining += 1;
        }
        Ok(())
    })?;
    Ok(page)
}

#[cfg(test)]
mod tests;
