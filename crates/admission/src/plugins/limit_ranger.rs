//! A namespace's limit ranges: defaults for containers, and the least and most there may be.
use crate::{Operation, Plugin, Request, World};
use api::{ApiError, Quantity, Value, access::text};
use std::collections::BTreeMap;
use value::json;

pub(crate) struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }
    fn mutate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        pod: &mut Value,
    ) -> Result<(), ApiError> {
        if !ask.creates("", "pods") {
            return Ok(());
        }
        for range in world.objects.list("", "limitranges", Some(ask.namespace)) {
            for item in range["spec"]["limits"].as_array().into_iter().flatten() {
                if item["type"] == "Container" {
                    fill(pod, item);
                }
            }
        }
        Ok(())
    }
    fn validate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        object: &Value,
    ) -> Result<(), ApiError> {
        let pod = ask.creates("", "pods");
        let writes = matches!(ask.operation, Operation::Create | Operation::Update);
        let claim = writes && ask.is("", "persistentvolumeclaims");
        if !pod && !claim {
            return Ok(());
        }
        let mut faults = Vec::new();
        for range in world.objects.list("", "limitranges", Some(ask.namespace)) {
            for item in range["spec"]["limits"].as_array().into_iter().flatten() {
                match (text(item, "/type"), pod) {
                    ("Container", true) => {
                        for list in ["initContainers", "containers"] {
                            for one in object["spec"][list].as_array().into_iter().flatten() {
                                check(item, &amounts(&one["resources"]), &mut faults);
                            }
                        }
                    }
                    ("Pod", true) => check(item, &pod_amounts(object), &mut faults),
                    ("PersistentVolumeClaim", false) => {
                        let wanted = amounts(&object["spec"]["resources"]);
                        check(item, &wanted, &mut faults);
                    }
                    _ => {}
                }
            }
        }
        match faults.as_slice() {
            [] => Ok(()),
            [one] => Err(ask.forbidden(one)),
            many => Err(ask.forbidden(format!("[{}]", many.join(", ")))),
        }
    }
}

/// Requests and limits by resource.
#[derive(Default)]
struct Amounts {
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

fn quantities(value: &Value) -> BTreeMap<String, Quantity> {
    let map = value.as_object().into_iter().flatten();
    map.filter_map(|(name, amount)| Some((name.to_string(), amount.as_str()?.parse().ok()?)))
        .collect()
}

fn amounts(resources: &Value) -> Amounts {
    Amounts {
        requests: quantities(&resources["requests"]),
        limits: quantities(&resources["limits"]),
    }
}

/// The sum of the containers, or the largest init container where that is more.
fn pod_amounts(pod: &Value) -> Amounts {
    let mut total = Amounts::default();
    let mut each = |list: &str, join: fn(&Quantity, &Quantity) -> Quantity| {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let own = amounts(&container["resources"]);
            for (sum, part) in
                [(&mut total.requests, own.requests), (&mut total.limits, own.limits)]
            {
                for (name, amount) in part {
                    let entry = sum.entry(name).or_insert(Quantity::ZERO);
                    *entry = join(entry, &amount);
                }
            }
        }
    };
    each("containers", |sum, one| sum.plus(one));
    each("initContainers", |sum, one| *sum.max(one));
    total
}

fn fill(pod: &mut Value, item: &Value) {
    let defaults = [("limits", &item["default"]), ("requests", &item["defaultRequest"])];
    let mut notes = Vec::new();
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, defaults) in defaults {
                let mut set = Vec::new();
                for (resource, amount) in defaults.as_object().into_iter().flatten() {
                    if container["resources"][field][resource].is_null() {
                        container["resources"][field][resource] = amount.clone();
                        set.push(resource.clone());
                    }
                }
                if !set.is_empty() {
                    let kind = if list == "containers" { "container" } else { "init container" };
                    let noun = field.trim_end_matches('s');
                    notes.push(format!("{} {noun} for {kind} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] = json!(note);
    }
}

fn check(item: &Value, have: &Amounts, faults: &mut Vec<String>) {
    let kind = text(item, "/type");
    for (resource, least) in quantities(&item["min"]) {
        match (have.requests.get(&resource), have.limits.get(&resource)) {
            (None, _) => faults.push(format!(
                "minimum {resource} usage per {kind} is {least}.  No request is specified"
            )),
            (Some(request), _) if *request < least => faults.push(format!(
                "minimum {resource} usage per {kind} is {least}, but request is {request}"
            )),
            (_, Some(limit)) if *limit < least => faults.push(format!(
                "minimum {resource} usage per {kind} is {least}, but limit is {limit}"
            )),
            _ => {}
        }
    }
    for (resource, most) in quantities(&item["max"]) {
        let (request, limit) = (have.requests.get(&resource), have.limits.get(&resource));
        let storage = kind == "PersistentVolumeClaim";
        match (request, limit) {
            (Some(request), _) if storage && *request > most => faults.push(format!(
                "maximum {resource} usage per {kind} is {most}, but request is {request}"
            )),
            _ if storage => {}
            (_, None) => faults.push(format!(
                "maximum {resource} usage per {kind} is {most}.  No limit is specified"
            )),
            (_, Some(limit)) if *limit > most => faults.push(format!(
                "maximum {resource} usage per {kind} is {most}, but limit is {limit}"
            )),
            (Some(request), _) if *request > most => faults.push(format!(
                "maximum {resource} usage per {kind} is {most}, but request is {request}"
            )),
            _ => {}
        }
    }
    for (resource, most) in quantities(&item["maxLimitRequestRatio"]) {
        let (request, limit) = (have.requests.get(&resource), have.limits.get(&resource));
        match (request, limit) {
            (Some(request), Some(limit)) if !request.is_zero() => {
                let ratio = limit.milli_value() as f64 / request.milli_value() as f64;
                if ratio > most.milli_value() as f64 / 1000.0 {
                    faults.push(format!(
                        "{resource} max limit to request ratio per {kind} is {most}, but provided \
                         ratio is {ratio:.6}"
                    ));
                }
            }
            (None, _) => faults.push(format!(
                "{resource} max limit to request ratio per {kind} is {most}, but no request is \
                 specified or request is 0"
            )),
            (_, None) => faults.push(format!(
                "{resource} max limit to request ratio per {kind} is {most}, but no limit is \
                 specified or limit is 0"
            )),
            _ => faults.push(format!(
                "{resource} max limit to request ratio per {kind} is {most}, but no request is \
                 specified or request is 0"
            )),
        }
    }
}
