//! The one thread that writes. It takes what waits, tries it in order inside one transaction, has
//! it on disk, shows the changes to watchers and answers.
use crate::OpenError;
use crate::disk::{self, Disk, ENTRIES};
use crate::log;
use bytes::Bytes;
use redb::Table;
use std::sync::Arc;
use store::{Change, Entry, Error, Expect, Revision, window::Window};
use tokio::sync::{mpsc, oneshot};

pub(crate) enum Write {
    Put { key: Arc<str>, value: Bytes, expect: Expect },
    Delete { key: Arc<str>, expect: Revision },
}

pub(crate) struct Request {
    pub(crate) write: Write,
    pub(crate) reply: oneshot::Sender<Result<Done, Error>>,
}

/// The entry as written or as deleted, and the revision of that.
pub(crate) struct Done {
    pub(crate) entry: Entry,
    pub(crate) at: Revision,
}

pub(crate) struct Writer {
    disk: Arc<Disk>,
    window: Arc<Window>,
    batch: usize,
    /// What the log is told of a batch; kept for its room.
    logged: Vec<u8>,
}

type Answers = Vec<Result<Done, Error>>;

/// What became of a batch.
enum Outcome {
    Answered(Answers),
    /// None of it happened.
    Refused(Error),
    /// The engine failed before or within the commit.
    Failed {
        error: redb::Error,
        last: Revision,
    },
}

impl Writer {
    pub(crate) fn new(disk: Arc<Disk>, window: Arc<Window>, batch: usize) -> Writer {
        Writer { disk, window, batch, logged: Vec::new() }
    }

    /// Runs until there is nobody left who could send.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        // Where processors are busy, it does so with more writes to sync at once.
        if let Err(error) = sys::process::wait_for_a_turn() {
            tracing::debug!(%error, "the store's writer keeps the usual turns");
        }
        let mut batch = Vec::new();
        while queue.blocking_recv_many(&mut batch, self.batch) > 0 {
            let (writes, replies): (Vec<_>, Vec<_>) =
                batch.drain(..).map(|request| (request.write, request.reply)).unzip();
            let answers = match self.commit(writes) {
                Outcome::Answered(answers) => answers,
                Outcome::Refused(error) => refuse(&error, replies.len()),
                Outcome::Failed { error, last } => {
                    refuse(&self.recover(error, last), replies.len())
                }
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Whoever asked may have gone; the write stands all the same.
                let _ = reply.send(answer);
            }
        }
        // So that the next start has nothing to do again; the log has it all the same.
        if let Err(error) = self.disk.checkpoint() {
            tracing::warn!(%error, "the store's log could not be brought to its tree");
        }
    }

    fn commit(&mut self, writes: Vec<Write>) -> Outcome {
        if !self.disk.is_open()
            && let Err(error) = self.open_anew()
        {
            return Outcome::Refused(Error::Unavailable(error.to_string()));
        }
        let mut last = self.window.latest();
        let room = writes.iter().map(room).sum();
        match self.disk.make_room(room) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Outcome::Refused(error),
            Err(error) => return Outcome::Failed { error, last },
        }
        match self.try_commit(writes, room, &mut last) {
            Ok(answers) => Outcome::Answered(answers),
            Err(error) => Outcome::Failed { error, last },
        }
    }

    /// `last` is moved on to the revision of the last write.
    fn try_commit(
        &mut self,
        writes: Vec<Write>,
        room: u64,
        last: &mut Revision,
    ) -> Result<Answers, redb::Error> {
        let before = *last;
        let mut answers = Vec::with_capacity(writes.len());
        let mut batch = std::mem::take(&mut self.logged);
        let window = &self.window;
        let written = self.disk.write(room, |transaction| {
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut changes = Vec::new();
            for write in writes {
                answers.push(match write {
                    Write::Put { key, value, expect } => {
                        put(&mut entries, &mut changes, last, key, value, expect)?
                    }
                    Write::Delete { key, expect } => {
                        delete(&mut entries, &mut changes, last, key, expect)?
                    }
                });
            }
            if *last == before {
                return Ok(None);
            }
            log::encode(&changes, &mut batch);
            window.stage(changes);
            Ok(Some((*last, batch)))
        })?;
        if let Some(batch) = written {
            self.logged = batch;
            self.window.reveal();
        }
        Ok(answers)
    }

    /// After an earlier try to recover failed.
    fn open_anew(&self) -> Result<(), OpenError> {
        self.disk.reopen()?;
        let found = self.disk.latest()?;
        if found != self.window.latest() {
            // The batch whose commit failed is there all the same, and its changes were let go.
            self.window.reset(found);
        }
        self.disk.keep_reserve();
        Ok(())
    }

    /// Opens the engine anew after it failed. Those who wrote get the error; but should the batch
    /// be on disk in spite of it, then readers will see it, and so must watchers.
    fn recover(&self, error: redb::Error, last: Revision) -> Error {
        tracing::error!(%error, "a write to the store failed; opening it anew");
        let answer = disk::classify(error);
        if let Err(error) = self.disk.reopen() {
            tracing::error!(%error, "the store could not be opened anew; the next write tries");
            // Not knowing what is on disk, show nothing: readers see nothing either.
            self.window.retract();
            return answer;
        }
        match self.disk.latest() {
            Ok(found) if found == last && found > self.window.latest() => self.window.reveal(),
            _ => self.window.retract(),
        }
        self.disk.keep_reserve();
        answer
    }
}

fn put(
    entries: &mut Table<'_, &'static str, &'static [u8]>,
    changes: &mut Vec<Change>,
    last: &mut Revision,
    key: Arc<str>,
    value: Bytes,
    expect: Expect,
) -> Result<Result<Done, Error>, redb::Error> {
    let old = disk::current(entries, &key)?;
    if !expect.met_by(old.as_ref()) {
        return Ok(Err(Error::Unmet { found: old.map(Box::new) }));
    }
    let at = Revision(last.0 + 1);
    let created = old.as_ref().map_or(at, |old| old.created);
    let entry = Entry { key, value, created, modified: at };
    disk::insert(entries, &entry.key, disk::header(created, at), &entry.value)?;
    *last = at;
    changes.push(Change::Put { entry: entry.clone(), old });
    Ok(Ok(Done { entry, at }))
}

fn delete(
    entries: &mut Table<'_, &'static str, &'static [u8]>,
    changes: &mut Vec<Change>,
    last: &mut Revision,
    key: Arc<str>,
    expect: Revision,
) -> Result<Result<Done, Error>, redb::Error> {
    let old = match disk::current(entries, &key)? {
        Some(old) if old.modified == expect => old,
        found => return Ok(Err(Error::Unmet { found: found.map(Box::new) })),
    };
    entries.remove(&*key)?;
    let at = Revision(last.0 + 1);
    *last = at;
    changes.push(Change::Deleted { old: old.clone(), at });
    Ok(Ok(Done { entry: old, at }))
}

fn refuse(error: &Error, count: usize) -> Answers {
    (0..count).map(|_| Err(error.clone())).collect()
}

fn room(write: &Write) -> u64 {
    disk::room(match write {
        Write::Put { value, .. } => value.len(),
        Write::Delete { .. } => 0,
    })
}
