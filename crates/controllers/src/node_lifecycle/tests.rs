use super::*;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::Value;

fn node(name: &str, ready: &str) -> Value {
    let mut node = json!({ "metadata": { "name": name }, "spec": {}, "status": {} });
    if !ready.is_empty() {
        node["status"]["conditions"] = json!([
            { "type": "Ready", "status": ready, "lastHeartbeatTime": "2019-12-01T00:00:00Z" },
        ]);
    }
    node
}

fn renew(sim: &mut Sim) {
    let now = sim.now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    sim.put::<Lease>(json!({ "metadata": { "name": "n", "namespace": LEASES },
        "spec": { "holderIdentity": "n", "renewTime": now } }));
}

fn later(sim: &mut Sim, seconds: i64) {
    sim.now += jiff::SignedDuration::from_secs(seconds);
}

fn status(sim: &Sim) -> String {
    ready(sim.get::<Node>(&Key::new("", "n"))).unwrap_or("none").to_owned()
}

fn taints(sim: &Sim, name: &str) -> Vec<String> {
    let node = sim.get::<Node>(&Key::new("", name));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let short = |taint: &Taint| taint.key.replace("node.kubernetes.io/", "");
    taints.iter().map(|taint| format!("{}:{}", short(taint), taint.effect)).collect()
}

#[test]
fn a_node_that_falls_silent_is_unknown_and_so_are_its_pods() {
    let health = NodeHealth::default();
    let mut sim = Sim::new(&health);
    let key = sim.put::<Node>(node("n", "True"));
    let pod = sim.put::<Pod>(json!({ "metadata": { "name": "p", "namespace": "a" },
        "spec": { "nodeName": "n", "containers": [] },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }));
    renew(&mut sim);
    sim.settle(&health, &key);
    for _ in 0..10 {
        later(&mut sim, 10);
        renew(&mut sim);
        sim.settle(&health, &key);
    }
    assert_eq!(status(&sim), "True");
    later(&mut sim, 20);
    assert_eq!(sim.plan(&health, &key).again_after.unwrap().as_secs(), 30);
    later(&mut sim, 31);
    sim.settle(&health, &key);
    assert_eq!(status(&sim), "Unknown");
    assert!(!pods::is_ready(sim.get::<Pod>(&pod)));
    let events = sim.event_texts();
    assert!(events.contains(&"NodeNotReady Node n status is now: NodeNotReady".to_owned()));
    assert!(events.contains(&"NodeNotReady Node is not ready".to_owned()));
    let silent = sim.get::<Node>(&key).status.as_ref().unwrap().conditions.clone().unwrap();
    let heard = silent.iter().find(|c| c.type_ == "Ready").unwrap().last_heartbeat_time.clone();
    assert_eq!(heard.unwrap().0.to_string(), "2019-12-01T00:00:00Z", "no sign of life");
}

#[test]
fn a_restart_gives_every_node_its_grace() {
    let mut sim = Sim::new(&NodeHealth::default());
    let key = sim.put::<Node>(node("n", "True"));
    renew(&mut sim);
    later(&mut sim, 3600);
    let restarted = NodeHealth::default();
    sim.settle(&restarted, &key);
    assert_eq!(status(&sim), "True");
    later(&mut sim, 51);
    sim.settle(&restarted, &key);
    assert_eq!(status(&sim), "Unknown");
}

#[test]
fn a_node_that_never_spoke_is_told_apart() {
    let health = NodeHealth::default();
    let mut sim = Sim::new(&health);
    let key = sim.put::<Node>(node("n", ""));
    sim.settle(&health, &key);
    later(&mut sim, 61);
    sim.settle(&health, &key);
    let node = sim.get::<Node>(&key);
    let condition = condition(node, "Ready").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("NodeStatusNeverUpdated"));
}

#[test]
fn taints_follow_conditions() {
    let mut sim = Sim::new(&NodeTaints);
    let key = sim.put::<Node>(node("n", ""));
    sim.put::<Node>(node("other", "True"));
    sim.patch::<Node>(
        &key,
        &json!({ "spec": { "taints": [
        { "key": "mine", "effect": "NoSchedule" }] } }),
    );
    for (ready, want) in [
        ("", vec!["mine:NoSchedule", "not-ready:NoSchedule"]),
        ("False", vec!["mine:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"]),
        ("Unknown", vec!["mine:NoSchedule", "unreachable:NoSchedule", "unreachable:NoExecute"]),
        ("True", vec!["mine:NoSchedule"]),
    ] {
        let status = node("n", ready)["status"].clone();
        sim.patch::<Node>(&key, &json!({ "status": status }));
        sim.settle(&NodeTaints, &key);
        assert_eq!(taints(&sim, "n"), want, "{ready}");
    }
    sim.patch::<Node>(
        &key,
        &json!({ "spec": { "unschedulable": true }, "status": {
        "conditions": [{ "type": "Ready", "status": "True" },
            { "type": "DiskPressure", "status": "True" }] } }),
    );
    sim.settle(&NodeTaints, &key);
    let want = ["mine:NoSchedule", "unschedulable:NoSchedule", "disk-pressure:NoSchedule"];
    assert_eq!(taints(&sim, "n"), want);
}

#[test]
fn nobody_is_evicted_if_no_node_is_ready() {
    let mut sim = Sim::new(&NodeTaints);
    let key = sim.put::<Node>(node("n", "Unknown"));
    sim.settle(&NodeTaints, &key);
    assert_eq!(taints(&sim, "n"), ["unreachable:NoSchedule"]);
    sim.put::<Node>(node("other", "True"));
    sim.settle(&NodeTaints, &key);
    assert_eq!(taints(&sim, "n"), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
}

#[test]
fn crashes_are_made_good() {
    let health = NodeHealth::default();
    crash_everywhere(&NodeTaints, || {
        let mut sim = Sim::new(&NodeTaints);
        let key = sim.put::<Node>(node("n", "Unknown"));
        sim.put::<Node>(node("other", "True"));
        (sim, key)
    });
    crash_everywhere(&health, || {
        let mut sim = Sim::new(&health);
        let key = sim.put::<Node>(node("n", "True"));
        for name in ["p", "q"] {
            sim.put::<Pod>(json!({ "metadata": { "name": name, "namespace": "a" },
                "spec": { "nodeName": "n", "containers": [] },
                "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }));
        }
        health.heard.lock().unwrap().clear();
        sim.plan(&health, &key);
        later(&mut sim, 60);
        (sim, key)
    });
}
