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
        name: String,
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
type Full = (Similar, String);

#[derive(Default)]
pub(crate) struct Correlator {
    buckets: Recent<Subject, (f64, Now)>,
    similar: Recent<Similar, (HashSet<String>, Now)>,
    written: Recent<Full, (String, u32)>,
}

impl Correlator {
    /// `name` makes the name of an event that is new.
    pub(crate) fn judge(
        &mut self,
        note: &Note,
        now: Now,
        name: impl FnOnce() -> String,
    ) -> Verdict {
        let subject = subject(note);
        let alike: Similar = (subject.clone(), note.kind, note.reason.to_string());
        let bucket = self.buckets.entry(subject, || (BURST, now));
        let elapsed = now.duration_since(bucket.1).as_secs_f64().max(0.0);
        *bucket = ((bucket.0 + elapsed * REFILL_PER_SECOND).min(BURST), now);
        if bucket.0 < 1.0 {
            return Verdict::Drop;
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
        if let Some((name, count)) = self.written.get(&full) {
            *count += 1;
            return Verdict::Repeat { name: name.clone(), count: *count, message };
        }
        let name = name();
        *self.written.entry(full, || (String::new(), 0)) = (name.clone(), 1);
        Verdict::Create { name, message }
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
        let verdict = correlator.judge(&note("a".into()), now, || "p.1".into());
        assert_eq!(verdict, Verdict::Create { name: "p.1".into(), message: "a".into() });
        let verdict = correlator.judge(&note("a".into()), now, || "p.2".into());
        let want = Verdict::Repeat { name: "p.1".into(), count: 2, message: "a".into() };
        assert_eq!(verdict, want);
    }

    #[test]
    fn similar_ones_are_combined_and_floods_dropped() {
        let (mut correlator, now) = (Correlator::default(), Now::UNIX_EPOCH);
        let mut verdicts = Vec::new();
        for n in 0..30 {
            verdicts.push(correlator.judge(&note(n.to_string()), now, || format!("p.{n}")));
        }
        assert_eq!(verdicts[8], Verdict::Create { name: "p.8".into(), message: "8".into() });
        let message = "(combined from similar events): 9".to_owned();
        assert_eq!(verdicts[9], Verdict::Create { name: "p.9".into(), message });
        assert!(matches!(&verdicts[10], Verdict::Repeat { name, count: 2, .. } if name == "p.9"));
        assert_eq!(verdicts[25..], vec![Verdict::Drop; 5]);
        let later = now + jiff::SignedDuration::from_secs(301);
        assert_ne!(correlator.judge(&note("x".into()), later, String::new), Verdict::Drop);
    }
}
