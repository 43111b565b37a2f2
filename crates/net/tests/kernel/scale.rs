//! Very many Services and pods. Prints rather than asserts times: machines differ, and the bench
//! row `endpoints` measures.
use std::collections::BTreeSet;
use std::time::Instant;

use api::k8s::api::core::v1::Service;
use api::k8s::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::fixture::{Node, Ns, at, root};

const SERVICES: u32 = 10_000;
const CHANGES: usize = 200;

fn ip(index: u32) -> String {
    format!("10.96.{}.{}", 1 + index / 200, 1 + index % 200)
}

fn service(index: u32) -> Service {
    serde_json::from_value(json!({
        "metadata": {"namespace": "scale", "name": format!("s{index}")},
        "spec": {"clusterIP": ip(index), "ports": [{"port": 80, "protocol": "TCP"}]},
    }))
    .unwrap()
}

fn slice(index: u32, endpoints: &[String]) -> EndpointSlice {
    let endpoints: Vec<_> = endpoints.iter().map(|ip| json!({"addresses": [ip]})).collect();
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "scale", "name": format!("s{index}-1"),
            "labels": {"kubernetes.io/service-name": format!("s{index}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

#[test]
fn a_change_among_ten_thousand_services_is_seen() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, client) = (node.pod("a", &[]), node.pod("client", &[]));
    let started = Instant::now();
    node.net
        .update(|state| {
            for index in 0..SERVICES {
                state.upsert_service(&service(index));
                let far = |n: u32| format!("10.244.{}.{}", 1 + index % 200, 2 + n);
                state.upsert_slice(&slice(index, &[far(0), far(1), far(2)]));
            }
        })
        .unwrap();
    eprintln!("{SERVICES} Services at once: {:?}", started.elapsed());
    let mut times = Vec::new();
    for change in 0..CHANGES {
        // Fewer endpoints, then another in the place of one.
        let index = (change as u32 % 100) * 37;
        let object =
            slice(index, &[if change < 100 { "10.244.9.9".into() } else { a.ip.to_string() }]);
        let started = Instant::now();
        node.net.update(|state| state.upsert_slice(&object)).unwrap();
        times.push(started.elapsed());
    }
    assert!(client.ns.ask(at(&ip(37), 80)).unwrap().starts_with('a'));
    for (what, times) in
        [("fewer", &mut times[..100].to_vec()), ("other", &mut times[100..].to_vec())]
    {
        times.sort();
        eprintln!("{what} endpoints: median {:?}, most {:?}", times[50], times[99]);
    }
    times.sort();
    let (median, p99) = (times[CHANGES / 2], times[CHANGES * 99 / 100]);
    eprintln!("one change: median {median:?}, p99 {p99:?}, most {:?}", times[CHANGES - 1]);
    let started = Instant::now();
    node.ns.run(|| net::cleanup("t1", node.dir.path())).unwrap();
    eprintln!("cleanup: {:?}", started.elapsed());
}

#[test]
fn every_pod_has_an_address_of_its_own() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let namespaces: Vec<Ns> = (0..50).map(|_| Ns::new()).collect();
    let started = Instant::now();
    let attach = |(index, ns): (usize, &Ns)| {
        node.net.attach_pod(&format!("pod-{index}"), &ns.path(), &[]).unwrap()
    };
    let addresses: BTreeSet<_> =
        namespaces.iter().enumerate().map(attach).map(|found| found.ip).collect();
    eprintln!("one pod attached: {:?}", started.elapsed() / 50);
    assert_eq!(addresses.len(), namespaces.len(), "{addresses:?}");
}
