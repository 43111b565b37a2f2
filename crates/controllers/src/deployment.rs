//! Rolls a deployment's template out through replica sets, one for each revision of it.
//!
//! Each turn moves at most one step (new sets up, or old sets down) and reports; the next step
//! follows when the caches show this one. The sets are worked on as copies, and what differs in
//! the end is what gets written.
use crate::{conditions, hash, pods};
use api::k8s::api::apps::v1::{Deployment, DeploymentCondition, ReplicaSet};
use api::k8s::api::core::v1::{Pod, PodTemplateSpec};
use api::{Key, Kind, LabelSelector};
use reconcile::{Controller, Declare, Effect, NoteKind, Plan, Target, Turn, Watch, World, meta};
use std::sync::Arc;

mod annotations;
mod rollout;
mod scale;
mod sets;
mod status;
#[cfg(test)]
mod tests;

use sets::{Set, Sets};

pub(crate) struct Deployments;

const HASH_LABEL: &str = "pod-template-hash";

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Deployment>(),
            Watch::map::<ReplicaSet>(deployments_of_set),
            Watch::map::<Pod>(recreated_by),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::labels::<ReplicaSet>()]
    }
    fn reads(&self) -> Vec<Target> {
        Vec::new()
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(deployment) = turn.world.get::<Deployment>(turn.key) else { return plan };
        if LabelSelector::from_spec(Some(&deployment.spec.selector))
            .is_ok_and(|selector| selector.is_everything())
        {
            let message =
                "This deployment is selecting all pods. A non-empty selector is required.";
            let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
            if seen < deployment.metadata.generation {
                plan.push(Effect::event(&**deployment, NoteKind::Warning, "SelectingAll", message));
                let mut new = Deployment::clone(deployment);
                new.status.get_or_insert_default().observed_generation =
                    deployment.metadata.generation;
                plan.push(Effect::status(&**deployment, &new));
            }
            return plan;
        }
        Look::new(deployment, turn, &mut plan).run();
        plan
    }
}

/// One look at one deployment.
struct Look<'a> {
    turn: &'a Turn<'a>,
    plan: &'a mut Plan,
    deployment: &'a Deployment,
    /// The deployment as this look would have it.
    new: Deployment,
    sets: Sets<'a>,
}

impl<'a> Look<'a> {
    fn new(deployment: &'a Deployment, turn: &'a Turn<'a>, plan: &'a mut Plan) -> Self {
        let sets = Sets::claim(deployment, turn.world, plan);
        Self { turn, plan, deployment, new: deployment.clone(), sets }
    }

    fn run(mut self) {
        if meta::is_deleting(&self.deployment.metadata) {
            self.report_plainly();
        } else {
            self.note_pause();
            if self.deployment.spec.paused == Some(true) || self.is_being_scaled() {
                self.adopt_revision();
                self.scale_in_proportion();
                if self.deployment.spec.paused == Some(true) {
                    self.clean_up();
                }
                self.report_plainly();
            } else if self.is_recreate() {
                self.recreate();
                self.report_rollout();
            } else {
                self.roll();
                self.report_rollout();
            }
        }
        self.write();
    }

    /// Writes what differs: the sets, then the deployment itself, then its status.
    fn write(mut self) {
        self.sets.write(self.plan);
        let mut annotated = self.deployment.clone();
        annotated.metadata.annotations.clone_from(&self.new.metadata.annotations);
        if let Some(update) = Effect::update(self.deployment, &annotated) {
            // The status follows in the next turn: this write makes what was seen out of date.
            self.plan.push(update);
            return;
        }
        self.new.metadata.annotations.clone_from(&self.deployment.metadata.annotations);
        self.plan.push(Effect::status(self.deployment, &self.new));
    }

    fn is_recreate(&self) -> bool {
        let strategy = self.deployment.spec.strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }
    fn replicas(&self) -> i32 {
        replicas(self.deployment)
    }

    /// Pausing stops the clock of the progress deadline.
    fn note_pause(&mut self) {
        let spec = &self.deployment.spec;
        if !status::has_deadline(self.deployment) {
            return;
        }
        let paused = spec.paused == Some(true);
        let conditions = &mut self.new.status.get_or_insert_default().conditions;
        let current = conditions::find(conditions, "Progressing");
        let reason = current.and_then(|condition| condition.reason.as_deref());
        if reason == Some("ProgressDeadlineExceeded") {
            return;
        }
        let (reason, message) = match (paused, reason) {
            (true, Some("DeploymentPaused")) => return,
            (true, _) => ("DeploymentPaused", "Deployment is paused"),
            (false, Some("DeploymentPaused")) => ("DeploymentResumed", "Deployment is resumed"),
            (false, _) => return,
        };
        let now = self.turn.now;
        conditions::set(conditions, progressing("Unknown", reason, message, now));
    }

    /// The number of replicas asked for is not the one that the sets were last sized for.
    fn is_being_scaled(&self) -> bool {
        let desired = self.replicas();
        self.sets.all().any(|set| {
            set.replicas() > 0
                && annotations::desired(&set.new).is_some_and(|before| before != desired)
        })
    }

    fn event(&mut self, reason: &'static str, message: String) {
        self.plan.push(Effect::event(self.deployment, NoteKind::Normal, reason, message));
    }
}

fn progressing(
    status: &str,
    reason: &str,
    message: &str,
    now: reconcile::Now,
) -> DeploymentCondition {
    conditions::Condition::make("Progressing", status, reason, message, now)
}

fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

fn deployments_of_set(world: &World, set: &ReplicaSet) -> Vec<Key> {
    let namespace = meta::namespace(&set.metadata);
    if let Some(owner) = meta::controller_of(&set.metadata) {
        let ours = owner.kind == "Deployment" && owner.api_version == "apps/v1";
        return ours.then(|| Key::new(namespace, &owner.name)).into_iter().collect();
    }
    let labels = meta::labels(&set.metadata);
    let matching = world.in_namespace::<Deployment>(namespace).filter(|deployment| {
        LabelSelector::from_spec(Some(&deployment.spec.selector))
            .is_ok_and(|selector| selector.matches(labels))
    });
    matching.map(|deployment| deployment.key()).collect()
}

/// Only a deployment that recreates waits for pods to be gone.
fn recreated_by(world: &World, pod: &Pod) -> Vec<Key> {
    let namespace = meta::namespace(&pod.metadata);
    let set = meta::controller_of(&pod.metadata)
        .and_then(|owner| world.get::<ReplicaSet>(&Key::new(namespace, &owner.name)));
    let deployment = set
        .and_then(|set| meta::controller_of(&set.metadata))
        .and_then(|owner| world.get::<Deployment>(&Key::new(namespace, &owner.name)));
    let recreates = deployment.filter(|deployment| {
        let strategy = deployment.spec.strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    });
    recreates.map(|deployment| deployment.key()).into_iter().collect()
}

/// Whether two templates are the same but for the label that tells sets apart.
fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let plain = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
            labels.remove(HASH_LABEL);
        }
        template
    };
    plain(a) == plain(b)
}
