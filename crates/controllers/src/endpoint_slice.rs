//! Keeps a Service's endpoint slices equal to the pods that it selects.
//!
//! Every address family of the Service has at least one slice, be it empty.
use crate::slices::{self, Group, MANAGED_BY, Packing, SERVICE_NAME};
use crate::{pods, service};
use api::Key;
use api::k8s::api::core::v1::{Node, Pod, Service, ServiceSpec};
use api::k8s::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use reconcile::{Controller, Declare, Effect, Index, Plan, Target, Turn, Watch, World, meta};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct EndpointSlices;

const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

static BY_SERVICE: Index<EndpointSlice> = Index { name: "service", value: service_value };

fn service_value(slice: &EndpointSlice) -> Option<String> {
    let managed = meta::label(&slice.metadata, MANAGED_BY) == Some(MANAGER);
    let service = meta::label(&slice.metadata, SERVICE_NAME)?;
    managed.then(|| format!("{}/{service}", meta::namespace(&slice.metadata)))
}

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpoint-slice-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Service>(),
            Watch::map::<Pod>(service::services_of),
            Watch::map::<EndpointSlice>(|_, slice| {
                let namespace = meta::namespace(&slice.metadata);
                let service = service_value(slice).and_then(|_| {
                    meta::label(&slice.metadata, SERVICE_NAME).map(|name| Key::new(namespace, name))
                });
                service.into_iter().collect()
            }),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![
            Declare::labels::<Pod>(),
            Declare::index(&service::BY_SELECTOR),
            Declare::index(&BY_SERVICE),
        ]
    }
    fn reads(&self) -> Vec<Target> {
        vec![Target::of::<Node>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        // Slices of a Service that is gone are garbage: they have it as their owner.
        let Some(service) = turn.world.get::<Service>(turn.key) else { return plan };
        let Some((spec, selector)) = service::selecting(service) else { return plan };
        if meta::is_deleting(&service.metadata) {
            return plan;
        }
        let mut existing: Vec<&Arc<EndpointSlice>> =
            turn.world.by(&BY_SERVICE, &turn.key.to_string()).collect();
        existing.retain(|slice| !meta::is_deleting(&slice.metadata));
        let members = service::members(turn.world, &turn.key.namespace, &selector);
        let families = families(spec);
        for slice in existing.iter().filter(|slice| !families.contains(&&*slice.address_type)) {
            plan.push(Effect::delete(&***slice));
        }
        for family in families {
            let work = Work { service, spec, family, members: &members, world: turn.world };
            let packing = work.packing();
            packing.reconcile(&slices::of_family(&existing, family), work.desired(), &mut plan);
        }
        plan
    }
}

fn families(spec: &ServiceSpec) -> Vec<&str> {
    let families: Vec<&str> = spec.ip_families.iter().flatten().map(String::as_str).collect();
    if families.is_empty() { vec!["IPv4"] } else { families }
}

/// The slices of one Service for one address family.
struct Work<'a> {
    service: &'a Service,
    spec: &'a ServiceSpec,
    family: &'a str,
    members: &'a [&'a Arc<Pod>],
    world: &'a World,
}

impl Work<'_> {
    fn packing(&self) -> Packing<'_> {
        let trigger = service::trigger_time(self.service, self.members.iter().copied());
        let trigger = trigger.map(|at| (service::TRIGGER_TIME.to_owned(), at));
        Packing {
            family: self.family,
            namespace: meta::namespace(&self.service.metadata),
            prefix: pods::name_prefix(meta::name(&self.service.metadata)),
            labels: self.labels(),
            owner: meta::controlled_by(self.service),
            annotations: trigger.into_iter().collect(),
            never_none: true,
        }
    }

    fn desired(&self) -> Vec<(Vec<EndpointPort>, Group)> {
        let mut groups: Vec<(Vec<EndpointPort>, Group)> = Vec::new();
        for pod in self.members {
            let Some(endpoint) = self.endpoint(pod) else { continue };
            let ports = self.ports(pod);
            if ports.is_empty() && !service::is_headless(self.spec) {
                continue;
            }
            slices::insert(&mut groups, ports, endpoint);
        }
        groups
    }

    fn ports(&self, pod: &Pod) -> Vec<EndpointPort> {
        let ports = self.spec.ports.iter().flatten();
        let resolved = ports.filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(service::target_port(pod, port)?),
                protocol: Some(service::protocol(port).to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        });
        resolved.collect()
    }

    fn endpoint(&self, pod: &Pod) -> Option<Endpoint> {
        let wants_v6 = self.family == "IPv6";
        let addresses = pods::addresses(pod);
        let address = addresses.into_iter().find(|address| address.contains(':') == wants_v6)?;
        let serving = pods::is_ready(pod);
        let terminating = meta::is_deleting(&pod.metadata);
        let anyway = self.spec.publish_not_ready_addresses == Some(true);
        let node_name = Some(pods::node(pod).to_owned()).filter(|name| !name.is_empty());
        let node = node_name.as_deref().and_then(|name| self.world.named::<Node>(name));
        let zone = node.and_then(|node| meta::label(&node.metadata, ZONE)).map(str::to_owned);
        let ready = anyway || serving && !terminating;
        let hints = self.hints(zone.as_deref(), node_name.as_deref()).filter(|_| ready);
        Some(Endpoint {
            addresses: vec![address.to_owned()],
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: service::hostname(pod, self.service),
            zone,
            node_name,
            target_ref: Some(service::pod_reference(pod)),
            hints,
            ..Endpoint::default()
        })
    }

    /// Where the endpoint is to be preferred, by `trafficDistribution` (KEP-4444, KEP-3015).
    fn hints(&self, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
        let same_node = match self.spec.traffic_distribution.as_deref()? {
            "PreferClose" | "PreferSameZone" => false,
            "PreferSameNode" => true,
            _ => return None,
        };
        let zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
        let nodes = node.filter(|_| same_node).map(|name| vec![ForNode { name: name.to_owned() }]);
        (zones.is_some() || nodes.is_some())
            .then_some(EndpointHints { for_zones: zones, for_nodes: nodes })
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = meta::labels(&self.service.metadata).clone();
        labels.remove(service::HEADLESS);
        labels.insert(SERVICE_NAME.to_owned(), meta::name(&self.service.metadata).to_owned());
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        if service::is_headless(self.spec) {
            labels.insert(service::HEADLESS.to_owned(), String::new());
        }
        labels
    }
}

#[cfg(test)]
mod tests;
