use super::*;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::{Value, json};

fn set(replicas: i32) -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "a", "uid": "set", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    })
}

/// Pods are written as `name` (ready), `name?` (not ready), `name!` (being deleted), `name+`
/// (owned by nobody) or `name-` (owned, but with other labels).
fn sim(replicas: i32, pods: &[&str]) -> (Sim, Key) {
    let mut sim = Sim::new(&ReplicaSets);
    let key = sim.put::<ReplicaSet>(set(replicas));
    for spec in pods {
        let name = spec.trim_end_matches(['?', '!', '+', '-']);
        let ready = if spec.ends_with('?') { "False" } else { "True" };
        let mut pod = json!({
            "metadata": {
                "name": name, "namespace": "a", "uid": name, "labels": { "app": "web" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "set",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i" }] },
            "status": { "phase": "Running", "conditions": [{
                "type": "Ready", "status": ready, "lastTransitionTime": "2019-12-01T00:00:00Z",
            }]},
        });
        if spec.ends_with('!') {
            pod["metadata"]["deletionTimestamp"] = json!("2019-12-01T00:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        }
        if spec.ends_with('+') {
            pod["metadata"]["ownerReferences"] = json!([]);
        }
        if spec.ends_with('-') {
            pod["metadata"]["labels"] = json!({ "app": "other" });
        }
        sim.put::<Pod>(pod);
    }
    (sim, key)
}

fn check(replicas: i32, pods: &[&str], want: &[&str]) {
    let (sim, key) = sim(replicas, pods);
    let got: Vec<String> = sim.plan(&ReplicaSets, &key).effects.iter().map(show).collect();
    assert_eq!(got, want);
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Create { target, .. } => format!("create {}", target.kind()),
        Effect::Delete { key, .. } => format!("delete {}", key.name),
        Effect::Patch { patch, subresource: Some("status"), .. } => {
            format!("status {}", patch["status"])
        }
        Effect::Patch { key, patch, .. } => {
            let owners = patch["metadata"]["ownerReferences"].as_array().map(Vec::len);
            format!("owners of {} {owners:?}", key.name)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn scales_up() {
    let status = r#"status {"observedGeneration":1,"replicas":0,"terminatingReplicas":0}"#;
    check(2, &[], &["create Pod", "create Pod", status]);
}

#[test]
fn deletes_unready_pods_first() {
    let status = r#"status {"availableReplicas":2,"fullyLabeledReplicas":3,"observedGeneration":1,"readyReplicas":2,"replicas":3,"terminatingReplicas":0}"#;
    check(1, &["a", "b?", "c"], &["delete b", "delete a", status]);
}

#[test]
fn adopts_and_releases() {
    let status = r#"status {"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":1,"readyReplicas":1,"replicas":1,"terminatingReplicas":1}"#;
    check(1, &["a+", "b-", "c!"], &["owners of b Some(0)", "owners of a Some(1)", status]);
}

#[test]
fn a_refused_creation_becomes_a_condition() {
    let (mut sim, key) = sim(1, &[]);
    let failed = Failure { verb: "create", message: "exceeded quota".into() };
    let plan = sim.plan_after(&ReplicaSets, &key, Some(&failed));
    sim.apply(plan.effects);
    let set = sim.get::<ReplicaSet>(&key);
    let conditions = set.status.as_ref().unwrap().conditions.clone().unwrap();
    assert_eq!(conditions[0].reason.as_deref(), Some("FailedCreate"));
    assert_eq!(conditions[0].message.as_deref(), Some("exceeded quota"));
    sim.settle(&ReplicaSets, &key);
    assert_eq!(sim.get::<ReplicaSet>(&key).status.as_ref().unwrap().conditions, None);
}

#[test]
fn waits_for_pods_to_be_ready_long_enough() {
    let (mut sim, key) = sim(1, &["a"]);
    sim.patch::<ReplicaSet>(&key, &json!({ "spec": { "minReadySeconds": 60 } }));
    let since = sim.now - jiff::SignedDuration::from_secs(45);
    let ready =
        json!([{ "type": "Ready", "status": "True", "lastTransitionTime": since.to_string() }]);
    sim.patch::<Pod>(&Key::new("a", "a"), &json!({ "status": { "conditions": ready } }));
    sim.settle(&ReplicaSets, &key);
    assert_eq!(sim.get::<ReplicaSet>(&key).status.as_ref().unwrap().available_replicas, None);
    assert_eq!(sim.plan(&ReplicaSets, &key).again_after.unwrap().as_secs(), 15);
}

#[test]
fn crashes_are_made_good() {
    crash_everywhere(&ReplicaSets, || sim(4, &["a", "b-", "c!", "d+"]));
    crash_everywhere(&ReplicaSets, || sim(1, &["a", "b", "c", "d?"]));
}

#[test]
fn replication_controllers_are_the_same() {
    let mut sim = Sim::new(&ReplicationControllers);
    let mut controller = set(3);
    controller["spec"]["selector"] = json!({ "app": "web" });
    let key = sim.put::<ReplicationController>(controller);
    sim.settle(&ReplicationControllers, &key);
    assert_eq!(sim.all::<Pod>().len(), 3);
    assert_eq!(sim.get::<ReplicationController>(&key).status.as_ref().unwrap().replicas, 3);
    assert!(sim.event_texts()[0].starts_with("SuccessfulCreate Created pod: web-"));
}
