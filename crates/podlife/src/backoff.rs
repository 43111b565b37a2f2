//! How long to wait before trying again: doubling, with an end, forgotten after a quiet time.
use jiff::{SignedDuration, Timestamp};

const INITIAL: SignedDuration = SignedDuration::from_secs(10);
const MAX: SignedDuration = SignedDuration::from_secs(300);

/// The waiting time of one thing that keeps failing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    entry: Option<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// The first time at which to try again after a failure at `event`; `None`: now.
    pub fn until(&self, event: Timestamp) -> Option<Timestamp> {
        let entry = self.live(event)?;
        event.checked_add(entry.delay).ok()
    }
    /// The current waiting time.
    pub fn delay(&self) -> SignedDuration {
        self.entry.map_or(SignedDuration::ZERO, |entry| entry.delay)
    }
    /// Another attempt begins after a failure at `event`.
    pub fn next(&mut self, event: Timestamp, now: Timestamp) {
        let delay = match self.live(event) {
            Some(entry) => (entry.delay * 2).min(MAX),
            None => INITIAL,
        };
        self.entry = Some(Entry { delay, updated: now });
    }
    pub fn reset(&mut self) {
        self.entry = None;
    }
    /// The entry, unless things went well for twice the longest waiting time.
    fn live(&self, event: Timestamp) -> Option<Entry> {
        self.entry.filter(|entry| event.duration_since(entry.updated) <= MAX * 2)
    }
}

/// A duration as Kubernetes' messages write it: `10s`, `1m20s`, `5m0s`.
pub fn written(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}
