//! The steps of a rollout.
use super::scale::{bounds, surge};
use super::*;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;

impl Look<'_> {
    /// New pods first as far as the surge goes, then old ones as far as availability allows.
    pub(super) fn roll(&mut self) {
        self.ensure_newest();
        if self.grow_newest() || self.shrink_old() {
            return;
        }
        self.clean_up_if_complete();
    }

    /// All old pods must be gone before the first new one.
    pub(super) fn recreate(&mut self) {
        self.adopt_revision();
        if self.sets.old.iter().any(|set| set.replicas() > 0) {
            for at in 0..self.sets.old.len() {
                self.resize(At::Old(at), 0);
            }
            return;
        }
        if self.old_pods_run() {
            return;
        }
        self.ensure_newest();
        self.resize(At::Newest, self.replicas());
        self.clean_up_if_complete();
    }

    fn old_pods_run(&self) -> bool {
        let old = self.sets.old.iter().filter_map(|set| set.new.metadata.uid.as_deref());
        old.flat_map(|uid| self.turn.world.owned_by::<Pod>(uid)).any(|pod| !pods::is_terminal(pod))
    }

    /// If there is a set for the template, it becomes (or stays) the newest revision.
    pub(super) fn adopt_revision(&mut self) {
        let revision = 1 + self.max_old_revision();
        let Some(set) = &mut self.sets.newest else { return };
        annotations::set_newest(&mut set.new, self.deployment, revision);
        set.new.spec.min_ready_seconds = self.deployment.spec.min_ready_seconds;
        let message = format!("Found new replica set {:?}", set.name());
        self.follow_revision();
        let conditions = &mut self.new.status.get_or_insert_default().conditions;
        if status::has_deadline(self.deployment)
            && conditions::find(conditions, "Progressing").is_none()
        {
            let found = progressing("True", "FoundNewReplicaSet", &message, self.turn.now);
            conditions::set(conditions, found);
        }
    }

    fn ensure_newest(&mut self) {
        if self.sets.newest.is_some() {
            self.adopt_revision();
            return;
        }
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = hash::template_hash(&self.deployment.spec.template, collisions);
        let name = format!("{}-{hash}", meta::name(&self.deployment.metadata));
        let key = Key::new(meta::namespace(&self.deployment.metadata), &name);
        if self.turn.world.get::<ReplicaSet>(&key).is_some() {
            // The name is taken by another template: try the next hash.
            let status = self.new.status.get_or_insert_default();
            status.collision_count = Some(collisions.unwrap_or(0) + 1);
            return;
        }
        if let Some(failed) = self.turn.failed.filter(|failed| failed.verb == "create")
            && status::has_deadline(self.deployment)
        {
            let reason = "ReplicaSetCreateError";
            let condition = progressing("False", reason, &failed.message, self.turn.now);
            conditions::set(&mut self.new.status.get_or_insert_default().conditions, condition);
        }
        let mut set = self.new_set(name, &hash);
        let revision = 1 + self.max_old_revision();
        annotations::set_newest(&mut set, self.deployment, revision);
        let replicas = self.room_for(0);
        set.spec.replicas = Some(replicas);
        annotations::set_size(&mut set, self.replicas(), self.replicas() + surge(self.deployment));
        let name = meta::name(&set.metadata).to_owned();
        self.sets.newest = Some(Set { seen: None, new: set, delete: false });
        self.follow_revision();
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.event("ScalingReplicaSet", message);
        }
        if self.turn.failed.is_none() && status::has_deadline(self.deployment) {
            let message = format!("Created new replica set {name:?}");
            let created = progressing("True", "NewReplicaSetCreated", &message, self.turn.now);
            conditions::set(&mut self.new.status.get_or_insert_default().conditions, created);
        }
    }

    fn new_set(&self, name: String, hash: &str) -> ReplicaSet {
        let mut template = self.deployment.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
        let labels = labels.clone();
        let mut selector = self.deployment.spec.selector.clone();
        let pairs = selector.match_labels.get_or_insert_default();
        pairs.insert(HASH_LABEL.to_owned(), hash.to_owned());
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![meta::controlled_by(self.deployment)]),
                ..ObjectMeta::default()
            },
            ..ReplicaSet::default()
        };
        set.spec.min_ready_seconds = self.deployment.spec.min_ready_seconds;
        set.spec.selector = selector;
        set.spec.template = Some(template);
        set
    }

    fn max_old_revision(&self) -> i64 {
        let old = self.sets.old.iter().map(|set| annotations::revision(&set.new));
        old.max().unwrap_or(0)
    }

    /// The deployment bears the revision of its newest set.
    fn follow_revision(&mut self) {
        let Some(set) = &self.sets.newest else { return };
        let revision = annotations::revision(&set.new).to_string();
        let annotations = self.new.metadata.annotations.get_or_insert_default();
        annotations.insert(annotations::REVISION.to_owned(), revision);
    }

    /// How large the newest set may become now.
    fn room_for(&self, current: i32) -> i32 {
        let wanted = self.replicas();
        if self.is_recreate() {
            return wanted;
        }
        let room = (wanted + surge(self.deployment)) - self.sets.total();
        if room <= 0 { current } else { current + room.min(wanted - current) }
    }

    fn grow_newest(&mut self) -> bool {
        let wanted = self.replicas();
        let Some(set) = &self.sets.newest else { return false };
        let (current, exists) = (set.replicas(), set.seen.is_some());
        if current == wanted {
            return !exists;
        }
        let size = if current > wanted { wanted } else { self.room_for(current) };
        self.resize(At::Newest, size) || !exists
    }

    fn shrink_old(&mut self) -> bool {
        let old_total: i32 = self.sets.old.iter().map(Set::replicas).sum();
        if old_total == 0 {
            return false;
        }
        let (_, max_unavailable) = bounds(self.deployment);
        let min_available = self.replicas() - max_unavailable;
        let newest = self.sets.newest.as_ref();
        let new_unavailable = newest.map_or(0, |set| set.replicas() - set.available());
        let spare = self.sets.total() - min_available - new_unavailable;
        if spare <= 0 {
            return false;
        }
        let unhealthy = self.shrink_unhealthy(spare);
        let healthy = self.shrink_healthy(min_available);
        unhealthy || healthy
    }

    /// Pods that are not available anyway cost nothing.
    fn shrink_unhealthy(&mut self, spare: i32) -> bool {
        let mut left = spare;
        for at in 0..self.sets.old.len() {
            let set = &self.sets.old[at];
            let down = left.min(set.replicas() - set.available());
            if down <= 0 {
                continue;
            }
            left -= down;
            let size = set.replicas() - down;
            self.resize(At::Old(at), size);
        }
        left < spare
    }

    fn shrink_healthy(&mut self, min_available: i32) -> bool {
        let available: i32 = self.sets.all().map(Set::available).sum();
        let mut left = available - min_available;
        let mut done = false;
        for at in 0..self.sets.old.len() {
            let current = self.sets.old[at].replicas();
            let down = left.min(current);
            if down <= 0 {
                continue;
            }
            left -= down;
            done |= self.resize(At::Old(at), current - down);
        }
        done
    }

    /// True if the size changes.
    pub(super) fn resize(&mut self, at: At, size: i32) -> bool {
        let (desired, max) = (self.replicas(), self.replicas() + surge(self.deployment));
        let set = match at {
            At::Newest => self.sets.newest.as_mut(),
            At::Old(at) => self.sets.old.get_mut(at),
        };
        let Some(set) = set else { return false };
        let before = set.replicas();
        if matches!(at, At::Newest) || before != size {
            annotations::set_size(&mut set.new, desired, max);
        }
        if before == size {
            return false;
        }
        set.new.spec.replicas = Some(size);
        let direction = if size > before { "up" } else { "down" };
        let name = set.name();
        let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
        self.event("ScalingReplicaSet", message);
        true
    }

    fn clean_up_if_complete(&mut self) {
        let status = self.counted();
        if status::is_complete(self.deployment, &status) {
            self.clean_up();
        }
    }

    /// Deletes the oldest empty sets beyond the limit of the history.
    pub(super) fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.revision_history_limit else { return };
        let Ok(limit) = usize::try_from(limit) else { return };
        let mut old: Vec<&mut Set<'_>> =
            self.sets.old.iter_mut().filter(|set| !meta::is_deleting(&set.new.metadata)).collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|set| annotations::revision(&set.new));
        for set in old.into_iter().take(surplus) {
            let observed = set.new.status.as_ref().and_then(|status| status.observed_generation);
            let settled = observed >= set.new.metadata.generation;
            set.delete = set.replicas() == 0 && set.actual() == 0 && settled;
        }
    }
}

/// Which of the sets.
#[derive(Clone, Copy)]
pub(super) enum At {
    Newest,
    Old(usize),
}
