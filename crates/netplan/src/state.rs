//! The observed facts, indexed by the Service they matter to.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use api::k8s::api::core::v1::Service;
use api::k8s::api::discovery::v1::EndpointSlice;
use ipnet::Ipv4Net;

use crate::base;
use crate::facts::{HostPort, ServiceFacts, ServiceName, SliceFacts};
use crate::rule::{KeyPart, Value};
use crate::ruleset::{Changes, Fragment, FragmentKey, Ruleset};
use crate::service;

/// The node's fixed facts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose endpoints count as local: the node's own, or those of all nodes that a machine keeps
    /// in namespaces.
    pub nodes: Vec<String>,
    pub cluster_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    /// The node's own address in the pod network.
    pub gateway: Ipv4Addr,
}

/// What `healthCheckNodePort` has to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub service: ServiceName,
    pub local_endpoints: usize,
}

#[derive(Debug, Clone)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) zone: Option<String>,
    pub(crate) services: BTreeMap<ServiceName, ServiceFacts>,
    pub(crate) slices: BTreeMap<ServiceName, BTreeMap<String, SliceFacts>>,
    /// Ports of Services that this node answers itself.
    pub(crate) local: BTreeMap<ServiceName, (u16, SocketAddrV4)>,
    /// Which Service a slice (namespace, name) was filed under.
    owners: BTreeMap<(String, String), ServiceName>,
    host_ports: BTreeMap<String, (Ipv4Addr, Vec<HostPort>)>,
    dirty: BTreeSet<FragmentKey>,
}

impl State {
    pub fn new(config: Config) -> State {
        State {
            config,
            zone: None,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            local: BTreeMap::new(),
            owners: BTreeMap::new(),
            host_ports: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    pub(crate) fn is_here(&self, node: Option<&String>) -> bool {
        node.is_some_and(|node| self.config.nodes.contains(node))
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn upsert_service(&mut self, service: &Service) {
        let name = ServiceName::of(service);
        match ServiceFacts::of(service) {
            Some(facts) if self.services.get(&name) == Some(&facts) => {}
            Some(facts) => {
                self.services.insert(name.clone(), facts);
                self.dirty.insert(FragmentKey::Service(name));
            }
            None => self.remove_service(&name),
        }
    }

    pub fn remove_service(&mut self, name: &ServiceName) {
        if self.services.remove(name).is_some() {
            self.dirty.insert(FragmentKey::Service(name.clone()));
        }
    }

    pub fn upsert_slice(&mut self, slice: &EndpointSlice) {
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        let name = slice.metadata.name.clone().unwrap_or_default();
        let (Some(owner), Some(facts)) = (ServiceName::of_slice(slice), SliceFacts::of(slice))
        else {
            return self.remove_slice(&namespace, &name);
        };
        let id = (namespace, name);
        if self.owners.get(&id).is_some_and(|before| *before != owner) {
            self.remove_slice(&id.0, &id.1);
        }
        let slices = self.slices.entry(owner.clone()).or_default();
        if slices.get(&id.1) == Some(&facts) {
            return;
        }
        slices.insert(id.1.clone(), facts);
        self.owners.insert(id, owner.clone());
        self.dirty.insert(FragmentKey::Service(owner));
    }

    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let Some(owner) = self.owners.remove(&(namespace.to_owned(), name.to_owned())) else {
            return;
        };
        if let Some(slices) = self.slices.get_mut(&owner) {
            slices.remove(name);
            if slices.is_empty() {
                self.slices.remove(&owner);
            }
        }
        self.dirty.insert(FragmentKey::Service(owner));
    }

    /// The zone this node is in (its `topology.kubernetes.io/zone` label).
    pub fn set_zone(&mut self, zone: Option<String>) {
        if self.zone != zone {
            self.zone = zone;
            let all = self.services.keys().cloned().map(FragmentKey::Service);
            self.dirty.extend(all);
        }
    }

    /// Makes the node itself the only endpoint of a Service's port (for all protocols).
    pub fn set_local(&mut self, name: ServiceName, port: u16, address: SocketAddrV4) {
        if self.local.insert(name.clone(), (port, address)) != Some((port, address)) {
            self.dirty.insert(FragmentKey::Service(name));
        }
    }

    /// A pod's host ports; an empty list removes the pod.
    pub fn set_host_ports(&mut self, uid: &str, ip: Ipv4Addr, ports: &[HostPort]) {
        let before = if ports.is_empty() {
            self.host_ports.remove(uid)
        } else {
            self.host_ports.insert(uid.to_owned(), (ip, ports.to_vec()))
        };
        if before.as_ref() != self.host_ports.get(uid) {
            self.dirty.insert(FragmentKey::Pod(uid.to_owned()));
        }
    }

    /// Brings `ruleset` up to what has been observed since the last call and tells the difference.
    pub fn plan_changes(&mut self, ruleset: &mut Ruleset) -> Changes {
        let dirty = std::mem::take(&mut self.dirty);
        let fragments = dirty
            .into_iter()
            .map(|key| {
                let fragment = self.fragment(&key);
                (key, fragment)
            })
            .collect();
        ruleset.replace(fragments)
    }

    /// For one who has just planned everything: nothing has changed since.
    pub fn settle(&mut self) {
        self.dirty.clear();
    }

    /// The ports to answer health checks of load balancers on.
    pub fn health_checks(&self) -> BTreeMap<u16, HealthCheck> {
        let checks = self.services.iter().filter_map(|(name, facts)| {
            let port = facts.health_check_port.filter(|_| facts.external_local)?;
            let local_endpoints = service::local_endpoint_count(self, name);
            Some((port, HealthCheck { service: name.clone(), local_endpoints }))
        });
        checks.collect()
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        match key {
            FragmentKey::Service(name) => service::plan(self, name),
            FragmentKey::Pod(uid) => {
                let (ip, ports) = self.host_ports.get(uid)?;
                Some(host_ports(*ip, ports))
            }
        }
    }
}

/// Everything, from nothing.
pub fn plan(state: &State) -> Ruleset {
    let mut ruleset = Ruleset::new(base::chains(&state.config), base::sets());
    let services = state.services.keys().cloned().map(FragmentKey::Service);
    let pods = state.host_ports.keys().cloned().map(FragmentKey::Pod);
    let fragments = services.chain(pods).map(|key| {
        let fragment = state.fragment(&key);
        (key, fragment)
    });
    ruleset.replace(fragments.collect());
    ruleset
}

fn host_ports(ip: Ipv4Addr, ports: &[HostPort]) -> Fragment {
    let mut fragment = Fragment::default();
    for port in ports {
        let backend = SocketAddrV4::new(ip, port.container_port);
        let tail = [KeyPart::Proto(port.protocol), KeyPart::Port(port.host_port)];
        let place = match port.host_ip.filter(|ip| !ip.is_unspecified()) {
            Some(host_ip) => {
                let key = std::iter::once(KeyPart::Addr(host_ip)).chain(tail).collect();
                (base::HOST_ADDRESS_PORTS.into(), key)
            }
            None => (base::HOST_PORTS.into(), tail.to_vec()),
        };
        fragment.elements.insert(place, Value::Backend(backend));
        let both = vec![KeyPart::Addr(ip), KeyPart::Addr(ip)];
        fragment.elements.insert((base::HAIRPIN.into(), both), Value::Member);
        if port.protocol == crate::facts::Protocol::Udp {
            let at = (port.host_ip, port.host_port);
            fragment.udp.entry(at).or_default().insert(backend);
        }
    }
    fragment
}
