//! Runs pods until enough of them have succeeded, or too many have failed.
//!
//! Every pod bears a finalizer until it has been counted. An ended pod is first noted as uncounted
//! in the status, then loses its finalizer, and then moves into the counts: wherever this stops,
//! no pod is counted twice or never.
use crate::{conditions, pods};
use api::k8s::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use api::{Key, Kind, LabelSelector};
use reconcile::{
    Controller, Declare, Effect, Index, NoteKind, Notes, Now, Plan, Turn, Watch, meta,
    object_reference,
};
use std::collections::BTreeSet;
use std::sync::Arc;

mod decide;
mod indexes;
mod make;
mod policy;
#[cfg(test)]
mod tests;

pub(crate) struct Jobs;

const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const MANAGER: &str = "kubernetes.io/job-controller";
/// Bounds one round.
const BURST_MAX: usize = 500;
/// Pods that may be uncounted at once, so that the status stays small.
const UNCOUNTED_MAX: usize = 500;

/// Pods that bear the finalizer, by their job.
static TRACKED: Index<Pod> = Index {
    name: "tracked by job",
    value: |pod| {
        let owner = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "Job")?;
        let key = Key::new(meta::namespace(&pod.metadata), &owner.name);
        meta::has_finalizer(&pod.metadata, TRACKING).then(|| key.to_string())
    },
};

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Job>(),
            Watch::map::<Pod>(|world, pod| pods::claimants(world, pod, selector)),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::labels::<Pod>(), Declare::index(&TRACKED)]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let job = turn.world.get::<Job>(turn.key);
        let name = turn.key.to_string();
        for pod in turn.world.by(&TRACKED, &name) {
            let of = meta::controller_of(&pod.metadata).map(|owner| owner.uid.as_str());
            if of != job.map(|job| job.uid()) {
                plan.push(release(pod));
            }
        }
        let Some(job) = job else { return plan };
        let Some(spec) = &job.spec else { return plan };
        if spec.managed_by.as_deref().is_none_or(|manager| manager == MANAGER) {
            Look::new(job, spec, turn, &mut plan).run();
        }
        plan
    }
}

fn selector(job: &Job) -> LabelSelector {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    LabelSelector::from_spec(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

/// Lets a pod go that has been counted, or that nobody will count.
fn release(pod: &Arc<Pod>) -> Option<Effect> {
    let mut released = Pod::clone(pod);
    released.metadata.finalizers.as_mut()?.retain(|finalizer| finalizer != TRACKING);
    Effect::update(&**pod, &released)
}

fn is_true(conditions: &Option<Vec<JobCondition>>, kind: &str) -> bool {
    conditions::find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

/// Complete or failed, for good.
pub(crate) fn is_finished(job: &Job) -> bool {
    let Some(status) = &job.status else { return false };
    is_true(&status.conditions, "Complete") || is_true(&status.conditions, "Failed")
}

/// One look at one job.
struct Look<'a> {
    turn: &'a Turn<'a>,
    plan: &'a mut Plan,
    job: &'a Arc<Job>,
    spec: &'a JobSpec,
    pods: Vec<&'a Arc<Pod>>,
    status: JobStatus,
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
    completed: BTreeSet<i32>,
    failed_indexes: BTreeSet<i32>,
}

impl<'a> Look<'a> {
    fn new(job: &'a Arc<Job>, spec: &'a JobSpec, turn: &'a Turn<'a>, plan: &'a mut Plan) -> Self {
        let pods = pods::claim(&**job, &selector(job), turn.world, plan);
        let mut status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
        let completions = spec.completions.unwrap_or(0);
        let parse = |text: &Option<String>| {
            indexes::parse(text.as_deref().unwrap_or_default(), completions)
        };
        Self {
            completed: parse(&status.completed_indexes),
            failed_indexes: parse(&status.failed_indexes),
            uncounted_succeeded: uncounted.succeeded.unwrap_or_default().into_iter().collect(),
            uncounted_failed: uncounted.failed.unwrap_or_default().into_iter().collect(),
            turn,
            plan,
            job,
            spec,
            pods,
            status,
        }
    }

    fn run(mut self) {
        if is_finished(self.job) {
            // Whatever is left has no part in it any more.
            for pod in self.pods.iter().filter(|pod| is_tracked(pod)) {
                self.plan.push(release(pod));
            }
            for pod in self.pods.clone().into_iter().filter(|pod| pods::is_active(pod)) {
                self.delete(pod);
            }
            return;
        }
        self.start();
        self.count();
        self.decide();
        if !meta::is_deleting(&self.job.metadata) {
            self.manage();
        }
        self.finish();
        self.report();
    }

    fn start(&mut self) {
        let suspended = self.spec.suspend == Some(true);
        let was = is_true(&self.status.conditions, "Suspended");
        if suspended && !was {
            self.set("Suspended", "True", "JobSuspended", "Job suspended");
            self.event(NoteKind::Normal, "Suspended", "Job suspended");
            self.status.start_time = None;
        } else if !suspended && was {
            self.set("Suspended", "False", "JobResumed", "Job resumed");
            self.event(NoteKind::Normal, "Resumed", "Job resumed");
        }
        if !suspended && self.status.start_time.is_none() {
            self.status.start_time = Some(Time(self.turn.now));
        }
    }

    /// Moves every ended pod one step on: noted, released, counted.
    fn count(&mut self) {
        let tracked = |uid: &str, pods: &[&Arc<Pod>]| {
            pods.iter().any(|pod| pod.uid() == uid && is_tracked(pod))
        };
        let pods = self.pods.clone();
        let counted = |uids: &mut BTreeSet<String>| {
            let before = uids.len();
            uids.retain(|uid| tracked(uid, &pods));
            i32::try_from(before - uids.len()).unwrap_or(i32::MAX)
        };
        let (succeeded, failed) =
            (counted(&mut self.uncounted_succeeded), counted(&mut self.uncounted_failed));
        add(&mut self.status.succeeded, succeeded);
        add(&mut self.status.failed, failed);
        for pod in pods.iter().filter(|pod| is_tracked(pod)) {
            self.note(pod);
        }
        if self.is_indexed() {
            self.status.succeeded = Some(self.completed.len() as i32).filter(|count| *count > 0);
        }
    }

    fn note(&mut self, pod: &Arc<Pod>) {
        let uid = pod.uid();
        let noted = self.uncounted_succeeded.contains(uid) || self.uncounted_failed.contains(uid);
        let index = make::index_of(pod).filter(|_| self.is_indexed());
        if noted {
            self.plan.push(release(pod));
        } else if pods::phase(pod) == "Succeeded" {
            match index {
                // The index itself is the count, so the status has to hold it first.
                Some(index) if self.was_completed(index) => self.plan.push(release(pod)),
                Some(index) if index < self.spec.completions.unwrap_or(0) => {
                    self.completed.insert(index);
                    self.failed_indexes.remove(&index);
                }
                Some(_) => self.plan.push(release(pod)),
                None if self.has_room() => {
                    self.uncounted_succeeded.insert(uid.to_owned());
                }
                None => {}
            }
        } else if self.has_failed(pod) && self.has_room() {
            match policy::meaning(self.spec, pod) {
                policy::Meaning::Ignored => self.plan.push(release(pod)),
                meaning => {
                    self.uncounted_failed.insert(uid.to_owned());
                    self.fail_index(pod, index, &meaning);
                    if let policy::Meaning::FailsJob(why) = meaning {
                        self.fail("PodFailurePolicy", &why);
                    }
                }
            }
        }
    }

    fn fail_index(&mut self, pod: &Pod, index: Option<i32>, meaning: &policy::Meaning) {
        let (Some(index), Some(limit)) = (index, self.spec.backoff_limit_per_index) else { return };
        let over = make::failures_before(pod) >= limit || *meaning == policy::Meaning::FailsIndex;
        if over && !self.completed.contains(&index) {
            self.failed_indexes.insert(index);
        }
    }

    fn was_completed(&self, index: i32) -> bool {
        let before = self.job.status.as_ref().and_then(|s| s.completed_indexes.as_deref());
        let completions = self.spec.completions.unwrap_or(0);
        indexes::parse(before.unwrap_or_default(), completions).contains(&index)
    }
    fn has_room(&self) -> bool {
        self.uncounted_succeeded.len() + self.uncounted_failed.len() < UNCOUNTED_MAX
    }
    /// A pod that is being deleted has failed, unless its end is to be waited for.
    fn has_failed(&self, pod: &Pod) -> bool {
        pods::phase(pod) == "Failed" || (!self.waits_for_ends() && pods::is_terminating(pod))
    }
    fn waits_for_ends(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }
    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn report(mut self) {
        let count =
            |test: &dyn Fn(&Pod) -> bool| self.pods.iter().filter(|pod| test(pod)).count() as i32;
        let some = |count: i32| (count != 0).then_some(count);
        self.status.active = some(count(&pods::is_active));
        let ready = count(&|pod| pods::is_active(pod) && pods::is_ready(pod));
        self.status.ready = Some(ready);
        self.status.terminating = Some(count(&pods::is_terminating));
        let list = |uids: BTreeSet<String>| {
            (!uids.is_empty()).then(|| uids.into_iter().collect::<Vec<_>>())
        };
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(self.uncounted_succeeded),
            failed: list(self.uncounted_failed),
        });
        let text = |indexes: &BTreeSet<i32>| (!indexes.is_empty()).then(|| indexes::text(indexes));
        self.status.completed_indexes = text(&self.completed);
        self.status.failed_indexes = text(&self.failed_indexes)
            .or_else(|| self.spec.backoff_limit_per_index.map(|_| String::new()));
        let mut new = Job::clone(self.job);
        new.status = Some(self.status);
        self.plan.push(Effect::status(&**self.job, &new));
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = self.turn.now;
        let new: JobCondition = conditions::Condition::make(kind, status, reason, message, now);
        conditions::set(&mut self.status.conditions, new);
    }
    fn event(&mut self, kind: NoteKind, reason: &'static str, message: &str) {
        self.plan.push(Effect::event(&**self.job, kind, reason, message));
    }
    /// Deletes a pod that shall not count.
    fn dismiss(&mut self, pod: &Arc<Pod>) {
        self.plan.push(is_tracked(pod).then(|| release(pod)).flatten());
        self.delete(pod);
    }
    fn delete(&mut self, pod: &Arc<Pod>) {
        self.plan.push(Effect::delete(&**pod).with_notes(Notes {
            about: object_reference(&**self.job),
            done: Some(("SuccessfulDelete", "Deleted pod: {name}")),
            failed: Some(("FailedDelete", "Error deleting: {error}")),
        }));
    }
}

fn is_tracked(pod: &Pod) -> bool {
    meta::has_finalizer(&pod.metadata, TRACKING)
}

fn add(count: &mut Option<i32>, more: i32) {
    if more > 0 {
        *count = Some(count.unwrap_or(0).saturating_add(more));
    }
}
