use super::*;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::{Value, json};

fn pod(name: &str, ready: bool, owner: Option<&str>) -> Value {
    let ready = if ready { "True" } else { "False" };
    let owners: Vec<Value> = owner
        .map(|uid| {
            json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": uid,
                    "controller": true })
        })
        .into_iter()
        .collect();
    json!({
        "metadata": { "name": name, "namespace": "a", "labels": { "app": "x" },
                      "ownerReferences": owners },
        "spec": { "containers": [] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
    })
}

fn budget(spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({ "matchLabels": { "app": "x" } });
    json!({ "metadata": { "name": "b", "namespace": "a", "generation": 1 }, "spec": spec })
}

/// Healthy, wanted healthy, expected, allowed to go.
fn numbers(sim: &Sim, key: &Key) -> [i32; 4] {
    let status = sim.get::<PodDisruptionBudget>(key).status.clone().unwrap();
    let all = [status.current_healthy, status.desired_healthy, status.expected_pods];
    [all[0].unwrap(), all[1].unwrap(), all[2].unwrap(), status.disruptions_allowed.unwrap()]
}

fn condition(sim: &Sim, key: &Key) -> (String, String) {
    let status = sim.get::<PodDisruptionBudget>(key).status.as_ref().unwrap();
    let condition = &status.conditions.as_ref().unwrap()[0];
    (condition.status.clone(), condition.reason.clone())
}

#[test]
fn a_number_is_of_the_pods_that_are_there() {
    let mut sim = Sim::new(&DisruptionBudgets);
    let key = sim.put::<PodDisruptionBudget>(budget(json!({ "minAvailable": 2 })));
    sim.settle(&DisruptionBudgets, &key);
    assert_eq!(numbers(&sim, &key), [0, 2, 0, 0]);
    assert_eq!(sim.event_texts(), ["NoPods No matching pods found"]);
    for (name, ready) in [("p1", true), ("p2", true), ("p3", true), ("p4", false)] {
        sim.put::<Pod>(pod(name, ready, None));
    }
    sim.settle(&DisruptionBudgets, &key);
    assert_eq!(numbers(&sim, &key), [3, 2, 4, 1]);
    assert_eq!(condition(&sim, &key), ("True".to_owned(), "SufficientPods".to_owned()));
    assert_eq!(sim.plan(&DisruptionBudgets, &key), Plan::nothing());
}

#[test]
fn a_share_is_of_what_the_controllers_want() {
    let mut sim = Sim::new(&DisruptionBudgets);
    let rs = sim.put::<ReplicaSet>(json!({
        "metadata": { "name": "rs", "namespace": "a" },
        "spec": { "replicas": 10, "selector": {}, "template": {} },
    }));
    let uid = sim.get::<ReplicaSet>(&rs).uid().to_owned();
    for name in ["p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8"] {
        sim.put::<Pod>(pod(name, true, Some(&uid)));
    }
    let key = sim.put::<PodDisruptionBudget>(budget(json!({ "maxUnavailable": "30%" })));
    sim.settle(&DisruptionBudgets, &key);
    assert_eq!(numbers(&sim, &key), [8, 7, 10, 1]);
    sim.put::<Pod>(pod("stray", true, Some("nobody")));
    sim.settle(&DisruptionBudgets, &key);
    assert_eq!(numbers(&sim, &key)[3], 0);
    assert_eq!(condition(&sim, &key), ("False".to_owned(), "SyncFailed".to_owned()));
}

#[test]
fn an_evicted_pod_counts_as_gone_for_two_minutes() {
    let mut sim = Sim::new(&DisruptionBudgets);
    let key = sim.put::<PodDisruptionBudget>(budget(json!({ "minAvailable": 1 })));
    for name in ["p1", "p2"] {
        sim.put::<Pod>(pod(name, true, None));
    }
    sim.settle(&DisruptionBudgets, &key);
    let evicted =
        json!({ "disruptionsAllowed": 0, "disruptedPods": { "p1": sim.now.to_string() } });
    sim.patch::<PodDisruptionBudget>(&key, &json!({ "status": evicted }));
    sim.settle(&DisruptionBudgets, &key);
    assert_eq!(numbers(&sim, &key), [1, 1, 2, 0]);
    assert_eq!(sim.plan(&DisruptionBudgets, &key).again_after.unwrap().as_secs(), 120);
    sim.now += DELETION_TIMEOUT;
    sim.settle(&DisruptionBudgets, &key);
    assert_eq!(numbers(&sim, &key), [2, 1, 2, 1]);
}

#[test]
fn crashes_are_made_good() {
    crash_everywhere(&DisruptionBudgets, || {
        let mut sim = Sim::new(&DisruptionBudgets);
        let key = sim.put::<PodDisruptionBudget>(budget(json!({ "minAvailable": 1 })));
        sim.put::<Pod>(pod("p1", true, None));
        (sim, key)
    });
}
