mod nominations;
mod tallies;

use super::*;
use api::k8s::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use std::sync::Arc;

fn node(name: &str, labels: Value, spec: Value) -> Node {
    let mut all = json!({"kubernetes.io/hostname": name});
    for (key, value) in labels.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": all}, "spec": spec,
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    }))
    .unwrap()
}

fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    labelled(name, json!({"app": "a"}), spec)
}

fn labelled(name: &str, labels: Value, spec: Value) -> Arc<PodInfo> {
    let mut spec = spec;
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let object = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels},
                        "spec": spec});
    Arc::new(PodInfo::new(&serde_json::from_value::<Pod>(object).unwrap()))
}

fn asks(cpu: &str) -> Value {
    json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}])
}

fn cluster(n: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for i in 0..n {
        let zone = format!("z{}", i % 2);
        let labels = json!({"topology.kubernetes.io/zone": zone});
        snapshot.set_node(&node(&format!("n{i}"), labels, json!({})));
    }
    snapshot
}

fn place(snapshot: &mut Snapshot, pod: &Arc<PodInfo>) -> String {
    match schedule(snapshot, pod) {
        Decision::Place { node } => {
            snapshot.place(pod, &node);
            node
        }
        Decision::Refused(refusal) => panic!("{}", refusal.message),
    }
}

fn refused(snapshot: &mut Snapshot, pod: &PodInfo) -> Refusal {
    match schedule(snapshot, pod) {
        Decision::Refused(refusal) => refusal,
        Decision::Place { node } => panic!("placed on {node}"),
    }
}

#[test]
fn refusals_are_counted_in_upstreams_words() {
    let mut snapshot = Snapshot::default();
    assert_eq!(
        refused(&mut snapshot, &pod("p", json!({}))).message,
        "no nodes available to schedule pods"
    );
    snapshot.set_node(&node("a", json!({}), json!({"unschedulable": true})));
    let taint = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    snapshot.set_node(&node("b", json!({}), taint));
    snapshot.set_node(&node("c", json!({}), json!({})));
    let refusal = refused(&mut snapshot, &pod("p", json!({"containers": asks("5")})));
    assert_eq!(
        refusal.message,
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) \
         were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for \
         scheduling."
    );
}

#[test]
fn room_is_found_taken_and_given_back() {
    let mut snapshot = cluster(2);
    let pods: Vec<_> =
        (0..4).map(|i| pod(&format!("p{i}"), json!({"containers": asks("2")}))).collect();
    for pod in &pods {
        place(&mut snapshot, pod);
    }
    let more = pod("more", json!({"containers": asks("1")}));
    assert!(refused(&mut snapshot, &more).message.contains("2 Insufficient cpu"));
    snapshot.remove("p0");
    place(&mut snapshot, &more);
}

#[test]
fn a_set_spreads_over_nodes_and_zones() {
    let mut snapshot = cluster(6);
    let mut seen = std::collections::BTreeMap::new();
    for i in 0..12 {
        let mut one = (*pod(&format!("p{i}"), json!({}))).clone();
        one.owner = Some("set".to_owned());
        *seen.entry(place(&mut snapshot, &Arc::new(one))).or_insert(0) += 1;
    }
    assert!(seen.len() == 6 && seen.values().all(|n| *n == 2), "{seen:?}");
}

#[test]
fn hard_spread_and_anti_affinity_hold() {
    let mut snapshot = cluster(3);
    let apart = json!({"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "a"}}}]}}});
    for i in 0..3 {
        place(&mut snapshot, &pod(&format!("p{i}"), apart.clone()));
    }
    let refusal = refused(&mut snapshot, &pod("p3", apart));
    assert!(refusal.message.contains("3 node(s) didn't match pod anti-affinity rules"));
    let refusal = refused(&mut snapshot, &pod("plain", json!({})));
    assert!(refusal.message.contains("3 node(s) didn't satisfy existing pods anti-affinity rules"));
    place(&mut snapshot, &labelled("other", json!({"app": "b"}), json!({})));

    let mut snapshot = cluster(4);
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "topologyKey": "topology.kubernetes.io/zone",
        "labelSelector": {"matchLabels": {"app": "a"}}}], "nodeSelector": {"topology.kubernetes.io/zone": "z0"}});
    // Only one zone is eligible, so all skew is within it.
    place(&mut snapshot, &pod("p0", spread.clone()));
    place(&mut snapshot, &pod("p1", spread));
}

#[test]
fn affinity_follows_and_its_first_goes_anywhere() {
    let mut snapshot = cluster(4);
    let near = json!({"affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "a"}}}]}}});
    let first = place(&mut snapshot, &pod("p0", near.clone()));
    for i in 1..4 {
        assert_eq!(place(&mut snapshot, &pod(&format!("p{i}"), near.clone())), first);
    }
    let stranger = labelled(
        "s",
        json!({"app": "none"}),
        json!({"affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "nobody"}}}]}}}),
    );
    assert!(
        refused(&mut snapshot, &stranger)
            .message
            .contains("4 node(s) didn't match pod affinity rules")
    );
}

#[test]
fn the_least_important_pods_make_room() {
    let mut snapshot = cluster(2);
    for (name, priority, node) in [("low", 0, "n0"), ("mid", 5, "n1")] {
        let mut one = (*pod(name, json!({"containers": asks("3")}))).clone();
        one.priority = priority;
        snapshot.place(&Arc::new(one), node);
    }
    let mut high = (*pod("high", json!({"containers": asks("3")}))).clone();
    high.priority = 10;
    let refusal = refused(&mut snapshot, &high);
    assert_eq!(refusal.preempt, Some(("n0".to_owned(), vec!["low".to_owned()])));
    assert!(snapshot.is_placed("low"), "looking changes nothing");
    high.may_preempt = false;
    assert_eq!(refused(&mut snapshot, &high).preempt, None);
}

#[test]
fn ports_conflict_on_overlapping_addresses() {
    let mut snapshot = cluster(1);
    let port = |ip: &str| {
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80,
            "hostIP": ip, "protocol": "TCP"}]}]})
    };
    place(&mut snapshot, &pod("a", port("127.0.0.1")));
    place(&mut snapshot, &pod("b", port("127.0.0.2")));
    assert!(refused(&mut snapshot, &pod("c", port(""))).message.contains("free ports"));
}
