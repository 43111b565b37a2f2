//! Says of every disruption budget how many of its pods may go, for evictions to be measured by.
//!
//! An eviction takes one from `disruptionsAllowed` and notes the pod in `disruptedPods` itself;
//! the pod counts as gone from then on, until it is or has had two minutes for it.
use crate::{amount, pods};
use api::k8s::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use api::k8s::api::core::v1::{Pod, ReplicationController};
use api::k8s::api::policy::v1::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;
use api::{Key, Kind, LabelSelector};
use reconcile::{Controller, Declare, Effect, NoteKind, Now, Plan, Turn, Watch, World, meta};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct DisruptionBudgets;

/// How long an evicted pod may take to be deleted before it counts again.
const DELETION_TIMEOUT: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);

impl Controller for DisruptionBudgets {
    fn name(&self) -> &'static str {
        "disruption-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<PodDisruptionBudget>(),
            Watch::map::<Pod>(|world, pod| over(world, pod)),
            Watch::map::<ReplicaSet>(|world, set| shares(world, &set.metadata.namespace)),
            Watch::map::<Deployment>(|world, set| shares(world, &set.metadata.namespace)),
            Watch::map::<StatefulSet>(|world, set| shares(world, &set.metadata.namespace)),
            Watch::map::<ReplicationController>(|world, set| {
                shares(world, &set.metadata.namespace)
            }),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::labels::<Pod>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(budget) = turn.world.get::<PodDisruptionBudget>(turn.key) else { return plan };
        let Some(spec) = &budget.spec else { return plan };
        let pods = turn.world.select::<Pod>(&turn.key.namespace, &selector(budget));
        let old = budget.status.clone().unwrap_or_default();
        let status = match expected(turn.world, spec, &pods) {
            Ok(expected) => {
                let mut status = count(budget, &pods, &expected, turn.now, &mut plan);
                let allowed = status.disruptions_allowed.is_some_and(|n| n > 0);
                let reason = if allowed { "SufficientPods" } else { "InsufficientPods" };
                allow(&mut status, &old, allowed, reason, "", turn.now);
                if pods.is_empty() && status != old {
                    let message = "No matching pods found";
                    plan.push(Effect::event(&**budget, NoteKind::Normal, "NoPods", message));
                }
                status
            }
            Err(why) => {
                let mut status = old.clone();
                status.disruptions_allowed = Some(0);
                status.observed_generation = budget.metadata.generation;
                allow(&mut status, &old, false, "SyncFailed", &why, turn.now);
                if status != old {
                    let message = format!("Failed to calculate the number of expected pods: {why}");
                    let reason = "CalculateExpectedPodCountFailed";
                    plan.push(Effect::event(&**budget, NoteKind::Warning, reason, message));
                }
                status
            }
        };
        let mut new = PodDisruptionBudget::clone(budget);
        new.status = Some(status);
        plan.push(Effect::status(&**budget, &new));
        plan
    }
}

fn selector(budget: &PodDisruptionBudget) -> LabelSelector {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    LabelSelector::from_spec(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

/// The budgets that a pod is under.
fn over(world: &World, pod: &Pod) -> Vec<Key> {
    let labels = meta::labels(&pod.metadata);
    let budgets = world.in_namespace::<PodDisruptionBudget>(meta::namespace(&pod.metadata));
    budgets.filter(|one| selector(one).matches(labels)).map(|one| one.key()).collect()
}

/// The budgets of a namespace that depend on how many pods there should be.
fn shares(world: &World, namespace: &Option<String>) -> Vec<Key> {
    let budgets = world.in_namespace::<PodDisruptionBudget>(namespace.as_deref().unwrap_or(""));
    let by_share = |budget: &&Arc<PodDisruptionBudget>| {
        budget.spec.as_ref().is_some_and(|spec| {
            spec.max_unavailable.is_some()
                || matches!(spec.min_available, Some(IntOrString::String(_)))
        })
    };
    budgets.filter(by_share).map(|one| one.key()).collect()
}

/// How many pods there should be, and how many of them healthy.
struct Expected {
    pods: i32,
    healthy: i32,
}

fn expected(
    world: &World,
    spec: &PodDisruptionBudgetSpec,
    pods: &[&Arc<Pod>],
) -> Result<Expected, String> {
    if let Some(unavailable) = &spec.max_unavailable {
        let scale = scale(world, pods)?;
        let unavailable = amount::resolve(unavailable, scale, true);
        return Ok(Expected { pods: scale, healthy: (scale - unavailable).max(0) });
    }
    match &spec.min_available {
        Some(IntOrString::Int(number)) => {
            Ok(Expected { pods: i32::try_from(pods.len()).unwrap_or(i32::MAX), healthy: *number })
        }
        Some(share) => {
            let scale = scale(world, pods)?;
            Ok(Expected { pods: scale, healthy: amount::resolve(share, scale, true) })
        }
        None => Ok(Expected { pods: 0, healthy: 0 }),
    }
}

/// What the controllers of the pods are to run, in all. Pods without one do not count.
fn scale(world: &World, pods: &[&Arc<Pod>]) -> Result<i32, String> {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    for pod in pods {
        let Some(owner) = meta::controller_of(&pod.metadata) else { continue };
        let (uid, replicas) =
            scale_of(world, meta::namespace(&pod.metadata), owner).ok_or_else(|| {
                format!("found no controllers for pod {:?}", meta::name(&pod.metadata))
            })?;
        scales.insert(uid, replicas);
    }
    Ok(scales.values().fold(0, |sum: i32, replicas| sum.saturating_add(*replicas)))
}

fn scale_of(world: &World, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    fn find<'a, K: Kind>(world: &'a World, of: &OwnerReference, key: &Key) -> Option<&'a Arc<K>> {
        let same = of.kind == K::KIND && of.api_version == K::API_VERSION;
        world.get::<K>(key).filter(|found| same && found.uid() == of.uid)
    }
    let key = Key::new(namespace, &owner.name);
    if let Some(set) = find::<ReplicaSet>(world, owner, &key) {
        if let Some(above) = meta::controller_of(&set.metadata)
            && let Some(found) = find::<Deployment>(world, above, &Key::new(namespace, &above.name))
        {
            let replicas = found.spec.replicas;
            return Some((above.uid.clone(), replicas.unwrap_or(1)));
        }
        let replicas = set.spec.replicas;
        return Some((owner.uid.clone(), replicas.unwrap_or(1)));
    }
    let replicas = if let Some(set) = find::<StatefulSet>(world, owner, &key) {
        set.spec.replicas
    } else {
        let set = find::<ReplicationController>(world, owner, &key)?;
        set.spec.as_ref().and_then(|spec| spec.replicas)
    };
    Some((owner.uid.clone(), replicas.unwrap_or(1)))
}

fn count(
    budget: &PodDisruptionBudget,
    pods: &[&Arc<Pod>],
    expected: &Expected,
    now: Now,
    plan: &mut Plan,
) -> PodDisruptionBudgetStatus {
    let old = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let mut disrupted = BTreeMap::new();
    let mut healthy = 0;
    for pod in pods.iter().filter(|pod| !meta::is_deleting(&pod.metadata)) {
        if let Some(at) = old.and_then(|old| old.get(meta::name(&pod.metadata))) {
            let until = at.0 + DELETION_TIMEOUT;
            if until > now {
                plan.look_again_at(until, now);
                disrupted.insert(meta::name(&pod.metadata).to_owned(), at.clone());
                continue;
            }
            let message = format!(
                "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                meta::namespace(&budget.metadata),
                meta::name(&budget.metadata)
            );
            plan.push(Effect::event(&***pod, NoteKind::Warning, "NotDeleted", message));
        }
        healthy += i32::from(pods::is_ready(pod));
    }
    let allowed = if expected.pods > 0 { (healthy - expected.healthy).max(0) } else { 0 };
    PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|map| !map.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: budget.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

fn allow(
    status: &mut PodDisruptionBudgetStatus,
    old: &PodDisruptionBudgetStatus,
    allowed: bool,
    reason: &str,
    message: &str,
    now: Now,
) {
    const KIND: &str = "DisruptionAllowed";
    let truth = if allowed { "True" } else { "False" };
    let before = old.conditions.iter().flatten().find(|have| have.type_ == KIND);
    let since = before.filter(|have| have.status == truth);
    let condition = Condition {
        type_: KIND.to_owned(),
        status: truth.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.map_or(Time(now), |have| have.last_transition_time.clone()),
        observed_generation: status.observed_generation,
    };
    let others = status.conditions.take().unwrap_or_default();
    let others = others.into_iter().filter(|have| have.type_ != KIND);
    status.conditions = Some(others.chain([condition]).collect());
}

#[cfg(test)]
mod tests;
