//! Read-your-own-writes: a key is not looked at from caches older than its last writes.
//!
//! This replaces client-go's "expectations" for every controller at once. A key that must wait is
//! parked here and named again when what it waits for has been seen.
use api::{Key, Revision};
use reconcile::{Target, World, meta};
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Default)]
pub(crate) struct Gate {
    wrote: HashMap<Key, Writes>,
    by_revision: HashMap<Target, BTreeMap<Revision, Vec<Key>>>,
    by_object: HashMap<(Target, Key), Vec<Key>>,
}

#[derive(Default)]
struct Writes {
    revisions: HashMap<Target, Revision>,
    deleted: HashSet<(Target, Key, String)>,
}

impl Gate {
    pub(crate) fn wrote(&mut self, key: &Key, target: Target, revision: Revision) {
        let writes = self.wrote.entry(key.clone()).or_default();
        let last = writes.revisions.entry(target).or_default();
        *last = revision.max(*last);
    }
    pub(crate) fn deleted(&mut self, key: &Key, target: Target, object: Key, uid: String) {
        self.wrote.entry(key.clone()).or_default().deleted.insert((target, object, uid));
    }
    /// Whether the caches show all that was written for this key. If not, the key is parked.
    pub(crate) fn caught_up(&mut self, key: &Key, world: &World) -> bool {
        let Some(writes) = self.wrote.get_mut(key) else { return true };
        writes.revisions.retain(|target, wrote| world.seen(*target) < *wrote);
        writes.deleted.retain(|(target, object, uid)| {
            world
                .meta(*target, object)
                .is_some_and(|meta| meta::uid(meta) == uid && !meta::is_deleting(meta))
        });
        if let Some((target, revision)) = writes.revisions.iter().next() {
            let parked = self.by_revision.entry(*target).or_default();
            parked.entry(*revision).or_default().push(key.clone());
            return false;
        }
        if let Some((target, object, _)) = writes.deleted.iter().next() {
            let parked = self.by_object.entry((*target, object.clone())).or_default();
            parked.push(key.clone());
            return false;
        }
        self.wrote.remove(key);
        true
    }
    /// The keys that were parked for what has just been seen.
    pub(crate) fn release(
        &mut self,
        target: Target,
        object: Option<&Key>,
        seen: Revision,
    ) -> Vec<Key> {
        let mut released = Vec::new();
        if let Some(parked) = self.by_revision.get_mut(&target)
            && parked.first_key_value().is_some_and(|(first, _)| *first <= seen)
        {
            let later = parked.split_off(&Revision(seen.0 + 1));
            released.extend(std::mem::replace(parked, later).into_values().flatten());
        }
        if let Some(object) = object
            && !self.by_object.is_empty()
        {
            released.extend(self.by_object.remove(&(target, object.clone())).into_iter().flatten());
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::Pod;

    #[test]
    fn waits_for_the_written_kind_and_is_released_once() {
        let (mut gate, mut world) = (Gate::default(), World::default());
        let (key, pods) = (Key::new("", "web"), Target::of::<Pod>());
        gate.wrote(&key, pods, Revision(7));
        world.advance(pods, Revision(6));
        assert!(!gate.caught_up(&key, &world));
        assert!(gate.release(pods, None, Revision(6)).is_empty());
        world.advance(pods, Revision(8));
        assert_eq!(gate.release(pods, None, Revision(8)), [key.clone()]);
        assert!(gate.release(pods, None, Revision(8)).is_empty());
        assert!(gate.caught_up(&key, &world));
    }

    #[test]
    fn waits_until_a_deleted_object_is_seen_going() {
        let (mut gate, mut world) = (Gate::default(), World::default());
        let (key, pods, pod) = (Key::new("a", "web"), Target::of::<Pod>(), Key::new("a", "p"));
        let mut object = Pod::default();
        object.metadata.namespace = Some("a".into());
        object.metadata.name = Some("p".into());
        object.metadata.uid = Some("u".into());
        world.insert(object);
        gate.deleted(&key, pods, pod.clone(), "u".into());
        assert!(!gate.caught_up(&key, &world));
        world.remove(pods, &pod);
        assert_eq!(gate.release(pods, Some(&pod), Revision(1)), [key.clone()]);
        assert!(gate.caught_up(&key, &world));
    }
}
