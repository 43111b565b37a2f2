//! What pods ask of nodes: tolerated taints and required node affinity.
use crate::pods;
use api::k8s::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};
use api::selector::{Operator, Requirement};
use api::{Key, Kind};
use reconcile::{Index, World, meta};

/// Pods by the node that they are bound to.
pub(crate) static PODS_BY_NODE: Index<Pod> =
    Index { name: "node", value: |pod| Some(pods::node(pod).to_owned()).filter(|n| !n.is_empty()) };

/// The keys of the pods on a node, for watches of nodes.
pub(crate) fn pods_on(world: &World, node: &Node) -> Vec<Key> {
    world.by(&PODS_BY_NODE, meta::name(&node.metadata)).map(|pod| pod.key()).collect()
}

pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let (key, effect) = (toleration.key.as_deref(), toleration.effect.as_deref());
    let value = taint.value.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    if effect.is_some_and(|effect| !effect.is_empty() && effect != taint.effect)
        || key.is_some_and(|key| !key.is_empty() && key != taint.key)
    {
        return false;
    }
    let wanted = toleration.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => wanted == value,
        "Lt" => number(value).zip(number(wanted)).is_some_and(|(has, limit)| has < limit),
        "Gt" => number(value).zip(number(wanted)).is_some_and(|(has, limit)| has > limit),
        _ => false,
    }
}

pub(crate) fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// Whether `nodeSelector` and the required node affinity let the pod run there.
pub(crate) fn suits(spec: &PodSpec, node: &Node) -> bool {
    let labels = meta::labels(&node.metadata);
    if spec.node_selector.iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| matches_term(term, node))
    })
}

/// A term without any requirement matches nothing.
fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = meta::labels(&node.metadata);
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| labels.get(key).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then(|| meta::name(&node.metadata));
    expressions.iter().all(|expression| holds(expression, label))
        && fields.iter().all(|expression| holds(expression, field))
}

fn holds<'a>(expression: &NodeSelectorRequirement, get: impl Fn(&str) -> Option<&'a str>) -> bool {
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        _ => return false,
    };
    let (key, values) = (expression.key.clone(), expression.values.clone().unwrap_or_default());
    let value = get(&key);
    Requirement { key, operator, values }.matches(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerations() {
        for (toleration, taint, want) in [
            (json!({ "operator": "Exists" }), json!({ "key": "a", "effect": "NoExecute" }), true),
            (json!({ "key": "a" }), json!({ "key": "a", "effect": "NoExecute" }), true),
            (
                json!({ "key": "a", "value": "x" }),
                json!({ "key": "a", "value": "y", "effect": "NoExecute" }),
                false,
            ),
            (
                json!({ "key": "a", "operator": "Exists", "effect": "NoSchedule" }),
                json!({ "key": "a", "effect": "NoExecute" }),
                false,
            ),
        ] {
            let (toleration, taint) = (toleration, taint);
            let text = format!("{toleration} {taint}");
            let toleration: Toleration = serde_json::from_value(toleration).unwrap();
            let taint: Taint = serde_json::from_value(taint).unwrap();
            assert_eq!(tolerates(&toleration, &taint), want, "{text}");
        }
    }

    #[test]
    fn affinity() {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "n", "labels": { "zone": "a", "cpus": "8" } } }))
        .unwrap();
        let check = |terms: serde_json::Value| {
            let spec: PodSpec = serde_json::from_value(json!({ "containers": [], "affinity": {
                "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": terms } } } }))
            .unwrap();
            suits(&spec, &node)
        };
        let name = |name| json!({ "key": "metadata.name", "operator": "In", "values": [name] });
        let cpus = |n| json!({ "key": "cpus", "operator": "Gt", "values": [n] });
        assert!(check(json!([{ "matchFields": [name("n")] }])));
        assert!(!check(json!([{ "matchFields": [name("m")] }])));
        assert!(check(
            json!([{ "matchFields": [name("m")] }, { "matchExpressions": [cpus("4")] }])
        ));
        assert!(!check(json!([{ "matchFields": [name("n")], "matchExpressions": [cpus("9")] }])));
        assert!(!check(json!([{}])), "an empty term matches nothing");
    }
}
