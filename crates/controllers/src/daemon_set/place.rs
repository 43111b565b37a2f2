//! Which nodes a daemon set wants to be on, and the pods for them.
use super::*;
use api::k8s::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Toleration,
};

const NAME_FIELD: &str = "metadata.name";

/// The node that a pod is bound to, or was made for.
pub(super) fn target(pod: &Pod) -> &str {
    let bound = pods::node(pod);
    if !bound.is_empty() {
        return bound;
    }
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let mut fields = required
        .iter()
        .flat_map(|required| &required.node_selector_terms)
        .flat_map(|term| term.match_fields.iter().flatten());
    let named = fields.find(|field| field.key == NAME_FIELD && field.operator == "In");
    let values = named.and_then(|field| field.values.as_deref()).unwrap_or_default();
    values.first().map_or("", String::as_str)
}

/// Whether a new pod belongs on the node, and whether one that is there may stay.
pub(super) fn verdict(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(spec) = &set.spec.template.spec else { return (false, false) };
    let name = meta::name(&node.metadata);
    let fixed = spec.node_name.as_deref().unwrap_or_default();
    if !(fixed.is_empty() || fixed == name) || !nodes::suits(spec, node) {
        return (false, false);
    }
    let tolerations = tolerations(spec.tolerations.as_deref(), spec.host_network == Some(true));
    let mut refused = nodes::taints(node)
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .filter(|taint| !nodes::tolerated(&tolerations, taint))
        .peekable();
    if refused.peek().is_none() {
        return (true, true);
    }
    (false, !refused.any(|taint| taint.effect == "NoExecute"))
}

/// What daemons bear by themselves: they stay on, and come to, nodes in trouble.
fn tolerations(given: Option<&[Toleration]>, host_network: bool) -> Vec<Toleration> {
    let mut all = given.unwrap_or_default().to_vec();
    let network = host_network.then_some(("network-unavailable", "NoSchedule"));
    let own = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    for (name, effect) in own.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(format!("node.kubernetes.io/{name}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let same = |has: &Toleration| has.key == toleration.key && has.effect == toleration.effect;
        all.retain(|has| !same(has));
        all.push(toleration);
    }
    all
}

pub(super) fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let prefix = pods::name_prefix(meta::name(&set.metadata));
    let owner = meta::controlled_by(set);
    let namespace = meta::namespace(&set.metadata);
    let mut pod = pods::from_template(&set.spec.template, namespace, &prefix, owner);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = meta::annotation(&set.metadata, GENERATION) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_owned());
    }
    let spec = pod.spec.get_or_insert_default();
    let given = spec.tolerations.take();
    let host_network = spec.host_network == Some(true);
    spec.tolerations = Some(tolerations(given.as_deref(), host_network));
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let name = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![name]), ..NodeSelectorTerm::default() };
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
    pod
}
