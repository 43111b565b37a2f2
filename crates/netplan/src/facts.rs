//! What the plan needs of the API's objects, and nothing more: a change that leaves these facts as
//! they are changes no rule.
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use api::k8s::api::core::v1::{Service, ServicePort};
use api::k8s::api::discovery::v1::{Endpoint, EndpointSlice};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Services with this label are some other proxy's business.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Names the Service that a slice belongs to.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// `sessionAffinityConfig.clientIP.timeoutSeconds` when it is not given.
const AFFINITY_SECONDS: u32 = 10_800;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// One `hostPort` of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// `None`: every address of the node.
    pub host_ip: Option<Ipv4Addr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

/// A Service that has packet rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    pub cluster_ips: Vec<Ipv4Addr>,
    pub external_ips: BTreeSet<Ipv4Addr>,
    pub ingress_ips: BTreeSet<Ipv4Addr>,
    /// Who may use `ingress_ips`; empty: everyone.
    pub source_ranges: Vec<Ipv4Net>,
    pub ports: Vec<PortFacts>,
    pub affinity_seconds: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    pub health_check_port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceFacts {
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<EndpointFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFacts {
    pub address: Ipv4Addr,
    pub node: Option<String>,
    pub ready: bool,
    /// Shutting down but still answering: used when nothing is ready.
    pub draining: bool,
    pub zones: Vec<String>,
    pub nodes: Vec<String>,
}

impl Protocol {
    pub fn parse(name: Option<&str>) -> Option<Protocol> {
        match name.unwrap_or("TCP") {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ServiceName {
    pub fn of(service: &Service) -> ServiceName {
        ServiceName {
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            name: service.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// The Service a slice belongs to.
    pub fn of_slice(slice: &EndpointSlice) -> Option<ServiceName> {
        let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?.clone();
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        Some(ServiceName { namespace, name })
    }
}

impl ServiceFacts {
    /// `None` for Services that need no rules: headless, external names, another proxy's.
    pub fn of(service: &Service) -> Option<ServiceFacts> {
        let spec = service.spec.as_ref()?;
        let labels = service.metadata.labels.as_ref();
        let foreign = labels.is_some_and(|l| l.contains_key(PROXY_NAME_LABEL));
        if foreign || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let cluster_ips: Vec<Ipv4Addr> = match &spec.cluster_ips {
            Some(ips) if !ips.is_empty() => ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
            _ => spec.cluster_ip.iter().filter_map(|ip| ip.parse().ok()).collect(),
        };
        if cluster_ips.is_empty() {
            return None;
        }
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        Some(ServiceFacts {
            cluster_ips,
            external_ips: addresses(spec.external_ips.as_deref().unwrap_or_default()),
            ingress_ips: ingress_ips(service),
            source_ranges: spec
                .load_balancer_source_ranges
                .iter()
                .flatten()
                .filter_map(|range| range.trim().parse::<Ipv4Net>().ok())
                .map(|range| range.trunc())
                .collect(),
            ports: spec.ports.iter().flatten().filter_map(PortFacts::of).collect(),
            affinity_seconds: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
                spec.session_affinity_config
                    .as_ref()
                    .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
                    .and_then(|seconds| u32::try_from(seconds).ok())
                    .unwrap_or(AFFINITY_SECONDS)
            }),
            internal_local: local(&spec.internal_traffic_policy),
            external_local: local(&spec.external_traffic_policy),
            health_check_port: spec
                .health_check_node_port
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0),
        })
    }
}

impl PortFacts {
    fn of(port: &ServicePort) -> Option<PortFacts> {
        Some(PortFacts {
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::parse(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
        })
    }
}

impl SliceFacts {
    /// `None` for slices that carry no IPv4 endpoints of a Service with rules.
    pub fn of(slice: &EndpointSlice) -> Option<SliceFacts> {
        let labels = slice.metadata.labels.as_ref();
        let headless = labels.is_some_and(|l| l.contains_key(HEADLESS_LABEL));
        if headless || slice.address_type != "IPv4" {
            return None;
        }
        let port = |p: &api::k8s::api::discovery::v1::EndpointPort| {
            Some(SlicePort {
                name: p.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(p.protocol.as_deref())?,
                port: u16::try_from(p.port?).ok()?,
            })
        };
        Some(SliceFacts {
            ports: slice.ports.iter().flatten().filter_map(port).collect(),
            endpoints: slice.endpoints.iter().flatten().filter_map(EndpointFacts::of).collect(),
        })
    }
}

impl EndpointFacts {
    fn of(endpoint: &Endpoint) -> Option<EndpointFacts> {
        let address = endpoint.addresses.first()?.parse().ok()?;
        let conditions = endpoint.conditions.as_ref();
        // Unknown readiness counts as ready (EndpointSlice API).
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
        let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
        let hints = endpoint.hints.as_ref();
        let zones = hints.and_then(|h| h.for_zones.as_ref());
        let nodes = hints.and_then(|h| h.for_nodes.as_ref());
        Some(EndpointFacts {
            address,
            node: endpoint.node_name.clone(),
            ready,
            draining: serving && terminating,
            zones: zones.into_iter().flatten().map(|z| z.name.clone()).collect(),
            nodes: nodes.into_iter().flatten().map(|n| n.name.clone()).collect(),
        })
    }
}

fn addresses(texts: &[String]) -> BTreeSet<Ipv4Addr> {
    texts.iter().filter_map(|ip| ip.parse().ok()).collect()
}

/// The load balancer's addresses that packets arrive with unchanged (`ipMode: VIP`).
fn ingress_ips(service: &Service) -> BTreeSet<Ipv4Addr> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = status.and_then(|lb| lb.ingress.as_ref());
    ingress
        .into_iter()
        .flatten()
        .filter(|i| i.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|i| i.ip.as_ref()?.parse().ok())
        .collect()
}
