//! The part of the rules that is the same however many Services there are.
//!
//! A packet meets a fixed number of rules and map lookups; the Services are elements of the maps.
use ipnet::Ipv4Net;

use crate::rule::{Chain, Hook, MapKey, Rule, Stmt};
use crate::ruleset::SetKind;
use crate::state::Config;

/// ClusterIPs, external addresses and load balancer addresses.
pub const SERVICES: &str = "services";
pub const NODE_PORTS: &str = "node-ports";
/// Local endpoints: a packet from one to itself has been through a Service.
pub const HAIRPIN: &str = "hairpin";
pub const HOST_PORTS: &str = "host-ports";
/// Host ports on one address of the node.
pub const HOST_ADDRESS_PORTS: &str = "host-address-ports";
pub const REJECT: &str = "refuse";

const DISPATCH: &str = "dispatch";
const NODE: &str = "node-dispatch";
const SOURCE: &str = "source-nat";

pub fn sets() -> Vec<(&'static str, MapKey, SetKind)> {
    vec![
        (SERVICES, MapKey::AddrProtoPort, SetKind::Verdicts),
        (NODE_PORTS, MapKey::ProtoPort, SetKind::Verdicts),
        (HAIRPIN, MapKey::SrcDst, SetKind::Members),
        (HOST_PORTS, MapKey::ProtoPort, SetKind::Backends),
        (HOST_ADDRESS_PORTS, MapKey::AddrProtoPort, SetKind::Backends),
    ]
}

pub fn chains(config: &Config) -> Vec<Chain> {
    let mut chains = vec![guard()];
    chains.extend(nat_hooks(config));
    chains.extend(filter_hooks(config));
    chains.extend(shared(config));
    chains
}

fn chain(name: &str, hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), hook, rules }
}

fn goto(name: &str) -> Stmt {
    Stmt::Goto(name.to_owned())
}

fn from(net: Ipv4Net) -> Stmt {
    Stmt::Src { net, negate: false }
}

fn to(net: Ipv4Net) -> Stmt {
    Stmt::Dst { net, negate: false }
}

fn loopback() -> Ipv4Net {
    "127.0.0.0/8".parse().expect("a literal network")
}

/// `route_localnet`, which lets clients on loopback reach NodePorts, would also let neighbours
/// reach what listens on loopback only (CVE-2020-8558): no packet has such an address on a wire.
fn guard() -> Chain {
    let outside = |address: Stmt| vec![Stmt::NotInLoopback, address, Stmt::Drop];
    let rules = vec![outside(to(loopback())), outside(from(loopback()))];
    chain("guard", Some(Hook::RawPrerouting), rules)
}

fn nat_hooks(config: &Config) -> [Chain; 3] {
    let cluster = config.cluster_cidr;
    let multicast = "224.0.0.0/4".parse().expect("a literal network");
    let hairpin = Stmt::InSet { key: MapKey::SrcDst, set: HAIRPIN.to_owned() };
    let leaving = Stmt::Dst { net: cluster, negate: true };
    [
        chain("prerouting", Some(Hook::NatPrerouting), vec![vec![goto(DISPATCH)]]),
        chain("output", Some(Hook::NatOutput), vec![vec![goto(DISPATCH)]]),
        chain(
            "postrouting",
            Some(Hook::NatPostrouting),
            vec![
                vec![Stmt::OutLoopback, Stmt::Return],
                vec![Stmt::CtDnat, hairpin, Stmt::Snat(config.gateway)],
                vec![Stmt::Marked, goto(SOURCE)],
                // A client of a port of the node, by way of 127.0.0.1.
                vec![from(loopback()), goto(SOURCE)],
                vec![to(multicast), Stmt::Return],
                // Nobody outside knows the way back to a pod.
                vec![from(cluster), leaving, Stmt::Masquerade],
            ],
        ),
    ]
}

/// What is still on its way to a ClusterIP here has no endpoint.
fn filter_hooks(config: &Config) -> [Chain; 2] {
    let unserved = vec![to(config.service_cidr), goto(REJECT)];
    let invalid = vec![from(config.cluster_cidr), Stmt::CtInvalid, Stmt::Drop];
    [
        chain("forward", Some(Hook::FilterForward), vec![invalid, unserved.clone()]),
        chain("filter-output", Some(Hook::FilterOutput), vec![unserved]),
    ]
}

fn shared(config: &Config) -> [Chain; 4] {
    let outsider = Stmt::Src { net: config.cluster_cidr, negate: true };
    let by_address = MapKey::AddrProtoPort;
    let by_port = MapKey::ProtoPort;
    [
        chain(
            DISPATCH,
            None,
            vec![
                // A client outside the cluster that uses this node as a router.
                vec![outsider, to(config.service_cidr), Stmt::Mark],
                vec![Stmt::Vmap { key: by_address, map: SERVICES.to_owned() }],
                vec![Stmt::DstLocal, goto(NODE)],
            ],
        ),
        chain(
            NODE,
            None,
            vec![
                vec![Stmt::DnatMap { key: by_address, map: HOST_ADDRESS_PORTS.to_owned() }],
                vec![Stmt::DnatMap { key: by_port, map: HOST_PORTS.to_owned() }],
                vec![Stmt::Vmap { key: by_port, map: NODE_PORTS.to_owned() }],
            ],
        ),
        chain(
            SOURCE,
            None,
            vec![
                vec![Stmt::Unmark],
                vec![to(config.cluster_cidr), Stmt::Snat(config.gateway)],
                vec![Stmt::Masquerade],
            ],
        ),
        chain(REJECT, None, vec![vec![Stmt::Tcp, Stmt::RejectReset], vec![Stmt::RejectPort]]),
    ]
}
