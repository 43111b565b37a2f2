//! What is counted one change at a time is what a count of everything finds.
use super::{node, pod};
use crate::cycle::{Asked, Cycle};
use crate::tally::Domains;
use crate::topology::Counts;
use crate::{PodInfo, Snapshot};
use api::k8s::api::core::v1::Node;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const NODES: usize = 5;
const PODS: usize = 12;

#[derive(Debug, Clone)]
enum Step {
    Place(usize, usize),
    Change(usize),
    Remove(usize),
    SetNode(usize, usize),
    RemoveNode(usize),
    Namespace(bool),
    Ask(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..PODS, 0..NODES).prop_map(|(pod, node)| Step::Place(pod, node)),
        1 => (0..PODS).prop_map(Step::Change),
        2 => (0..PODS).prop_map(Step::Remove),
        2 => (0..NODES, 0..5usize).prop_map(|(node, like)| Step::SetNode(node, like)),
        1 => (0..NODES).prop_map(Step::RemoveNode),
        1 => any::<bool>().prop_map(Step::Namespace),
        3 => (0..PODS).prop_map(Step::Ask),
    ]
}

fn name(index: usize) -> String {
    format!("n{index}")
}

/// The same node in different states.
fn node_like(index: usize, like: usize) -> Node {
    let zone = |zone: &str| json!({"topology.kubernetes.io/zone": zone});
    let taint = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    match like {
        0 => node(&name(index), zone("a"), json!({})),
        1 => node(&name(index), zone("b"), json!({})),
        2 => node(&name(index), json!({"disk": "ssd"}), json!({})),
        3 => node(&name(index), zone("a"), taint),
        _ => {
            let labels = json!({"topology.kubernetes.io/zone": "c", "disk": "ssd"});
            node(&name(index), labels, json!({}))
        }
    }
}

fn specs() -> [Value; 6] {
    let selector = json!({"matchLabels": {"app": "a"}});
    let host = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": selector});
    let zone = json!({"topologyKey": "topology.kubernetes.io/zone", "labelSelector": selector,
        "namespaceSelector": {"matchLabels": {"team": "x"}}});
    let spread = |key: &str, when: &str| {
        json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector,
            "nodeTaintsPolicy": "Honor"})
    };
    [
        json!({}),
        json!({"topologySpreadConstraints": [
            spread("topology.kubernetes.io/zone", "DoNotSchedule"),
            spread("kubernetes.io/hostname", "ScheduleAnyway")]}),
        json!({"nodeSelector": {"disk": "ssd"}, "topologySpreadConstraints": [
            spread("disk", "DoNotSchedule"), spread("kubernetes.io/hostname", "DoNotSchedule")]}),
        json!({"affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [host]}}}),
        json!({"affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [host, zone]}}}),
        json!({"affinity": {"podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 7, "podAffinityTerm": zone}, {"weight": 7, "podAffinityTerm": zone}]}}}),
    ]
}

fn pods() -> Vec<Arc<PodInfo>> {
    let all = (0..PODS).map(|index| {
        let mut info = (*pod(&format!("p{index}"), specs()[index % 6].clone())).clone();
        info.owner = (index % 2 == 0).then(|| format!("set-{}", index % 4));
        Arc::new(info)
    });
    all.collect()
}

/// The same pod on its way out.
fn going(pod: &Arc<PodInfo>) -> Arc<PodInfo> {
    Arc::new(PodInfo { deleting: !pod.deleting, ..(**pod).clone() })
}

fn namespace(team: bool) -> api::k8s::api::core::v1::Namespace {
    let labels = if team { json!({"team": "x"}) } else { json!({}) };
    serde_json::from_value(json!({"metadata": {"name": "ns", "labels": labels}})).unwrap()
}

#[derive(Default)]
struct World {
    nodes: BTreeMap<usize, usize>,
    placed: BTreeMap<usize, (usize, Arc<PodInfo>)>,
    team: bool,
}

impl World {
    fn take(&mut self, snapshot: &mut Snapshot, pods: &mut [Arc<PodInfo>], step: Step) {
        match step {
            Step::Place(pod, node) => {
                snapshot.place(&pods[pod], &name(node));
                self.placed.insert(pod, (node, pods[pod].clone()));
            }
            Step::Change(pod) => {
                pods[pod] = going(&pods[pod]);
                if let Some((node, placed)) = self.placed.get_mut(&pod) {
                    *placed = pods[pod].clone();
                    snapshot.place(placed, &name(*node));
                }
            }
            Step::Remove(pod) => {
                snapshot.remove(&pods[pod].uid);
                self.placed.remove(&pod);
            }
            Step::SetNode(node, like) => {
                snapshot.set_node(&node_like(node, like));
                self.nodes.insert(node, like);
            }
            Step::RemoveNode(node) => {
                snapshot.remove_node(&name(node));
                self.nodes.remove(&node);
            }
            Step::Namespace(team) => {
                snapshot.set_namespace(&namespace(team));
                self.team = team;
            }
            Step::Ask(pod) => drop(Asked::of(snapshot, &pods[pod])),
        }
    }
    /// Made in one go.
    fn anew(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.set_namespace(&namespace(self.team));
        for (index, like) in &self.nodes {
            snapshot.set_node(&node_like(*index, *like));
        }
        for (node, pod) in self.placed.values() {
            snapshot.place(pod, &name(*node));
        }
        snapshot
    }
}

/// All that a decision sees of tallies, by the names of nodes.
fn seen(snapshot: &mut Snapshot, pod: &PodInfo) -> Vec<String> {
    let asked = Asked::of(snapshot, pod);
    let cycle = Cycle::new(snapshot, pod, &asked);
    let mut nodes: Vec<_> = snapshot.nodes().collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let tell = |domains: &Domains<'_>| {
        let at: Vec<_> = nodes.iter().map(|node| domains.at(node)).collect();
        format!("{at:?} {} {} {}", domains.least(), domains.len(), domains.is_empty())
    };
    let mut told: Vec<String> = asked
        .spread
        .iter()
        .chain(asked.affinity.all())
        .map(|at| tell(&snapshot.tallies.asked(*at)))
        .collect();
    let mut held: Vec<String> = snapshot
        .tallies
        .held(&snapshot.namespaces, pod)
        .map(|(held, domains)| format!("{held:?} {}", tell(&domains)))
        .collect();
    held.sort();
    told.extend(held);
    let none = Counts::default();
    for owner in ["set-0", "set-2"] {
        told.extend(snapshot.tallies.owned(owner, &none).iter().map(tell));
    }
    told.extend(nodes.iter().map(|node| format!("{:?}", cycle.filter(node))));
    told
}

proptest! {
    #[test]
    fn one_change_at_a_time_is_as_all_at_once(steps in prop::collection::vec(step(), 0..60)) {
        let (mut snapshot, mut world, mut pods) = (Snapshot::default(), World::default(), pods());
        snapshot.set_namespace(&namespace(false));
        for step in steps {
            world.take(&mut snapshot, &mut pods, step);
        }
        let mut anew = world.anew();
        for pod in &pods {
            prop_assert_eq!(seen(&mut snapshot, pod), seen(&mut anew, pod));
        }
    }
}
