//! The node's own decision whether it takes a pod that is bound to it.
use crate::eviction;
use crate::facts::Verdict;
use crate::pods::PodExt;
use crate::resources;
use api::Quantity;
use api::k8s::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, Toleration};
use std::collections::{BTreeMap, BTreeSet};

/// What the node offers.
#[derive(Debug, Clone, Default)]
pub struct NodeOffer {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub allocatable: BTreeMap<String, Quantity>,
    /// Taints with the effect NoExecute, as key and value.
    pub no_execute: Vec<(String, String)>,
    /// What the node is short of.
    pub conditions: BTreeSet<eviction::Condition>,
}

/// What the pods that the node has accepted use.
#[derive(Debug, Clone, Default)]
pub struct InUse {
    pub pods: i64,
    pub requests: BTreeMap<String, Quantity>,
    pub host_ports: BTreeSet<HostPort>,
}

/// Address (empty: any), protocol and port.
pub type HostPort = (String, String, i32);

impl InUse {
    pub fn add(&mut self, pod: &Pod) {
        self.pods += 1;
        for (name, amount) in resources::requests(pod) {
            let total = self.requests.entry(name).or_insert(Quantity::ZERO);
            *total = total.plus(&amount);
        }
        self.host_ports.extend(host_ports(pod));
    }
}

/// Accepts the pod, or says why not.
pub fn admit(pod: &Pod, node: &NodeOffer, used: &InUse) -> Result<(), Verdict> {
    if let Some(message) = eviction::refuses(pod, &node.conditions) {
        return Err(refuse(eviction::REASON, &message));
    }
    let os = pod.spec_ref().os.as_ref().map(|os| os.name.as_str());
    if os.is_some_and(|os| os != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(refuse("PodOSNotSupported", message));
    }
    let static_pod = pod.annotation("kubernetes.io/config.source").is_some_and(|s| s != "api");
    if !static_pod {
        fits_resources(pod, node, used)?;
    }
    if !matches_node(pod, node) {
        let message =
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Err(refuse("NodeAffinity", message));
    }
    let name = pod.spec_ref().node_name.as_deref();
    if name.is_some_and(|name| name != node.name) {
        let message = "Predicate NodeName failed: node(s) didn't match the requested node name";
        return Err(refuse("NodeName", message));
    }
    if host_ports(pod).iter().any(|port| used.host_ports.iter().any(|held| clash(port, held))) {
        let message = "Predicate NodePorts failed: node(s) didn't have free ports for the \
                       requested pod ports";
        return Err(refuse("NodePorts", message));
    }
    if !static_pod && !tolerates(pod, node) {
        let message = "Predicate TaintToleration failed: node(s) had taints that the pod didn't \
                       tolerate";
        return Err(refuse("TaintToleration", message));
    }
    Ok(())
}

fn refuse(reason: &str, message: &str) -> Verdict {
    Verdict {
        reason: reason.to_owned(),
        message: format!("Pod was rejected: {message}"),
        rejected: true,
        grace_seconds: None,
    }
}

fn fits_resources(pod: &Pod, node: &NodeOffer, used: &InUse) -> Result<(), Verdict> {
    let short = |name: &str, asked: i64, used: i64, capacity: i64| {
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, \
             capacity: {capacity}"
        );
        Err(refuse(&format!("OutOf{name}"), &message))
    };
    if let Some(most) = node.allocatable.get("pods") {
        if used.pods + 1 > most.value() {
            return short("pods", 1, used.pods, most.value());
        }
    }
    for (name, asked) in resources::requests(pod) {
        // What the node does not know of is somebody else's to give, as the kubelet has it.
        let unknown = is_extended(&name) && !node.allocatable.contains_key(&name);
        if asked.is_zero() || unknown {
            continue;
        }
        let have = node.allocatable.get(&name).copied().unwrap_or(Quantity::ZERO);
        let taken = used.requests.get(&name).copied().unwrap_or(Quantity::ZERO);
        if taken.plus(&asked) > have {
            let number = |amount: Quantity| match name.as_str() {
                "cpu" => amount.milli_value(),
                _ => amount.value(),
            };
            return short(&name, number(asked), number(taken), number(have));
        }
    }
    Ok(())
}

/// A resource that is no business of Kubernetes' own.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.")
}

/// The ports of the node itself that a pod takes.
pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let containers = pod
        .init_containers()
        .iter()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = containers.chain(&pod.spec_ref().containers).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|ip| ip != "0.0.0.0").unwrap_or_default();
            Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
        })
        .collect()
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0.is_empty() || b.0.is_empty() || a.0 == b.0)
}

fn matches_node(pod: &Pod, node: &NodeOffer) -> bool {
    let spec = pod.spec_ref();
    let wanted = spec.node_selector.iter().flatten();
    if !wanted.into_iter().all(|(key, value)| node.labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| {
        selector.node_selector_terms.iter().any(|term| matches_term(term, node))
    })
}

fn matches_term(term: &NodeSelectorTerm, node: &NodeOffer) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = |key: &str| (key == "metadata.name").then(|| node.name.clone());
    expressions.iter().all(|need| matches(need, node.labels.get(&need.key).map(String::as_str)))
        && fields.iter().all(|need| matches(need, name(&need.key).as_deref()))
}

fn matches(need: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = need.values.as_deref().unwrap_or_default();
    let named = value.is_some_and(|value| values.iter().any(|known| known == value));
    let compare = |more: bool| {
        let have = value.and_then(|value| value.parse::<i64>().ok());
        let than = values.first().and_then(|value| value.parse::<i64>().ok());
        match (have, than) {
            (Some(have), Some(than)) => (more && have > than) || (!more && have < than),
            _ => false,
        }
    };
    match need.operator.as_str() {
        "In" => named,
        "NotIn" => !named,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(true),
        "Lt" => compare(false),
        _ => false,
    }
}

fn tolerates(pod: &Pod, node: &NodeOffer) -> bool {
    let tolerations = pod.spec_ref().tolerations.as_deref().unwrap_or_default();
    node.no_execute.iter().all(|(key, value)| {
        tolerations.iter().any(|toleration| tolerates_taint(toleration, key, value, "NoExecute"))
    })
}

pub(crate) fn tolerates_taint(
    toleration: &Toleration,
    key: &str,
    value: &str,
    effect: &str,
) -> bool {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = set(&toleration.effect).is_none_or(|wanted| wanted == effect);
    let same_key = set(&toleration.key).is_none_or(|wanted| wanted == key);
    let fits = match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => toleration.value.as_deref().unwrap_or_default() == value,
    };
    effect && same_key && fits
}

#[cfg(test)]
mod tests;
