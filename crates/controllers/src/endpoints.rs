//! Keeps the `Endpoints` object of a Service, the older form of endpoint slices.
use crate::{pods, service};
use api::Kind;
use api::k8s::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service, ServiceSpec,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use reconcile::{Controller, Declare, Effect, Plan, Turn, Watch, meta};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct EndpointsObjects;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// More addresses than this are left out.
const ADDRESSES_MAX: usize = 1000;

impl Controller for EndpointsObjects {
    fn name(&self) -> &'static str {
        "endpoint-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Service>(),
            Watch::own::<Endpoints>(),
            Watch::map::<Pod>(service::services_of),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::labels::<Pod>(), Declare::index(&service::BY_SELECTOR)]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let seen = turn.world.get::<Endpoints>(turn.key);
        let Some(service) = turn.world.get::<Service>(turn.key) else {
            let ours = |e: &&Arc<Endpoints>| {
                meta::label(&e.metadata, MANAGED_BY) == Some(MANAGER)
                    && !meta::is_deleting(&e.metadata)
            };
            plan.push(seen.filter(ours).map(|endpoints| Effect::delete(&**endpoints)));
            return plan;
        };
        let Some((spec, selector)) = service::selecting(service) else { return plan };
        if meta::is_deleting(&service.metadata) {
            return plan;
        }
        let members = service::members(turn.world, &turn.key.namespace, &selector);
        let (subsets, truncated) = subsets(service, spec, &members);
        let mut new = seen.map_or_else(Endpoints::default, |seen| Endpoints::clone(seen));
        let same = new.subsets.as_deref().unwrap_or_default() == subsets.as_slice();
        if !same {
            new.subsets = Some(subsets);
        }
        decorate(&mut new.metadata, service, spec);
        set_truncated(&mut new.metadata, truncated);
        if !same || seen.is_none() {
            if let Some(at) = service::trigger_time(service, members.iter().copied()) {
                let annotations = new.metadata.annotations.get_or_insert_default();
                annotations.insert(service::TRIGGER_TIME.to_owned(), at);
            }
        }
        plan.push(match seen {
            Some(seen) => Effect::update(&**seen, &new),
            None => Some(Effect::create(&new)),
        });
        plan
    }
}

fn decorate(metadata: &mut ObjectMeta, service: &Service, spec: &ServiceSpec) {
    let key = service.key();
    metadata.name = Some(key.name);
    metadata.namespace = Some(key.namespace);
    let mut labels = meta::labels(&service.metadata).clone();
    labels.remove(service::HEADLESS);
    if service::is_headless(spec) {
        labels.insert(service::HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    metadata.labels = Some(labels);
}

fn set_truncated(metadata: &mut ObjectMeta, truncated: bool) {
    if truncated {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
}

type Port = (String, i32, String, Option<String>);

/// One subset for each set of ports, and whether addresses had to be left out.
fn subsets(
    service: &Service,
    spec: &ServiceSpec,
    members: &[&Arc<Pod>],
) -> (Vec<EndpointSubset>, bool) {
    let anyway = spec.publish_not_ready_addresses == Some(true);
    let wants_v6 = spec.ip_families.iter().flatten().next().is_some_and(|f| f == "IPv6");
    let mut groups: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> =
        BTreeMap::new();
    let mut truncated = false;
    let mut count = 0;
    for pod in members {
        if meta::is_deleting(&pod.metadata) && !anyway {
            continue;
        }
        let ips = pods::addresses(pod);
        let Some(ip) = ips.into_iter().find(|ip| ip.contains(':') == wants_v6) else { continue };
        let ports = ports(spec, pod);
        if ports.is_empty() && !service::is_headless(spec) {
            continue;
        }
        if count == ADDRESSES_MAX {
            truncated = true;
            break;
        }
        count += 1;
        let address = EndpointAddress {
            ip: ip.to_owned(),
            node_name: Some(pods::node(pod).to_owned()).filter(|name| !name.is_empty()),
            target_ref: Some(service::pod_reference(pod)),
            hostname: service::hostname(pod, service),
        };
        let (ready, unready) = groups.entry(ports).or_default();
        if anyway || pods::is_ready(pod) { ready.push(address) } else { unready.push(address) }
    }
    let subset = |(ports, (ready, unready)): (Vec<Port>, (Vec<_>, Vec<_>))| EndpointSubset {
        addresses: (!ready.is_empty()).then_some(ready),
        not_ready_addresses: (!unready.is_empty()).then_some(unready),
        ports: (!ports.is_empty()).then(|| ports.into_iter().map(endpoint_port).collect()),
    };
    (groups.into_iter().map(subset).collect(), truncated)
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            let number = service::target_port(pod, port)?;
            let name = port.name.clone().unwrap_or_default();
            Some((name, number, service::protocol(port).to_owned(), port.app_protocol.clone()))
        })
        .collect();
    ports.sort();
    ports
}

fn endpoint_port((name, port, protocol, app_protocol): Port) -> EndpointPort {
    let name = Some(name).filter(|name| !name.is_empty());
    EndpointPort { name, port, protocol: Some(protocol), app_protocol }
}
