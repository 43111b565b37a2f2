//! Keeps the number of live pods of a `ReplicaSet` or `ReplicationController` as it asks for.
//!
//! Pods that match and belong to nobody are adopted, those that match no longer are released.
use crate::{conditions, pods};
use api::k8s::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetCondition};
use api::k8s::api::core::v1::{
    Pod, PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
};
use api::{Key, Kind, LabelSelector};
use reconcile::{
    Controller, Declare, Effect, Failure, Notes, Plan, Target, Turn, Watch, World, meta,
    object_reference,
};
use std::sync::Arc;

mod rank;
#[cfg(test)]
mod tests;

pub(crate) struct ReplicaSets;
pub(crate) struct ReplicationControllers;

/// Bounds one round, so that a huge change cannot starve other sets.
const BURST_MAX: usize = 500;

/// What both kinds say of the pods they want.
trait Replicated: Kind {
    fn wanted(&self) -> usize;
    fn selector(&self) -> LabelSelector;
    fn template(&self) -> Option<&PodTemplateSpec>;
    fn min_ready_seconds(&self) -> i32;
    /// The object with its status brought up to date.
    fn report(&self, counts: &Counts, failure: Option<(&str, &str)>, turn: &Turn<'_>) -> Self;
}

#[derive(Default)]
struct Counts {
    replicas: i32,
    fully_labeled: i32,
    ready: i32,
    available: i32,
    terminating: i32,
}

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<ReplicaSet>(), Watch::map::<Pod>(sets_of::<ReplicaSet>)]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::labels::<Pod>()]
    }
    fn reads(&self) -> Vec<Target> {
        vec![Target::of::<Deployment>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        reconcile::<ReplicaSet>(turn)
    }
}

impl Controller for ReplicationControllers {
    fn name(&self) -> &'static str {
        "replication-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<ReplicationController>(),
            Watch::map::<Pod>(sets_of::<ReplicationController>),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::labels::<Pod>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        reconcile::<ReplicationController>(turn)
    }
}

fn sets_of<S: Replicated>(world: &World, pod: &Pod) -> Vec<Key> {
    pods::claimants(world, pod, S::selector)
}

fn reconcile<S: Replicated>(turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::nothing();
    let Some(set) = turn.world.get::<S>(turn.key) else { return plan };
    let deleting = meta::is_deleting(set.metadata());
    let owned = pods::claim(&**set, &set.selector(), turn.world, &mut plan);
    let live: Vec<&Arc<Pod>> = owned.iter().copied().filter(|pod| pods::is_active(pod)).collect();
    let counts = count(&**set, &owned, &live, turn, &mut plan);
    let wanted = set.wanted();
    if !deleting {
        scale(&**set, &live, turn, &mut plan);
    }
    let failure = turn.failed.and_then(|failed| failure_of(failed, live.len(), wanted));
    plan.push(Effect::status(&**set, &set.report(&counts, failure, turn)));
    plan
}

fn count<S: Replicated>(
    set: &S,
    owned: &[&Arc<Pod>],
    live: &[&Arc<Pod>],
    turn: &Turn<'_>,
    plan: &mut Plan,
) -> Counts {
    let template = set.template().and_then(|template| template.metadata.as_ref());
    let template =
        LabelSelector::from_map(template.and_then(|m| m.labels.as_ref()).into_iter().flatten());
    let mut counts = Counts { replicas: live.len() as i32, ..Counts::default() };
    counts.terminating = owned.iter().filter(|pod| pods::is_terminating(pod)).count() as i32;
    for pod in live {
        counts.fully_labeled += i32::from(template.matches(meta::labels(&pod.metadata)));
        counts.ready += i32::from(pods::is_ready(pod));
        match pods::availability(pod, set.min_ready_seconds(), turn.now) {
            Ok(()) => counts.available += 1,
            Err(Some(wait)) => plan.look_again_after(wait),
            Err(None) => {}
        }
    }
    counts
}

fn scale<S: Replicated>(set: &S, live: &[&Arc<Pod>], turn: &Turn<'_>, plan: &mut Plan) {
    let wanted = set.wanted();
    let about = object_reference(set);
    if live.len() < wanted {
        let Some(template) = set.template() else { return };
        let metadata = set.metadata();
        let prefix = pods::name_prefix(meta::name(metadata));
        let owner = meta::controlled_by(set);
        let pod = pods::from_template(template, meta::namespace(metadata), &prefix, owner);
        let create = Effect::create(&pod).with_notes(Notes {
            about,
            done: Some(("SuccessfulCreate", "Created pod: {name}")),
            failed: Some(("FailedCreate", "Error creating: {error}")),
        });
        let missing = (wanted - live.len()).min(BURST_MAX);
        plan.effects.extend(std::iter::repeat_n(create, missing));
    } else if live.len() > wanted {
        let surplus = (live.len() - wanted).min(BURST_MAX);
        let related = related_pods(set, turn.world);
        for pod in rank::victims(live, &related, surplus, turn.now) {
            plan.push(Effect::delete(&**pod).with_notes(Notes {
                about: about.clone(),
                done: Some(("SuccessfulDelete", "Deleted pod: {name}")),
                failed: Some(("FailedDelete", "Error deleting: {error}")),
            }));
        }
    }
}

/// Live pods of all sets with the same owner, such as the revisions of one deployment.
fn related_pods<'a, S: Replicated>(set: &S, world: &'a World) -> Vec<&'a Arc<Pod>> {
    let of = |uid: &str| world.owned_by::<Pod>(uid).filter(|pod| pods::is_active(pod)).collect();
    match meta::controller_of(set.metadata()) {
        Some(owner) => world
            .owned_by::<ReplicaSet>(&owner.uid)
            .flat_map(|sibling| -> Vec<_> { of(sibling.uid()) })
            .collect(),
        None => of(set.uid()),
    }
}

/// The reason and message of a `ReplicaFailure` condition.
fn failure_of(failed: &Failure, live: usize, wanted: usize) -> Option<(&'static str, &str)> {
    match failed.verb {
        "create" if live < wanted => Some(("FailedCreate", &failed.message)),
        "delete" if live > wanted => Some(("FailedDelete", &failed.message)),
        _ => None,
    }
}

/// Upstream leaves counts of zero out.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

macro_rules! report {
    ($self:ident, $counts:ident, $failure:ident, $turn:ident, $condition:ty) => {{
        let mut new = $self.clone();
        let status = new.status.get_or_insert_default();
        status.replicas = $counts.replicas;
        status.fully_labeled_replicas = some($counts.fully_labeled);
        status.ready_replicas = some($counts.ready);
        status.available_replicas = some($counts.available);
        status.observed_generation = $self.metadata.generation;
        match $failure {
            Some((reason, message)) => conditions::set(
                &mut status.conditions,
                <$condition as conditions::Condition>::make(
                    "ReplicaFailure",
                    "True",
                    reason,
                    message,
                    $turn.now,
                ),
            ),
            None => conditions::remove(&mut status.conditions, "ReplicaFailure"),
        }
        new
    }};
}

impl Replicated for ReplicaSet {
    fn wanted(&self) -> usize {
        let replicas = self.spec.replicas.unwrap_or(1);
        usize::try_from(replicas).unwrap_or(0)
    }
    fn selector(&self) -> LabelSelector {
        LabelSelector::from_spec(Some(&self.spec.selector))
            .unwrap_or_else(|_| LabelSelector::nothing())
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }
    fn report(&self, counts: &Counts, failure: Option<(&str, &str)>, turn: &Turn<'_>) -> Self {
        let mut new = report!(self, counts, failure, turn, ReplicaSetCondition);
        if let Some(status) = &mut new.status {
            status.terminating_replicas = Some(counts.terminating);
        }
        new
    }
}

impl Replicated for ReplicationController {
    fn wanted(&self) -> usize {
        let replicas = self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        usize::try_from(replicas).unwrap_or(0)
    }
    fn selector(&self) -> LabelSelector {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.map_or_else(LabelSelector::nothing, LabelSelector::from_map)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
    fn report(&self, counts: &Counts, failure: Option<(&str, &str)>, turn: &Turn<'_>) -> Self {
        report!(self, counts, failure, turn, ReplicationControllerCondition)
    }
}
