//! Pods in the order of their turn: by priority, then by arrival; those that fit nowhere wait
//! apart.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// A pod that nothing has woken is looked at again after this time.
const SWEEP: Duration = Duration::from_secs(300);

/// A change that may help a pod that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Node,
    PodPlaced,
    PodGone,
}

/// First the highest priority, then the earliest arrival.
type Turn = (std::cmp::Reverse<i32>, u64);

#[derive(Debug, Default)]
pub(crate) struct Queue {
    active: BTreeMap<Turn, String>,
    entries: HashMap<String, Entry>,
    /// When to look at a pod again: the end of its back-off, or the sweep.
    timers: BTreeSet<(Instant, String)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    turn: Turn,
    attempts: u32,
    place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// Taken for a decision, or being bound.
    Out,
    /// Until then, whatever happens.
    BackOff(Instant),
    /// Until something helps; not before its back-off is over.
    Unschedulable {
        plugins: Vec<&'static str>,
        not_before: Instant,
        sweep: Instant,
    },
}

impl Queue {
    /// A pod is new or has changed in a way that may matter.
    pub(crate) fn add(&mut self, uid: &str, priority: i32) {
        let known = self.entries.get(uid).map(|entry| (entry.turn, entry.attempts));
        let (turn, attempts) = match known {
            Some(((old, arrival), attempts)) if old.0 == priority => ((old, arrival), attempts),
            _ => {
                self.arrivals += 1;
                ((std::cmp::Reverse(priority), self.arrivals), 0)
            }
        };
        self.remove(uid);
        self.active.insert(turn, uid.to_owned());
        self.entries.insert(uid.to_owned(), Entry { turn, attempts, place: Place::Active });
    }

    pub(crate) fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else { return };
        self.leave(uid, &entry);
    }

    fn leave(&mut self, uid: &str, entry: &Entry) {
        match &entry.place {
            Place::Active => drop(self.active.remove(&entry.turn)),
            Place::Out => {}
            Place::BackOff(at) => drop(self.timers.remove(&(*at, uid.to_owned()))),
            Place::Unschedulable { sweep, .. } => {
                self.timers.remove(&(*sweep, uid.to_owned()));
            }
        }
    }

    pub(crate) fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<String> {
        let (_, uid) = self.active.pop_first()?;
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.place = Place::Out;
            entry.attempts += 1;
        }
        Some(uid)
    }

    fn move_to(&mut self, uid: &str, place: Place) {
        let Some(mut entry) = self.entries.remove(uid) else { return };
        self.leave(uid, &entry);
        match &place {
            Place::Active => drop(self.active.insert(entry.turn, uid.to_owned())),
            Place::Out => {}
            Place::BackOff(at) | Place::Unschedulable { sweep: at, .. } => {
                self.timers.insert((*at, uid.to_owned()));
            }
        }
        entry.place = place;
        self.entries.insert(uid.to_owned(), entry);
    }

    /// Its binding failed: try again a little later.
    pub(crate) fn back_off(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get(uid) else { return };
        let until = now + backoff(entry.attempts);
        self.move_to(uid, Place::BackOff(until));
    }

    /// It fits nowhere, for what these plugins look at.
    pub(crate) fn refuse(&mut self, uid: &str, plugins: &[&'static str], now: Instant) {
        let Some(entry) = self.entries.get(uid) else { return };
        let not_before = now + backoff(entry.attempts);
        let place =
            Place::Unschedulable { plugins: plugins.to_vec(), not_before, sweep: now + SWEEP };
        self.move_to(uid, place);
    }

    /// Something has changed: pods that it may help get another turn.
    pub(crate) fn wake(&mut self, change: Waiting) {
        let helped: Vec<(String, Instant)> = self
            .entries
            .iter()
            .filter_map(|(uid, entry)| match &entry.place {
                Place::Unschedulable { plugins, not_before, .. } if helps(change, plugins) => {
                    Some((uid.clone(), *not_before))
                }
                _ => None,
            })
            .collect();
        let now = Instant::now();
        for (uid, not_before) in helped {
            let place = if not_before <= now { Place::Active } else { Place::BackOff(not_before) };
            self.move_to(&uid, place);
        }
    }

    /// Takes in what is due; yields when something is due next.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Instant> {
        while let Some((at, uid)) = self.timers.first().cloned() {
            if at > now {
                return Some(at);
            }
            self.move_to(&uid, Place::Active);
        }
        None
    }
}

fn backoff(attempts: u32) -> Duration {
    let factor = 1 << attempts.saturating_sub(1).min(10);
    (BACKOFF_FIRST * factor).min(BACKOFF_MOST)
}

/// Whether a change is of the kind that any of these plugins looks at.
fn helps(change: Waiting, plugins: &[&str]) -> bool {
    let near = |plugin: &&str| matches!(*plugin, "InterPodAffinity" | "PodTopologySpread");
    match change {
        Waiting::Node => true,
        Waiting::PodPlaced => plugins.iter().any(|plugin| near(plugin)),
        Waiting::PodGone => plugins
            .iter()
            .any(|plugin| near(plugin) || matches!(*plugin, "NodeResourcesFit" | "NodePorts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_go_by_priority_and_what_waits_is_woken_by_what_helps() {
        let mut queue = Queue::default();
        queue.add("low", 0);
        queue.add("high", 9);
        queue.add("late", 9);
        assert_eq!(queue.pop().as_deref(), Some("high"));
        queue.refuse("high", &["NodeResourcesFit"], Instant::now());
        assert_eq!(queue.pop().as_deref(), Some("late"));
        assert_eq!(queue.pop().as_deref(), Some("low"));
        assert_eq!(queue.pop(), None);
        queue.wake(Waiting::PodPlaced);
        assert_eq!(queue.advance(Instant::now()).map(|at| at - Instant::now()), Some(SWEEP));
        queue.wake(Waiting::PodGone);
        // Its back-off comes first.
        let next = queue.advance(Instant::now()).unwrap();
        assert_eq!(next - Instant::now(), BACKOFF_FIRST);
        tokio::time::advance(BACKOFF_FIRST).await;
        assert_eq!(queue.advance(Instant::now()), None);
        assert_eq!(queue.pop().as_deref(), Some("high"));
        queue.remove("high");
        queue.back_off("high", Instant::now());
        assert!(!queue.has_active() && queue.timers.is_empty());
    }
}
