//! Deletes jobs some time after they have finished.
use crate::{conditions, job};
use api::k8s::api::batch::v1::Job;
use reconcile::{Controller, Effect, Now, Plan, Turn, Watch, meta};

pub(crate) struct TtlAfterFinished;

impl Controller for TtlAfterFinished {
    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<Job>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(job) = turn.world.get::<Job>(turn.key) else { return plan };
        if meta::is_deleting(&job.metadata) {
            return plan;
        }
        match expiry(job) {
            Some(at) if at > turn.now => plan.look_again_at(at, turn.now),
            Some(_) => plan.push(Effect::delete(&**job)),
            None => {}
        }
        plan
    }
}

fn expiry(job: &Job) -> Option<Now> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = &job.status.as_ref().filter(|_| job::is_finished(job))?.conditions;
    let finished = ["Complete", "Failed"].into_iter().find_map(|kind| {
        let condition = conditions::find(conditions, kind).filter(|c| c.status == "True")?;
        Some(condition.last_transition_time.as_ref()?.0)
    })?;
    finished.checked_add(jiff::SignedDuration::from_secs(seconds.into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::Sim;
    use serde_json::json;

    #[test]
    fn only_after_the_end_and_the_time() {
        let mut sim = Sim::new(&TtlAfterFinished);
        let template = json!({ "spec": { "containers": [] } });
        let key = sim.put::<Job>(json!({
            "metadata": { "name": "j", "namespace": "a" },
            "spec": { "ttlSecondsAfterFinished": 60, "template": template },
        }));
        assert_eq!(sim.plan(&TtlAfterFinished, &key), Plan::nothing());
        let at = sim.now.to_string();
        let complete = json!([{ "type": "Complete", "status": "True", "lastTransitionTime": at }]);
        sim.patch::<Job>(&key, &json!({ "status": { "conditions": complete } }));
        assert_eq!(sim.plan(&TtlAfterFinished, &key).again_after.unwrap().as_secs(), 60);
        sim.now += jiff::SignedDuration::from_secs(60);
        assert_eq!(sim.settle(&TtlAfterFinished, &key), 1);
        assert!(sim.all::<Job>().is_empty());
    }
}
