//! Keeps events few: what repeats is counted, what is alike is combined, what floods is dropped.
//!
//! The same bounds as client-go's correlator: 25 events at once and one per five minutes for an
//! object; from the tenth similar one within ten minutes on, they are combined.
use reconcile::{Note, NoteKind, Now};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
const SIMILAR_MAX: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
const ENTRIES_MAX: usize = 4096;

/// What to do about an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Drop,
    Create {
        message: String,
    },
    /// It was written before under this name.
    Repeat {
        name: String,
        count: u32,
        message: String,
    },
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    api_version: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    field_path: Option<String>,
}

type Similar = (Subject, NoteKind, String);
pub(crate) type Full = (Similar, String);

#[derive(Default)]
pub(crate) struct Correlator {
    buckets: Recent<Subject, (f64, Now)>,
    similar: Recent<Similar, (HashSet<String>, Now)>,
    written: Recent<Full, (String, u32)>,
}

impl Correlator {
    pub(crate) fn judge(&mut self, note: &Note, now: Now) -> (Full, Verdict) {
        let subject = subject(note);
        let alike: Similar = (subject.clone(), note.kind, note.reason.to_string());
        let bucket = self.buckets.entry(subject, || (BURST, now));
        let elapsed = now.duration_since(bucket.1).as_secs_f64().max(0.0);
        *bucket = ((bucket.0 + elapsed * REFILL_PER_SECOND).min(BURST), now);
        if bucket.0 < 1.0 {
            return ((alike, note.message.clone()), Verdict::Drop);
        }
        bucket.0 -= 1.0;
        let (messages, since) = self.similar.entry(alike.clone(), || (HashSet::new(), now));
        if now.duration_since(*since).as_secs() > SIMILAR_SECONDS {
            messages.clear();
            *since = now;
        }
        if messages.len() < SIMILAR_MAX {
            messages.insert(note.message.clone());
        }
        // A subject that reports by series has one event for all messages of a reason.
        let combined = messages.len() >= SIMILAR_MAX;
        let (full, message) = if note.action.is_some() {
            ((alike, String::new()), note.message.clone())
        } else if combined {
            let message = format!("(combined from similar events): {}", note.message);
            ((alike, String::new()), message)
        } else {
            ((alike, note.message.clone()), note.message.clone())
        };
        let verdict = match self.written.get(&full) {
            Some((name, count)) => {
                *count += 1;
                Verdict::Repeat { name: name.clone(), count: *count, message }
            }
            None => Verdict::Create { message },
        };
        (full, verdict)
    }
    pub(crate) fn wrote(&mut self, full: Full, name: String, count: u32) {
        *self.written.entry(full, || (String::new(), 0)) = (name, count);
    }
}

fn subject(note: &Note) -> Subject {
    let about = note.about.clone();
    Subject {
        api_version: about.api_version,
        kind: about.kind,
        namespace: about.namespace,
        name: about.name,
        uid: about.uid,
        field_path: about.field_path,
    }
}

/// A map that forgets its oldest entries.
struct Recent<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn get(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key)
    }
    fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.map.contains_key(&key) {
            if self.order.len() >= ENTRIES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.map.entry(key).or_insert_with(make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::ObjectReference;

    fn note(message: String) -> Note {
        let about = ObjectReference { name: Some("p".into()), ..Default::default() };
        Note::new(about, NoteKind::Warning, "BackOff", message)
    }

    #[test]
    fn repeats_are_counted() {
        let (mut correlator, now) = (Correlator::default(), Now::UNIX_EPOCH);
        let (full, verdict) = correlator.judge(&note("a".into()), now);
        assert_eq!(verdict, Verdict::Create { message: "a".into() });
        correlator.wrote(full, "p.1".into(), 1);
        let (_, verdict) = correlator.judge(&note("a".into()), now);
        let want = Verdict::Repeat { name: "p.1".into(), count: 2, message: "a".into() };
        assert_eq!(verdict, want);
    }

    #[test]
    fn similar_ones_are_combined_and_floods_dropped() {
        let (mut correlator, now) = (Correlator::default(), Now::UNIX_EPOCH);
        let mut verdicts = Vec::new();
        for n in 0..30 {
            let (full, verdict) = correlator.judge(&note(n.to_string()), now);
            if let Verdict::Create { .. } = verdict {
                correlator.wrote(full, format!("p.{n}"), 1);
            }
            verdicts.push(verdict);
        }
        assert_eq!(verdicts[8], Verdict::Create { message: "8".into() });
        let combined = "(combined from similar events): 9".to_owned();
        assert_eq!(verdicts[9], Verdict::Create { message: combined });
        assert!(matches!(&verdicts[10], Verdict::Repeat { name, count: 2, .. } if name == "p.9"));
        assert_eq!(verdicts[25..], vec![Verdict::Drop; 5]);
        let later = now + jiff::SignedDuration::from_secs(301);
        assert_ne!(correlator.judge(&note("x".into()), later).1, Verdict::Drop);
    }
}
