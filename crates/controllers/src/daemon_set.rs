//! Keeps one pod of a `DaemonSet` on every node that it suits.
//!
//! Each pod is made for its node by affinity and bound by the scheduler. A rolling update replaces
//! pods of older templates within its bounds, and the history of templates is kept.
use crate::revisions::{Found, History, Naming};
use crate::{nodes, pods};
use api::k8s::api::apps::v1::{ControllerRevision, DaemonSet};
use api::k8s::api::core::v1::{Node, Pod};
use api::{Kind, LabelSelector};
use reconcile::{
    Controller, Declare, Effect, NoteKind, Notes, Plan, Turn, Watch, meta, object_reference,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod place;
mod status;
#[cfg(test)]
mod tests;
mod update;

pub(crate) struct DaemonSets;

const HASH_LABEL: &str = "controller-revision-hash";
const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION: &str = "deprecated.daemonset.template.generation";
/// Bounds one round.
const BURST_MAX: usize = 250;
/// A pod that failed is left for so long, so that one that a node refuses is not made in a loop.
const FAILED_WAIT: Duration = Duration::from_secs(10);

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<DaemonSet>(),
            Watch::map::<Pod>(|world, pod| pods::claimants(world, pod, selector)),
            Watch::map::<Node>(|world, _| world.all::<DaemonSet>().map(|set| set.key()).collect()),
            Watch::owner::<ControllerRevision, DaemonSet>(),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::labels::<Pod>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(set) = turn.world.get::<DaemonSet>(turn.key) else { return plan };
        let selector = selector(set);
        if selector.is_everything() {
            let seen = set.status.as_ref().and_then(|status| status.observed_generation);
            if seen < set.metadata.generation {
                let message =
                    "This daemon set is selecting all pods. A non-empty selector is required.";
                plan.push(Effect::event(&**set, NoteKind::Warning, "SelectingAll", message));
                let mut new = DaemonSet::clone(set);
                new.status.get_or_insert_default().observed_generation = set.metadata.generation;
                plan.push(Effect::status(&**set, &new));
            }
            return plan;
        }
        if meta::is_deleting(&set.metadata) {
            return plan;
        }
        let history = History::of(&**set, &selector, turn.world, &mut plan);
        let found = history.revision_of(&**set, &set.spec.template, naming(set), turn.world);
        match found {
            Found::Newest(revision) => {
                let hash = meta::label(&revision.metadata, HASH_LABEL).unwrap_or_default();
                Look::new(set, hash, &selector, turn, &mut plan).run(&history);
            }
            Found::Write(effect) => plan.push(effect),
            Found::Collision => {
                let mut new = DaemonSet::clone(set);
                let count = &mut new.status.get_or_insert_default().collision_count;
                *count = Some(count.unwrap_or(0) + 1);
                plan.push(Effect::status(&**set, &new));
            }
        }
        plan
    }
}

fn selector(set: &DaemonSet) -> LabelSelector {
    LabelSelector::from_spec(Some(&set.spec.selector)).unwrap_or_else(|_| LabelSelector::nothing())
}

fn naming(set: &DaemonSet) -> Naming<'static> {
    let template = set.spec.template.metadata.as_ref();
    Naming {
        label: HASH_LABEL,
        labels: template.and_then(|meta| meta.labels.clone()).unwrap_or_default(),
        annotations: set.metadata.annotations.clone().unwrap_or_default(),
        collisions: set.status.as_ref().and_then(|status| status.collision_count),
    }
}

/// One look at one set.
struct Look<'a> {
    turn: &'a Turn<'a>,
    plan: &'a mut Plan,
    set: &'a Arc<DaemonSet>,
    hash: &'a str,
    nodes: Vec<Place<'a>>,
    /// Pods for nodes that are not there.
    stray: Vec<&'a Arc<Pod>>,
    create: Vec<&'a Node>,
    delete: Vec<&'a Arc<Pod>>,
}

/// A node and what this set has on it, oldest first.
struct Place<'a> {
    node: &'a Arc<Node>,
    /// A new pod belongs there.
    wanted: bool,
    /// A pod that is there may stay.
    stays: bool,
    pods: Vec<&'a Arc<Pod>>,
}

impl<'a> Look<'a> {
    fn new(
        set: &'a Arc<DaemonSet>,
        hash: &'a str,
        selector: &LabelSelector,
        turn: &'a Turn<'a>,
        plan: &'a mut Plan,
    ) -> Self {
        let mut by_node: BTreeMap<&str, Vec<&'a Arc<Pod>>> = BTreeMap::new();
        for pod in pods::claim(&**set, selector, turn.world, plan) {
            by_node.entry(place::target(pod)).or_default().push(pod);
        }
        let mut places = Vec::new();
        for node in turn.world.all::<Node>() {
            let mut pods = by_node.remove(meta::name(&node.metadata)).unwrap_or_default();
            pods.sort_by(|a, b| age(a).cmp(&age(b)));
            let (wanted, stays) = place::verdict(set, node);
            places.push(Place { node, wanted, stays, pods });
        }
        // A pod that is bound to a node that is gone is for the pod garbage collector.
        let stray = by_node.into_values().flatten();
        let stray = stray.filter(|pod| pods::node(pod).is_empty()).collect();
        let (create, delete) = (Vec::new(), Vec::new());
        Self { turn, plan, set, hash, nodes: places, stray, create, delete }
    }

    fn run(mut self, history: &History<'_>) {
        self.manage();
        if self.is_rolling() {
            self.roll();
        }
        self.write();
        if self.plan.is_settled() {
            let uses = |revision: &ControllerRevision| {
                let hash = meta::label(&revision.metadata, HASH_LABEL).unwrap_or_default();
                let all = self.nodes.iter().flat_map(|place| &place.pods);
                hash == self.hash || all.into_iter().any(|pod| revision_of(pod) == hash)
            };
            history.trim(self.set.spec.revision_history_limit, uses, self.plan);
        }
        self.report();
    }

    /// Nodes without a pod get one; pods that have ended or must not be there go.
    fn manage(&mut self) {
        let surges = self.is_rolling() && self.max_surge() > 0;
        for at in 0..self.nodes.len() {
            let place = &self.nodes[at];
            let (node, wanted, stays) = (place.node, place.wanted, place.stays);
            if !stays {
                self.delete.extend(place.pods.iter().copied());
                continue;
            }
            if place.pods.is_empty() {
                self.create.extend(wanted.then_some(&**node));
                continue;
            }
            let pods = place.pods.clone();
            let mut running = Vec::new();
            for pod in pods {
                if meta::is_deleting(&pod.metadata) {
                    continue;
                }
                match pods::phase(pod) {
                    "Failed" => self.replace_failed(pod, node),
                    "Succeeded" => self.replace_succeeded(pod, node),
                    _ => running.push(pod),
                }
            }
            let (new, old): (Vec<_>, Vec<_>) =
                running.iter().copied().partition(|pod| self.is_new(pod));
            if surges && !new.is_empty() && !old.is_empty() {
                // One of each; what is more goes.
                self.delete.extend(new.into_iter().skip(1).chain(old.into_iter().skip(1)));
            } else {
                self.delete.extend(running.into_iter().skip(1));
            }
        }
        let stray = std::mem::take(&mut self.stray);
        self.delete.extend(stray);
    }

    fn replace_failed(&mut self, pod: &'a Arc<Pod>, node: &Node) {
        let born = pod.metadata.creation_timestamp.as_ref().map_or(self.turn.now, |time| time.0);
        let until = born + FAILED_WAIT;
        if until > self.turn.now {
            self.plan.look_again_at(until, self.turn.now);
            return;
        }
        let message = format!(
            "Found failed daemon pod {} on node {}, will try to kill it",
            pod.key(),
            meta::name(&node.metadata)
        );
        let event = Effect::event(&**self.set, NoteKind::Warning, "FailedDaemonPod", message);
        self.plan.push(event);
        self.delete.push(pod);
    }
    fn replace_succeeded(&mut self, pod: &'a Arc<Pod>, node: &Node) {
        let message = format!(
            "Found succeeded daemon pod {} on node {}, will try to delete it",
            pod.key(),
            meta::name(&node.metadata)
        );
        let event = Effect::event(&**self.set, NoteKind::Normal, "SucceededDaemonPod", message);
        self.plan.push(event);
        self.delete.push(pod);
    }

    fn write(&mut self) {
        let about = object_reference(&**self.set);
        for node in self.create.iter().take(BURST_MAX) {
            let pod = place::pod_for(self.set, meta::name(&node.metadata), self.hash);
            self.plan.push(Effect::create(&pod).with_notes(Notes {
                about: about.clone(),
                done: Some(("SuccessfulCreate", "Created pod: {name}")),
                failed: Some(("FailedCreate", "Error creating: {error}")),
            }));
        }
        let delete = self.delete.iter().filter(|pod| !meta::is_deleting(&pod.metadata));
        for pod in delete.take(BURST_MAX) {
            self.plan.push(Effect::delete(&***pod).with_notes(Notes {
                about: about.clone(),
                done: Some(("SuccessfulDelete", "Deleted pod: {name}")),
                failed: Some(("FailedDelete", "Error deleting: {error}")),
            }));
        }
    }

    fn is_new(&self, pod: &Pod) -> bool {
        revision_of(pod) == self.hash
    }
    fn is_available(&mut self, pod: &Pod) -> bool {
        let seconds = self.set.spec.min_ready_seconds.unwrap_or(0);
        match pods::availability(pod, seconds, self.turn.now) {
            Ok(()) => !meta::is_deleting(&pod.metadata),
            Err(wait) => {
                if let Some(wait) = wait {
                    self.plan.look_again_after(wait);
                }
                false
            }
        }
    }
}

fn revision_of(pod: &Pod) -> &str {
    meta::label(&pod.metadata, HASH_LABEL).unwrap_or_default()
}

/// Bound ones first, then the oldest.
fn age(pod: &Pod) -> (bool, Option<reconcile::Now>, String) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (pods::node(pod).is_empty(), created, meta::name(&pod.metadata).to_owned())
}
