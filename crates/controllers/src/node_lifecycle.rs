//! Notices nodes that are no longer heard of, and says by taints what is wrong with a node.
//!
//! A node renews its lease or its status; how old those are is measured by when a change of them
//! was seen here, not by the node's clock. After a restart of this process every node therefore
//! has the whole grace period again.
use crate::{conditions, pods};
use api::Key;
use api::k8s::api::coordination::v1::Lease;
use api::k8s::api::core::v1::{Node, NodeCondition, Pod, Taint};
use api::k8s::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use reconcile::{Controller, Declare, Effect, Index, NoteKind, Now, Plan, Turn, Watch, meta};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// Lease and status to conditions.
#[derive(Default)]
pub(crate) struct NodeHealth {
    heard: Mutex<HashMap<String, Heard>>,
}

/// Conditions to taints.
pub(crate) struct NodeTaints;

/// The last sign of life, and when it was seen.
struct Heard {
    sign: (Option<MicroTime>, Option<Time>),
    at: Now,
}

const LEASES: &str = "kube-node-lease";
const GRACE: Duration = Duration::from_secs(50);
const STARTUP_GRACE: Duration = Duration::from_secs(60);
const NAME: &str = "node-controller";

static PODS_BY_NODE: Index<Pod> =
    Index { name: "node", value: |pod| Some(pods::node(pod).to_owned()).filter(|n| !n.is_empty()) };
static UNREADY: Index<Node> =
    Index { name: "unready", value: |node| (ready(node) != Some("True")).then(String::new) };

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    conditions::find(&node.status.as_ref()?.conditions, kind)
}

fn ready(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|condition| condition.status.as_str())
}

impl Controller for NodeHealth {
    fn name(&self) -> &'static str {
        NAME
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Node>(),
            Watch::map::<Lease>(|_, lease| {
                let of_node = meta::namespace(&lease.metadata) == LEASES;
                of_node.then(|| Key::new("", meta::name(&lease.metadata))).into_iter().collect()
            }),
            Watch::map::<Pod>(|world, pod| {
                let node = world.named::<Node>(pods::node(pod));
                let lost = node.is_some_and(|node| ready(node) == Some("Unknown"));
                (lost && pods::is_ready(pod))
                    .then(|| Key::new("", pods::node(pod)))
                    .into_iter()
                    .collect()
            }),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::index(&PODS_BY_NODE)]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let name = turn.key.name.as_str();
        let mut heard = self.heard.lock().expect("no holder panics");
        let Some(node) = turn.world.get::<Node>(turn.key) else {
            heard.remove(name);
            return plan;
        };
        let lease = turn.world.get::<Lease>(&Key::new(LEASES, name));
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone());
        let ready_condition = condition(node, "Ready");
        let posted = ready_condition.and_then(|condition| condition.last_heartbeat_time.clone());
        let sign = (renewed, posted);
        let entry = heard.entry(name.to_owned()).or_insert_with(|| {
            let text = format!("Node {name} event: Registered Node {name} in Controller");
            plan.push(Effect::event(&**node, NoteKind::Normal, "RegisteredNode", text));
            Heard { sign: sign.clone(), at: turn.now }
        });
        if entry.sign != sign {
            *entry = Heard { sign, at: turn.now };
        }
        let grace = if ready_condition.is_some() { GRACE } else { STARTUP_GRACE };
        let due = entry.at.checked_add(grace).unwrap_or(turn.now);
        drop(heard);
        if turn.now < due {
            plan.look_again_at(due, turn.now);
            return plan;
        }
        lose(node, turn, &mut plan);
        plan
    }
}

/// Nothing is known of the node any more: neither how it is nor whether its pods are ready.
fn lose(node: &Node, turn: &Turn<'_>, plan: &mut Plan) {
    let mut new = node.clone();
    let list = &mut new.status.get_or_insert_default().conditions;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let before = conditions::find(list, kind).cloned();
        if before.as_ref().is_some_and(|before| before.status == "Unknown") {
            continue;
        }
        let (reason, message) = match before {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let mut unknown: NodeCondition =
            conditions::Condition::make(kind, "Unknown", reason, message, turn.now);
        // When the node was last heard of stays as it is: this is no sign of life.
        unknown.last_heartbeat_time = before.map_or_else(
            || node.metadata.creation_timestamp.clone(),
            |before| before.last_heartbeat_time,
        );
        conditions::set(list, unknown);
    }
    let name = meta::name(&node.metadata);
    if ready(node) == Some("True") {
        let text = format!("Node {name} status is now: NodeNotReady");
        plan.push(Effect::event(node, NoteKind::Normal, "NodeNotReady", text));
    }
    plan.push(Effect::status(node, &new));
    for pod in turn.world.by(&PODS_BY_NODE, name).filter(|pod| pods::is_ready(pod)) {
        let mut list = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        for condition in list.iter_mut().filter(|condition| condition.type_ == "Ready") {
            condition.status = "False".to_owned();
            condition.last_transition_time = Some(Time(turn.now));
        }
        let mut patch = json!({ "status": { "conditions": list } });
        patch["metadata"]["resourceVersion"] = json!(pod.metadata.resource_version);
        plan.push(Effect::patch(&**pod, patch, Some("status")));
        plan.push(Effect::event(&**pod, NoteKind::Warning, "NodeNotReady", "Node is not ready"));
    }
}

impl Controller for NodeTaints {
    fn name(&self) -> &'static str {
        NAME
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::map::<Node>(|world, node| {
            // Whether others may be evicted from depends on whether any node is ready.
            let unready =
                world.by(&UNREADY, "").map(|node| Key::new("", meta::name(&node.metadata)));
            let own = Key::new("", meta::name(&node.metadata));
            std::iter::once(own).chain(unready).collect()
        })]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::index(&UNREADY)]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(node) = turn.world.get::<Node>(turn.key) else { return plan };
        // If no node at all is ready, the fault is more likely here than with all of them.
        let any_ready = turn.world.all::<Node>().any(|node| ready(node) == Some("True"));
        let mut new = Node::clone(node);
        let spec = new.spec.get_or_insert_default();
        let wanted = wanted(node, any_ready);
        let taints = spec.taints.get_or_insert_default();
        taints.retain(|taint| {
            !is_managed(taint)
                || wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect)
        });
        for (key, effect) in wanted {
            if taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
                continue;
            }
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(turn.now)),
            });
        }
        if taints.is_empty() {
            spec.taints = None;
        }
        let before = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let after = new.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        if before != after {
            plan.push(Effect::update(&**node, &new));
        }
        plan
    }
}

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

fn is_managed(taint: &Taint) -> bool {
    let by_health = [UNREACHABLE, NOT_READY].contains(&taint.key.as_str());
    match taint.effect.as_str() {
        "NoExecute" => by_health,
        "NoSchedule" => {
            by_health
                || taint.key == UNSCHEDULABLE
                || PRESSURES.iter().any(|(_, key)| taint.key == *key)
        }
        _ => false,
    }
}

fn wanted(node: &Node, may_evict: bool) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((key, "NoSchedule"));
        }
    }
    let unwell = match ready(node) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        // A node that has never said anything is not ready yet; there is nothing to evict.
        None => {
            wanted.push((NOT_READY, "NoSchedule"));
            None
        }
        _ => None,
    };
    if let Some(key) = unwell {
        wanted.push((key, "NoSchedule"));
        if may_evict {
            wanted.push((key, "NoExecute"));
        }
    }
    wanted
}

#[cfg(test)]
mod tests;
