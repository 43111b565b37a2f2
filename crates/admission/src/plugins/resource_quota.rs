//! A namespace's quotas: nothing is made that would go over one.
//!
//! Usage is what the quota's status says and what this server has admitted since; the quota
//! controller writes the status. This plugin reads live objects instead, so that two writes in a
//! row cannot pass on one stale status.
use crate::{Operation, Plugin, Request, World};
use api::{ApiError, Quantity, Value, access::text};
use std::collections::BTreeMap;

pub(crate) struct ResourceQuota;

type Usage = BTreeMap<String, Quantity>;

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }
    fn validate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        object: &Value,
    ) -> Result<(), ApiError> {
        let grows = ask.operation == Operation::Create
            || (ask.operation == Operation::Update
                && matches!(ask.resource, "services" | "persistentvolumeclaims"));
        if !grows || ask.namespace.is_empty() || !ask.subresource.is_empty() {
            return Ok(());
        }
        let quotas = world.objects.list("", "resourcequotas", Some(ask.namespace));
        if quotas.is_empty() {
            return Ok(());
        }
        let group = ask.kind.group.as_ref();
        let wanted = usage_of(group, ask.resource, object);
        let before = ask.old.map(|old| usage_of(group, ask.resource, old)).unwrap_or_default();
        for quota in quotas {
            if !in_scope(&quota, ask.resource, object) {
                continue;
            }
            check(world, ask, &quota, &wanted, &before)?;
        }
        Ok(())
    }
}

fn check(
    world: &World<'_>,
    ask: &Request<'_>,
    quota: &Value,
    wanted: &Usage,
    before: &Usage,
) -> Result<(), ApiError> {
    let hard = quantities(&quota["spec"]["hard"]);
    let name = text(quota, "/metadata/name");
    let compute =
        ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    if ask.resource == "pods" {
        let missing: Vec<&str> = hard
            .keys()
            .map(String::as_str)
            .filter(|key| compute.contains(key) && !wanted.contains_key(*key))
            .collect();
        if !missing.is_empty() {
            return Err(
                ask.forbidden(format!("failed quota: {name}: must specify {}", missing.join(",")))
            );
        }
    }
    let touched: Vec<&String> = hard.keys().filter(|key| wanted.contains_key(*key)).collect();
    if touched.is_empty() {
        return Ok(());
    }
    let mut used = Usage::new();
    for other in world.objects.list(&ask.kind.group, ask.resource, Some(ask.namespace)) {
        let itself = ask.old.is_some()
            && other["metadata"]["uid"] == ask.old.unwrap_or(&other)["metadata"]["uid"];
        if !itself && in_scope(quota, ask.resource, &other) {
            for (key, amount) in usage_of(&ask.kind.group, ask.resource, &other) {
                let sum = used.entry(key).or_insert(Quantity::ZERO);
                *sum = sum.plus(&amount);
            }
        }
    }
    let mut over = Vec::new();
    for key in touched {
        let more = wanted[key];
        let grows = before.get(key).is_none_or(|old| more > *old);
        let have = used.get(key).copied().unwrap_or(Quantity::ZERO);
        if grows && have.plus(&more) > hard[key] {
            over.push((key, more, have, hard[key]));
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    let list = |pick: &dyn Fn(&(&String, Quantity, Quantity, Quantity)) -> Quantity| {
        let parts: Vec<String> =
            over.iter().map(|one| format!("{}={}", one.0, pick(one))).collect();
        parts.join(",")
    };
    Err(ask.forbidden(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        list(&|one| one.1),
        list(&|one| one.2),
        list(&|one| one.3)
    )))
}

fn quantities(value: &Value) -> Usage {
    let map = value.as_object().into_iter().flatten();
    map.filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}

/// What one object takes, by the names that quotas use.
pub(crate) fn usage_of(group: &str, resource: &str, object: &Value) -> Usage {
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

/// True if the quota's scopes select this object; scopes are about pods.
pub(crate) fn in_scope(quota: &Value, resource: &str, object: &Value) -> bool {
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
