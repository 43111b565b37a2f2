use super::*;
use crate::endpoints::EndpointsObjects;
use api::k8s::api::core::v1::Endpoints;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::{Value, json};

fn service(extra: &Value) -> Value {
    let mut service = json!({
        "metadata": { "name": "web", "namespace": "a", "labels": { "team": "x" } },
        "spec": { "selector": { "app": "web" }, "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"],
            "ports": [{ "name": "http", "port": 80, "targetPort": "web", "protocol": "TCP" }] },
    });
    for (key, value) in extra.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

fn pod(n: usize, ready: bool) -> Value {
    json!({
        "metadata": { "name": format!("p{n:03}"), "namespace": "a", "labels": { "app": "web" } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "i",
            "ports": [{ "name": "web", "containerPort": 8080, "protocol": "TCP" }] }] },
        "status": { "phase": "Running", "podIP": format!("10.244.0.{n}"),
            "podIPs": [{ "ip": format!("10.244.0.{n}") }], "conditions": [{ "type": "Ready",
            "status": if ready { "True" } else { "False" },
            "lastTransitionTime": "2019-12-01T00:00:00Z" }] },
    })
}

fn sim(extra: &Value, pods: usize) -> (Sim, Key) {
    let mut sim = Sim::new(&EndpointSlices);
    sim.admit(&EndpointsObjects);
    sim.put::<Node>(json!({ "metadata": { "name": "n1", "labels": { ZONE: "z1" } } }));
    for n in 1..=pods {
        sim.put::<Pod>(pod(n, true));
    }
    let key = sim.put::<Service>(service(extra));
    (sim, key)
}

fn sizes(sim: &Sim) -> Vec<usize> {
    let slices = sim.all::<EndpointSlice>();
    let mut sizes: Vec<usize> =
        slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn ready_pods_are_endpoints() {
    let (mut sim, key) = sim(&json!({}), 1);
    sim.put::<Pod>(pod(2, false));
    sim.settle(&EndpointSlices, &key);
    let slice = sim.all::<EndpointSlice>()[0].clone();
    assert_eq!(slice.ports.unwrap()[0].port, Some(8080));
    let endpoints = slice.endpoints.unwrap();
    let ready: Vec<_> =
        endpoints.iter().map(|e| e.conditions.as_ref().unwrap().ready.unwrap()).collect();
    assert_eq!(ready, [true, false]);
    assert_eq!(endpoints[0].zone.as_deref(), Some("z1"));
    assert_eq!(endpoints[0].target_ref.as_ref().unwrap().name.as_deref(), Some("p001"));
    let labels = slice.metadata.labels.unwrap();
    assert_eq!((&*labels["team"], &*labels[SERVICE_NAME]), ("x", "web"));
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
}

#[test]
fn a_terminating_pod_serves_but_is_not_ready() {
    let (mut sim, key) = sim(&json!({}), 1);
    sim.patch::<Pod>(
        &Key::new("a", "p001"),
        &json!({ "metadata": { "deletionTimestamp": "2019-12-01T00:00:00Z",
            "deletionGracePeriodSeconds": 30 } }),
    );
    sim.settle(&EndpointSlices, &key);
    let slice = sim.all::<EndpointSlice>()[0].clone();
    let conditions = slice.endpoints.unwrap()[0].conditions.clone().unwrap();
    let want =
        EndpointConditions { ready: Some(false), serving: Some(true), terminating: Some(true) };
    assert_eq!(conditions, want);
}

#[test]
fn traffic_distribution_becomes_hints_of_ready_endpoints() {
    let zones = json!({ "forZones": [{ "name": "z1" }] });
    let both = json!({ "forZones": [{ "name": "z1" }], "forNodes": [{ "name": "n1" }] });
    for (distribution, want) in [
        (json!(null), json!(null)),
        (json!("PreferClose"), zones.clone()),
        (json!("PreferSameZone"), zones),
        (json!("PreferSameNode"), both),
    ] {
        let (mut sim, key) = sim(&json!({ "trafficDistribution": distribution }), 1);
        sim.put::<Pod>(pod(2, false));
        sim.settle(&EndpointSlices, &key);
        let slice = serde_json::to_value(&sim.all::<EndpointSlice>()[0]).unwrap();
        assert_eq!(slice["endpoints"][0]["hints"], want, "{distribution}");
        assert_eq!(slice["endpoints"][1]["hints"], json!(null), "{distribution}");
    }
}

#[test]
fn slices_hold_a_hundred_and_are_filled_up() {
    let (mut sim, key) = sim(&json!({}), 230);
    sim.settle(&EndpointSlices, &key);
    assert_eq!(sizes(&sim), [30, 100, 100]);
    sim.put::<Pod>(pod(231, true));
    let changed = sim.plan(&EndpointSlices, &key).effects.len();
    assert_eq!(changed, 1, "the slice that has room takes the new one");
    sim.settle(&EndpointSlices, &key);
    assert_eq!(sizes(&sim), [31, 100, 100]);
    for n in 1..=20 {
        sim.remove::<Pod>(&Key::new("a", format!("p{n:03}")));
    }
    sim.settle(&EndpointSlices, &key);
    assert_eq!(sizes(&sim).iter().sum::<usize>(), 211);
}

#[test]
fn no_pods_leave_one_empty_slice() {
    let (mut sim, key) = sim(&json!({}), 2);
    sim.settle(&EndpointSlices, &key);
    sim.remove::<Pod>(&Key::new("a", "p001"));
    sim.remove::<Pod>(&Key::new("a", "p002"));
    sim.settle(&EndpointSlices, &key);
    assert_eq!(sizes(&sim), [0]);
    let before = sim.all::<EndpointSlice>()[0].metadata.name.clone();
    sim.put::<Pod>(pod(3, true));
    sim.settle(&EndpointSlices, &key);
    assert_eq!(sizes(&sim), [1]);
    assert_eq!(sim.all::<EndpointSlice>()[0].metadata.name, before, "the slice is used again");
}

#[test]
fn unready_addresses_can_be_published_and_headless_is_said() {
    let (mut sim, key) =
        sim(&json!({ "clusterIP": "None", "publishNotReadyAddresses": true, "ports": [] }), 0);
    sim.put::<Pod>(pod(1, false));
    sim.settle(&EndpointSlices, &key);
    let slice = sim.all::<EndpointSlice>()[0].clone();
    assert_eq!(slice.endpoints.unwrap()[0].conditions.as_ref().unwrap().ready, Some(true));
    assert!(slice.metadata.labels.unwrap().contains_key(service::HEADLESS));
}

#[test]
fn crashes_are_made_good() {
    crash_everywhere(&EndpointSlices, || sim(&json!({}), 230));
    crash_everywhere(&EndpointSlices, || sim(&json!({ "ipFamilies": ["IPv4", "IPv6"] }), 3));
    crash_everywhere(&EndpointsObjects, || sim(&json!({}), 3));
}

#[test]
fn the_old_form_says_the_same() {
    let (mut sim, key) = sim(&json!({}), 1);
    sim.put::<Pod>(pod(2, false));
    sim.settle(&EndpointsObjects, &key);
    let subsets = sim.get::<Endpoints>(&key).subsets.clone().unwrap();
    assert_eq!(subsets.len(), 1);
    assert_eq!(subsets[0].addresses.as_ref().unwrap()[0].ip, "10.244.0.1");
    assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip, "10.244.0.2");
    assert_eq!(subsets[0].ports.as_ref().unwrap()[0].port, 8080);
    sim.remove::<Service>(&key);
    sim.settle(&EndpointsObjects, &key);
    assert!(sim.all::<Endpoints>().is_empty());
}
