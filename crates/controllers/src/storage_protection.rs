//! Volumes and claims that are being deleted stay as long as something uses them: admission gives
//! each a finalizer, and this takes it away.
use crate::pods;
use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use api::{Key, Kind};
use reconcile::{Controller, Declare, Effect, Index, Plan, Turn, Watch, meta};

pub(crate) struct ClaimProtection;
pub(crate) struct VolumeProtection;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// The names of the claims that a pod's volumes are made from.
fn claims(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| claim_of(pod, volume))
}

fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(source.claim_name.clone());
    }
    // An ephemeral volume's claim is named after the pod and the volume.
    volume.ephemeral.as_ref().map(|_| format!("{}-{}", meta::name(&pod.metadata), volume.name))
}

/// A pod that is on no node yet can still be refused the claim; one that has ended needs none.
fn uses(pod: &Pod, claim: &str) -> bool {
    !pods::node(pod).is_empty() && !pods::is_terminal(pod) && claims(pod).any(|name| name == claim)
}

/// Pods with claims, by namespace: few have any.
static WITH_CLAIMS: Index<Pod> = Index {
    name: "with claims",
    value: |pod| claims(pod).next().map(|_| meta::namespace(&pod.metadata).to_owned()),
};

impl Controller for ClaimProtection {
    fn name(&self) -> &'static str {
        "pvc-protection-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<PersistentVolumeClaim>(),
            Watch::map::<Pod>(|_, pod| {
                let namespace = meta::namespace(&pod.metadata);
                claims(pod).map(|name| Key::new(namespace, name)).collect()
            }),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::index(&WITH_CLAIMS)]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(claim) = turn.world.get::<PersistentVolumeClaim>(turn.key) else { return plan };
        let mut pods = turn.world.by(&WITH_CLAIMS, &turn.key.namespace);
        if !pods.any(|pod| uses(pod, &turn.key.name)) {
            plan.push(release(&**claim, CLAIM, |claim| &mut claim.metadata.finalizers));
        }
        plan
    }
}

impl Controller for VolumeProtection {
    fn name(&self) -> &'static str {
        "pv-protection-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<PersistentVolume>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(volume) = turn.world.get::<PersistentVolume>(turn.key) else { return plan };
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase != Some("Bound") {
            plan.push(release(&**volume, VOLUME, |volume| &mut volume.metadata.finalizers));
        }
        plan
    }
}

/// Lets an object go that is being deleted.
fn release<K: Kind + Clone>(
    object: &K,
    finalizer: &str,
    list: fn(&mut K) -> &mut Option<Vec<String>>,
) -> Option<Effect> {
    let metadata = object.metadata();
    if !meta::is_deleting(metadata) || !meta::has_finalizer(metadata, finalizer) {
        return None;
    }
    let mut released = object.clone();
    list(&mut released).as_mut()?.retain(|name| name != finalizer);
    Effect::update(object, &released)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::{Value, json};

    fn pod(node: &str, phase: &str, volume: &Value) -> Value {
        json!({
            "metadata": { "name": "p", "namespace": "a" },
            "spec": { "containers": [], "nodeName": node, "volumes": [volume] },
            "status": { "phase": phase },
        })
    }

    fn claim(sim: &mut Sim, deleting: bool) -> Key {
        let mut object = json!({
            "metadata": { "name": "c", "namespace": "a", "finalizers": [CLAIM, "other/one"] },
        });
        if deleting {
            object["metadata"]["deletionTimestamp"] = sim.now.to_string().into();
        }
        sim.put::<PersistentVolumeClaim>(object)
    }

    fn finalizers(sim: &Sim, key: &Key) -> Vec<String> {
        let claim = sim.get::<PersistentVolumeClaim>(key);
        claim.metadata.finalizers.clone().unwrap_or_default()
    }

    #[test]
    fn a_claim_goes_when_no_running_pod_has_it() {
        let direct = json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } });
        let another = json!({ "name": "v", "persistentVolumeClaim": { "claimName": "d" } });
        for (deleting, node, phase, volume, held) in [
            (false, "", "Pending", &another, true),
            (true, "n", "Running", &direct, true),
            (true, "n", "Succeeded", &direct, false),
            (true, "", "Pending", &direct, false),
            (true, "n", "Running", &another, false),
        ] {
            let mut sim = Sim::new(&ClaimProtection);
            let key = claim(&mut sim, deleting);
            sim.put::<Pod>(pod(node, phase, volume));
            sim.settle(&ClaimProtection, &key);
            assert_eq!(finalizers(&sim, &key).contains(&CLAIM.to_owned()), held, "{phase} {node}");
            assert!(finalizers(&sim, &key).contains(&"other/one".to_owned()));
        }
    }

    #[test]
    fn a_volume_goes_when_it_is_not_bound() {
        for (phase, held) in [("Bound", true), ("Released", false), ("Available", false)] {
            let mut sim = Sim::new(&VolumeProtection);
            let now = sim.now.to_string();
            let key = sim.put::<PersistentVolume>(json!({
                "metadata": { "name": "v", "finalizers": [VOLUME], "deletionTimestamp": now },
                "status": { "phase": phase },
            }));
            sim.settle(&VolumeProtection, &key);
            assert_eq!(sim.all::<PersistentVolume>().len(), usize::from(held), "{phase}");
        }
    }

    #[test]
    fn crashes_are_made_good() {
        crash_everywhere(&ClaimProtection, || {
            let mut sim = Sim::new(&ClaimProtection);
            let key = claim(&mut sim, true);
            (sim, key)
        });
    }
}
