//! Checks of what containers and pods ask for.
use crate::at::Path;
use crate::{At, names, quantities};
use api::{FieldError, FieldErrors, Quantity};

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Without a domain, or in Kubernetes' own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

fn resource_name(name: &str, path: &Path, pod_level: bool, errors: &mut FieldErrors) {
    let error = |why: &str| FieldError::invalid(path, name, why);
    let texts = names::qualified(name);
    if !texts.is_empty() {
        errors.extend(texts.iter().map(|why| error(why)));
        return;
    }
    let plain = matches!(name, "cpu" | "memory") || is_huge_page(name);
    if pod_level {
        if !plain {
            let known = ["cpu", "hugepages-", "memory"];
            errors.push(FieldError::not_supported(path, name, &known));
        }
    } else if !name.contains('/') {
        if !plain && name != "ephemeral-storage" {
            errors.push(error("must be a standard resource for containers"));
        }
    } else if !is_native(name) && name.starts_with("requests.") {
        errors.push(error("doesn't follow extended resource name standard"));
    }
}

/// `limits` and `requests` of a container.
pub(crate) fn container_resources(resources: &At, errors: &mut FieldErrors) {
    requirements(resources, false, errors);
}

fn requirements(resources: &At, pod_level: bool, errors: &mut FieldErrors) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    let (mut huge, mut base) = (false, false);
    for list in [&limits, &requests] {
        for (name, at) in list.entries() {
            resource_name(name, &at.path, pod_level, errors);
            huge |= is_huge_page(name);
            base |= matches!(name, "cpu" | "memory");
            let Some(amount) = amount(name, &at, errors) else { continue };
            if std::ptr::eq(list, &requests) {
                request(name, &amount, &limits, &requests, errors);
            }
        }
    }
    if huge && !base {
        errors
            .push(FieldError::forbidden(resources.path.clone(), "HugePages require cpu or memory"));
    }
}

fn amount(name: &str, at: &At, errors: &mut FieldErrors) -> Option<Quantity> {
    let Some(amount) = quantities::parse(at.value) else {
        errors.push(at.invalid("must be a valid resource quantity"));
        return None;
    };
    if amount.sign() < 0 {
        errors.push(at.invalid("must be greater than or equal to 0"));
    }
    if !is_native(name) && !amount.is_whole() {
        errors.push(at.invalid("must be an integer"));
    }
    Some(amount)
}

fn request(name: &str, amount: &Quantity, limits: &At, requests: &At, errors: &mut FieldErrors) {
    let limit = quantities::parse(limits.key(name).value);
    let error = |why: String| FieldError::invalid(requests.path.clone(), amount.to_string(), why);
    match limit {
        Some(limit) if !overcommits(name) && *amount != limit => {
            errors.push(error(format!("must be equal to {name} limit of {limit}")));
        }
        Some(limit) if *amount > limit => {
            errors.push(error(format!("must be less than or equal to {name} limit of {limit}")));
        }
        None if !overcommits(name) => {
            let why = "Limit must be set for non overcommitable resources";
            errors.push(limits.required(why));
        }
        _ => {}
    }
}

/// Claims of a container are among those of its pod.
pub(super) fn claims(claims: &At, spec: &At, errors: &mut FieldErrors) {
    let of_pod = spec.get("resourceClaims");
    let mut seen = Vec::new();
    for claim in claims.items() {
        let name = claim.get("name");
        if name.must("", errors) {
            let known = of_pod.items().any(|claim| claim.get("name").text() == name.text());
            if seen.contains(&(name.text(), claim.get("request").text())) {
                errors.push(FieldError::duplicate(claim.path.clone(), name.text()));
            } else if !known {
                errors.push(FieldError::not_found(claim.path.clone(), name.text()));
            }
            seen.push((name.text(), claim.get("request").text()));
        }
    }
}

pub(super) fn resize_policy(policies: &At, restart_policy: &str, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for policy in policies.items() {
        let resource = policy.get("resourceName").text();
        if seen.contains(&resource) {
            errors.push(FieldError::duplicate(policy.path.clone(), resource));
        }
        seen.push(resource);
        let whole = |field: &str| At::new(policy.get(field).value, policies.path.clone());
        whole("resourceName").one_of(&["cpu", "memory"], true, errors);
        let restart = whole("restartPolicy");
        restart.one_of(&["NotRequired", "RestartContainer"], true, errors);
        if restart_policy == "Never" && restart.text() != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(restart.invalid(why));
        }
    }
}

/// What the pod as a whole asks for covers what its containers do (KEP-2837).
pub(super) fn pod_level(spec: &At, errors: &mut FieldErrors) {
    let resources = spec.get("resources");
    if !resources.is_set() {
        return;
    }
    if resources.has("claims") {
        let why = "claims may not be set for Resources at pod-level";
        errors.push(resources.get("claims").forbidden(why));
    }
    requirements(&resources, true, errors);
    for (name, at) in resources.get("requests").entries() {
        let mut sum = Quantity::ZERO;
        for container in spec.get("containers").items() {
            let asked = container.get("resources.requests").key(name);
            sum = sum.plus(&quantities::parse(asked.value).unwrap_or(Quantity::ZERO));
        }
        if quantities::parse(at.value).is_some_and(|whole| sum > whole) {
            errors.push(at.invalid(format!(
                "must be greater than or equal to aggregate container requests of {sum}"
            )));
        }
    }
    for (i, container) in spec.get("containers").items().enumerate() {
        for (name, at) in container.get("resources.limits").entries() {
            let whole = quantities::parse(resources.get("limits").key(name).value);
            let (Some(whole), Some(own)) = (whole, quantities::parse(at.value)) else { continue };
            if own > whole {
                let path = format!("{}.containers[{i}][{name}].limits", resources.path);
                let why = format!("must be less than or equal to pod limits of {whole}");
                errors.push(FieldError::invalid(path, at.value.clone(), why));
            }
        }
    }
}
