//! Evicts pods from nodes with `NoExecute` taints that they do not tolerate, or not for so long.
//!
//! The time counts from when the taint was added. Where a taint does not say that, this says it
//! for it, so that a restart does not begin to count again.
use crate::nodes::{self, PODS_BY_NODE};
use crate::pods;
use api::k8s::api::core::v1::{Node, Pod, Taint, Toleration};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::{Controller, Declare, Effect, NoteKind, Now, Plan, Turn, Watch, meta};
use std::sync::Arc;

pub(crate) struct TaintEviction;

/// When a pod has to go.
#[derive(Debug, PartialEq)]
enum Verdict {
    Stays,
    Goes(Now),
    /// Some time later, but it is not known since when the taint is there.
    Undated,
}

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<Pod>(), Watch::map::<Node>(nodes::pods_on)]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::index(&PODS_BY_NODE)]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(pod) = turn.world.get::<Pod>(turn.key) else { return plan };
        let node = turn.world.named::<Node>(pods::node(pod));
        let Some(node) = node.filter(|_| !meta::is_deleting(&pod.metadata)) else { return plan };
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
        match judge(nodes::taints(node), tolerations.unwrap_or_default(), turn.now) {
            Verdict::Stays => {}
            Verdict::Goes(when) if when > turn.now => plan.look_again_at(when, turn.now),
            Verdict::Goes(_) => evict(pod, turn, &mut plan),
            Verdict::Undated => plan.push(date(node, turn.now)),
        }
        plan
    }
}

fn judge(taints: &[Taint], tolerations: &[Toleration], now: Now) -> Verdict {
    let mut verdict = Verdict::Stays;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let matching: Vec<&Toleration> =
            tolerations.iter().filter(|toleration| nodes::tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Verdict::Goes(now);
        }
        let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min();
        let Some(seconds) = seconds else { continue };
        if seconds <= 0 {
            return Verdict::Goes(now);
        }
        let Some(added) = &taint.time_added else {
            verdict = Verdict::Undated;
            continue;
        };
        let Ok(until) = added.0.checked_add(jiff::SignedDuration::from_secs(seconds)) else {
            continue;
        };
        verdict = match verdict {
            Verdict::Stays => Verdict::Goes(until),
            Verdict::Goes(before) => Verdict::Goes(before.min(until)),
            Verdict::Undated => Verdict::Undated,
        };
    }
    verdict
}

fn date(node: &Arc<Node>, now: Now) -> Option<Effect> {
    let mut dated = Node::clone(node);
    let taints = dated.spec.as_mut().and_then(|spec| spec.taints.as_mut());
    for taint in taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute") {
        taint.time_added.get_or_insert(Time(now));
    }
    Effect::update(&**node, &dated)
}

fn evict(pod: &Arc<Pod>, turn: &Turn<'_>, plan: &mut Plan) {
    let message = format!("Marking for deletion Pod {}", turn.key);
    plan.push(Effect::event(&**pod, NoteKind::Normal, "TaintManagerEviction", message));
    let mut disrupted = Pod::clone(pod);
    let why = "Taint manager: deleting due to NoExecute taint";
    pods::set_disrupted(&mut disrupted, "DeletionByTaintManager", why, turn.now);
    plan.push(Effect::status(&**pod, &disrupted));
    plan.push(Effect::delete(&**pod));
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Key;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::{Value, json};

    fn sim(taints: Value, tolerations: Value) -> (Sim, Key) {
        let mut sim = Sim::new(&TaintEviction);
        sim.put::<Node>(json!({ "metadata": { "name": "n" }, "spec": { "taints": taints } }));
        let key = sim.put::<Pod>(json!({
            "metadata": { "name": "p", "namespace": "a", "finalizers": ["example.com/look"] },
            "spec": { "nodeName": "n", "containers": [], "tolerations": tolerations },
            "status": { "phase": "Running" },
        }));
        (sim, key)
    }

    #[test]
    fn what_is_not_tolerated_evicts_at_once() {
        let make = || sim(json!([{ "key": "bad", "effect": "NoExecute" }]), json!([]));
        let (mut sim, key) = make();
        sim.settle(&TaintEviction, &key);
        let pod = sim.get::<Pod>(&key);
        assert!(meta::is_deleting(&pod.metadata));
        let condition = pods::condition(pod, "DisruptionTarget").unwrap();
        assert_eq!(condition.reason.as_deref(), Some("DeletionByTaintManager"));
        assert_eq!(sim.event_texts(), ["TaintManagerEviction Marking for deletion Pod a/p"]);
        crash_everywhere(&TaintEviction, make);
    }

    #[test]
    fn other_effects_and_tolerations_without_an_end_keep_it() {
        let (sim, key) = sim(
            json!([{ "key": "a", "effect": "NoSchedule" }, { "key": "b", "effect": "NoExecute" }]),
            json!([{ "key": "b", "operator": "Exists" }]),
        );
        assert_eq!(sim.plan(&TaintEviction, &key), Plan::nothing());
    }

    #[test]
    fn the_time_counts_from_when_the_taint_was_added() {
        let (mut sim, key) = sim(
            json!([{ "key": "b", "effect": "NoExecute" }]),
            json!([{ "key": "b", "operator": "Exists", "tolerationSeconds": 300 }]),
        );
        assert_eq!(sim.settle(&TaintEviction, &key), 1, "the taint gets a time");
        sim.now += jiff::SignedDuration::from_secs(100);
        assert_eq!(sim.plan(&TaintEviction, &key).again_after.unwrap().as_secs(), 200);
        sim.now += jiff::SignedDuration::from_secs(200);
        sim.settle(&TaintEviction, &key);
        assert!(meta::is_deleting(&sim.get::<Pod>(&key).metadata));
    }
}
