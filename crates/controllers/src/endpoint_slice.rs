//! Keeps a Service's endpoint slices equal to the pods that it selects.
//!
//! Endpoints stay in the slice they are in; new ones fill slices that have room before a slice is
//! added. Every address family has at least one slice, be it empty.
use crate::{pods, service};
use api::k8s::api::core::v1::{Node, Pod, Service, ServiceSpec};
use api::k8s::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::{Key, Kind};
use reconcile::{Controller, Declare, Effect, Index, Plan, Target, Turn, Watch, World, meta};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct EndpointSlices;

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const ZONE: &str = "topology.kubernetes.io/zone";
const SLICE_MAX: usize = 100;

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
        existing.sort_by_key(|slice| slice.key());
        let members = service::members(turn.world, &turn.key.namespace, &selector);
        let families = families(spec);
        for slice in existing.iter().filter(|slice| !families.contains(&&*slice.address_type)) {
            plan.push(Effect::delete(&***slice));
        }
        for family in families {
            let of_family: Vec<_> =
                existing.iter().copied().filter(|slice| slice.address_type == family).collect();
            let work = Work { service, spec, family, members: &members, world: turn.world };
            work.reconcile(&of_family, &mut plan);
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

/// Endpoints that share their ports, by what identifies each.
type Group = BTreeMap<(String, Option<String>), Endpoint>;

impl Work<'_> {
    fn reconcile(&self, existing: &[&Arc<EndpointSlice>], plan: &mut Plan) {
        let mut groups = self.desired();
        let mut rest: Vec<&&Arc<EndpointSlice>> = existing.iter().collect();
        if groups.is_empty() {
            // A Service always has a slice; which of those it has stays does not matter.
            groups.push((Vec::new(), Group::new()));
        }
        for (ports, group) in groups {
            let same = |slice: &&&Arc<EndpointSlice>| {
                slice.ports.as_deref().unwrap_or_default() == ports.as_slice()
            };
            let slices: Vec<_> = rest.iter().copied().filter(same).collect();
            rest.retain(|slice| !same(slice));
            self.fill(&slices, &ports, group, plan);
        }
        for slice in rest {
            plan.push(Effect::delete(&***slice));
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
            let at = groups.iter().position(|(its, _)| *its == ports).unwrap_or_else(|| {
                groups.push((ports, Group::new()));
                groups.len() - 1
            });
            groups[at].1.insert(identity(&endpoint), endpoint);
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
        Some(Endpoint {
            addresses: vec![address.to_owned()],
            conditions: Some(EndpointConditions {
                ready: Some(anyway || serving && !terminating),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: service::hostname(pod, self.service),
            zone: node.and_then(|node| meta::label(&node.metadata, ZONE)).map(str::to_owned),
            node_name,
            target_ref: Some(service::pod_reference(pod)),
            ..Endpoint::default()
        })
    }

    /// Brings the slices of one set of ports up to date.
    fn fill(
        &self,
        existing: &[&&Arc<EndpointSlice>],
        ports: &[EndpointPort],
        mut wanted: Group,
        plan: &mut Plan,
    ) {
        let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
        for slice in existing {
            let endpoints = slice.endpoints.iter().flatten();
            let kept_here = endpoints.filter_map(|endpoint| wanted.remove(&identity(endpoint)));
            kept.push((**slice, kept_here.take(SLICE_MAX).collect()));
        }
        let mut fresh = wanted.into_values().peekable();
        for (_, endpoints) in &mut kept {
            while endpoints.len() < SLICE_MAX
                && let Some(endpoint) = fresh.next()
            {
                endpoints.push(endpoint);
            }
        }
        let mut others = kept.iter().filter(|(_, endpoints)| !endpoints.is_empty()).count();
        let needs_placeholder = others == 0 && fresh.peek().is_none();
        let placeholder =
            if needs_placeholder { kept.first().map(|(slice, _)| slice.key()) } else { None };
        for (slice, endpoints) in kept {
            if endpoints.is_empty() && placeholder != Some(slice.key()) {
                plan.push(Effect::delete(&**slice));
                continue;
            }
            let mut new = EndpointSlice::clone(slice);
            new.endpoints = Some(endpoints);
            new.metadata.labels = Some(self.labels());
            self.update(slice, new, plan);
        }
        let mut fresh: Vec<Endpoint> = fresh.collect();
        while !fresh.is_empty() || (needs_placeholder && placeholder.is_none() && others == 0) {
            let rest = fresh.split_off(fresh.len().min(SLICE_MAX));
            plan.push(Effect::create(&self.slice(ports, std::mem::replace(&mut fresh, rest))));
            others += 1;
        }
    }

    fn update(&self, seen: &Arc<EndpointSlice>, mut new: EndpointSlice, plan: &mut Plan) {
        let same = seen.endpoints.as_deref().unwrap_or_default()
            == new.endpoints.as_deref().unwrap_or_default();
        if same {
            // An empty list and none are the same.
            new.endpoints.clone_from(&seen.endpoints);
        } else {
            self.stamp(&mut new.metadata);
        }
        plan.push(Effect::update(&**seen, &new));
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

    fn slice(&self, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
        let mut metadata = ObjectMeta {
            namespace: self.service.metadata.namespace.clone(),
            generate_name: Some(pods::name_prefix(meta::name(&self.service.metadata))),
            labels: Some(self.labels()),
            owner_references: Some(vec![meta::controlled_by(self.service)]),
            ..ObjectMeta::default()
        };
        self.stamp(&mut metadata);
        EndpointSlice {
            metadata,
            address_type: self.family.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(ports.to_vec()),
        }
    }

    fn stamp(&self, metadata: &mut ObjectMeta) {
        if let Some(at) = service::trigger_time(self.service, self.members.iter().copied()) {
            let annotations = metadata.annotations.get_or_insert_default();
            annotations.insert(service::TRIGGER_TIME.to_owned(), at);
        }
    }
}

fn identity(endpoint: &Endpoint) -> (String, Option<String>) {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (endpoint.addresses.first().cloned().unwrap_or_default(), uid)
}

#[cfg(test)]
mod tests;
