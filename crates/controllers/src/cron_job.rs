//! Makes jobs by the clock.
//!
//! A job's name holds the minute that it is for: a crash after its creation finds it again, and no
//! minute gets two.
use crate::job;
use api::Kind;
use api::cron::{Schedule, zone};
use api::k8s::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use reconcile::{
    Controller, Effect, NoteKind, Notes, Now, Plan, Turn, Watch, meta, object_reference,
};
use std::sync::Arc;

pub(crate) struct CronJobs;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times are told of: a clock or a deadline may be wrong.
const MISSED_MAX: i64 = 100;
/// What keeps a job from being started is told at its time, and not at each look after it.
const FRESH: SignedDuration = SignedDuration::from_secs(2);

impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<CronJob>(), Watch::owner::<Job, CronJob>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(cron) = turn.world.get::<CronJob>(turn.key) else { return plan };
        let spec = &cron.spec;
        let mut jobs: Vec<&Arc<Job>> = turn.world.owned_by::<Job>(cron.uid()).collect();
        jobs.sort_by_key(|job| (started(job), meta::name(&job.metadata).to_owned()));
        let status = cron.status.clone().unwrap_or_default();
        let mut look = Look { turn, cron, spec, jobs, status, plan: &mut plan };
        look.follow();
        look.forget();
        if !meta::is_deleting(&cron.metadata) && spec.suspend != Some(true) {
            look.schedule();
        }
        let mut new = CronJob::clone(cron);
        new.status = Some(look.status);
        if new.status != Some(cron.status.clone().unwrap_or_default()) {
            plan.push(Effect::status(&**cron, &new));
        }
        plan
    }
}

/// One look at one cron job.
struct Look<'a> {
    turn: &'a Turn<'a>,
    cron: &'a Arc<CronJob>,
    spec: &'a CronJobSpec,
    /// Its own, oldest first.
    jobs: Vec<&'a Arc<Job>>,
    status: CronJobStatus,
    plan: &'a mut Plan,
}

impl Look<'_> {
    fn event(&mut self, kind: NoteKind, reason: &'static str, message: impl Into<String>) {
        self.plan.push(Effect::event(&**self.cron, kind, reason, message));
    }

    /// Brings the list of active jobs up to what there is.
    fn follow(&mut self) {
        for old in self.status.active.take().unwrap_or_default() {
            let uid = old.uid.as_deref().unwrap_or_default();
            match self.jobs.iter().find(|job| job.uid() == uid).copied() {
                None => {
                    let name = old.name.as_deref().unwrap_or_default();
                    let message = format!("Active job went missing: {name}");
                    self.event(NoteKind::Normal, "MissingJob", message);
                }
                Some(job) if job::is_finished(job) => {
                    let how = if succeeded(job) { "Complete" } else { "Failed" };
                    let name = meta::name(&job.metadata);
                    let message = format!("Saw completed job: {name}, condition: {how}");
                    self.event(NoteKind::Normal, "SawCompletedJob", message);
                }
                Some(_) => self.status.active.get_or_insert_default().push(old),
            }
        }
        for job in self.jobs.clone() {
            let last = self.status.last_successful_time.as_ref().map(|time| time.0);
            let ended = job.status.as_ref().and_then(|status| status.completion_time.clone());
            if succeeded(job) && ended.as_ref().is_some_and(|ended| Some(ended.0) > last) {
                self.status.last_successful_time = ended;
            }
            let known = self.active().any(|uid| uid == job.uid());
            if !known && !job::is_finished(job) && !meta::is_deleting(&job.metadata) {
                if !meta::name(&job.metadata).starts_with(&self.prefix()) {
                    let name = meta::name(&job.metadata);
                    let message =
                        format!("Saw a job that the controller did not create or forgot: {name}");
                    self.event(NoteKind::Warning, "UnexpectedJob", message);
                }
                self.status.active.get_or_insert_default().push(object_reference(&**job));
            }
        }
    }

    fn active(&self) -> impl Iterator<Item = &str> {
        let active = self.status.active.iter().flatten();
        active.filter_map(|reference| reference.uid.as_deref())
    }

    /// Deletes finished jobs beyond those that are kept, oldest first.
    fn forget(&mut self) {
        for (good, limit) in [
            (true, self.spec.successful_jobs_history_limit),
            (false, self.spec.failed_jobs_history_limit),
        ] {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
            let all = self.jobs.iter().copied();
            let ended: Vec<_> =
                all.filter(|job| job::is_finished(job) && succeeded(job) == good).collect();
            for job in ended.iter().take(ended.len().saturating_sub(limit)) {
                self.delete(job);
            }
        }
    }

    fn delete(&mut self, job: &Job) {
        if meta::is_deleting(&job.metadata) {
            return;
        }
        let notes = Notes {
            about: object_reference(&**self.cron),
            done: Some(("SuccessfulDelete", "Deleted job {name}")),
            failed: Some(("FailedDelete", "Deleted job: {error}")),
        };
        self.plan.push(Effect::delete(job).with_notes(notes));
    }

    /// Starts what is due, and says when to look again.
    fn schedule(&mut self) {
        let Some(zone) = zone(self.spec.time_zone.as_deref()) else {
            let name = self.spec.time_zone.as_deref().unwrap_or_default();
            let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            return self.event(NoteKind::Warning, "UnknownTimeZone", message);
        };
        let schedule: Schedule = match self.spec.schedule.parse() {
            Ok(schedule) => schedule,
            Err(why) => {
                let message = format!("unparseable schedule: {:?} : {why}", self.spec.schedule);
                return self.event(NoteKind::Warning, "UnparseableSchedule", message);
            }
        };
        let now = self.turn.now;
        // What has no clock of its own counts from the last time.
        let base = match schedule {
            Schedule::Every(_) => {
                let earliest = self.earliest();
                schedule.last(earliest, now, &zone).unwrap_or(earliest)
            }
            Schedule::Fields(_) => now,
        };
        let next = schedule.next(base, &zone);
        if let Some(next) = next {
            self.plan.look_again_at(next, now);
        }
        let earliest = self.in_time(self.earliest());
        let Some(due) = schedule.last(earliest, now, &zone) else { return };
        self.too_many_missed(&schedule, earliest, due, &zone);
        self.start(due, &zone);
    }

    /// After which times are due: the last one that was, or the cron job's own beginning.
    fn earliest(&self) -> Now {
        let last = self.status.last_schedule_time.as_ref();
        let created = self.cron.metadata.creation_timestamp.as_ref();
        last.or(created).map_or(self.turn.now, |time| time.0)
    }

    /// What is later than the deadline allows is no more due.
    fn in_time(&self, earliest: Now) -> Now {
        let deadline = self.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        let from = deadline.and_then(|deadline| self.turn.now.checked_sub(deadline).ok());
        from.map_or(earliest, |from| earliest.max(from))
    }

    fn too_many_missed(&mut self, schedule: &Schedule, earliest: Now, due: Now, zone: &TimeZone) {
        let first = schedule.next(earliest, zone).unwrap_or(due);
        let second = schedule.next(first, zone).unwrap_or(due);
        let between = second.duration_since(first).as_secs().max(1);
        let missed = self.turn.now.duration_since(first).as_secs() / between + 1;
        if missed > MISSED_MAX && self.is_fresh(due) {
            let message = "too many missed start times. Set or decrease \
                           .spec.startingDeadlineSeconds or check clock skew";
            self.event(NoteKind::Warning, "TooManyMissedTimes", message);
        }
    }

    /// It is the time itself, or this is the first look since.
    fn is_fresh(&self, due: Now) -> bool {
        self.turn.now.duration_since(due) <= FRESH || self.status.last_schedule_time.is_none()
    }

    fn start(&mut self, due: Now, zone: &TimeZone) {
        let name = format!("{}{}", self.prefix(), due.as_second() / 60);
        if let Some(there) = self.jobs.iter().find(|job| meta::name(&job.metadata) == name) {
            if meta::annotation(&there.metadata, SCHEDULED).is_some() {
                self.status.last_schedule_time = Some(Time(due));
            }
            return;
        }
        let running = self.status.active.as_ref().is_some_and(|active| !active.is_empty());
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if running => {
                if self.is_fresh(due) {
                    let message = "Not starting job because prior execution is running and \
                                   concurrency policy is Forbid";
                    self.event(NoteKind::Normal, "JobAlreadyActive", message);
                }
                return;
            }
            Some("Replace") => {
                let active = self.status.active.take().unwrap_or_default();
                for job in self.jobs.clone() {
                    if active.iter().any(|old| old.uid.as_deref() == Some(job.uid())) {
                        self.delete(job);
                    }
                }
            }
            _ => {}
        }
        let notes = Notes {
            about: object_reference(&**self.cron),
            done: Some(("SuccessfulCreate", "Created job {name}")),
            failed: Some(("FailedCreate", "Error creating job: {error}")),
        };
        let job = self.job(name, due, zone);
        // That it was due is written when the job is there: one that is refused is tried again.
        self.plan.push(Effect::create(&job).with_notes(notes));
    }

    fn prefix(&self) -> String {
        format!("{}-", meta::name(&self.cron.metadata))
    }

    fn job(&self, name: String, due: Now, zone: &TimeZone) -> Job {
        let template = &self.spec.job_template;
        let given = template.metadata.clone().unwrap_or_default();
        let mut annotations = given.annotations.unwrap_or_default();
        let local = due.to_zoned(zone.clone());
        let offset = if local.offset().is_zero() {
            "Z".to_owned()
        } else {
            local.strftime("%:z").to_string()
        };
        let text = format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S"));
        annotations.insert(SCHEDULED.to_owned(), text);
        Job {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.cron.metadata.namespace.clone(),
                labels: given.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![meta::controlled_by(&**self.cron)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }
}

fn succeeded(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut all = conditions.into_iter().flatten();
    all.any(|condition| condition.type_ == "Complete" && condition.status == "True")
}

fn started(job: &Job) -> Option<Now> {
    let status = job.status.as_ref();
    let start = status.and_then(|status| status.start_time.as_ref());
    start.or(job.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Key;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::{Value, json};

    fn cron(sim: &mut Sim, spec: &Value) -> Key {
        let template = json!({ "spec": { "template": { "spec": { "containers": [] } } } });
        let mut all = json!({
            "schedule": "*/10 * * * *", "jobTemplate": template,
            "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
        });
        let given = spec.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(given);
        let created = sim.now.to_string();
        sim.put::<CronJob>(json!({
            "metadata": { "name": "c", "namespace": "a", "creationTimestamp": created },
            "spec": all,
        }))
    }

    fn later(sim: &mut Sim, minutes: i64) {
        sim.now += SignedDuration::from_mins(minutes);
    }

    fn finish(sim: &mut Sim, how: &str) {
        let (now, all) = (sim.now.to_string(), sim.all::<Job>());
        let open = all.into_iter().filter(|job| !job::is_finished(job));
        for key in open.map(Kind::key).collect::<Vec<_>>() {
            let mut status = json!({
                "startTime": now, "conditions": [{ "type": how, "status": "True" }],
            });
            if how == "Complete" {
                status["completionTime"] = now.as_str().into();
            }
            sim.patch::<Job>(&key, &json!({ "status": status }));
        }
    }

    fn active(sim: &Sim, key: &Key) -> usize {
        let status = sim.get::<CronJob>(key).status.clone().unwrap_or_default();
        status.active.map_or(0, |active| active.len())
    }

    #[test]
    fn jobs_come_in_time_and_the_old_ones_go() {
        let mut sim = Sim::new(&CronJobs);
        let key = cron(&mut sim, &json!({}));
        let plan = sim.plan(&CronJobs, &key);
        assert!(plan.is_settled());
        assert_eq!(plan.again_after.map(|wait| wait.as_secs()), Some(600));
        for round in 1..=3 {
            later(&mut sim, 10);
            sim.settle(&CronJobs, &key);
            assert_eq!(active(&sim, &key), 1);
            let minutes = sim.now.as_second() / 60;
            let made = sim.get::<Job>(&Key::new("a", format!("c-{minutes}")));
            let at = meta::annotation(&made.metadata, SCHEDULED).unwrap();
            assert_eq!(at, sim.now.to_string());
            finish(&mut sim, "Complete");
            sim.settle(&CronJobs, &key);
            assert_eq!((active(&sim, &key), sim.all::<Job>().len()), (0, 1), "round {round}");
        }
        let status = sim.get::<CronJob>(&key).status.clone().unwrap();
        assert_eq!(status.last_successful_time.unwrap().0, sim.now);
        assert_eq!(status.last_schedule_time.unwrap().0, sim.now);
        let texts = sim.event_texts();
        assert!(texts.iter().any(|text| text.starts_with("SawCompletedJob Saw completed job: c-")));
    }

    #[test]
    fn policies_rule_what_runs_at_once() {
        for (policy, jobs) in [("Allow", 2), ("Forbid", 1), ("Replace", 1)] {
            let mut sim = Sim::new(&CronJobs);
            let key = cron(&mut sim, &json!({ "concurrencyPolicy": policy }));
            later(&mut sim, 10);
            sim.settle(&CronJobs, &key);
            let first = meta::name(&sim.all::<Job>()[0].metadata).to_owned();
            later(&mut sim, 10);
            let plan = sim.plan(&CronJobs, &key);
            sim.apply(plan.effects);
            // What is told at the time itself is not told again later.
            later(&mut sim, 1);
            sim.settle(&CronJobs, &key);
            assert_eq!((sim.all::<Job>().len(), active(&sim, &key)), (jobs, jobs), "{policy}");
            let kept = sim.all::<Job>().iter().any(|job| meta::name(&job.metadata) == first);
            assert_eq!(kept, policy != "Replace");
            let told = sim.event_texts().iter().any(|text| text.starts_with("JobAlreadyActive"));
            assert_eq!(told, policy == "Forbid");
        }
    }

    #[test]
    fn what_is_suspended_late_or_wrong_is_not_started() {
        let mut sim = Sim::new(&CronJobs);
        let key = cron(&mut sim, &json!({ "suspend": true }));
        later(&mut sim, 60);
        assert_eq!(sim.plan(&CronJobs, &key), Plan::nothing());
        let deadline = json!({ "spec": { "suspend": false, "startingDeadlineSeconds": 30 } });
        sim.patch::<CronJob>(&key, &deadline);
        later(&mut sim, 5);
        assert!(sim.plan(&CronJobs, &key).is_settled());
        let zone = json!({ "spec": { "startingDeadlineSeconds": null, "timeZone": "Not/There" } });
        sim.patch::<CronJob>(&key, &zone);
        let plan = sim.plan(&CronJobs, &key);
        sim.apply(plan.effects);
        let want = "UnknownTimeZone invalid timeZone: \"Not/There\": unknown time zone Not/There";
        assert_eq!(sim.event_texts(), [want]);
        assert!(sim.all::<Job>().is_empty());
    }

    #[test]
    fn crashes_are_made_good() {
        crash_everywhere(&CronJobs, || {
            let mut sim = Sim::new(&CronJobs);
            let key = cron(&mut sim, &json!({ "concurrencyPolicy": "Replace" }));
            later(&mut sim, 10);
            sim.settle(&CronJobs, &key);
            later(&mut sim, 11);
            (sim, key)
        });
    }
}
