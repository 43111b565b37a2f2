//! What can be told of a pod from its spec and status.
use crate::conditions;
use api::k8s::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use api::{Key, Kind, LabelSelector};
use reconcile::{Effect, Now, Plan, World, meta};
use std::sync::Arc;
use std::time::Duration;

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// It has ended, one way or the other.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !meta::is_deleting(&pod.metadata)
}

pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && meta::is_deleting(&pod.metadata)
}

pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Tells that the pod is about to be deleted by the cluster, and why.
pub fn set_disrupted(pod: &mut Pod, reason: &str, message: &str, now: Now) {
    let conditions = &mut pod.status.get_or_insert_default().conditions;
    let disrupted: PodCondition =
        conditions::Condition::make("DisruptionTarget", "True", reason, message, now);
    conditions::set(conditions, disrupted);
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when it is ready.
pub fn ready_since(pod: &Pod) -> Option<Now> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    Some(condition.last_transition_time.as_ref()?.0)
}

/// Ready for at least so long; if it is only too early, how long until then.
pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Now) -> Result<(), Option<Duration>> {
    if !is_ready(pod) {
        return Err(None);
    }
    if min_ready_seconds <= 0 {
        return Ok(());
    }
    let Some(since) = ready_since(pod) else { return Err(None) };
    let wait =
        jiff::SignedDuration::from_secs(min_ready_seconds.into()) - now.duration_since(since);
    if wait.is_positive() {
        Err(Some(Duration::try_from(wait).unwrap_or_default()))
    } else {
        Ok(())
    }
}

pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

/// Owned pods that match, after adoptions and releases.
pub(crate) fn claim<'a, K: Kind>(
    owner: &K,
    selector: &LabelSelector,
    world: &'a World,
    plan: &mut Plan,
) -> Vec<&'a Arc<Pod>> {
    claim_if(owner, selector, |_| true, world, plan)
}

/// As [`claim`], of those pods only that also meet another condition.
pub(crate) fn claim_if<'a, K: Kind>(
    owner: &K,
    selector: &LabelSelector,
    fits: impl Fn(&Pod) -> bool,
    world: &'a World,
    plan: &mut Plan,
) -> Vec<&'a Arc<Pod>> {
    let deleting = meta::is_deleting(owner.metadata());
    let mut claimed = Vec::new();
    for pod in world.owned_by::<Pod>(owner.uid()) {
        if selector.matches(meta::labels(&pod.metadata)) && fits(pod) {
            claimed.push(pod);
        } else if !deleting && !meta::is_deleting(&pod.metadata) {
            let mut released = Pod::clone(pod);
            let owners = released.metadata.owner_references.iter_mut();
            owners.for_each(|owners| owners.retain(|of| of.uid != owner.uid()));
            plan.push(Effect::update(&**pod, &released));
        }
    }
    if deleting || selector.is_everything() {
        return claimed;
    }
    for pod in world.select::<Pod>(meta::namespace(owner.metadata()), selector) {
        if meta::controller_of(&pod.metadata).is_none() && is_active(pod) && fits(pod) {
            let mut adopted = Pod::clone(pod);
            let owners = adopted.metadata.owner_references.get_or_insert_default();
            owners.retain(|of| of.uid != owner.uid());
            owners.push(meta::controlled_by(owner));
            plan.push(Effect::update(&**pod, &adopted));
            claimed.push(pod);
        }
    }
    claimed
}

/// For watches: the object of a kind that controls the pod, or all that might adopt it.
pub(crate) fn claimants<K: Kind>(
    world: &World,
    pod: &Pod,
    selector: impl Fn(&K) -> LabelSelector,
) -> Vec<Key> {
    let namespace = meta::namespace(&pod.metadata);
    if let Some(owner) = meta::controller_of(&pod.metadata) {
        let ours = owner.kind == K::KIND && owner.api_version == K::API_VERSION;
        return ours.then(|| Key::new(namespace, &owner.name)).into_iter().collect();
    }
    let labels = meta::labels(&pod.metadata);
    let matching = world.in_namespace::<K>(namespace).filter(|one| selector(one).matches(labels));
    matching.map(|one| one.key()).collect()
}

/// A pod as the template describes it, named by the server after `prefix`.
pub fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    prefix: &str,
    owner: OwnerReference,
) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name: Some(prefix.to_owned()),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The prefix of the names of an owner's pods; without the dash if that would be too long.
pub fn name_prefix(owner: &str) -> String {
    if owner.len() < 253 { format!("{owner}-") } else { owner.to_owned() }
}

/// All its addresses, the primary one first.
pub fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    if all.is_empty() { status.pod_ip.iter().map(String::as_str).collect() } else { all }
}
