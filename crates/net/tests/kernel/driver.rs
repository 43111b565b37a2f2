//! The driver: from events to what clients see.
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use api::k8s::api::core::v1::Node;
use net::{HostConfig, HostNet, NetEvent, NodeNet};
use serde_json::json;
use tokio::sync::mpsc;

use super::fixture::{Node as TestNode, PATIENCE, Pod, at, config, root};

use super::services::{VIP, apply, service, slice};
use super::topology::two_nodes;

/// Tries until it works; fails when patience ends.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "still not: {what}");
        std::thread::yield_now();
    }
}

/// Runs the driver inside the node's namespace.
fn drive(
    node: &TestNode,
    net: Arc<NodeNet>,
) -> (mpsc::UnboundedSender<NetEvent>, std::thread::JoinHandle<()>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let path = node.ns.path();
    let task = std::thread::spawn(move || {
        net::hostlab::enter(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(net::run(net, receiver, Vec::new())).unwrap();
    });
    (sender, task)
}

#[test]
fn events_become_rules_once_everything_is_known() {
    if !root() {
        return;
    }
    let node = TestNode::alone();
    let (a, client) = (node.pod("a", &[]), node.pod("client", &[]));
    let (events, task) = drive(&node, node.net.clone());
    let web = Arc::new(service(json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999,
    })));
    events.send(NetEvent::Service(web.clone())).unwrap();
    let endpoints = Arc::new(slice(&[(&a, "node-1")]));
    events.send(NetEvent::Slice(endpoints.clone())).unwrap();
    assert!(client.ns.ask(at(VIP, 8080)).is_err(), "rules before everything was known");
    events.send(NetEvent::Synced).unwrap();
    eventually("the ClusterIP answers", || client.ns.ask(at(VIP, 8080)).ok());
    let health = || {
        node.ns.run(|| {
            let mut stream = TcpStream::connect("127.0.0.1:30999").ok()?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        })
    };
    eventually("the health check passes", || {
        health().filter(|text| {
            text.starts_with("HTTP/1.1 200") && text.contains("\"localEndpoints\":1")
        })
    });
    events.send(NetEvent::SliceDeleted(endpoints)).unwrap();
    eventually("the health check fails", || health().filter(|t| t.starts_with("HTTP/1.1 503")));
    assert!(client.ns.ask(at(VIP, 8080)).is_err());
    events.send(NetEvent::ServiceDeleted(web)).unwrap();
    eventually("the health check is gone", || health().is_none().then_some(()));
    drop(events);
    task.join().unwrap();
}

#[test]
fn nodes_become_routes() {
    if !root() {
        return;
    }
    let (_host, one, two, _dir) = two_nodes(false);
    let (a, b) = (one.pod("a", &[]), two.pod("b", &[]));
    one.net.set_peers(Vec::new()).unwrap();
    let (events, task) = drive(&one, one.net.clone());
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "node-1"}, "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"addresses": [
            {"type": "Hostname", "address": "node-1"}, {"type": "InternalIP", "address": "10.90.0.3"},
        ]},
    }))
    .unwrap();
    let node = Arc::new(node);
    events.send(NetEvent::Node(node.clone())).unwrap();
    assert!(a.ns.ask(at(&b.ip.to_string(), 80)).is_err());
    events.send(NetEvent::Synced).unwrap();
    eventually("the other node's pod answers", || a.ns.ask(at(&b.ip.to_string(), 80)).ok());
    events.send(NetEvent::NodeDeleted(node)).unwrap();
    eventually("the way is gone", || a.ns.ask(at(&b.ip.to_string(), 80)).err());
    drop(events);
    task.join().unwrap();
}

#[test]
fn the_machine_of_several_nodes_reaches_services_itself() {
    if !root() {
        return;
    }
    let (host, one, two, dir) = two_nodes(false);
    let (a, b) = (one.pod("a", &[]), two.pod("b", &[]));
    let config = HostConfig {
        cluster_id: "t1".to_owned(),
        nodes: vec!["node-0".to_owned(), "node-1".to_owned()],
        subnet: "10.90.0.0/24".parse().unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
    };
    let net = Arc::new(host.run(|| HostNet::start(&config)).unwrap());
    for (pods, via) in [("10.244.0.0/24", "10.90.0.2"), ("10.244.1.0/24", "10.90.0.3")] {
        let (pods, via) = (pods.parse().unwrap(), via.parse().unwrap());
        host.run(|| net::hostlab::route("t1", pods, via)).unwrap();
    }
    let (events, receiver) = mpsc::unbounded_channel();
    let path = host.path();
    let task = std::thread::spawn(move || {
        net::hostlab::enter(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(net::run_host(net, receiver)).unwrap();
    });
    let both = Arc::new(slice(&[(&a, "node-0"), (&b, "node-1")]));
    events.send(NetEvent::Slice(both.clone())).unwrap();
    events.send(NetEvent::Synced).unwrap();
    let expected = BTreeSet::from(["a 10.90.0.1".to_owned(), "b 10.90.0.1".to_owned()]);
    for policy in ["Cluster", "Local"] {
        let web = json!({"type": "NodePort", "externalTrafficPolicy": policy});
        events.send(NetEvent::Service(Arc::new(service(web)))).unwrap();
        for address in [at("127.0.0.1", 30080), at("10.90.0.1", 30080), at(VIP, 8080)] {
            eventually("the machine is answered", || host.ask(address).ok());
            let answers: BTreeSet<String> = (0..40).map(|_| host.ask(address).unwrap()).collect();
            assert_eq!(answers, expected, "{address} {policy}");
        }
        assert!(host.ask_udp(at("127.0.0.1", 30053)).is_ok());
    }
    drop(events);
    task.join().unwrap();
    host.run(|| net::cleanup("t1", dir.path())).unwrap();
    let left = host.run(|| std::fs::read_to_string("/proc/thread-self/net/route").unwrap());
    assert_eq!(left.lines().count(), 1, "{left}");
}

#[test]
fn a_restart_serves_on_until_everything_is_known_again() {
    if !root() {
        return;
    }
    let node = TestNode::alone();
    let (a, client) = (node.pod("a", &[]), node.pod("client", &[]));
    apply(&node, &service(json!({})), &slice(&[(&a, "node-1")]));
    let TestNode { ns, net, dir } = node;
    drop(net);
    let config = config(dir.path(), "node-1", "127.0.0.1", "10.244.0.0/24");
    let net = Arc::new(ns.run(|| NodeNet::start(config)).unwrap());
    assert!(client.ns.ask(at(VIP, 8080)).is_ok(), "the old rules are gone");
    let node = TestNode { ns, net: net.clone(), dir };
    let (events, task) = drive(&node, net);
    events.send(NetEvent::Synced).unwrap();
    eventually("the Service that is gone is refused", || client.ns.ask(at(VIP, 8080)).err());
    drop(events);
    task.join().unwrap();
}

#[test]
fn clients_with_affinity_stay_where_they_are_across_a_restart() {
    if !root() {
        return;
    }
    let node = TestNode::alone();
    let pods: Vec<Pod> = ["a", "b", "c", "d"].map(|name| node.pod(name, &[])).into();
    let clients: Vec<Pod> = ["1", "2", "3", "4", "5", "6"].map(|n| node.pod(n, &[])).into();
    let sticky = service(json!({"sessionAffinity": "ClientIP"}));
    let all: Vec<(&Pod, &str)> = pods.iter().map(|pod| (pod, "node-1")).collect();
    apply(&node, &sticky, &slice(&all));
    let ask = || clients.iter().map(|c| c.ns.ask(at(VIP, 8080)).unwrap()).collect::<Vec<_>>();
    let first = ask();
    let config = config(node.dir.path(), "node-1", "127.0.0.1", "10.244.0.0/24");
    let TestNode { ns, net, dir } = node;
    drop(net);
    let net = Arc::new(ns.run(|| NodeNet::start(config)).unwrap());
    let node = TestNode { ns, net: net.clone(), dir };
    let (events, task) = drive(&node, net);
    // One of the endpoints has gone meanwhile: its clients have to choose again.
    let gone = &pods[0];
    events.send(NetEvent::Service(Arc::new(sticky))).unwrap();
    events.send(NetEvent::Slice(Arc::new(slice(&all[1..])))).unwrap();
    events.send(NetEvent::Synced).unwrap();
    drop(events);
    task.join().unwrap();
    for _ in 0..3 {
        for (before, after) in first.iter().zip(ask()) {
            match before.starts_with(&gone.name) {
                false => assert_eq!(*before, after),
                true => assert!(!after.starts_with(&gone.name), "{after}"),
            }
        }
    }
}
