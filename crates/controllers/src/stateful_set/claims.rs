//! The volume claims of a stateful set's pods, and what they go with: nothing, the set or the pod.
use super::*;
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub(super) fn name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", meta::name(&template.metadata), meta::name(&set.metadata))
}

/// The sets that a claim may be of, by its name.
pub(super) fn sets_of(world: &World, claim: &PersistentVolumeClaim) -> Vec<Key> {
    let (namespace, name) = (meta::namespace(&claim.metadata), meta::name(&claim.metadata));
    let is_of = |set: &StatefulSet| {
        set.spec.volume_claim_templates.iter().flatten().any(|template| {
            let prefix = format!("{}-{}", meta::name(&template.metadata), set_name(set));
            identity::ordinal(&prefix, name).is_some()
        })
    };
    let sets = world.in_namespace::<StatefulSet>(namespace).filter(|set| is_of(set));
    sets.map(|set| set.key()).collect()
}

fn set_name(set: &StatefulSet) -> &str {
    meta::name(&set.metadata)
}

impl Look<'_> {
    /// False if a claim of that name is still going.
    pub(super) fn ensure_claims(&mut self, ordinal: i32) -> bool {
        let set = self.set;
        for template in set.spec.volume_claim_templates.iter().flatten() {
            let name = name(set, template, ordinal);
            let namespace = meta::namespace(&set.metadata);
            match self.turn.world.get::<PersistentVolumeClaim>(&Key::new(namespace, &name)) {
                Some(claim) if meta::is_deleting(&claim.metadata) => return false,
                Some(_) => {}
                None => {
                    let mut notes = self.notes(
                        ("SuccessfulCreate", ""),
                        (
                            "FailedCreate",
                            "create Claim {name} in StatefulSet {about} failed error: {error}",
                        ),
                    );
                    notes.done = None;
                    let claim = self.claim(template, name, ordinal);
                    self.plan.push(Effect::create(&claim).with_notes(notes));
                }
            }
        }
        true
    }

    fn claim(
        &self,
        template: &PersistentVolumeClaim,
        name: String,
        ordinal: i32,
    ) -> PersistentVolumeClaim {
        let given = &template.metadata;
        let mut labels = given.labels.clone().unwrap_or_default();
        labels.extend(self.set.spec.selector.match_labels.clone().unwrap_or_default());
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: self.set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: given.annotations.clone(),
            finalizers: given.finalizers.clone(),
            owner_references: self.owner(ordinal, None).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        PersistentVolumeClaim { metadata, spec: template.spec.clone(), status: None }
    }

    /// What a claim goes with, by the set's policy.
    fn owner(&self, ordinal: i32, pod: Option<&Pod>) -> Option<OwnerReference> {
        let policy = self.set.spec.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |what: Option<&String>| what.is_some_and(|what| what == "Delete");
        let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
        let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
        let is_wanted = self.wanted().contains(&ordinal);
        match pod {
            Some(pod) if when_scaled && !is_wanted => Some(meta::controlled_by(pod)),
            _ if when_deleted => Some(meta::controlled_by(&**self.set)),
            _ => None,
        }
    }

    /// Makes the claims of a pod go with what they shall go with.
    pub(super) fn keep_claims(&mut self, ordinal: i32, pod: &Arc<Pod>) {
        let set = self.set;
        for template in set.spec.volume_claim_templates.iter().flatten() {
            let key = Key::new(meta::namespace(&set.metadata), name(set, template, ordinal));
            let Some(claim) = self.turn.world.get::<PersistentVolumeClaim>(&key) else { continue };
            let has = claim.metadata.owner_references.as_deref().unwrap_or_default();
            let ours = |owner: &OwnerReference| {
                owner.uid == set.uid()
                    || (owner.kind == "Pod" && owner.name == meta::name(&pod.metadata))
            };
            let strangers = has.iter().any(|owner| owner.controller == Some(true) && !ours(owner));
            if strangers || meta::is_deleting(&claim.metadata) {
                continue;
            }
            let wanted = self.owner(ordinal, Some(pod));
            let mut owners: Vec<_> = has.iter().filter(|owner| !ours(owner)).cloned().collect();
            owners.extend(wanted);
            if owners != has {
                let mut kept = PersistentVolumeClaim::clone(claim);
                kept.metadata.owner_references = Some(owners);
                self.plan.push(Effect::update(&**claim, &kept));
            }
        }
    }
}
