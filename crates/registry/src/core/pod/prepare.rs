//! What the server sets when a pod is made or a part of it is written.
use crate::at::{items_mut, restore, set, sub};
use crate::quantities;
use crate::{At, cells};
use api::{Quantity, Value};
use std::collections::BTreeMap;
use value::{Map, json};

pub(crate) fn create(pod: &mut Value) {
    pod_level_resources(pod);
    match_label_keys(pod);
    let mut status = json!({ "phase": "Pending", "qosClass": qos_class(pod) });
    if !At::root(pod).get("spec.schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": null,
        }]);
    }
    set(pod, "status", status);
}

pub(crate) fn status(new: &mut Value, old: &Value) {
    restore(new, old, "spec");
    for field in ["deletionTimestamp", "ownerReferences"] {
        if let Some(meta) = sub(new, "metadata") {
            restore(meta, &old["metadata"], field);
        }
    }
    let Some(status) = sub(new, "status") else { return };
    let was = &old["status"];
    for field in [
        "qosClass",
        "resourceClaimStatuses",
        "extendedResourceClaimStatus",
        "nodeAllocatableResourceClaimStatuses",
        "observedGeneration",
    ] {
        if status[field].is_null() {
            restore(status, was, field);
        }
    }
    let generation = |kind: &Value| {
        let all = was["conditions"].as_array().into_iter().flatten();
        all.clone().find(|c| c["type"] == *kind).and_then(|c| c.get("observedGeneration")).cloned()
    };
    for condition in items_mut(status, "conditions") {
        if condition["observedGeneration"].is_null()
            && let Some(generation) = generation(&condition["type"])
        {
            set(condition, "observedGeneration", generation);
        }
    }
}

pub(crate) fn ephemeral_containers(new: &mut Value, old: &Value) {
    let list = new["spec"].get("ephemeralContainers").cloned();
    restore(new, old, "spec");
    restore(new, old, "status");
    if let (Some(spec), Some(list)) = (sub(new, "spec"), list) {
        set(spec, "ephemeralContainers", list);
    }
}

/// Keeps only changes of resources. A pod whose containers are others is left for validation to
/// refuse.
pub(crate) fn resize(new: &mut Value, old: &Value) {
    let names = |pod: &Value, list: &str| cells::each(pod, &format!("spec.{list}"), "name");
    let lists = ["containers", "initContainers"];
    if lists.iter().any(|list| names(new, list) != names(old, list)) {
        return;
    }
    let mut spec = old["spec"].clone();
    for list in lists {
        let wanted = new["spec"][list].as_array().cloned().unwrap_or_default();
        for (container, wanted) in items_mut(&mut spec, list).zip(&wanted) {
            restore(container, wanted, "resources");
            restore(container, wanted, "resizePolicy");
        }
    }
    restore(&mut spec, &new["spec"], "resources");
    set(new, "spec", spec);
    restore(new, old, "status");
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(resources: &At, list: &str) -> Amounts {
    let entries = resources
        .get(list)
        .entries()
        .filter_map(|(name, amount)| Some((name.to_owned(), quantities::parse(amount.value)?)));
    entries
        .filter(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && amount.sign() > 0)
        .collect()
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from CPU and memory alone.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let root = At::root(pod);
    let whole = root.get("spec.resources");
    let holders: Vec<At> = if amounts(&whole, "requests").is_empty()
        && amounts(&whole, "limits").is_empty()
    {
        let lists = ["spec.containers", "spec.initContainers"];
        lists.iter().flat_map(|list| root.get(list).items()).map(|c| c.get("resources")).collect()
    } else {
        vec![whole]
    };
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut all_limited = true;
    for resources in &holders {
        let (asked, limit) = (amounts(resources, "requests"), amounts(resources, "limits"));
        all_limited &= limit.len() == 2;
        for (sum, part) in [(&mut requests, asked), (&mut limits, limit)] {
            for (name, amount) in part {
                let total = sum.entry(name).or_insert(Quantity::ZERO);
                *total = total.plus(&amount);
            }
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if all_limited && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// What a pod as a whole asks for, where only its limits are given (KEP-2837): the sum of what its
/// containers ask for, or else the limit.
fn pod_level_resources(pod: &mut Value) {
    let limits = pod["spec"]["resources"]["limits"].clone();
    if crate::at::is_empty(&limits) {
        return;
    }
    let mut sums: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in At::root(pod).get("spec.containers").items() {
        for (name, amount) in container.get("resources.requests").entries() {
            if let Some(amount) = quantities::parse(amount.value) {
                let total = sums.entry(name.to_owned()).or_insert(Quantity::ZERO);
                *total = total.plus(&amount);
            }
        }
    }
    let Some(resources) = sub(pod, "spec").and_then(|spec| sub(spec, "resources")) else { return };
    let Some(requests) = crate::at::map_mut(resources, "requests") else { return };
    for (name, amount) in sums {
        if matches!(name.as_str(), "cpu" | "memory") {
            requests.entry(name).or_insert_with(|| amount.to_string().into());
        }
    }
    let whole = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    for (name, amount) in limits.as_object().into_iter().flatten().filter(|(name, _)| whole(name)) {
        requests.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

/// `matchLabelKeys` become requirements with the pod's own values (KEP-3633, KEP-3243).
fn match_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let Some(spec) = sub(pod, "spec") else { return };
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        add_requirements(constraint, &labels);
    }
    let Some(affinity) = sub(spec, "affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(rules) = sub(affinity, kind) else { continue };
        for term in items_mut(rules, "requiredDuringSchedulingIgnoredDuringExecution") {
            add_requirements(term, &labels);
        }
        for weighted in items_mut(rules, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = sub(weighted, "podAffinityTerm") {
                add_requirements(term, &labels);
            }
        }
    }
}

fn add_requirements(term: &mut Value, labels: &Map) {
    let mut added = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term[field].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                added.push(json!({ "key": key, "operator": operator, "values": [value] }));
            }
        }
    }
    let Some(selector) = sub(term, "labelSelector") else { return };
    let slot = crate::at::map_mut(selector, "").map(|_| ());
    crate::at::remove(selector, "");
    if added.is_empty() || slot.is_none() {
        return;
    }
    let mut list = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
    list.extend(added.into_iter().filter(|new| !list.contains(new)).collect::<Vec<_>>());
    set(selector, "matchExpressions", list);
}
