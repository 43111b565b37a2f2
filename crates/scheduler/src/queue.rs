//! Pods in the order of their turn: by priority, then by arrival; those that fit nowhere wait
//! apart, by the plugins that refused them.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// A pod that nothing has woken is looked at again after this time.
const SWEEP: Duration = Duration::from_secs(300);

/// Stands for the plugins of a pod that no plugin has refused, as there are no nodes.
const NONE: &str = "";

/// First the highest priority, then the earliest arrival.
type Turn = (std::cmp::Reverse<i32>, u64);

#[derive(Debug, Default)]
pub(crate) struct Queue {
    active: BTreeMap<Turn, String>,
    entries: HashMap<String, Entry>,
    /// When to look at a pod again: the end of its back-off, or the sweep.
    timers: BTreeSet<(Instant, String)>,
    /// Those that were woken and back off: they need not wait while there is nothing else to do.
    woken: BTreeSet<(Instant, String)>,
    /// Those that nothing has woken yet, by each plugin that refused them.
    waiting: HashMap<&'static str, BTreeSet<String>>,
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
    /// Until then, or until there is nothing else to do.
    Woken(Instant),
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
        let mut timer = |at: &Instant| self.timers.remove(&(*at, uid.to_owned()));
        match &entry.place {
            Place::Active => drop(self.active.remove(&entry.turn)),
            Place::Out => {}
            Place::BackOff(at) => drop(timer(at)),
            Place::Woken(at) => {
                timer(at);
                self.woken.remove(&(*at, uid.to_owned()));
            }
            Place::Unschedulable { sweep, plugins, .. } => {
                timer(sweep);
                for plugin in plugins {
                    if let Some(waiting) = self.waiting.get_mut(plugin) {
                        waiting.remove(uid);
                    }
                }
            }
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.active.is_empty() || !self.woken.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<String> {
        let uid = match self.active.first_key_value() {
            Some((_, uid)) => uid.clone(),
            None => self.woken.first()?.1.clone(),
        };
        self.move_to(&uid, Place::Out);
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.attempts += 1;
        }
        Some(uid)
    }

    fn move_to(&mut self, uid: &str, place: Place) {
        let Some(mut entry) = self.entries.remove(uid) else { return };
        self.leave(uid, &entry);
        let mut timer = |at: &Instant| self.timers.insert((*at, uid.to_owned()));
        match &place {
            Place::Active => drop(self.active.insert(entry.turn, uid.to_owned())),
            Place::Out => {}
            Place::BackOff(at) => drop(timer(at)),
            Place::Woken(at) => {
                timer(at);
                self.woken.insert((*at, uid.to_owned()));
            }
            Place::Unschedulable { sweep, plugins, .. } => {
                timer(sweep);
                for plugin in plugins {
                    self.waiting.entry(plugin).or_default().insert(uid.to_owned());
                }
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
        let plugins = if plugins.is_empty() { &[NONE] } else { plugins };
        let place =
            Place::Unschedulable { plugins: plugins.to_vec(), not_before, sweep: now + SWEEP };
        self.move_to(uid, place);
    }

    /// Who waits for what one of these plugins looks at; each once.
    pub(crate) fn waiting<'a>(
        &'a self,
        plugins: impl Iterator<Item = &'static str> + 'a,
    ) -> BTreeSet<&'a str> {
        let lists = plugins.filter_map(|plugin| self.waiting.get(plugin));
        lists.flatten().map(String::as_str).collect()
    }
    /// The plugins that someone waits for.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.waiting.iter().filter(|(_, waiting)| !waiting.is_empty()).map(|(plugin, _)| *plugin)
    }

    /// Something may have helped a pod that waits: it gets another turn.
    pub(crate) fn wake(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get(uid) else { return };
        let Place::Unschedulable { not_before, .. } = entry.place else { return };
        let place = if not_before <= now { Place::Active } else { Place::Woken(not_before) };
        self.move_to(uid, place);
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
        queue.refuse("high", &["NodeResourcesFit", "NodePorts"], Instant::now());
        assert_eq!(queue.pop().as_deref(), Some("late"));
        assert_eq!(queue.pop().as_deref(), Some("low"));
        assert_eq!(queue.pop(), None);
        assert!(queue.waiting(["NodeAffinity"].into_iter()).is_empty());
        let waiting = queue.waiting(["NodePorts", "NodeResourcesFit"].into_iter());
        assert_eq!(waiting, BTreeSet::from(["high"]));
        assert_eq!(queue.advance(Instant::now()).map(|at| at - Instant::now()), Some(SWEEP));
        queue.wake("high", Instant::now());
        assert_eq!(queue.plugins().count(), 0);
        // Others come before its back-off is over; while there are none, it need not wait.
        let next = queue.advance(Instant::now()).unwrap();
        assert_eq!(next - Instant::now(), BACKOFF_FIRST);
        queue.add("other", 0);
        assert_eq!(queue.pop().as_deref(), Some("other"));
        assert_eq!(queue.pop().as_deref(), Some("high"));
        queue.refuse("high", &["NodePorts"], Instant::now());
        queue.wake("high", Instant::now());
        queue.add("other", 0);
        tokio::time::advance(BACKOFF_FIRST * 2).await;
        assert_eq!(queue.advance(Instant::now()), None);
        assert_eq!(queue.pop().as_deref(), Some("high"), "its turn by priority has come");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_waits_whatever_happens() {
        let mut queue = Queue::default();
        queue.add("a", 0);
        queue.pop();
        queue.back_off("a", Instant::now());
        queue.wake("a", Instant::now());
        assert!(!queue.has_ready() && queue.pop().is_none());
        tokio::time::advance(BACKOFF_FIRST).await;
        assert_eq!(queue.advance(Instant::now()), None);
        assert_eq!(queue.pop().as_deref(), Some("a"));
        queue.remove("a");
        queue.back_off("a", Instant::now());
        assert!(!queue.has_ready() && queue.timers.is_empty());
    }
}
