//! Deletes pods that nobody else will: those on nodes that are gone, those that were never bound
//! and are to go, those stuck on nodes that are out of service, and the oldest ended ones when
//! there are too many.
use crate::nodes::{self, PODS_BY_NODE};
use crate::pods;
use api::k8s::api::core::v1::{Node, Pod};
use api::{Key, Kind};
use reconcile::{Controller, Declare, Effect, Index, Plan, Target, Turn, Watch, meta};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct PodGc;

/// Ended pods that are kept.
const ENDED_MAX: usize = 12_500;
/// The caches of pods and nodes are not of the same moment: the node's is waited for.
const NODE_WAIT: Duration = Duration::from_secs(5);
const REASON: &str = "DeletionByPodGC";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

static ENDED: Index<Pod> = Index {
    name: "ended",
    value: |pod| {
        let counts = pods::is_terminal(pod) && !meta::is_deleting(&pod.metadata);
        counts.then(String::new)
    },
};

/// What stands for all ended pods together.
fn all_ended() -> Key {
    Key::new("", "ended pods")
}

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::map::<Pod>(|_, pod| {
                let mut keys = vec![pod.key()];
                keys.extend(pods::is_terminal(pod).then(all_ended));
                keys
            }),
            Watch::map::<Node>(nodes::pods_on),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::index(&PODS_BY_NODE), Declare::index(&ENDED)]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        if *turn.key == all_ended() {
            return trim(turn, ENDED_MAX);
        }
        let mut plan = Plan::nothing();
        let Some(pod) = turn.world.get::<Pod>(turn.key) else { return plan };
        let deleting = meta::is_deleting(&pod.metadata);
        let name = pods::node(pod);
        if name.is_empty() {
            if deleting {
                force(pod, None, turn, &mut plan);
            }
            return plan;
        }
        match turn.world.named::<Node>(name) {
            Some(node) => {
                let out = nodes::taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE);
                if deleting && out && !nodes::is_ready(node) {
                    force(pod, None, turn, &mut plan);
                }
            }
            None if turn.world.seen(Target::of::<Node>()) >= pod.revision()
                || is_old_news(pod, turn)
                || is_decided(pod) =>
            {
                force(pod, Some("PodGC: node no longer exists"), turn, &mut plan);
            }
            None => plan.look_again_after(NODE_WAIT),
        }
        plan
    }
}

/// The pod was bound so long ago that its node must have been seen since, had it been there.
fn is_old_news(pod: &Pod, turn: &Turn<'_>) -> bool {
    let bound = pods::condition(pod, "PodScheduled").and_then(|c| c.last_transition_time.as_ref());
    let since = bound.or(pod.metadata.creation_timestamp.as_ref());
    since.is_some_and(|since| {
        turn.now.duration_since(since.0) >= jiff::SignedDuration::from_secs(40)
    })
}

/// It was found to be on no node before, and is only not deleted yet.
fn is_decided(pod: &Pod) -> bool {
    let condition = pods::condition(pod, "DisruptionTarget");
    condition.is_some_and(|condition| condition.reason.as_deref() == Some(REASON))
}

/// Without a grace period: there is no node that would act on one.
fn force(pod: &Arc<Pod>, why: Option<&str>, turn: &Turn<'_>, plan: &mut Plan) {
    if !pods::is_terminal(pod) {
        let mut failed = Pod::clone(pod);
        failed.status.get_or_insert_default().phase = Some("Failed".to_owned());
        if let Some(why) = why {
            pods::set_disrupted(&mut failed, REASON, why, turn.now);
        }
        plan.push(Effect::status(&**pod, &failed));
    }
    let mut delete = Effect::delete(&**pod);
    if let Effect::Delete { grace_seconds, .. } = &mut delete {
        *grace_seconds = Some(0);
    }
    plan.push(delete);
}

fn trim(turn: &Turn<'_>, max: usize) -> Plan {
    let mut plan = Plan::nothing();
    let mut ended: Vec<&Arc<Pod>> = turn.world.by(&ENDED, "").collect();
    let Some(surplus) = ended.len().checked_sub(max) else { return plan };
    let age = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    ended.sort_by(|a, b| age(a).cmp(&age(b)).then_with(|| a.key().cmp(&b.key())));
    plan.effects.extend(ended.into_iter().take(surplus).map(|pod| Effect::delete(&**pod)));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::{Value, json};

    fn pod(name: &str, node: &str, phase: &str) -> Value {
        json!({ "metadata": { "name": name, "namespace": "a" },
                "spec": { "nodeName": node, "containers": [] }, "status": { "phase": phase } })
    }

    fn node(name: &str) -> Value {
        json!({ "metadata": { "name": name }, "spec": {} })
    }

    fn going(mut pod: Value) -> Value {
        pod["metadata"]["deletionTimestamp"] = json!("2019-12-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        pod
    }

    #[test]
    fn pods_of_a_node_that_is_gone() {
        let make = || {
            let mut sim = Sim::new(&PodGc);
            sim.put::<Node>(node("n"));
            let mut held = pod("p", "n", "Running");
            held["metadata"]["finalizers"] = json!(["example.com/look"]);
            let key = sim.put::<Pod>(held);
            (sim, key)
        };
        let (mut sim, key) = make();
        assert!(sim.plan(&PodGc, &key).is_settled());
        sim.remove::<Node>(&Key::new("", "n"));
        assert_eq!(sim.plan(&PodGc, &key).again_after, Some(NODE_WAIT), "not seen so far yet");
        sim.put::<Node>(node("m"));
        let effects = sim.plan(&PodGc, &key).effects;
        sim.apply(effects);
        let pod = sim.get::<Pod>(&key);
        assert_eq!(pods::phase(pod), "Failed");
        let condition = pods::condition(pod, "DisruptionTarget").unwrap();
        assert_eq!(condition.reason.as_deref(), Some("DeletionByPodGC"));
        assert!(meta::is_deleting(&pod.metadata));
    }

    #[test]
    fn crashes_are_made_good() {
        crash_everywhere(&PodGc, || {
            let mut sim = Sim::new(&PodGc);
            let key = sim.put::<Pod>(pod("p", "n", "Running"));
            sim.put::<Node>(node("m"));
            (sim, key)
        });
    }

    #[test]
    fn pods_that_nobody_stops() {
        let mut sim = Sim::new(&PodGc);
        let key = sim.put::<Pod>(going(pod("p", "", "Pending")));
        assert_eq!(sim.settle(&PodGc, &key), 1);
        assert!(sim.all::<Pod>().is_empty());
        sim.put::<Node>(node("n"));
        let key = sim.put::<Pod>(going(pod("p", "n", "Running")));
        assert!(sim.plan(&PodGc, &key).is_settled());
        let taint = json!([{ "key": OUT_OF_SERVICE, "effect": "NoExecute" }]);
        sim.patch::<Node>(&Key::new("", "n"), &json!({ "spec": { "taints": taint } }));
        sim.settle(&PodGc, &key);
        assert!(sim.all::<Pod>().is_empty());
    }

    #[test]
    fn the_oldest_ended_go_first() {
        let mut sim = Sim::new(&PodGc);
        for name in ["c", "a", "b"] {
            sim.put::<Pod>(pod(name, "n", "Succeeded"));
            sim.now += jiff::SignedDuration::from_secs(1);
        }
        sim.put::<Pod>(pod("running", "n", "Running"));
        let key = all_ended();
        let turn = Turn { world: &sim.world, key: &key, now: sim.now, failed: None };
        let plan = trim(&turn, 1);
        let names: Vec<&str> = plan
            .effects
            .iter()
            .map(|effect| match effect {
                Effect::Delete { key, .. } => key.name.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["c", "a"]);
        assert!(trim(&turn, 3).is_settled());
    }
}
