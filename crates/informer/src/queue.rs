//! A deduplicating queue with delays: a key is worked on by one worker at a time, never lost.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use tokio::time::Instant;

pub struct Queue<T> {
    ready: VecDeque<T>,
    dirty: HashSet<T>,
    working: HashSet<T>,
    /// When a key is due; the heap may hold entries that this no longer confirms.
    due: HashMap<T, Instant>,
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    at: HashMap<u64, T>,
    next_id: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            due: HashMap::new(),
            heap: BinaryHeap::new(),
            at: HashMap::new(),
            next_id: 0,
        }
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    pub fn add(&mut self, key: T) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }
    /// The earliest of several times counts.
    pub fn add_at(&mut self, key: T, when: Instant) {
        if self.due.get(&key).is_some_and(|before| *before <= when) {
            return;
        }
        self.due.insert(key.clone(), when);
        let id = self.next_id;
        self.next_id += 1;
        self.heap.push(Reverse((when, id)));
        self.at.insert(id, key);
    }
    /// Makes ready what is due, and tells when something will be.
    pub fn advance(&mut self, now: Instant) -> Option<Instant> {
        while let Some(&Reverse((when, id))) = self.heap.peek() {
            let current = self.at.get(&id).is_some_and(|key| self.due.get(key) == Some(&when));
            if current && when > now {
                return Some(when);
            }
            self.heap.pop();
            if let Some(key) = self.at.remove(&id)
                && current
            {
                self.due.remove(&key);
                self.add(key);
            }
        }
        None
    }
    /// A turn is taken now: a time asked for before is void, the turn will ask again.
    pub fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.due.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
    pub fn done(&mut self, key: &T) {
        self.working.remove(key);
        if self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        }
    }
    pub fn len(&self) -> usize {
        self.ready.len()
    }
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn change_during_work_is_seen_again_once() {
        let mut queue = Queue::default();
        queue.add("a");
        assert_eq!(queue.take(), Some("a"));
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.take(), None);
        queue.done(&"a");
        assert_eq!(queue.take(), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn the_earliest_time_counts_and_a_turn_voids_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        queue.add_at("a", after(5));
        queue.add_at("a", after(2));
        queue.add_at("a", after(9));
        assert_eq!(queue.advance(now), Some(after(2)));
        assert_eq!(queue.advance(after(3)), None);
        assert_eq!(queue.take(), Some("a"));
        queue.done(&"a");
        queue.add_at("b", after(10));
        queue.add("b");
        assert_eq!(queue.take(), Some("b"));
        assert_eq!(queue.advance(after(20)), None);
        assert_eq!(queue.take(), None, "the turn voided the time");
    }
}
