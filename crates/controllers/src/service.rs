//! Which pods are behind a Service, at which addresses and ports: common to both forms of it.
use crate::pods;
use api::k8s::api::core::v1::{
    ContainerPort, ObjectReference, Pod, Service, ServicePort, ServiceSpec,
};
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;
use api::{Key, Kind, LabelSelector};
use reconcile::{Index, Now, World, meta};
use std::sync::Arc;

pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Services by the first pair of their selector: a pod is looked up by each of its labels.
pub(crate) static BY_SELECTOR: Index<Service> =
    Index { name: "first-selector", value: first_selector };

fn first_selector(service: &Service) -> Option<String> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    let (key, value) = selector.iter().next()?;
    Some(format!("{}/{key}={value}", meta::namespace(&service.metadata)))
}

/// The Services that select a pod.
pub(crate) fn services_of(world: &World, pod: &Pod) -> Vec<Key> {
    let namespace = meta::namespace(&pod.metadata);
    let labels = meta::labels(&pod.metadata);
    let mut keys = Vec::new();
    for (key, value) in labels {
        for service in world.by(&BY_SELECTOR, &format!("{namespace}/{key}={value}")) {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if selector.is_some_and(|s| LabelSelector::from_map(s).matches(labels)) {
                keys.push(service.key());
            }
        }
    }
    keys
}

/// The specification, if this is a Service whose endpoints come from pods.
pub(crate) fn selecting(service: &Service) -> Option<(&ServiceSpec, LabelSelector)> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName"))
        .then(|| (spec, LabelSelector::from_map(selector)))
}

pub(crate) fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// Pods in the order of their names, so that the outcome is the same each time.
pub(crate) fn members<'a>(
    world: &'a World,
    namespace: &str,
    selector: &LabelSelector,
) -> Vec<&'a Arc<Pod>> {
    let mut members = world.select::<Pod>(namespace, selector);
    members.retain(|pod| !pods::is_terminal(pod) && !pods::addresses(pod).is_empty());
    members.sort_by_key(|pod| pod.key());
    members
}

/// The number of the port on this pod; none if the pod has no port of that name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => named_port(pod, name, protocol(port)),
    }
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let is = |port: &&ContainerPort| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.into_iter().find(is).map(|port| port.container_port)
}

pub(crate) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

pub(crate) fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The name a pod has under a headless Service.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|hostname| !hostname.is_empty())?;
    (spec.subdomain.as_deref() == service.metadata.name.as_deref()).then(|| hostname.clone())
}

/// When what is written now came about: the newest change of a pod, or the Service's creation.
pub(crate) fn trigger_time<'a>(
    service: &Service,
    members: impl IntoIterator<Item = &'a Arc<Pod>>,
) -> Option<String> {
    let created = |m: &api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        m.creation_timestamp.as_ref().map(|time| time.0)
    };
    let changed = |pod: &Pod| -> Option<Now> {
        let ready = pods::condition(pod, "Ready")
            .and_then(|condition| condition.last_transition_time.as_ref().map(|time| time.0));
        let deleted = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        ready.max(deleted).max(created(&pod.metadata))
    };
    let newest = members.into_iter().filter_map(|pod| changed(pod)).max();
    let at = newest.max(created(&service.metadata))?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
