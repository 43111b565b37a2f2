//! The cluster's records, and what they answer to a question.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use api::k8s::api::core::v1::Service;
use api::k8s::api::discovery::v1::EndpointSlice;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::{IpNet, Ipv4Net};

use crate::Error;

/// Seconds that answers, also negative ones, may be kept.
pub(crate) const TTL: u32 = 5;
const SPECIFICATION: &str = "1.1.0";
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The cluster's records. Shared with the running server; every method is a quick in-memory update.
pub struct Zone {
    domain: Name,
    /// The domain's labels, last first.
    suffix: Vec<String>,
    networks: Vec<Ipv4Net>,
    records: RwLock<Records>,
}

type ServiceKey = (String, String);

#[derive(Default)]
struct Records {
    services: HashMap<ServiceKey, ServiceRecord>,
    slices: HashMap<ServiceKey, BTreeMap<String, Vec<EndpointRecord>>>,
    slice_ports: HashMap<ServiceKey, BTreeMap<String, Vec<PortRecord>>>,
    /// Which Service a slice (namespace, name) was filed under.
    owners: HashMap<(String, String), ServiceKey>,
    /// How many Services a namespace has.
    namespaces: HashMap<String, usize>,
    /// Names of an address, relative to the domain.
    reverse: HashMap<IpAddr, BTreeSet<String>>,
    /// What each Service has put into `reverse`.
    reversed: HashMap<ServiceKey, Vec<(IpAddr, String)>>,
    serial: u32,
}

#[derive(PartialEq)]
struct ServiceRecord {
    target: Target,
    ports: Vec<PortRecord>,
}

#[derive(PartialEq)]
enum Target {
    Addresses(Vec<IpAddr>),
    Headless,
    External(String),
}

#[derive(Clone, PartialEq)]
struct PortRecord {
    name: String,
    protocol: String,
    port: u16,
}

#[derive(Clone, PartialEq)]
struct EndpointRecord {
    address: IpAddr,
    /// The pod's hostname, or else its address with dashes.
    host: String,
}

/// What the zone has to say to a question.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub answers: Vec<Record>,
    pub additionals: Vec<Record>,
    /// No such name, of any type.
    pub missing: bool,
    /// The answer is an alias; its target has still to be looked up.
    pub alias: Option<Name>,
}

impl Zone {
    pub(crate) fn new(domain: &str, networks: Vec<Ipv4Net>) -> Result<Zone, Error> {
        let wrong = || Error::Domain(domain.to_owned());
        let mut name = Name::from_ascii(domain.to_ascii_lowercase()).map_err(|_| wrong())?;
        if name.num_labels() == 0 {
            return Err(wrong());
        }
        name.set_fqdn(true);
        let suffix = labels(&name);
        Ok(Zone { domain: name, suffix, networks, records: RwLock::default() })
    }

    pub fn upsert_service(&self, service: &Service) {
        let Some(key) = key_of(&service.metadata) else { return };
        let record = service_record(service);
        let mut records = self.write();
        if records.services.get(&key) == record.as_ref() {
            return;
        }
        match record {
            Some(record) => {
                if records.services.insert(key.clone(), record).is_none() {
                    *records.namespaces.entry(key.0.clone()).or_default() += 1;
                }
                records.changed(&key);
            }
            None => records.remove(&key),
        }
    }

    pub fn remove_service(&self, namespace: &str, name: &str) {
        self.write().remove(&(namespace.to_owned(), name.to_owned()));
    }

    pub fn upsert_slice(&self, slice: &EndpointSlice) {
        let Some((namespace, name)) = key_of(&slice.metadata) else { return };
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)) else {
            return self.remove_slice(&namespace, &name);
        };
        let owner = (namespace.clone(), service.to_ascii_lowercase());
        let (endpoints, ports) = slice_records(slice);
        let mut records = self.write();
        let id = (namespace, name.clone());
        if records.owners.get(&id).is_some_and(|before| *before != owner) {
            records.remove_slice(&id);
        }
        records.owners.insert(id, owner.clone());
        records.slices.entry(owner.clone()).or_default().insert(name.clone(), endpoints);
        records.slice_ports.entry(owner.clone()).or_default().insert(name, ports);
        records.changed(&owner);
    }

    pub fn remove_slice(&self, namespace: &str, name: &str) {
        self.write().remove_slice(&(namespace.to_owned(), name.to_owned()));
    }

    /// `None`: the name is not the cluster's business.
    pub(crate) fn lookup(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        let asked = labels(name);
        if let Some(rest) = asked.strip_prefix(self.suffix.as_slice()) {
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            return Some(self.forward(name, kind, &rest));
        }
        let arpa = asked.first().is_some_and(|label| label == "arpa");
        let net = arpa.then(|| name.parse_arpa_name().ok()).flatten()?;
        let ip = match net {
            IpNet::V4(net) if net.prefix_len() == 32 => IpAddr::V4(net.addr()),
            IpNet::V6(net) if net.prefix_len() == 128 => IpAddr::V6(net.addr()),
            _ => return None,
        };
        self.reverse(name, kind, ip)
    }

    /// The record that tells how long a negative answer is good.
    pub(crate) fn authority(&self) -> Record {
        let serial = self.read().serial;
        Record::from_rdata(self.domain.clone(), TTL, self.soa(serial))
    }

    fn soa(&self, serial: u32) -> RData {
        RData::SOA(SOA::new(
            self.under("ns.dns"),
            self.under("hostmaster"),
            serial,
            7200,
            1800,
            86400,
            TTL,
        ))
    }

    fn forward(&self, name: &Name, kind: RecordType, rest: &[&str]) -> Answer {
        let records = self.read();
        match rest {
            [] => match kind {
                RecordType::SOA => found(name, [self.soa(records.serial)]),
                RecordType::NS => found(name, [RData::NS(NS(self.under("ns.dns")))]),
                _ => Answer::default(),
            },
            ["dns-version"] if kind == RecordType::TXT => {
                found(name, [RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()]))])
            }
            ["dns-version" | "svc" | "pod"] => Answer::default(),
            ["svc", namespace] => exists(records.namespaces.contains_key(*namespace)),
            ["svc", namespace, service, more @ ..] => {
                let key = ((*namespace).to_owned(), (*service).to_owned());
                match records.services.get(&key) {
                    Some(record) => self.service(&records, name, kind, &key, record, more),
                    None => exists(false),
                }
            }
            ["pod", _] => Answer::default(),
            ["pod", _, host] => match dashed(host) {
                Some(ip) => found(name, address(ip, kind)),
                None => exists(false),
            },
            _ => exists(false),
        }
    }

    fn service(
        &self,
        records: &Records,
        name: &Name,
        kind: RecordType,
        key: &ServiceKey,
        service: &ServiceRecord,
        more: &[&str],
    ) -> Answer {
        match (more, &service.target) {
            ([], Target::External(target)) => {
                let Ok(mut target) = Name::from_ascii(target) else { return Answer::default() };
                target.set_fqdn(true);
                let mut answer = found(name, [RData::CNAME(CNAME(target.clone()))]);
                answer.alias = Some(target).filter(|_| kind != RecordType::CNAME);
                answer
            }
            ([], Target::Addresses(ips)) => {
                found(name, ips.iter().filter_map(|ip| address(*ip, kind)))
            }
            ([], Target::Headless) => {
                let ips: BTreeSet<IpAddr> = records.endpoints(key).map(|e| e.address).collect();
                found(name, ips.into_iter().filter_map(|ip| address(ip, kind)))
            }
            (_, Target::External(_)) => exists(false),
            ([proto], _) if proto.starts_with('_') => {
                exists(service.ports.iter().any(|p| p.protocol == proto[1..]))
            }
            ([proto, port], _) if proto.starts_with('_') && port.starts_with('_') => {
                self.ports(records, name, kind, key, (&proto[1..], &port[1..]))
            }
            ([host], _) => {
                let matching: Vec<&EndpointRecord> =
                    records.endpoints(key).filter(|e| e.host == *host).collect();
                if matching.is_empty() {
                    return exists(false);
                }
                found(name, matching.into_iter().filter_map(|e| address(e.address, kind)))
            }
            _ => exists(false),
        }
    }

    /// `_port._proto.service`.
    fn ports(
        &self,
        records: &Records,
        name: &Name,
        kind: RecordType,
        key: &ServiceKey,
        (protocol, port_name): (&str, &str),
    ) -> Answer {
        let own = format!("{}.{}.svc", key.1, key.0);
        let mut targets: BTreeSet<(u16, String, IpAddr)> = BTreeSet::new();
        let service = &records.services[key];
        let wanted = |p: &&PortRecord| p.name == port_name && p.protocol == protocol;
        match &service.target {
            Target::Addresses(ips) => {
                for port in service.ports.iter().filter(wanted) {
                    targets.extend(ips.iter().map(|ip| (port.port, own.clone(), *ip)));
                }
            }
            Target::Headless => {
                for (slice, endpoints) in records.slices.get(key).into_iter().flatten() {
                    let ports = records.slice_ports.get(key).and_then(|slices| slices.get(slice));
                    for port in ports.into_iter().flatten().filter(wanted) {
                        let at = |e: &EndpointRecord| {
                            (port.port, format!("{}.{own}", e.host), e.address)
                        };
                        targets.extend(endpoints.iter().map(at));
                    }
                }
            }
            Target::External(_) => {}
        }
        if targets.is_empty() {
            return exists(service.ports.iter().any(|p| wanted(&p)));
        }
        if kind != RecordType::SRV {
            return Answer::default();
        }
        let distinct: BTreeSet<(u16, &String)> = targets.iter().map(|(p, n, _)| (*p, n)).collect();
        let weight = (100 / u16::try_from(distinct.len()).unwrap_or(u16::MAX)).max(1);
        let srv = |(port, target): &(u16, &String)| {
            RData::SRV(SRV::new(0, weight, *port, self.under(target)))
        };
        let mut answer = found(name, distinct.iter().map(srv));
        let hosts: BTreeSet<(&String, IpAddr)> =
            targets.iter().map(|(_, n, ip)| (n, *ip)).collect();
        for (target, ip) in hosts {
            answer.additionals.push(Record::from_rdata(self.under(target), TTL, address_data(ip)));
        }
        answer
    }

    fn reverse(&self, name: &Name, kind: RecordType, ip: IpAddr) -> Option<Answer> {
        let records = self.read();
        if let Some(names) = records.reverse.get(&ip) {
            let pointers = names.iter().map(|target| RData::PTR(PTR(self.under(target))));
            let wanted = kind == RecordType::PTR;
            return Some(found(name, pointers.filter(|_| wanted)));
        }
        match ip {
            IpAddr::V4(ip) if self.networks.iter().any(|net| net.contains(&ip)) => {
                Some(exists(false))
            }
            _ => None,
        }
    }

    fn under(&self, relative: &str) -> Name {
        let name = Name::from_ascii(relative).unwrap_or_default();
        name.append_domain(&self.domain).unwrap_or_else(|_| self.domain.clone())
    }

    fn read(&self) -> RwLockReadGuard<'_, Records> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Records> {
        self.records.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn endpoints(&self, key: &ServiceKey) -> impl Iterator<Item = &EndpointRecord> {
        self.slices.get(key).into_iter().flat_map(|slices| slices.values()).flatten()
    }

    fn remove(&mut self, key: &ServiceKey) {
        if self.services.remove(key).is_none() {
            return;
        }
        if let Some(count) = self.namespaces.get_mut(&key.0) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&key.0);
            }
        }
        self.changed(key);
    }

    fn remove_slice(&mut self, id: &(String, String)) {
        let Some(owner) = self.owners.remove(id) else { return };
        if let Some(slices) = self.slices.get_mut(&owner) {
            slices.remove(&id.1);
            if slices.is_empty() {
                self.slices.remove(&owner);
            }
        }
        if let Some(slices) = self.slice_ports.get_mut(&owner) {
            slices.remove(&id.1);
            if slices.is_empty() {
                self.slice_ports.remove(&owner);
            }
        }
        self.changed(&owner);
    }

    /// Renews the reverse names of a Service.
    fn changed(&mut self, key: &ServiceKey) {
        self.serial = self.serial.wrapping_add(1);
        for (ip, name) in self.reversed.remove(key).unwrap_or_default() {
            if let Some(names) = self.reverse.get_mut(&ip) {
                names.remove(&name);
                if names.is_empty() {
                    self.reverse.remove(&ip);
                }
            }
        }
        let own = format!("{}.{}.svc", key.1, key.0);
        let names: Vec<(IpAddr, String)> = match self.services.get(key).map(|s| &s.target) {
            Some(Target::Addresses(ips)) => ips.iter().map(|ip| (*ip, own.clone())).collect(),
            Some(Target::Headless) => {
                self.endpoints(key).map(|e| (e.address, format!("{}.{own}", e.host))).collect()
            }
            Some(Target::External(_)) | None => Vec::new(),
        };
        if names.is_empty() {
            return;
        }
        for (ip, name) in &names {
            self.reverse.entry(*ip).or_default().insert(name.clone());
        }
        self.reversed.insert(key.clone(), names);
    }
}

fn key_of(meta: &api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<ServiceKey> {
    Some((meta.namespace.clone()?, meta.name.clone()?))
}

fn service_record(service: &Service) -> Option<ServiceRecord> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    let texts: Vec<&String> = match &spec.cluster_ips {
        Some(ips) if !ips.is_empty() => ips.iter().collect(),
        _ => spec.cluster_ip.iter().collect(),
    };
    let target = match (external, &spec.external_name) {
        (true, Some(name)) => Target::External(name.trim_end_matches('.').to_ascii_lowercase()),
        (true, None) => return None,
        _ if texts.iter().any(|ip| *ip == "None") => Target::Headless,
        _ => Target::Addresses(texts.iter().filter_map(|ip| ip.parse().ok()).collect()),
    };
    if matches!(&target, Target::Addresses(ips) if ips.is_empty()) {
        return None;
    }
    let port = |p: &api::k8s::api::core::v1::ServicePort| {
        Some(PortRecord {
            name: p.name.clone().unwrap_or_default(),
            protocol: p.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
            port: u16::try_from(p.port).ok()?,
        })
    };
    Some(ServiceRecord { target, ports: spec.ports.iter().flatten().filter_map(port).collect() })
}

fn slice_records(slice: &EndpointSlice) -> (Vec<EndpointRecord>, Vec<PortRecord>) {
    let ready = |e: &&api::k8s::api::discovery::v1::Endpoint| {
        e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
    };
    let mut endpoints = Vec::new();
    for endpoint in slice.endpoints.iter().flatten().filter(ready) {
        for address in endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            let host = match &endpoint.hostname {
                Some(host) if !host.is_empty() => host.to_ascii_lowercase(),
                _ => address.to_string().replace(['.', ':'], "-"),
            };
            endpoints.push(EndpointRecord { address, host });
        }
    }
    let port = |p: &api::k8s::api::discovery::v1::EndpointPort| {
        Some(PortRecord {
            name: p.name.clone().unwrap_or_default(),
            protocol: p.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
            port: u16::try_from(p.port?).ok()?,
        })
    };
    (endpoints, slice.ports.iter().flatten().filter_map(port).collect())
}

/// The labels in lower case, last first.
fn labels(name: &Name) -> Vec<String> {
    let mut labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    labels.reverse();
    labels
}

/// `10-1-2-3` as an address.
fn dashed(host: &str) -> Option<IpAddr> {
    let v4 = || host.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let v6 = || host.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    v4().or_else(v6)
}

fn address_data(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The address, if it is of the type asked for.
fn address(ip: IpAddr, kind: RecordType) -> Option<RData> {
    let wanted = match ip {
        IpAddr::V4(_) => RecordType::A,
        IpAddr::V6(_) => RecordType::AAAA,
    };
    (kind == wanted).then(|| address_data(ip))
}

fn found(name: &Name, data: impl IntoIterator<Item = RData>) -> Answer {
    let record = |data| Record::from_rdata(name.clone(), TTL, data);
    Answer { answers: data.into_iter().map(record).collect(), ..Answer::default() }
}

/// A name without records of the type asked for, or no name at all.
fn exists(it_does: bool) -> Answer {
    Answer { missing: !it_does, ..Answer::default() }
}
