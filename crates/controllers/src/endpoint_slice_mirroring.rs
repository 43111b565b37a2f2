//! Gives `Endpoints` that people or programs write the slices that the network reads.
//!
//! Only for Services without a selector: those of others come from pods.
use crate::slices::{self, Group, MANAGED_BY, Packing, SERVICE_NAME};
use crate::{pods, service};
use api::Key;
use api::k8s::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use api::k8s::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use reconcile::{Controller, Declare, Effect, Index, Plan, Turn, Watch, meta};
use std::sync::Arc;

pub(crate) struct Mirroring;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// More addresses of a subset than this are left out.
const ADDRESSES_MAX: usize = 1000;

static BY_ENDPOINTS: Index<EndpointSlice> = Index { name: "mirrored", value: mirrored };

fn mirrored(slice: &EndpointSlice) -> Option<String> {
    let managed = meta::label(&slice.metadata, MANAGED_BY) == Some(MANAGER);
    let name = meta::label(&slice.metadata, SERVICE_NAME)?;
    managed.then(|| format!("{}/{name}", meta::namespace(&slice.metadata)))
}

impl Controller for Mirroring {
    fn name(&self) -> &'static str {
        "endpoint-slice-mirroring-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Endpoints>(),
            Watch::own::<Service>(),
            Watch::map::<EndpointSlice>(|_, slice| {
                let namespace = meta::namespace(&slice.metadata);
                let name = mirrored(slice)
                    .and_then(|_| meta::label(&slice.metadata, SERVICE_NAME))
                    .map(|name| Key::new(namespace, name));
                name.into_iter().collect()
            }),
        ]
    }
    fn indexes(&self) -> Vec<Declare> {
        vec![Declare::index(&BY_ENDPOINTS)]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let mut existing: Vec<&Arc<EndpointSlice>> =
            turn.world.by(&BY_ENDPOINTS, &turn.key.to_string()).collect();
        existing.retain(|slice| !meta::is_deleting(&slice.metadata));
        let service = turn.world.get::<Service>(turn.key);
        let endpoints = turn.world.get::<Endpoints>(turn.key);
        let Some(endpoints) = endpoints.filter(|_| service.is_some_and(|s| is_bare(s))) else {
            plan.effects.extend(existing.into_iter().map(|slice| Effect::delete(&**slice)));
            return plan;
        };
        if !wants_mirror(endpoints) {
            plan.effects.extend(existing.into_iter().map(|slice| Effect::delete(&**slice)));
            return plan;
        }
        for family in ["IPv4", "IPv6"] {
            let mut groups: Vec<(Vec<EndpointPort>, Group)> = Vec::new();
            for subset in endpoints.subsets.iter().flatten() {
                add(&mut groups, subset, family == "IPv6");
            }
            let packing = packing(endpoints, family);
            packing.reconcile(&slices::of_family(&existing, family), groups, &mut plan);
        }
        plan
    }
}

fn is_bare(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_none_or(|selector| selector.is_empty()) && !meta::is_deleting(&service.metadata)
}

fn wants_mirror(endpoints: &Endpoints) -> bool {
    let metadata = &endpoints.metadata;
    meta::label(metadata, SKIP) != Some("true")
        && meta::annotation(metadata, LEADER).is_none()
        && !meta::is_deleting(metadata)
}

fn packing<'a>(endpoints: &'a Endpoints, family: &'a str) -> Packing<'a> {
    let metadata = &endpoints.metadata;
    let mut labels = meta::labels(metadata).clone();
    labels.insert(SERVICE_NAME.to_owned(), meta::name(metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.remove(service::TRIGGER_TIME);
    Packing {
        family,
        namespace: meta::namespace(metadata),
        prefix: pods::name_prefix(meta::name(metadata)),
        labels,
        owner: meta::controlled_by(endpoints),
        annotations,
        never_none: false,
    }
}

fn add(groups: &mut Vec<(Vec<EndpointPort>, Group)>, subset: &EndpointSubset, wants_v6: bool) {
    let ports: Vec<EndpointPort> = subset
        .ports
        .iter()
        .flatten()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let of_family = ready.chain(unready).filter(|(a, _)| a.ip.contains(':') == wants_v6);
    for (address, ready) in of_family.take(ADDRESSES_MAX) {
        slices::insert(groups, ports.clone(), endpoint(address, ready));
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::json;

    fn sim() -> (Sim, Key) {
        let mut sim = Sim::new(&Mirroring);
        sim.put::<Service>(json!({ "metadata": { "name": "db", "namespace": "a" },
            "spec": { "ports": [{ "port": 5432 }] } }));
        let key = sim.put::<Endpoints>(json!({ "metadata": { "name": "db", "namespace": "a" },
            "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }, { "ip": "2001:db8::1" }],
                "notReadyAddresses": [{ "ip": "192.0.2.2" }], "ports": [{ "port": 5432 }] }] }));
        (sim, key)
    }

    #[test]
    fn written_endpoints_get_slices() {
        let (mut sim, key) = sim();
        sim.settle(&Mirroring, &key);
        let mut found: Vec<(String, usize)> = sim
            .all::<EndpointSlice>()
            .iter()
            .map(|slice| (slice.address_type.clone(), slice.endpoints.as_ref().unwrap().len()))
            .collect();
        found.sort();
        assert_eq!(found, [("IPv4".to_owned(), 2), ("IPv6".to_owned(), 1)]);
        sim.patch::<Endpoints>(&key, &json!({ "metadata": { "labels": { SKIP: "true" } } }));
        sim.settle(&Mirroring, &key);
        assert!(sim.all::<EndpointSlice>().is_empty());
    }

    #[test]
    fn services_with_a_selector_are_left_alone() {
        let (mut sim, key) = sim();
        sim.patch::<Service>(&key, &json!({ "spec": { "selector": { "app": "db" } } }));
        assert!(sim.plan(&Mirroring, &key).is_settled());
    }

    #[test]
    fn crashes_are_made_good() {
        crash_everywhere(&Mirroring, sim);
    }
}
