use super::*;
use api::Key;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::{Value, json};

fn set(strategy: Value) -> Value {
    json!({
        "metadata": { "name": "agent", "namespace": "a", "uid": "set", "generation": 1 },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "updateStrategy": strategy,
            "revisionHistoryLimit": 1,
            "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": { "nodeSelector": { "os": "linux" },
                          "containers": [{ "name": "c", "image": "one" }] },
            },
        },
    })
}

fn rolling(field: &str, value: Value) -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { field: value } })
}

fn node(name: &str) -> Value {
    json!({ "metadata": { "name": name, "labels": { "os": "linux" } }, "spec": {} })
}

fn sim(nodes: &[&str], strategy: Value) -> (Sim, Key) {
    let mut sim = Sim::new(&DaemonSets);
    for name in nodes {
        sim.put::<Node>(node(name));
    }
    let key = sim.put::<DaemonSet>(set(strategy));
    (sim, key)
}

/// The scheduler and the nodes: pods get bound and ready, what is deleted goes.
fn run(sim: &mut Sim, key: &Key) -> (usize, usize) {
    let (mut most, mut fewest) = (0, usize::MAX);
    for _ in 0..100 {
        let plan = sim.plan(&DaemonSets, key);
        let still = plan.is_settled();
        sim.apply(plan.effects);
        let pods = sim.all::<Pod>();
        most = most.max(pods.len());
        fewest = fewest.min(pods.iter().filter(|pod| pods::is_ready(pod)).count());
        let waiting = pods.iter().find(|pod| !pods::is_ready(pod));
        let waiting = waiting.map(|pod| (pod.key(), place::target(pod).to_owned()));
        let Some((key, node)) = waiting else {
            if still {
                return (most, fewest);
            }
            continue;
        };
        let since = sim.now.to_string();
        let ready = json!([{ "type": "Ready", "status": "True", "lastTransitionTime": since }]);
        let status = json!({ "phase": "Running", "conditions": ready });
        sim.patch::<Pod>(&key, &json!({ "spec": { "nodeName": node }, "status": status }));
    }
    panic!("never still: {:#?}", sim.event_texts());
}

fn images(sim: &Sim) -> Vec<(String, String)> {
    let show = |pod: &&Pod| {
        let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        (place::target(pod).to_owned(), image)
    };
    let mut images: Vec<_> = sim.all::<Pod>().iter().map(show).collect();
    images.sort();
    images
}

fn on(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(node, image)| ((*node).to_owned(), (*image).to_owned())).collect()
}

fn change_image(sim: &mut Sim, key: &Key, image: &str) {
    let containers = json!([{ "name": "c", "image": image }]);
    sim.now += jiff::SignedDuration::from_secs(5);
    let spec = json!({ "template": { "spec": { "containers": containers } } });
    sim.patch::<DaemonSet>(key, &json!({ "spec": spec, "metadata": { "generation": 2 } }));
}

#[test]
fn one_pod_on_each_suitable_node() {
    let (mut sim, key) = sim(&["a", "b"], json!({ "type": "RollingUpdate" }));
    sim.put::<Node>(json!({ "metadata": { "name": "w", "labels": { "os": "windows" } } }));
    let mut tainted = node("t");
    tainted["spec"]["taints"] = json!([{ "key": "x", "effect": "NoSchedule" }]);
    sim.put::<Node>(tainted);
    let mut cordoned = node("c");
    let unschedulable = "node.kubernetes.io/unschedulable";
    cordoned["spec"]["taints"] = json!([{ "key": unschedulable, "effect": "NoSchedule" }]);
    sim.put::<Node>(cordoned);
    run(&mut sim, &key);
    assert_eq!(images(&sim), on(&[("a", "one"), ("b", "one"), ("c", "one")]));
    let status = sim.get::<DaemonSet>(&key).status.clone().unwrap();
    assert_eq!(status.desired_number_scheduled, 3);
    assert_eq!((status.number_ready, status.number_available), (3, Some(3)));
    assert_eq!((status.updated_number_scheduled, status.number_unavailable), (Some(3), None));
    assert!(sim.event_texts()[0].starts_with("SuccessfulCreate Created pod: agent-"));
    sim.put::<Node>(node("d"));
    sim.remove::<Node>(&Key::new("", "w"));
    run(&mut sim, &key);
    assert_eq!(sim.all::<Pod>().len(), 4);
    sim.patch::<Node>(&Key::new("", "a"), &json!({ "metadata": { "labels": { "os": "bsd" } } }));
    run(&mut sim, &key);
    assert_eq!(images(&sim), on(&[("b", "one"), ("c", "one"), ("d", "one")]));
}

#[test]
fn a_rolling_update_keeps_to_its_bounds() {
    let nodes = ["a", "b", "c", "d"];
    let all = |image| on(&nodes.map(|node| (node, image)));
    let (mut sim, key) = sim(&nodes, rolling("maxUnavailable", json!("50%")));
    run(&mut sim, &key);
    change_image(&mut sim, &key, "two");
    assert_eq!(run(&mut sim, &key), (4, 2));
    assert_eq!(images(&sim), all("two"));
    change_image(&mut sim, &key, "three");
    run(&mut sim, &key);
    let revisions = sim.all::<ControllerRevision>();
    let mut numbers: Vec<_> = revisions.iter().map(|revision| revision.revision).collect();
    numbers.sort();
    assert_eq!(numbers, [Some(2), Some(3)], "a history of one");
    change_image(&mut sim, &key, "two");
    run(&mut sim, &key);
    assert_eq!(images(&sim), all("two"));
    let newest = sim.all::<ControllerRevision>().iter().map(|r| r.revision).max().unwrap();
    assert_eq!(newest, Some(4), "an old template is a new revision");
}

#[test]
fn with_a_surge_nothing_is_missing() {
    let (mut sim, key) = sim(&["a", "b", "c"], {
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } })
    });
    run(&mut sim, &key);
    change_image(&mut sim, &key, "two");
    assert_eq!(run(&mut sim, &key), (4, 3));
    assert_eq!(images(&sim), on(&[("a", "two"), ("b", "two"), ("c", "two")]));
}

#[test]
fn on_delete_waits_for_its_user() {
    let (mut sim, key) = sim(&["a", "b"], json!({ "type": "OnDelete" }));
    run(&mut sim, &key);
    change_image(&mut sim, &key, "two");
    run(&mut sim, &key);
    assert_eq!(images(&sim), on(&[("a", "one"), ("b", "one")]));
    let first = sim.all::<Pod>()[0].key();
    sim.remove::<Pod>(&first);
    run(&mut sim, &key);
    assert_eq!(images(&sim), on(&[("a", "two"), ("b", "one")]));
}

#[test]
fn failed_pods_are_replaced_after_a_while() {
    let (mut sim, key) = sim(&["a"], json!({ "type": "RollingUpdate" }));
    run(&mut sim, &key);
    let pod = sim.all::<Pod>()[0].key();
    sim.patch::<Pod>(&pod, &json!({ "status": { "phase": "Failed", "conditions": null } }));
    sim.settle(&DaemonSets, &key);
    assert_eq!(sim.plan(&DaemonSets, &key).again_after, Some(FAILED_WAIT));
    sim.now += jiff::SignedDuration::from_secs(10);
    run(&mut sim, &key);
    assert_ne!(sim.all::<Pod>()[0].key(), pod);
    let message =
        format!("FailedDaemonPod Found failed daemon pod {pod} on node a, will try to kill it");
    assert!(sim.event_texts().contains(&message));
}

#[test]
fn crashes_are_made_good() {
    crash_everywhere(&DaemonSets, || sim(&["a", "b"], json!({ "type": "RollingUpdate" })));
    crash_everywhere(&DaemonSets, || {
        let (mut sim, key) = sim(&["a", "b"], rolling("maxUnavailable", json!(2)));
        run(&mut sim, &key);
        change_image(&mut sim, &key, "two");
        (sim, key)
    });
}
