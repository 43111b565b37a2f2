//! The part of the rules that is the same however many Services there are.
//!
//! A packet meets a fixed number of rules and map lookups; the Services are elements of the maps.
use crate::rule::{Chain, Hook, MapKey, Stmt};
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
    let cluster = config.cluster_cidr;
    let loopback = "127.0.0.0/8".parse().expect("a literal network");
    let multicast = "224.0.0.0/4".parse().expect("a literal network");
    let from_cluster = Stmt::Src { net: cluster, negate: false };
    let to_service = Stmt::Dst { net: config.service_cidr, negate: false };
    let chain = |name: &str, hook, rules| Chain { name: name.to_owned(), hook, rules };
    let goto = |name: &str| Stmt::Goto(name.to_owned());
    vec![
        chain("prerouting", Some(Hook::NatPrerouting), vec![vec![goto(DISPATCH)]]),
        chain(
            "output",
            Some(Hook::NatOutput),
            vec![
                vec![Stmt::Dst { net: loopback, negate: false }, Stmt::Return],
                vec![goto(DISPATCH)],
            ],
        ),
        chain(
            "postrouting",
            Some(Hook::NatPostrouting),
            vec![
                vec![Stmt::OutLoopback, Stmt::Return],
                vec![
                    Stmt::CtDnat,
                    Stmt::InSet { key: MapKey::SrcDst, set: HAIRPIN.to_owned() },
                    Stmt::Snat(config.gateway),
                ],
                vec![Stmt::Marked, goto(SOURCE)],
                vec![Stmt::Dst { net: multicast, negate: false }, Stmt::Return],
                // Nobody outside knows the way back to a pod.
                vec![
                    from_cluster.clone(),
                    Stmt::Dst { net: cluster, negate: true },
                    Stmt::Masquerade,
                ],
            ],
        ),
        chain(
            "forward",
            Some(Hook::FilterForward),
            vec![
                vec![from_cluster, Stmt::CtInvalid, Stmt::Drop],
                // What is still on its way to a ClusterIP here has no endpoint.
                vec![to_service.clone(), goto(REJECT)],
            ],
        ),
        chain(
            "filter-output",
            Some(Hook::FilterOutput),
            vec![vec![to_service.clone(), goto(REJECT)]],
        ),
        chain(
            DISPATCH,
            None,
            vec![
                // A client outside the cluster that uses this node as a router.
                vec![Stmt::Src { net: cluster, negate: true }, to_service, Stmt::Mark],
                vec![Stmt::Vmap { key: MapKey::AddrProtoPort, map: SERVICES.to_owned() }],
                vec![Stmt::DstLocal, goto(NODE)],
            ],
        ),
        chain(
            NODE,
            None,
            vec![
                vec![Stmt::DnatMap {
                    key: MapKey::AddrProtoPort,
                    map: HOST_ADDRESS_PORTS.to_owned(),
                }],
                vec![Stmt::DnatMap { key: MapKey::ProtoPort, map: HOST_PORTS.to_owned() }],
                vec![Stmt::Vmap { key: MapKey::ProtoPort, map: NODE_PORTS.to_owned() }],
            ],
        ),
        chain(
            SOURCE,
            None,
            vec![
                vec![Stmt::Unmark],
                vec![Stmt::Dst { net: cluster, negate: false }, Stmt::Snat(config.gateway)],
                vec![Stmt::Masquerade],
            ],
        ),
        chain(REJECT, None, vec![vec![Stmt::Tcp, Stmt::RejectReset], vec![Stmt::RejectPort]]),
    ]
}
