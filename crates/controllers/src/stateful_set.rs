//! Keeps the pods of a `StatefulSet`: each with a number, a name and volumes of its own.
//!
//! In order (unless `Parallel`): a pod is made when all before it are available, and goes when all
//! after it are gone. A rolling update goes from the last pod down to the partition.
use crate::revisions::{self, Found, History, Naming};
use crate::{amount, pods};
use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use api::{Key, Kind, LabelSelector};
use reconcile::{
    Controller, Declare, Effect, NoteKind, Notes, Plan, Turn, Watch, World, meta, object_reference,
};
use std::collections::BTreeMap;
use std::sync::Arc;

mod claims;
mod identity;
#[cfg(test)]
mod tests;

pub(crate) struct StatefulSets;

/// On pods: the name of their revision.
const REVISION_LABEL: &str = "controller-revision-hash";
/// On revisions.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<StatefulSet>(),
            Watch::map::<Pod>(|world, pod| pods::claimants(world, pod, selector)),
            Watch::map::<PersistentVolumeClaim>(claims::sets_of),
            Watch::owner::<ControllerRevision, StatefulSet>(),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::labels::<Pod>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(set) = turn.world.get::<StatefulSet>(turn.key) else { return plan };
        let selector = selector(set);
        if selector.is_everything() {
            return plan;
        }
        let history = History::of(&**set, &selector, turn.world, &mut plan);
        match history.revision_of(&**set, &set.spec.template, naming(set), turn.world) {
            Found::Newest(update) => {
                Look::new(set, &history, update, &selector, turn, &mut plan).run(&history);
            }
            Found::Write(_) if meta::is_deleting(&set.metadata) => {}
            Found::Write(effect) => plan.push(effect),
            Found::Collision => {
                let mut new = StatefulSet::clone(set);
                let count = &mut new.status.get_or_insert_default().collision_count;
                *count = Some(count.unwrap_or(0) + 1);
                plan.push(Effect::status(&**set, &new));
            }
        }
        plan
    }
}

fn selector(set: &StatefulSet) -> LabelSelector {
    LabelSelector::from_spec(Some(&set.spec.selector)).unwrap_or_else(|_| LabelSelector::nothing())
}

fn naming(set: &StatefulSet) -> Naming<'static> {
    let template = set.spec.template.metadata.as_ref();
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    Naming {
        label: HASH_LABEL,
        labels: template.and_then(|meta| meta.labels.clone()).unwrap_or_default(),
        annotations: set.metadata.annotations.clone().unwrap_or_default(),
        collisions: collisions.filter(|count| *count > 0),
    }
}

/// One look at one set.
struct Look<'a> {
    turn: &'a Turn<'a>,
    plan: &'a mut Plan,
    set: &'a Arc<StatefulSet>,
    /// The revision that pods below the partition are of.
    current: &'a ControllerRevision,
    update: &'a ControllerRevision,
    /// By number.
    pods: BTreeMap<i32, &'a Arc<Pod>>,
    /// Effects on pods, after those on the claims that they need.
    effects: Vec<Effect>,
}

impl<'a> Look<'a> {
    fn new(
        set: &'a Arc<StatefulSet>,
        history: &History<'a>,
        update: &'a ControllerRevision,
        selector: &LabelSelector,
        turn: &'a Turn<'a>,
        plan: &'a mut Plan,
    ) -> Self {
        let name = meta::name(&set.metadata);
        let fits = |pod: &Pod| identity::ordinal(name, meta::name(&pod.metadata)).is_some();
        let claimed = pods::claim_if(&**set, selector, fits, turn.world, plan);
        let number = |pod: &Pod| identity::ordinal(name, meta::name(&pod.metadata));
        let pods = claimed.into_iter().filter_map(|pod| Some((number(pod)?, pod))).collect();
        let named = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let current = history.all.iter().find(|r| r.metadata.name.as_deref() == named);
        let current = current.map_or(update, |current| current);
        Self { turn, plan, set, current, update, pods, effects: Vec::new() }
    }

    fn run(mut self, history: &History<'_>) {
        if !meta::is_deleting(&self.set.metadata) && self.keep_replicas() && self.condemn() {
            self.roll();
        }
        self.plan.effects.append(&mut self.effects);
        if self.plan.is_settled() {
            let (current, update) = (name_of(self.current), name_of(self.update));
            let uses = |revision: &ControllerRevision| {
                let name = name_of(revision);
                name == current
                    || name == update
                    || self.pods.values().any(|pod| revision_name(pod) == name)
            };
            history.trim(self.set.spec.revision_history_limit, uses, self.plan);
        }
        self.report();
    }

    /// From the first to the last. False if something has to be waited for.
    fn keep_replicas(&mut self) -> bool {
        let mut may_go_on = true;
        for ordinal in self.wanted() {
            if !self.keep(ordinal) {
                if self.in_order() {
                    return false;
                }
                may_go_on = false;
            }
        }
        may_go_on
    }

    /// False if the pod has yet to be waited for.
    fn keep(&mut self, ordinal: i32) -> bool {
        let Some(pod) = self.pods.get(&ordinal).copied() else {
            self.create(ordinal);
            // Without an order only those that are there, but not right, are waited for.
            return !self.in_order();
        };
        if pods::is_terminal(pod) {
            self.recreate(pod);
            return false;
        }
        if meta::is_deleting(&pod.metadata) {
            return !self.in_order();
        }
        if pods::phase(pod) == "Pending" && !self.ensure_claims(ordinal) {
            return false;
        }
        if self.in_order() && !self.is_available(pod) {
            return false;
        }
        self.keep_claims(ordinal, pod);
        if let Some(fixed) = identity::fixed(self.set, ordinal, pod) {
            let update = Effect::update(&**pod, &fixed).map(|update| {
                update.with_notes(self.notes(
                    ("SuccessfulUpdate", "update Pod {name} in StatefulSet {about} successful"),
                    (
                        "FailedUpdate",
                        "update Pod {name} in StatefulSet {about} failed error: {error}",
                    ),
                ))
            });
            self.effects.extend(update);
        }
        true
    }

    fn create(&mut self, ordinal: i32) {
        if !self.ensure_claims(ordinal) {
            return;
        }
        let revision = if self.is_of_current(ordinal) { self.current } else { self.update };
        let template = self.template(revision);
        let pod = identity::pod(self.set, &template, name_of(revision), ordinal);
        let create = Effect::create(&pod).with_notes(self.notes(
            ("SuccessfulCreate", "create Pod {name} in StatefulSet {about} successful"),
            ("FailedCreate", "create Pod {name} in StatefulSet {about} failed error: {error}"),
        ));
        self.effects.push(create);
    }

    /// A pod that has ended goes; the next one has its name.
    fn recreate(&mut self, pod: &Arc<Pod>) {
        if meta::is_deleting(&pod.metadata) {
            return;
        }
        let (kind, reason, how) = match pods::phase(pod) {
            "Failed" => (NoteKind::Warning, "RecreatingFailedPod", "failed"),
            _ => (NoteKind::Normal, "RecreatingTerminatedPod", "terminated"),
        };
        let name = meta::name(&pod.metadata);
        let message = format!("StatefulSet {} is recreating {how} Pod {name}", self.turn.key);
        self.effects.push(Effect::event(&**self.set, kind, reason, message));
        self.delete(pod);
    }

    /// Pods beyond the wanted ones go, the last first. False if something has to be waited for.
    fn condemn(&mut self) -> bool {
        let wanted = self.wanted();
        let beyond = self.pods.iter().rev().filter(|(ordinal, _)| !wanted.contains(*ordinal));
        let beyond: Vec<(i32, &'a Arc<Pod>)> = beyond.map(|(n, pod)| (*n, *pod)).collect();
        let in_order = self.in_order();
        for (ordinal, pod) in &beyond {
            // A claim follows its pod, if it shall go with it: it must know so before.
            self.keep_claims(*ordinal, pod);
        }
        let first_unhealthy = self.first_unhealthy();
        for (_, pod) in &beyond {
            if meta::is_deleting(&pod.metadata) {
                if in_order {
                    return false;
                }
                continue;
            }
            let is_first = first_unhealthy.as_deref() == Some(pod.uid());
            if in_order && !is_first && !self.is_available(pod) {
                return false;
            }
            self.delete(pod);
            if in_order {
                return false;
            }
        }
        beyond.is_empty() || !in_order
    }

    /// From the last down to the partition; what is not available counts against the bound.
    fn roll(&mut self) {
        let strategy = self.set.spec.update_strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return;
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let most = most.map_or(1, |most| amount::resolve(most, self.replicas(), true)).max(1);
        let first = self.set_start() + self.partition();
        let mut unavailable = 0;
        for ordinal in self.wanted().rev().take_while(|ordinal| *ordinal >= first) {
            let Some(pod) = self.pods.get(&ordinal).copied() else { return };
            let old = revision_name(pod) != name_of(self.update);
            if old && !meta::is_deleting(&pod.metadata) {
                self.delete(pod);
                unavailable += 1;
            } else if !self.is_available(pod) {
                unavailable += 1;
            }
            if unavailable >= most {
                return;
            }
        }
    }

    fn delete(&mut self, pod: &Arc<Pod>) {
        let delete = Effect::delete(&**pod).with_notes(self.notes(
            ("SuccessfulDelete", "delete Pod {name} in StatefulSet {about} successful"),
            ("FailedDelete", "delete Pod {name} in StatefulSet {about} failed error: {error}"),
        ));
        self.effects.push(delete);
    }

    fn report(self) {
        let mut new = StatefulSet::clone(self.set);
        let before = new.status.take().unwrap_or_default();
        let (current, update) = (name_of(self.current), name_of(self.update));
        let mut status = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            current_revision: Some(current.to_owned()),
            update_revision: Some(update.to_owned()),
            collision_count: Some(before.collision_count.unwrap_or(0)),
            conditions: before.conditions,
            ..StatefulSetStatus::default()
        };
        let (mut ready, mut available, mut on_current, mut on_update) = (0, 0, 0, 0);
        for pod in self.pods.values() {
            status.replicas += 1;
            if is_running_and_ready(pod) {
                ready += 1;
                available += i32::from(self.availability(pod).is_ok());
            }
            if !meta::is_deleting(&pod.metadata) {
                on_current += i32::from(revision_name(pod) == current);
                on_update += i32::from(revision_name(pod) == update);
            }
        }
        let wanted = self.replicas();
        if self.is_rolling() && [status.replicas, ready, on_update] == [wanted; 3] {
            status.current_revision = Some(update.to_owned());
            on_current = on_update;
        }
        let some = |count: i32| (count != 0).then_some(count);
        status.ready_replicas = some(ready);
        status.current_replicas = some(on_current);
        status.updated_replicas = some(on_update);
        status.available_replicas = Some(available);
        new.status = Some(status);
        self.plan.push(Effect::status(&**self.set, &new));
    }
}

/// Small questions.
impl<'a> Look<'a> {
    fn in_order(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }
    fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }
    fn replicas(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(1).max(0)
    }
    fn set_start(&self) -> i32 {
        start(self.set)
    }
    fn wanted(&self) -> std::ops::Range<i32> {
        wanted(self.set)
    }
    fn partition(&self) -> i32 {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
    }
    /// Below the partition pods stay of the current revision.
    fn is_of_current(&self, ordinal: i32) -> bool {
        self.is_rolling() && ordinal < self.set_start().saturating_add(self.partition())
    }
    fn template(&self, revision: &ControllerRevision) -> PodTemplateSpec {
        if std::ptr::eq(revision, self.update) {
            return self.set.spec.template.clone();
        }
        revisions::template(revision).unwrap_or_else(|| self.set.spec.template.clone())
    }
    fn availability(&self, pod: &Pod) -> Result<(), Option<std::time::Duration>> {
        let seconds = self.set.spec.min_ready_seconds.unwrap_or(0);
        pods::availability(pod, seconds, self.turn.now)
    }
    /// Running, ready for long enough, and not going.
    fn is_available(&mut self, pod: &Pod) -> bool {
        if meta::is_deleting(&pod.metadata) || !is_running_and_ready(pod) {
            return false;
        }
        match self.availability(pod) {
            Ok(()) => true,
            Err(wait) => {
                if let Some(wait) = wait {
                    self.plan.look_again_after(wait);
                }
                false
            }
        }
    }
    /// The uid of the first pod that is not well: it may go although it is not.
    fn first_unhealthy(&mut self) -> Option<String> {
        let pods: Vec<&'a Arc<Pod>> = self.pods.values().copied().collect();
        let found = pods.into_iter().find(|pod| !self.is_available(pod))?;
        Some(found.uid().to_owned())
    }
    fn notes(
        &self,
        done: (&'static str, &'static str),
        failed: (&'static str, &'static str),
    ) -> Notes {
        let about = object_reference(&**self.set);
        Notes { about, done: Some(done), failed: Some(failed) }
    }
}

fn start(set: &StatefulSet) -> i32 {
    set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0)
}

/// The numbers of the pods that there shall be.
fn wanted(set: &StatefulSet) -> std::ops::Range<i32> {
    let start = start(set);
    start..start.saturating_add(set.spec.replicas.unwrap_or(1).max(0))
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

fn name_of(revision: &ControllerRevision) -> &str {
    meta::name(&revision.metadata)
}

fn revision_name(pod: &Pod) -> &str {
    meta::label(&pod.metadata, REVISION_LABEL).unwrap_or_default()
}
