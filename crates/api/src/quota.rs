//! What objects count for against a namespace's quotas: for admission, which refuses what would go
//! over one, and for the controller that writes how much is used.
use crate::{Quantity, Value, access::text};
use std::collections::BTreeMap;

/// Amounts by the names that quotas use.
pub type Usage = BTreeMap<String, Quantity>;

/// The amounts of a list of resources; what is none is left out.
pub fn quantities(value: &Value) -> Usage {
    let map = value.as_object().into_iter().flatten();
    map.filter_map(|(name, amount)| Some((name.to_string(), amount.as_str()?.parse().ok()?)))
        .collect()
}

/// What one object takes, by the names that quotas use.
pub fn usage_of(group: &str, resource: &str, object: &Value) -> Usage {
    let mut usage = Usage::new();
    let one = Quantity::from_units(1);
    let full = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    usage.insert(format!("count/{full}"), one);
    match (group, resource) {
        ("", "pods") => pod_usage(object, &mut usage),
        ("", "services") => {
            usage.insert("services".to_owned(), one);
            let ports = object["spec"]["ports"].as_array().map_or(0, Vec::len) as i64;
            match text(object, "/spec/type") {
                "NodePort" => {
                    usage.insert("services.nodeports".to_owned(), Quantity::from_units(ports));
                }
                "LoadBalancer" => {
                    usage.insert("services.loadbalancers".to_owned(), one);
                    usage.insert("services.nodeports".to_owned(), Quantity::from_units(ports));
                }
                _ => {}
            }
        }
        ("", "persistentvolumeclaims") => {
            usage.insert("persistentvolumeclaims".to_owned(), one);
            let class = text(object, "/spec/storageClassName");
            let storage = quantities(&object["spec"]["resources"]["requests"]).remove("storage");
            let prefix = format!("{class}.storageclass.storage.k8s.io/");
            if !class.is_empty() {
                usage.insert(format!("{prefix}persistentvolumeclaims"), one);
            }
            if let Some(storage) = storage {
                usage.insert("requests.storage".to_owned(), storage);
                if !class.is_empty() {
                    usage.insert(format!("{prefix}requests.storage"), storage);
                }
            }
        }
        ("", "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => {
            usage.insert(resource.to_owned(), one);
        }
        _ => {}
    }
    usage
}

fn pod_usage(pod: &Value, usage: &mut Usage) {
    usage.insert("count/pods".to_owned(), Quantity::from_units(1));
    // A pod that has ended counts as an object only.
    if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
        return;
    }
    usage.insert("pods".to_owned(), Quantity::from_units(1));
    for (field, prefix) in [("requests", "requests."), ("limits", "limits.")] {
        let mut total = Usage::new();
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            for (name, amount) in quantities(&container["resources"][field]) {
                let sum = total.entry(name).or_insert(Quantity::ZERO);
                *sum = sum.plus(&amount);
            }
        }
        for container in pod["spec"]["initContainers"].as_array().into_iter().flatten() {
            for (name, amount) in quantities(&container["resources"][field]) {
                let sum = total.entry(name).or_insert(Quantity::ZERO);
                *sum = if container["restartPolicy"] == "Always" {
                    sum.plus(&amount)
                } else {
                    (*sum).max(amount)
                };
            }
        }
        for (name, amount) in total {
            if field == "requests"
                && matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            {
                usage.insert(name.clone(), amount);
            }
            usage.insert(format!("{prefix}{name}"), amount);
        }
    }
}

/// Whether objects of this kind are what the name of a bound is about.
pub fn bears(group: &str, resource: &str, name: &str) -> bool {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, of) = counted.split_once('.').unwrap_or((counted, ""));
        return (plural, of) == (resource, group);
    }
    let storage = name == "requests.storage" || name.contains(".storageclass.storage.k8s.io/");
    match (group, resource) {
        ("", "persistentvolumeclaims") => storage || name == resource,
        ("", "services") => name == resource || name.starts_with("services."),
        ("", "pods") => {
            let amounts = ["requests.", "limits.", "hugepages-"];
            !storage
                && (matches!(name, "pods" | "cpu" | "memory" | "ephemeral-storage")
                    || amounts.iter().any(|prefix| name.starts_with(prefix)))
        }
        ("", plural) => name == plural,
        _ => false,
    }
}

/// True if the quota's scopes select this object; scopes are about pods.
pub fn in_scope(quota: &Value, resource: &str, object: &Value) -> bool {
    let scopes = quota["spec"]["scopes"].as_array().into_iter().flatten();
    let plain = scopes.filter_map(Value::as_str).map(|scope| (scope, "Exists", &Value::Null));
    let selector = quota["spec"]["scopeSelector"]["matchExpressions"].as_array();
    let terms = selector
        .into_iter()
        .flatten()
        .map(|term| (text(term, "/scopeName"), text(term, "/operator"), &term["values"]));
    plain.chain(terms).all(|(scope, operator, values)| {
        resource == "pods" && pod_in_scope(object, scope, operator, values)
    })
}

fn pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &Value) -> bool {
    let terminating = pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    let best_effort = || {
        ["containers", "initContainers"].iter().all(|list| {
            pod["spec"][*list].as_array().into_iter().flatten().all(|container| {
                ["requests", "limits"].iter().all(|field| {
                    let own = quantities(&container["resources"][*field]);
                    !own.contains_key("cpu") && !own.contains_key("memory")
                })
            })
        })
    };
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = text(pod, "/spec/priorityClassName");
            let listed = values.as_array().into_iter().flatten().any(|value| value == class);
            match operator {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => !class.is_empty(),
                _ => class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => {
            let affinity = pod["spec"]["affinity"].to_string();
            affinity.contains("namespaceSelector") || affinity.contains("\"namespaces\"")
        }
        _ => false,
    }
}
