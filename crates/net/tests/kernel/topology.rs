//! Pods, nodes, routes and what is left of them.
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;

use ipnet::Ipv4Net;
use net::{NodeNet, Peer, hostlab};

use super::fixture::{Node, Ns, PATIENCE, at, config, root};
use super::services::{VIP, apply, service, slice};

#[test]
fn pods_and_node_reach_each_other() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, b) = (node.pod("a", &[]), node.pod("b", &[]));
    let answer = a.ns.ask(at(&b.ip.to_string(), 80)).unwrap();
    assert_eq!(answer, format!("b {}", a.ip));
    let answer = node.ns.ask(at(&b.ip.to_string(), 80)).unwrap();
    assert_eq!(answer, "b 10.244.0.1");
    node.ns.serve("node", 10250);
    let answer = a.ns.ask(at("10.244.0.1", 10250)).unwrap();
    assert_eq!(answer, format!("node {}", a.ip));
}

#[test]
fn an_address_nobody_has_is_refused_at_once() {
    if !root() {
        return;
    }
    let node = Node::alone();
    // The kernel limits the messages to one client, so UDP gets one of its own.
    let (a, b) = (node.pod("a", &[]), node.pod("b", &[]));
    let error = b.ns.ask_udp(at("10.96.7.7", 53)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    // The node's own datagram does not even get out of the system call.
    let error = node.ns.ask_udp(at("10.96.7.7", 53)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    for (client, who) in [(&a.ns, "pod"), (&node.ns, "node")] {
        let error = client.ask(at("10.96.7.7", 80)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{who} to a ClusterIP: {error}");
        for unclaimed in ["10.244.0.77", "10.244.9.9"] {
            let error = client.ask(at(unclaimed, 80)).unwrap_err();
            let kind = error.kind();
            assert_eq!(kind, ErrorKind::HostUnreachable, "{who} to {unclaimed}: {error}");
        }
    }
}

#[test]
fn attaching_again_keeps_the_address_also_after_a_restart() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, b) = (node.pod("a", &[]), node.pod("b", &[]));
    let again = node.net.attach_pod("a", &a.ns.path(), &[]).unwrap();
    assert_eq!(again.ip, a.ip);
    let Node { ns, net, dir } = node;
    drop(net);
    let config = config(dir.path(), "node-1", "127.0.0.1", "10.244.0.0/24");
    let net = ns.run(|| NodeNet::start(config)).unwrap();
    // What ran goes on running, and is known again.
    assert_eq!(b.ns.ask(at(&a.ip.to_string(), 80)).unwrap(), format!("a {}", b.ip));
    assert_eq!(net.attach_pod("a", &a.ns.path(), &[]).unwrap().ip, a.ip);
    let other = Ns::new();
    assert_ne!(net.attach_pod("c", &other.path(), &[]).unwrap().ip, b.ip);
    // A sandbox that was made anew keeps its pod's address.
    let renewed = Ns::new();
    assert_eq!(net.attach_pod("a", &renewed.path(), &[]).unwrap().ip, a.ip);
    renewed.serve("a2", 80);
    assert_eq!(b.ns.ask(at(&a.ip.to_string(), 80)).unwrap(), format!("a2 {}", b.ip));
}

#[test]
fn what_leaked_is_freed() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let (a, b) = (node.pod("a", &[]), node.pod("b", &[]));
    node.net.reconcile_pods(&BTreeSet::from(["b".to_owned()])).unwrap();
    assert_eq!(node.net.pod_address("a"), None);
    let error = b.ns.ask(at(&a.ip.to_string(), 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    node.net.detach_pod("b").unwrap();
    node.net.detach_pod("b").unwrap();
    let links = node.ns.run(|| nix::net::if_::if_nameindex().unwrap().iter().count());
    assert_eq!(links, 1, "only the loopback link is left");
}

#[test]
fn cleanup_leaves_nothing() {
    if !root() {
        return;
    }
    let node = Node::alone();
    let _a = node.pod("a", &[]);
    let state = || {
        let routes = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
        let addresses = std::fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap();
        (routes.lines().count(), addresses.contains("10.244"))
    };
    assert_eq!(node.ns.run(state), (4, true));
    for _ in 0..2 {
        node.ns.run(|| net::cleanup("t1", node.dir.path())).unwrap();
        assert_eq!(node.ns.run(state), (1, false));
    }
}

/// Two nodes in namespaces on a bridge in a third one, which plays the host.
pub(super) fn two_nodes(tunnel: bool) -> (Ns, Node, Node, tempfile::TempDir) {
    let host = Ns::new();
    let dir = tempfile::tempdir().unwrap();
    let subnets: [Ipv4Net; 2] = match tunnel {
        false => ["10.90.0.0/24".parse().unwrap(); 2],
        // A router between them: the host has both bridges' networks.
        true => ["10.90.0.0/25".parse().unwrap(), "10.90.0.128/25".parse().unwrap()],
    };
    let start = |index: u32| {
        let subnet = subnets[index as usize];
        let id = if tunnel { format!("t{index}") } else { "t1".to_owned() };
        let name = format!("node-{index}");
        let made =
            host.run(|| hostlab::create_node_ns(&id, dir.path(), &name, index, subnet)).unwrap();
        let ns = Ns::open(&made.path);
        Node::start(ns, &name, &made.ip.to_string(), &format!("10.244.{index}.0/24"))
    };
    let (one, two) = (start(0), start(1));
    if tunnel {
        host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    }
    for node in [&one, &two] {
        let peers = [&one, &two].map(|n| Peer {
            node: n.net.config().node.clone(),
            node_ip: n.net.config().node_ip,
            pod_cidr: n.net.config().pod_cidr,
        });
        node.net.set_peers(peers.to_vec()).unwrap();
    }
    (host, one, two, dir)
}

#[test]
fn nodes_on_one_network_route_directly() {
    if !root() {
        return;
    }
    let (host, one, two, dir) = two_nodes(false);
    let (a, b) = (one.pod("a", &[]), two.pod("b", &[]));
    assert_eq!(a.ns.ask(at(&b.ip.to_string(), 80)).unwrap(), format!("b {}", a.ip));
    assert_eq!(one.ns.ask(at(&b.ip.to_string(), 80)).unwrap(), "b 10.244.0.1");
    let error = a.ns.ask(at("10.244.1.200", 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    // The host reaches pods by way of their node.
    let via = "10.90.0.3".parse().unwrap();
    host.run(|| hostlab::route("t1", "10.244.1.0/24".parse().unwrap(), via)).unwrap();
    assert_eq!(host.ask(at(&b.ip.to_string(), 80)).unwrap(), "b 10.90.0.1");
    one.net.set_peers(Vec::new()).unwrap();
    let error = a.ns.ask(at(&b.ip.to_string(), 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    host.run(|| net::cleanup("t1", dir.path())).unwrap();
    let links = host.run(|| nix::net::if_::if_nameindex().unwrap().iter().count());
    assert_eq!(links, 1);
    assert_eq!(std::fs::read_dir(dir.path().join("run/netns")).unwrap().count(), 0);
}

#[test]
fn nodes_behind_a_router_use_the_tunnel() {
    if !root() {
        return;
    }
    let (host, one, two, dir) = two_nodes(true);
    let (a, b) = (one.pod("a", &[]), two.pod("b", &[]));
    assert_eq!(a.ns.ask(at(&b.ip.to_string(), 80)).unwrap(), format!("b {}", a.ip));
    assert_eq!(one.ns.ask(at(&b.ip.to_string(), 80)).unwrap(), "b 10.244.0.1");
    for id in ["t0", "t1"] {
        host.run(|| net::cleanup(id, dir.path())).unwrap();
    }
}

/// CVE-2020-8558: a neighbour sends to the loopback address of a node.
#[test]
fn what_listens_on_loopback_only_hears_no_neighbours() {
    if !root() {
        return;
    }
    let (host, one, _two, dir) = two_nodes(false);
    let listen = |address: &str| one.ns.run(|| UdpSocket::bind(address).unwrap());
    let (private, public) = (listen("127.0.0.1:9999"), listen("10.90.0.2:9999"));
    private.set_nonblocking(true).unwrap();
    public.set_read_timeout(Some(PATIENCE)).unwrap();
    // The namespace that plays the host has no loopback of its own.
    let via = "10.90.0.2".parse().unwrap();
    host.run(|| hostlab::route("t1", "127.0.0.1/32".parse().unwrap(), via)).unwrap();
    host.run(|| {
        let socket = UdpSocket::bind("10.90.0.1:0").unwrap();
        socket.send_to(b"attack", "127.0.0.1:9999").unwrap();
        socket.send_to(b"greeting", "10.90.0.2:9999").unwrap();
    });
    let mut heard = [0; 64];
    // Sent later by the same way, so the other one has arrived or never will.
    assert_eq!(public.recv(&mut heard).unwrap(), "greeting".len());
    assert_eq!(private.recv(&mut heard).unwrap_err().kind(), ErrorKind::WouldBlock);
    let localnet = "/proc/sys/net/ipv4/conf/eth0/route_localnet";
    let setting = || one.ns.run(|| std::fs::read_to_string(localnet).unwrap());
    assert_eq!(setting(), "1\n");
    one.ns.run(|| net::cleanup("t1", one.dir.path())).unwrap();
    assert_eq!(setting(), "0\n", "nothing guards it any more");
    host.run(|| net::cleanup("t1", dir.path())).unwrap();
}

#[test]
fn networks_in_use_are_not_chosen() {
    if !root() {
        return;
    }
    let empty = Ns::new();
    let choose = || net::free_networks().unwrap();
    let (pods, services) = empty.run(choose);
    assert_eq!(
        (pods.to_string(), services.to_string()),
        ("10.244.0.0/16".into(), "10.96.0.0/16".into())
    );
    let node = Node::alone();
    let (pods, services) = node.ns.run(choose);
    assert_eq!(
        (pods.to_string(), services.to_string()),
        ("10.245.0.0/16".into(), "10.97.0.0/16".into())
    );
    assert_eq!(empty.run(net::primary_address).unwrap(), None);
}

#[test]
fn clients_outside_the_cluster() {
    if !root() {
        return;
    }
    let (host, one, two, dir) = two_nodes(false);
    let (a, b) = (one.pod("a", &[]), two.pod("b", &[]));
    host.serve("host", 80);
    // Pods leave the cluster under their node's address.
    assert_eq!(a.ns.ask(at("10.90.0.1", 80)).unwrap(), "host 10.90.0.2");
    let both = slice(&[(&a, "node-0"), (&b, "node-1")]);
    for node in [&one, &two] {
        let public = serde_json::json!({"type": "NodePort", "externalIPs": ["198.51.100.7"]});
        apply(node, &service(public), &both);
    }
    // Any node takes it anywhere, under its own address.
    let answers: BTreeSet<String> =
        (0..40).map(|_| host.ask(at("10.90.0.2", 30080)).unwrap()).collect();
    let expected = ["a 10.244.0.1", "b 10.244.0.1"].map(str::to_owned);
    assert_eq!(answers, BTreeSet::from(expected.clone()));
    // So do programs on a node reach it, by each of its addresses.
    for address in [at("127.0.0.1", 30080), at("10.90.0.2", 30080), at("198.51.100.7", 8080)] {
        let answers: BTreeSet<String> = (0..40).map(|_| one.ns.ask(address).unwrap()).collect();
        assert_eq!(answers, BTreeSet::from(expected.clone()), "{address}");
    }
    // From pod to Service across nodes the client's address stays.
    let answers: BTreeSet<String> = (0..40).map(|_| a.ns.ask(at(VIP, 8080)).unwrap()).collect();
    assert!(answers.contains(&format!("b {}", a.ip)), "{answers:?}");
    let local = serde_json::json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
    for node in [&one, &two] {
        apply(node, &service(local.clone()), &both);
    }
    for _ in 0..10 {
        assert_eq!(host.ask(at("10.90.0.3", 30080)).unwrap(), "b 10.90.0.1");
    }
    // The host as a client of ClusterIPs, by way of a node.
    let via = "10.90.0.2".parse().unwrap();
    host.run(|| hostlab::route("t1", "10.96.0.0/16".parse().unwrap(), via)).unwrap();
    assert!(host.ask(at(VIP, 8080)).unwrap().ends_with("10.244.0.1"));
    host.run(|| net::cleanup("t1", dir.path())).unwrap();
}
