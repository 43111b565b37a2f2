//! Services as their clients see them.
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};

use api::k8s::api::core::v1::Service;
use api::k8s::api::discovery::v1::EndpointSlice;
use net::{HostPort, Protocol};
use netplan::ServiceName;
use serde_json::json;

use super::fixture::{Node, Pod, ask_udp, at, root};

pub(super) const VIP: &str = "10.96.0.20";

pub(super) fn service(extra: serde_json::Value) -> Service {
    let mut spec = json!({
        "clusterIP": VIP, "clusterIPs": [VIP],
        "ports": [
            {"name": "t", "port": 8080, "protocol": "TCP", "targetPort": 80, "nodePort": 30080},
            {"name": "u", "port": 53, "protocol": "UDP", "targetPort": 80, "nodePort": 30053},
        ],
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let meta = json!({"namespace": "default", "name": "web"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

pub(super) fn slice(pods: &[(&Pod, &str)]) -> EndpointSlice {
    let endpoints: Vec<_> = pods
        .iter()
        .map(|(pod, node)| {
            json!({"addresses": [pod.ip], "nodeName": node, "conditions": {"ready": true}})
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "default", "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [
            {"name": "t", "port": 80, "protocol": "TCP"},
            {"name": "u", "port": 80, "protocol": "UDP"},
        ],
        "endpoints": endpoints,
    }))
    .unwrap()
}

pub(super) fn apply(node: &Node, service: &Service, slice: &EndpointSlice) {
    node.net
        .update(|state| {
            state.upsert_service(service);
            state.upsert_slice(slice);
        })
        .unwrap();
}

#[test]
fn a_cluster_ip_leads_to_every_endpoint_and_only_while_there_are_some() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, b, client) = (node.pod("a", &[]), node.pod("b", &[]), node.pod("client", &[]));
    let here = "node-1";
    apply(&node, &service(json!({})), &slice(&[(&a, here), (&b, here)]));
    for ns in [&client.ns, &node.ns] {
        let names: BTreeSet<String> =
            (0..40).map(|_| ns.ask(at(VIP, 8080)).unwrap()[..1].to_owned()).collect();
        assert_eq!(names, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert!(ns.ask_udp(at(VIP, 53)).is_ok());
        // A port the Service does not have.
        let error = ns.ask(at(VIP, 81)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
    assert_eq!(client.ns.ask(at(VIP, 8080)).unwrap()[2..], client.ip.to_string());
    node.net.update(|state| state.upsert_slice(&slice(&[(&b, here)]))).unwrap();
    for _ in 0..10 {
        assert!(client.ns.ask(at(VIP, 8080)).unwrap().starts_with('b'));
    }
    node.net.update(|state| state.remove_slice("default", "web-1")).unwrap();
    let error = client.ns.ask(at(VIP, 8080)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    apply(&node, &service(json!({})), &slice(&[(&a, here)]));
    assert!(client.ns.ask(at(VIP, 8080)).is_ok());
    let name = ServiceName { namespace: "default".into(), name: "web".into() };
    node.net.update(|state| state.remove_service(&name)).unwrap();
    let error = client.ns.ask(at(VIP, 8080)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let a = node.pod("a", &[]);
    apply(&node, &service(json!({})), &slice(&[(&a, "node-1")]));
    assert_eq!(a.ns.ask(at(VIP, 8080)).unwrap(), "a 10.244.0.1");
    assert_eq!(a.ns.ask_udp(at(VIP, 53)).unwrap(), "a 10.244.0.1");
}

#[test]
fn node_ports_and_external_addresses() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, client) = (node.pod("a", &[]), node.pod("client", &[]));
    let public = service(json!({"type": "NodePort", "externalIPs": ["198.51.100.7"]}));
    apply(&node, &public, &slice(&[(&a, "node-1")]));
    for ns in [&client.ns, &node.ns] {
        assert_eq!(ns.ask(at("10.244.0.1", 30080)).unwrap(), "a 10.244.0.1");
        assert_eq!(ns.ask_udp(at("10.244.0.1", 30053)).unwrap(), "a 10.244.0.1");
    }
    assert_eq!(client.ns.ask(at("198.51.100.7", 8080)).unwrap(), "a 10.244.0.1");
    for address in ["127.0.0.1", "127.0.0.53"] {
        assert_eq!(node.ns.ask(at(address, 30080)).unwrap(), "a 10.244.0.1");
        assert_eq!(node.ns.ask_udp(at(address, 30053)).unwrap(), "a 10.244.0.1");
    }
    // A pod's loopback is its own.
    let error = client.ns.ask(at("127.0.0.1", 30080)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    node.net.update(|state| state.remove_slice("default", "web-1")).unwrap();
    for (ns, address) in [
        (&client.ns, at("10.244.0.1", 30080)),
        (&client.ns, at("198.51.100.7", 8080)),
        (&node.ns, at("127.0.0.1", 30080)),
    ] {
        let error = ns.ask(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}: {error}");
    }
}

#[test]
fn client_affinity_lasts_until_its_endpoint_goes() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let pods: Vec<Pod> = ["a", "b", "c"].map(|name| node.pod(name, &[])).into();
    let client = node.pod("client", &[]);
    let sticky = service(json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
    }));
    let all: Vec<(&Pod, &str)> = pods.iter().map(|p| (p, "node-1")).collect();
    apply(&node, &sticky, &slice(&all));
    let first = client.ns.ask(at(VIP, 8080)).unwrap();
    for _ in 0..20 {
        assert_eq!(client.ns.ask(at(VIP, 8080)).unwrap(), first);
    }
    let rest: Vec<_> = all.iter().copied().filter(|(p, _)| !first.starts_with(&p.name)).collect();
    node.net.update(|state| state.upsert_slice(&slice(&rest))).unwrap();
    let second = client.ns.ask(at(VIP, 8080)).unwrap();
    assert_ne!(second, first);
    // The old endpoint's return does not move the client again.
    node.net.update(|state| state.upsert_slice(&slice(&all))).unwrap();
    for _ in 0..20 {
        assert_eq!(client.ns.ask(at(VIP, 8080)).unwrap(), second);
    }
}

#[test]
fn local_policies_use_only_endpoints_of_the_node() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, b, client) = (node.pod("a", &[]), node.pod("b", &[]), node.pod("client", &[]));
    let local = service(json!({"internalTrafficPolicy": "Local"}));
    apply(&node, &local, &slice(&[(&a, "node-1"), (&b, "node-2")]));
    for _ in 0..10 {
        assert!(client.ns.ask(at(VIP, 8080)).unwrap().starts_with('a'));
    }
    let outside = service(json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999,
    }));
    apply(&node, &outside, &slice(&[(&a, "node-1"), (&b, "node-2")]));
    let checks = node.net.update(|state| state.health_checks()).unwrap();
    assert_eq!(checks[&30999].local_endpoints, 1);
}

#[test]
fn host_ports_come_and_go_with_their_pod() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let client = node.pod("client", &[]);
    let port = |host_ip: Option<&str>, host_port, protocol| HostPort {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        container_port: 80,
        protocol,
    };
    let ports = [
        port(None, 8088, Protocol::Tcp),
        port(None, 8053, Protocol::Udp),
        port(Some("10.244.0.1"), 8089, Protocol::Tcp),
        port(Some("192.0.2.1"), 8090, Protocol::Tcp),
    ];
    let a = node.pod("a", &ports);
    assert_eq!(node.ns.ask(at("127.0.0.1", 8088)).unwrap(), "a 10.244.0.1");
    for ns in [&client.ns, &node.ns, &a.ns] {
        assert!(ns.ask(at("10.244.0.1", 8088)).unwrap().starts_with('a'));
        assert!(ns.ask(at("10.244.0.1", 8089)).unwrap().starts_with('a'));
        assert!(ns.ask_udp(at("10.244.0.1", 8053)).unwrap().starts_with('a'));
        let error = ns.ask(at("10.244.0.1", 8090)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
    node.net.detach_pod("a").unwrap();
    let error = client.ns.ask(at("10.244.0.1", 8088)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

#[test]
fn a_udp_client_moves_when_its_endpoint_goes() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, b, client) = (node.pod("a", &[]), node.pod("b", &[]), node.pod("client", &[]));
    apply(&node, &service(json!({"type": "NodePort"})), &slice(&[(&a, "node-1")]));
    // One socket, so one flow.
    let socket = client.ns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    assert!(ask_udp(&socket, at(VIP, 53)).unwrap().starts_with('a'));
    let own = node.ns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    let ports = [at("127.0.0.7", 30053), at("10.244.0.1", 30053)];
    for port in ports {
        assert!(ask_udp(&own, port).unwrap().starts_with('a'));
    }
    node.net.update(|state| state.upsert_slice(&slice(&[(&b, "node-1")]))).unwrap();
    assert!(ask_udp(&socket, at(VIP, 53)).unwrap().starts_with('b'));
    for port in ports {
        assert!(ask_udp(&own, port).unwrap().starts_with('b'), "{port}");
    }
}

#[test]
fn a_service_that_the_node_answers_itself() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, client) = (node.pod("a", &[]), node.pod("client", &[]));
    node.ns.serve("node", 10053);
    apply(&node, &service(json!({})), &slice(&[(&a, "node-1")]));
    let name = ServiceName { namespace: "default".into(), name: "web".into() };
    node.net.update(|state| state.set_local(name, 53, at("10.244.0.1", 10053))).unwrap();
    let answer = client.ns.ask_udp(at(VIP, 53)).unwrap();
    assert_eq!(answer, format!("node {}", client.ip));
    assert!(node.ns.ask_udp(at(VIP, 53)).unwrap().starts_with("node"));
    // Its other ports have their endpoints.
    assert!(client.ns.ask(at(VIP, 8080)).unwrap().starts_with('a'));
}
