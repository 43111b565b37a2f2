//! What a deployment says of itself.
use super::scale::bounds;
use super::*;
use api::k8s::api::apps::v1::DeploymentStatus;
use std::time::Duration;

pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    let is = |count: Option<i32>| count.unwrap_or(0) == wanted;
    is(status.updated_replicas)
        && is(status.replicas)
        && is(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let n = |count: Option<i32>| count.unwrap_or(0);
    let old = |status: &DeploymentStatus| n(status.replicas) - n(status.updated_replicas);
    n(after.updated_replicas) > n(before.updated_replicas)
        || old(after) < old(before)
        || n(after.ready_replicas) > n(before.ready_replicas)
        || n(after.available_replicas) > n(before.available_replicas)
}

fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[derive(Default)]
struct Sums {
    actual: i32,
    ready: i32,
    available: i32,
    terminating: i32,
}

impl Look<'_> {
    /// The status from the sets as they are reported, with what this look has set so far.
    pub(super) fn counted(&self) -> DeploymentStatus {
        let total = self.sets.total();
        let mut all = Sums::default();
        for set in self.sets.all() {
            all.actual += set.actual();
            all.ready += set.ready();
            all.available += set.available();
            all.terminating += set.terminating();
        }
        let available = all.available;
        let mut status = self.new.status.clone().unwrap_or_default();
        status.observed_generation = self.deployment.metadata.generation;
        status.replicas = some(all.actual);
        status.updated_replicas = some(self.sets.newest.as_ref().map_or(0, Set::actual));
        status.ready_replicas = some(all.ready);
        status.available_replicas = some(available);
        status.unavailable_replicas = some((total - available).max(0));
        status.terminating_replicas = Some(all.terminating);
        let (_, max_unavailable) = bounds(self.deployment);
        let (value, reason, message) = if available >= self.replicas() - max_unavailable {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            let message = "Deployment does not have minimum availability.";
            ("False", "MinimumReplicasUnavailable", message)
        };
        let now = self.turn.now;
        let condition: DeploymentCondition =
            conditions::Condition::make("Available", value, reason, message, now);
        conditions::set(&mut status.conditions, condition);
        status
    }

    pub(super) fn report_plainly(&mut self) {
        self.new.status = Some(self.counted());
    }

    pub(super) fn report_rollout(&mut self) {
        let before = self.deployment.status.clone().unwrap_or_default();
        let mut status = self.counted();
        if !has_deadline(self.deployment) {
            conditions::remove(&mut status.conditions, "Progressing");
        }
        let current = conditions::find(&status.conditions, "Progressing").cloned();
        let reason = current.as_ref().and_then(|condition| condition.reason.as_deref());
        let was_complete =
            status.replicas == status.updated_replicas && reason == Some("NewReplicaSetAvailable");
        if has_deadline(self.deployment) && !was_complete {
            self.judge_progress(&before, &mut status, current.as_ref());
        }
        match self.set_failure() {
            Some(condition) => conditions::set(&mut status.conditions, condition),
            None => conditions::remove(&mut status.conditions, "ReplicaFailure"),
        }
        self.watch_deadline(&status);
        self.new.status = Some(status);
    }

    fn judge_progress(
        &self,
        before: &DeploymentStatus,
        status: &mut DeploymentStatus,
        current: Option<&DeploymentCondition>,
    ) {
        let now = self.turn.now;
        let who = match &self.sets.newest {
            Some(set) => format!("ReplicaSet {:?}", set.name()),
            None => format!("Deployment {:?}", meta::name(&self.deployment.metadata)),
        };
        if is_complete(self.deployment, status) {
            let message = format!("{who} has successfully progressed.");
            let done = progressing("True", "NewReplicaSetAvailable", &message, now);
            conditions::set(&mut status.conditions, done);
        } else if has_progressed(before, status) {
            let message = format!("{who} is progressing.");
            let mut condition = progressing("True", "ReplicaSetUpdated", &message, now);
            if let Some(current) = current.filter(|current| current.status == condition.status) {
                condition.last_transition_time.clone_from(&current.last_transition_time);
            }
            // Replaced even if it says the same: the time of the update is what counts.
            conditions::remove(&mut status.conditions, "Progressing");
            conditions::set(&mut status.conditions, condition);
        } else if self.deadline(current).is_some_and(|deadline| deadline <= now) {
            let message = format!("{who} has timed out progressing.");
            let late = progressing("False", "ProgressDeadlineExceeded", &message, now);
            conditions::set(&mut status.conditions, late);
        }
    }

    /// When the lack of progress becomes a failure; nothing if there is nothing to wait for.
    fn deadline(&self, current: Option<&DeploymentCondition>) -> Option<reconcile::Now> {
        let current = current?;
        let settled = ["NewReplicaSetAvailable", "DeploymentPaused"];
        if current.reason.as_deref().is_none_or(|reason| settled.contains(&reason)) {
            return None;
        }
        let seconds = self.deployment.spec.progress_deadline_seconds?;
        let since = current.last_update_time.as_ref()?.0;
        since.checked_add(jiff::SignedDuration::from_secs(seconds.into())).ok()
    }

    fn watch_deadline(&mut self, status: &DeploymentStatus) {
        if !has_deadline(self.deployment) || is_complete(self.deployment, status) {
            return;
        }
        let current = conditions::find(&status.conditions, "Progressing");
        let late = current.and_then(|condition| condition.reason.as_deref());
        if late == Some("ProgressDeadlineExceeded") {
            return;
        }
        if let Some(deadline) = self.deadline(current) {
            let wait = deadline.duration_since(self.turn.now);
            let wait = Duration::try_from(wait).unwrap_or_default();
            self.plan.look_again_after(wait.max(Duration::from_millis(10)));
        }
    }

    /// A set's trouble is its deployment's: the newest set's first.
    fn set_failure(&self) -> Option<DeploymentCondition> {
        let sets = self.sets.newest.iter().chain(&self.sets.old);
        let mut troubles = sets.filter_map(|set| {
            let conditions = &set.new.status.as_ref()?.conditions;
            conditions::find(conditions, "ReplicaFailure")
        });
        let trouble = troubles.next()?;
        Some(DeploymentCondition {
            type_: trouble.type_.clone(),
            status: trouble.status.clone(),
            reason: trouble.reason.clone(),
            message: trouble.message.clone(),
            last_transition_time: trouble.last_transition_time.clone(),
            last_update_time: trouble.last_transition_time.clone(),
        })
    }
}
