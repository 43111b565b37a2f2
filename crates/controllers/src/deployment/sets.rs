//! The replica sets of one deployment, as they were seen and as they shall be.
use super::*;

/// A set and the copy that is worked on. A set that is not yet there has only the copy.
pub(super) struct Set<'a> {
    pub(super) seen: Option<&'a Arc<ReplicaSet>>,
    pub(super) new: ReplicaSet,
    pub(super) delete: bool,
}

pub(super) struct Sets<'a> {
    /// The one with the deployment's template.
    pub(super) newest: Option<Set<'a>>,
    /// The others, oldest first.
    pub(super) old: Vec<Set<'a>>,
}

impl<'a> Set<'a> {
    fn of(seen: &'a Arc<ReplicaSet>) -> Self {
        Self { seen: Some(seen), new: ReplicaSet::clone(seen), delete: false }
    }
    pub(super) fn name(&self) -> &str {
        meta::name(&self.new.metadata)
    }
    /// As it shall be.
    pub(super) fn replicas(&self) -> i32 {
        self.new.spec.replicas.unwrap_or(1)
    }
    pub(super) fn actual(&self) -> i32 {
        self.new.status.as_ref().map_or(0, |status| status.replicas)
    }
    pub(super) fn ready(&self) -> i32 {
        self.new.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
    }
    pub(super) fn available(&self) -> i32 {
        self.new.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
    }
    pub(super) fn terminating(&self) -> i32 {
        self.new.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0)
    }
}

impl<'a> Sets<'a> {
    /// Owned sets that match, after adoptions and releases.
    pub(super) fn claim(deployment: &Deployment, world: &'a World, plan: &mut Plan) -> Self {
        let selector = LabelSelector::from_spec(Some(&deployment.spec.selector))
            .unwrap_or_else(|_| LabelSelector::nothing());
        let deleting = meta::is_deleting(&deployment.metadata);
        let mut sets: Vec<Set<'a>> = Vec::new();
        for set in world.owned_by::<ReplicaSet>(deployment.uid()) {
            if selector.matches(meta::labels(&set.metadata)) {
                sets.push(Set::of(set));
            } else if !deleting && !meta::is_deleting(&set.metadata) {
                let mut released = ReplicaSet::clone(set);
                let owners = released.metadata.owner_references.iter_mut();
                owners.for_each(|owners| owners.retain(|owner| owner.uid != deployment.uid()));
                plan.push(Effect::update(&**set, &released));
            }
        }
        if !deleting {
            let namespace = meta::namespace(&deployment.metadata);
            for set in world.select::<ReplicaSet>(namespace, &selector) {
                let metadata = &set.metadata;
                if meta::controller_of(metadata).is_none() && !meta::is_deleting(metadata) {
                    let mut adopted = Set::of(set);
                    let owners = adopted.new.metadata.owner_references.get_or_insert_default();
                    owners.push(meta::controlled_by(deployment));
                    sets.push(adopted);
                }
            }
        }
        sets.sort_by(|a, b| age(a).cmp(&age(b)));
        let template = &deployment.spec.template;
        let newest = sets.iter().position(|set| {
            set.new.spec.template.as_ref().is_some_and(|its| same_template(its, template))
        });
        let newest = newest.map(|at| sets.remove(at));
        Self { newest, old: sets }
    }
    pub(super) fn all(&self) -> impl Iterator<Item = &Set<'a>> {
        self.old.iter().chain(&self.newest)
    }
    /// Pods that the sets shall have together.
    pub(super) fn total(&self) -> i32 {
        self.all().map(Set::replicas).sum()
    }
    pub(super) fn write(&self, plan: &mut Plan) {
        for set in self.all() {
            match set.seen {
                None => plan.push(Effect::create(&set.new)),
                Some(seen) if set.delete => plan.push(Effect::delete(&**seen)),
                Some(seen) => plan.push(Effect::update(&**seen, &set.new)),
            }
        }
    }
}

fn age(set: &Set<'_>) -> (Option<reconcile::Now>, String) {
    let created = set.new.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, set.name().to_owned())
}
