//! Whether a job has succeeded or failed, and how many pods it needs until then.
use super::*;
use std::collections::HashSet;

/// The first failure is waited out for so long; each further one doubles it.
const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_MOST_SECONDS: i64 = 600;

impl<'a> Look<'a> {
    fn succeeded(&self) -> i32 {
        self.status.succeeded.unwrap_or(0) + self.uncounted_succeeded.len() as i32
    }
    fn failed(&self) -> i32 {
        self.status.failed.unwrap_or(0) + self.uncounted_failed.len() as i32
    }
    fn is_decided(&self) -> bool {
        let conditions = &self.status.conditions;
        is_true(conditions, "FailureTarget") || is_true(conditions, "SuccessCriteriaMet")
    }
    pub(super) fn fail(&mut self, reason: &str, message: &str) {
        if !self.is_decided() {
            self.set("FailureTarget", "True", reason, message);
        }
    }
    fn active(&self) -> Vec<&'a Arc<Pod>> {
        self.pods.iter().copied().filter(|pod| pods::is_active(pod)).collect()
    }

    pub(super) fn decide(&mut self) {
        if self.is_decided() {
            return;
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        let completions = self.spec.completions;
        let is_over = self.is_past_deadline();
        if self.failed() > limit || self.restarts_exceed(limit) {
            self.fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        } else if is_over {
            self.fail("DeadlineExceeded", "Job was active longer than specified deadline");
        } else if let Some(most) = self.spec.max_failed_indexes
            && self.failed_indexes.len() as i64 > i64::from(most)
        {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            self.fail("MaxFailedIndexesExceeded", message);
        } else if let Some(rule) = policy::success_rule(self.spec, &self.completed) {
            let message = format!("Matched rules at index {rule}");
            self.set("SuccessCriteriaMet", "True", "SuccessPolicy", &message);
        } else if self.is_indexed()
            && !self.failed_indexes.is_empty()
            && (self.completed.len() + self.failed_indexes.len()) as i64
                >= i64::from(completions.unwrap_or(0))
        {
            self.fail("FailedIndexes", "Job has failed indexes");
        } else if self.has_enough() {
            let message = "Reached expected number of succeeded pods";
            self.set("SuccessCriteriaMet", "True", "CompletionsReached", message);
        }
    }

    fn has_enough(&self) -> bool {
        match self.spec.completions {
            Some(completions) => self.succeeded() >= completions,
            // Any success is enough, once the others have ended too.
            None => self.succeeded() > 0 && self.active().is_empty(),
        }
    }

    fn is_past_deadline(&mut self) -> bool {
        let (Some(seconds), Some(start)) =
            (self.spec.active_deadline_seconds, &self.status.start_time)
        else {
            return false;
        };
        if self.spec.suspend == Some(true) {
            return false;
        }
        let deadline = start.0.checked_add(jiff::SignedDuration::from_secs(seconds));
        let Ok(deadline) = deadline else { return false };
        if deadline > self.turn.now {
            self.plan.look_again_at(deadline, self.turn.now);
        }
        deadline <= self.turn.now
    }

    /// Where containers are restarted in place, their restarts are the failures.
    fn restarts_exceed(&self, limit: i32) -> bool {
        let template = self.spec.template.spec.as_ref();
        if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let of = |pod: &Pod| -> i32 {
            let status = pod.status.as_ref();
            let all = status.into_iter().flat_map(|status| {
                status.init_container_statuses.iter().chain(&status.container_statuses).flatten()
            });
            all.map(|container| container.restart_count).sum()
        };
        let restarts: i32 = self.active().into_iter().map(|pod| of(pod)).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    /// The final condition comes when nothing runs and everything is counted.
    pub(super) fn finish(&mut self) {
        let uncounted = self.uncounted_succeeded.len() + self.uncounted_failed.len();
        let going = self.pods.iter().any(|pod| !pods::is_terminal(pod) || is_tracked(pod));
        if uncounted > 0 || going {
            return;
        }
        let target = ["FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .filter_map(|kind| conditions::find(&self.status.conditions, kind))
            .find(|condition| condition.status == "True")
            .cloned();
        let Some(target) = target else { return };
        let reason = target.reason.unwrap_or_default();
        let message = target.message.unwrap_or_default();
        if target.type_ == "FailureTarget" {
            self.set("Failed", "True", &reason, &message);
            let event = Effect::event(&**self.job, NoteKind::Warning, reason, message);
            self.plan.push(event);
        } else {
            self.set("Complete", "True", &reason, &message);
            self.status.completion_time = Some(Time(self.turn.now));
            self.event(NoteKind::Normal, "Completed", "Job completed");
        }
    }

    /// Makes or deletes pods until as many run as should.
    pub(super) fn manage(&mut self) {
        let active = self.active();
        if self.is_decided() || self.spec.suspend == Some(true) {
            let has_failed = is_true(&self.status.conditions, "FailureTarget");
            for pod in active.into_iter().take(BURST_MAX) {
                // What is stopped because the job failed has failed; all else does not count.
                if has_failed { self.delete(pod) } else { self.dismiss(pod) }
            }
            return;
        }
        let parallelism = self.spec.parallelism.unwrap_or(1).max(0);
        let wanted = match self.spec.completions {
            None if self.succeeded() > 0 => parallelism.min(active.len() as i32),
            None => parallelism,
            Some(completions) => {
                let done = self.succeeded() + self.failed_indexes.len() as i32;
                parallelism.min((completions - done).max(0))
            }
        };
        let wanted = usize::try_from(wanted).unwrap_or(0);
        let (kept, surplus) = self.sort_out(active, wanted);
        for pod in surplus.into_iter().take(BURST_MAX) {
            self.dismiss(pod);
        }
        let ending = match self.waits_for_ends() {
            true => self.pods.iter().filter(|pod| pods::is_terminating(pod)).count(),
            false => 0,
        };
        let missing = wanted.saturating_sub(kept.len() + ending);
        if missing == 0 || !self.has_backed_off() {
            return;
        }
        self.create(&kept, missing.min(BURST_MAX));
    }

    /// Of each index at most one, and of all as many as wanted: those that are farther on stay.
    fn sort_out(
        &self,
        mut active: Vec<&'a Arc<Pod>>,
        wanted: usize,
    ) -> (Vec<&'a Arc<Pod>>, Vec<&'a Arc<Pod>>) {
        active.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (!pods::is_ready(pod), pods::node(pod).is_empty(), created, pod.uid().to_owned())
        });
        let (mut kept, mut surplus, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
        for pod in active {
            let fits = !self.is_indexed() || {
                let index = make::index_of(pod);
                index.is_some_and(|index| self.is_open(index)) && taken.insert(index)
            };
            if fits && kept.len() < wanted { kept.push(pod) } else { surplus.push(pod) }
        }
        (kept, surplus)
    }

    fn is_open(&self, index: i32) -> bool {
        (0..self.spec.completions.unwrap_or(0)).contains(&index)
            && !self.completed.contains(&index)
            && !self.failed_indexes.contains(&index)
    }

    fn create(&mut self, kept: &[&Arc<Pod>], missing: usize) {
        let notes = Notes {
            about: object_reference(&**self.job),
            done: Some(("SuccessfulCreate", "Created pod: {name}")),
            failed: Some(("FailedCreate", "Error creating: {error}")),
        };
        let make = |index, failures| {
            let pod = make::pod(self.job, self.spec, index, failures);
            Effect::create(&pod).with_notes(notes.clone())
        };
        if !self.is_indexed() {
            let one = make(None, None);
            self.plan.effects.extend(std::iter::repeat_n(one, missing));
            return;
        }
        let ending =
            self.pods.iter().filter(|pod| self.waits_for_ends() && pods::is_terminating(pod));
        let taken: HashSet<i32> =
            kept.iter().chain(ending).filter_map(|pod| make::index_of(pod)).collect();
        let open = (0..self.spec.completions.unwrap_or(0))
            .filter(|index| self.is_open(*index) && !taken.contains(index));
        let made: Vec<Effect> = open
            .take(missing)
            .map(|index| {
                let limited = self.spec.backoff_limit_per_index.is_some();
                make(Some(index), limited.then(|| self.failures_of(index)))
            })
            .collect();
        self.plan.effects.extend(made);
    }

    /// How often an index has failed so far, by its pods that are still there.
    fn failures_of(&self, index: i32) -> i32 {
        let of_index = self.pods.iter().filter(|pod| make::index_of(pod) == Some(index));
        let failed = of_index.filter(|pod| {
            self.has_failed(pod) && policy::meaning(self.spec, pod) != policy::Meaning::Ignored
        });
        failed.map(|pod| make::failures_before(pod) + 1).max().unwrap_or(0)
    }

    /// Whether the last failure is long enough ago: longer with each failure since a success.
    fn has_backed_off(&mut self) -> bool {
        let last_success = self
            .pods
            .iter()
            .filter(|pod| pods::phase(pod) == "Succeeded")
            .filter_map(|pod| ended_at(pod))
            .max();
        let failures: Vec<Now> = self
            .pods
            .iter()
            .filter(|pod| pods::phase(pod) == "Failed")
            .filter_map(|pod| ended_at(pod))
            .filter(|at| last_success.is_none_or(|success| *at > success))
            .collect();
        let Some(last) = failures.iter().max() else { return true };
        let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(20);
        let seconds = (BACKOFF_SECONDS << doublings).min(BACKOFF_MOST_SECONDS);
        let until = *last + jiff::SignedDuration::from_secs(seconds);
        if until > self.turn.now {
            self.plan.look_again_at(until, self.turn.now);
        }
        until <= self.turn.now
    }
}

/// When its last container ended; for a pod that never ran, when it was made.
fn ended_at(pod: &Pod) -> Option<Now> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let ends = statuses.into_iter().flatten().filter_map(|status| {
        let terminated = status.state.as_ref()?.terminated.as_ref()?;
        Some(terminated.finished_at.as_ref()?.0)
    });
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    ends.max().or(created)
}
