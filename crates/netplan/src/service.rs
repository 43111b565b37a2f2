//! One Service's share of the rules.
//!
//! Each port has a chain per set of endpoints that some of its traffic may use: `cluster/…` (all)
//! and `local/…` (on this node). `external/…` decides between them for traffic from outside, and
//! `firewall/…` guards load balancer addresses with source ranges.
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::base;
use crate::facts::{EndpointFacts, PortFacts, Protocol, ServiceFacts, ServiceName};
use crate::rule::{KeyPart, Pool, Rule, Stmt, Value};
use crate::ruleset::Fragment;
use crate::state::State;

pub(crate) fn plan(state: &State, name: &ServiceName) -> Option<Fragment> {
    let facts = state.services.get(name)?;
    let mut fragment = Fragment::default();
    for port in &facts.ports {
        Port::new(state, name, facts, port).plan(&mut fragment);
    }
    Some(fragment)
}

/// How many distinct endpoints of the Service on this node can take traffic.
pub(crate) fn local_endpoint_count(state: &State, name: &ServiceName) -> usize {
    let slices = state.slices.get(name).into_iter().flat_map(|slices| slices.values());
    let ready = slices.flat_map(|slice| &slice.endpoints).filter(|e| e.ready);
    let local = ready.filter(|e| state.is_here(e.node.as_ref()));
    local.map(|e| e.address).collect::<BTreeSet<_>>().len()
}

struct Port<'a> {
    state: &'a State,
    facts: &'a ServiceFacts,
    port: &'a PortFacts,
    /// `<namespace>/<name>/<protocol>/<port>`
    id: String,
    all: Vec<SocketAddrV4>,
    local: Vec<SocketAddrV4>,
    /// Endpoints on this node, whatever traffic they get.
    on_node: BTreeSet<Ipv4Addr>,
}

impl<'a> Port<'a> {
    fn new(
        state: &'a State,
        name: &ServiceName,
        facts: &'a ServiceFacts,
        port: &'a PortFacts,
    ) -> Port<'a> {
        let id = format!("{name}/{}/{}", port.protocol, port.port);
        let mut this = Port {
            state,
            facts,
            port,
            id,
            all: Vec::new(),
            local: Vec::new(),
            on_node: BTreeSet::new(),
        };
        if let Some((_, address)) = state.local.get(name).filter(|(number, _)| *number == port.port)
        {
            this.all = vec![*address];
            this.local = vec![*address];
            return this;
        }
        let mut endpoints: Vec<(SocketAddrV4, &EndpointFacts)> = Vec::new();
        for slice in state.slices.get(name).into_iter().flat_map(|slices| slices.values()) {
            let matching =
                slice.ports.iter().find(|p| p.name == port.name && p.protocol == port.protocol);
            let Some(target) = matching else { continue };
            let at = |e: &EndpointFacts| SocketAddrV4::new(e.address, target.port);
            endpoints.extend(slice.endpoints.iter().map(|e| (at(e), e)));
        }
        let here = |e: &EndpointFacts| state.is_here(e.node.as_ref());
        let on_node: Vec<_> = endpoints.iter().copied().filter(|(_, e)| here(e)).collect();
        this.all = addresses(&usable(&nearest(state, &endpoints)));
        this.local = addresses(&usable(&on_node));
        this.on_node = on_node.iter().map(|(at, _)| *at.ip()).collect();
        this
    }

    fn plan(&self, out: &mut Fragment) {
        let external = self.port.node_port.is_some()
            || !self.facts.external_ips.is_empty()
            || !self.facts.ingress_ips.is_empty();
        let external_local = external && self.facts.external_local;
        if !self.all.is_empty() && (!self.facts.internal_local || external) {
            self.pool(out, "cluster", &self.all);
        }
        if !self.local.is_empty() && (self.facts.internal_local || external_local) {
            self.pool(out, "local", &self.local);
        }
        for ip in &self.on_node {
            let both = vec![KeyPart::Addr(*ip), KeyPart::Addr(*ip)];
            out.elements.insert((base::HAIRPIN.into(), both), Value::Member);
        }
        self.plan_internal(out);
        if external {
            self.plan_external(out);
        }
    }

    fn plan_internal(&self, out: &mut Fragment) {
        let (kind, pool) = match self.facts.internal_local {
            true => ("local", &self.local),
            false => ("cluster", &self.all),
        };
        let value = match (pool.is_empty(), self.all.is_empty()) {
            (false, _) => Value::Goto(self.chain(kind)),
            (true, false) => Value::Drop,
            // No element: the filter chains reject what nobody serves.
            (true, true) => return,
        };
        for ip in &self.facts.cluster_ips {
            self.claim(out, Some(*ip), self.port.port, value.clone(), pool);
        }
    }

    fn plan_external(&self, out: &mut Fragment) {
        if self.all.is_empty() && self.local.is_empty() {
            let reject = Value::Goto(base::REJECT.to_owned());
            for ip in self.facts.external_ips.iter().chain(&self.facts.ingress_ips) {
                self.claim(out, Some(*ip), self.port.port, reject.clone(), &[]);
            }
            if let Some(port) = self.port.node_port {
                self.claim(out, None, port, reject, &[]);
            }
            return;
        }
        let chain = self.chain("external");
        out.chains.insert(chain.clone(), self.external_rules());
        let goto = Value::Goto(chain.clone());
        let pool: Vec<SocketAddrV4> = self.all.iter().chain(&self.local).copied().collect();
        for ip in &self.facts.external_ips {
            self.claim(out, Some(*ip), self.port.port, goto.clone(), &pool);
        }
        if let Some(port) = self.port.node_port {
            self.claim(out, None, port, goto.clone(), &pool);
        }
        let ingress = match self.facts.source_ranges.is_empty() || self.facts.ingress_ips.is_empty()
        {
            true => goto,
            false => {
                let firewall = self.chain("firewall");
                let allow = |net: &ipnet::Ipv4Net| {
                    vec![Stmt::Src { net: *net, negate: false }, Stmt::Goto(chain.clone())]
                };
                let mut rules: Vec<Rule> = self.facts.source_ranges.iter().map(allow).collect();
                rules.push(vec![Stmt::Drop]);
                out.chains.insert(firewall.clone(), rules);
                Value::Goto(firewall)
            }
        };
        for ip in &self.facts.ingress_ips {
            self.claim(out, Some(*ip), self.port.port, ingress.clone(), &pool);
        }
    }

    fn external_rules(&self) -> Vec<Rule> {
        let cluster = match self.all.is_empty() {
            true => Stmt::Goto(base::REJECT.to_owned()),
            false => Stmt::Goto(self.chain("cluster")),
        };
        if !self.facts.external_local {
            return vec![vec![Stmt::Mark, cluster]];
        }
        // Clients inside the cluster, and the node itself, are not bound to local endpoints.
        let inside = Stmt::Src { net: self.state.config.cluster_cidr, negate: false };
        let outside = match self.local.is_empty() {
            true => Stmt::Drop,
            false => Stmt::Goto(self.chain("local")),
        };
        vec![
            vec![inside, cluster.clone()],
            vec![Stmt::SrcLocal, Stmt::Mark, cluster],
            vec![outside],
        ]
    }

    /// The chain that translates to one of `pool`.
    fn pool(&self, out: &mut Fragment, kind: &str, pool: &[SocketAddrV4]) {
        let backends = pool.iter().copied().collect();
        let pool = Pool::Backends(pool.to_vec());
        let rules = match self.facts.affinity_seconds {
            None => vec![vec![Stmt::Dnat { pool }]],
            Some(timeout_seconds) => {
                // The timeout is part of the name: a map's cannot be changed.
                let map = format!("memory/{kind}/{}/{timeout_seconds}", self.id);
                out.memories.insert(map.clone(), (timeout_seconds, backends));
                vec![
                    vec![Stmt::DnatRemembered { map: map.clone(), timeout_seconds }],
                    vec![Stmt::DnatRemember { map, timeout_seconds, pool }],
                ]
            }
        };
        out.chains.insert(self.chain(kind), rules);
    }

    fn claim(
        &self,
        out: &mut Fragment,
        ip: Option<Ipv4Addr>,
        port: u16,
        value: Value,
        pool: &[SocketAddrV4],
    ) {
        let tail = [KeyPart::Proto(self.port.protocol), KeyPart::Port(port)];
        let place = match ip {
            Some(ip) => {
                (base::SERVICES.into(), std::iter::once(KeyPart::Addr(ip)).chain(tail).collect())
            }
            None => (base::NODE_PORTS.into(), tail.to_vec()),
        };
        out.elements.insert(place, value);
        if self.port.protocol == Protocol::Udp {
            out.udp.insert((ip, port), pool.iter().copied().collect());
        }
    }

    fn chain(&self, kind: &str) -> String {
        format!("{kind}/{}", self.id)
    }
}

type Candidates<'a> = Vec<(SocketAddrV4, &'a EndpointFacts)>;

/// The ready ones, or if there are none those that still answer while they shut down (KEP-1669).
fn usable<'a>(endpoints: &[(SocketAddrV4, &'a EndpointFacts)]) -> Candidates<'a> {
    let ready: Candidates = endpoints.iter().copied().filter(|(_, e)| e.ready).collect();
    if !ready.is_empty() {
        return ready;
    }
    endpoints.iter().copied().filter(|(_, e)| e.draining).collect()
}

/// Follows the hints for nodes, then for zones, if every ready endpoint has one and some of them
/// are for this node (KEP-2433, KEP-3015).
fn nearest<'a>(state: &State, endpoints: &[(SocketAddrV4, &'a EndpointFacts)]) -> Candidates<'a> {
    let ready = || endpoints.iter().copied().filter(|(_, e)| e.ready);
    let by_node: Candidates =
        ready().filter(|(_, e)| e.nodes.iter().any(|n| state.is_here(Some(n)))).collect();
    if !by_node.is_empty() && ready().all(|(_, e)| !e.nodes.is_empty()) {
        return by_node;
    }
    if let Some(zone) = &state.zone {
        let by_zone: Candidates = ready().filter(|(_, e)| e.zones.contains(zone)).collect();
        if !by_zone.is_empty() && ready().all(|(_, e)| !e.zones.is_empty()) {
            return by_zone;
        }
    }
    endpoints.to_vec()
}

/// In one order and without repetition, whatever order the slices came in.
fn addresses(endpoints: &[(SocketAddrV4, &EndpointFacts)]) -> Vec<SocketAddrV4> {
    endpoints.iter().map(|(at, _)| *at).collect::<BTreeSet<_>>().into_iter().collect()
}
