//! The one watch: brings every change of etcd into the window, in order, across lost connections.
//!
//! When somebody wants to be sure of a revision that brought no change here (others may use the
//! same etcd), etcd is asked for progress. Before 3.4.25 and 3.5.8 its answers can overtake
//! changes (etcd issue 15220); from those a marker is written instead, whose own event is in order.
use crate::{
    KEYS, MARKER, Shared,
    grpc::{Answers, CallError, Channel},
    latest,
    messages::{self, Event, Status, Watched},
    wire::Malformed,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use store::{Change, Revision};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A watcher that is catching up answers no question for progress: ask again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// What a watch can lose is told by the connection's own keep-alive; this is for its beginning.
const CREATE_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) struct Follower {
    shared: Arc<Shared>,
    wanted: watch::Receiver<Revision>,
    /// Watchers were told of progress up to here.
    told: Revision,
    delay: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("etcd ended the watch: {0}")]
    Ended(String),
}

impl From<Malformed> for Lost {
    fn from(malformed: Malformed) -> Lost {
        Lost::Call(malformed.into())
    }
}

/// A watch that has begun.
struct Watch {
    requests: mpsc::Sender<Bytes>,
    answers: Answers,
    progress_in_order: bool,
}

impl Follower {
    pub(crate) fn new(shared: Arc<Shared>) -> Follower {
        let wanted = shared.wanted.subscribe();
        Follower { shared, wanted, told: Revision(0), delay: FIRST_DELAY }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let lost = match self.begin().await {
                Ok(watch) => self.follow(watch).await,
                Err(lost) => lost,
            };
            tracing::warn!(error = %lost, "the watch of etcd was lost; starting it again");
            sleep(self.delay).await;
            self.delay = (self.delay * 2).min(LONGEST_DELAY);
        }
    }

    async fn begin(&self) -> Result<Watch, Lost> {
        let shared = &self.shared;
        // Also logs in again, which a watch cannot.
        latest(&shared.channel, &shared.prefix).await?;
        let version = status(&shared.channel).await?;
        let (requests, outgoing) = mpsc::channel(4);
        let first = format!("{}{MARKER}", shared.prefix);
        let from = shared.window.latest().0 + 1;
        let create = messages::watch(first.as_bytes(), shared.key(KEYS.end).as_bytes(), from);
        let closed = || Lost::Ended("it took no request".to_owned());
        requests.send(create).await.map_err(|_| closed())?;
        let mut answers = shared.channel.stream(messages::WATCH, outgoing).await?;
        let created = timeout(CREATE_TIMEOUT, answers.next()).await;
        let created = created.map_err(|_| Lost::Ended("it did not begin in time".to_owned()))??;
        let created = Watched::read(created.ok_or_else(closed)?)?;
        if created.canceled {
            return Err(self.canceled(&created));
        }
        Ok(Watch { requests, answers, progress_in_order: progress_in_order(&version) })
    }

    async fn follow(&mut self, mut watch: Watch) -> Lost {
        let mut parts = Vec::new();
        let mut ask = true;
        loop {
            let behind = self.settle();
            if behind && ask {
                if let Err(lost) = self.ask(&watch).await {
                    return lost;
                }
                ask = false;
            }
            tokio::select! {
                answer = watch.answers.next() => {
                    let taken = match answer {
                        Ok(Some(answer)) => self.take(answer, &mut parts),
                        Ok(None) => Err(Lost::Ended("it was closed".to_owned())),
                        Err(error) => Err(error.into()),
                    };
                    if let Err(lost) = taken {
                        return lost;
                    }
                    self.delay = FIRST_DELAY;
                }
                changed = self.wanted.changed() => match changed {
                    Ok(()) => ask = true,
                    Err(_) => return Lost::Ended("the store is closed".to_owned()),
                },
                () = sleep(ASK_AGAIN), if behind => ask = true,
            }
        }
    }

    /// Tells watchers of the progress that was wanted, if it is there; yields whether it is not.
    fn settle(&mut self) -> bool {
        let wanted = *self.wanted.borrow_and_update();
        if wanted > self.shared.window.latest() {
            return true;
        }
        if wanted > self.told {
            self.told = self.shared.window.latest_with_progress();
        }
        false
    }

    async fn ask(&self, watch: &Watch) -> Result<(), Lost> {
        if watch.progress_in_order {
            let sent = watch.requests.send(messages::ask_progress()).await;
            return sent.map_err(|_| Lost::Ended("it took no request".to_owned()));
        }
        let marker = format!("{}{MARKER}", self.shared.prefix);
        self.shared.channel.call(messages::PUT, messages::put(marker.as_bytes(), b"")).await?;
        Ok(())
    }

    /// `parts` are the events of an answer that came in fragments.
    fn take(&self, answer: Bytes, parts: &mut Vec<Event>) -> Result<(), Lost> {
        let mut watched = Watched::read(answer)?;
        if watched.canceled {
            return Err(self.canceled(&watched));
        }
        let window = &self.shared.window;
        let is_progress = watched.events.is_empty() && parts.is_empty();
        parts.append(&mut watched.events);
        if is_progress {
            window.advance(Revision(watched.revision));
        }
        if watched.fragment || is_progress {
            return Ok(());
        }
        let mut last = window.latest();
        for event in parts.drain(..) {
            let at = Revision(event.pair.modified);
            last = last.max(at);
            if event.pair.key.strip_prefix(self.shared.prefix.as_bytes()) == Some(MARKER.as_bytes())
            {
                continue;
            }
            match self.change(&event) {
                Ok(change) => window.stage([change]),
                Err(Incomplete) => {
                    tracing::warn!(revision = at.0, "etcd no longer has what a change replaced");
                    window.reset(at);
                }
            }
        }
        window.advance(last);
        Ok(())
    }

    fn change(&self, event: &Event) -> Result<Change, Incomplete> {
        let entry = |pair| self.shared.entry(pair).map_err(|_| Incomplete);
        let old = event.old.as_ref().map(entry).transpose()?;
        if event.deleted {
            let at = Revision(event.pair.modified);
            return Ok(Change::Deleted { old: old.ok_or(Incomplete)?, at });
        }
        let is_new = event.pair.created == event.pair.modified;
        if old.is_none() && !is_new {
            return Err(Incomplete);
        }
        Ok(Change::Put { entry: entry(&event.pair)?, old: old.filter(|_| !is_new) })
    }

    fn canceled(&self, watched: &Watched) -> Lost {
        if watched.compacted > self.shared.window.latest().0 {
            // What was missed cannot be had any more: local watchers begin anew.
            self.shared.window.reset(Revision(watched.revision.max(watched.compacted)));
        }
        Lost::Ended(format!("{} (compacted at {})", watched.reason, watched.compacted))
    }
}

/// Old values go with the revisions that held them, when etcd is compacted.
struct Incomplete;

/// The version of the server that answers; what is wrong with it is told in the log.
pub(crate) async fn status(channel: &Channel) -> Result<String, CallError> {
    let status = Status::read(channel.read(messages::STATUS, Bytes::new()).await?)?;
    for error in &status.errors {
        tracing::warn!("etcd says of itself: {}{}", error.trim(), hint(error));
    }
    Ok(status.version)
}

fn hint(error: &str) -> &'static str {
    match error.contains("NOSPACE") {
        true => ": it refuses writes until it is compacted, defragmented, and the alarm disarmed",
        false => "",
    }
}

/// Whether this version's answers to the question for progress keep the order of events.
fn progress_in_order(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map_while(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        version => version > (3, 5, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_known() {
        for (version, expected) in [
            ("3.4.23", false),
            ("3.4.25", true),
            ("3.5.7", false),
            ("3.5.8", true),
            ("3.6.0-rc.1", true),
            ("4.0.0", true),
            ("3.3.27", false),
            ("", false),
        ] {
            assert_eq!(progress_in_order(version), expected, "{version}");
        }
    }
}
