//! Checks of resource quotas and limit ranges: both are lists of named amounts.
use crate::at::Path;
use crate::{At, names, quantities};
use api::{FieldError, FieldErrors, Quantity, Value};

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// The name of a resource: one that is known, or a qualified name.
pub(crate) fn validate_resource_name(name: &str, path: &Path, errors: &mut FieldErrors) {
    let each = |why| FieldError::invalid(path, name, why);
    errors.extend(names::qualified(name).into_iter().map(each));
}

fn amount(at: &At, errors: &mut FieldErrors) -> Option<Quantity> {
    let amount = quantities::parse(at.value);
    match &amount {
        None => errors.push(at.invalid("must be a valid resource quantity")),
        Some(amount) if amount.sign() < 0 => {
            errors.push(at.invalid("must be greater than or equal to 0"));
        }
        Some(_) => {}
    }
    amount
}

/// Resources counted in whole things.
fn is_integer(name: &str) -> bool {
    name.starts_with("count/")
        || name.starts_with("requests.nvidia.com/")
        || matches!(
            name,
            "pods"
                | "services"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "services.nodeports"
                | "services.loadbalancers"
        )
}

pub(crate) fn validate_quota(new: &Value, old: Option<&Value>) -> FieldErrors {
    let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
    for (name, hard) in spec.get("hard").entries() {
        validate_resource_name(name, &hard.path, &mut errors);
        if let Some(amount) = amount(&hard, &mut errors)
            && is_integer(name)
            && !amount.is_whole()
        {
            errors.push(hard.invalid("must be an integer"));
        }
    }
    let scopes = spec.get("scopes");
    for scope in scopes.texts().filter(|scope| !SCOPES.contains(scope)) {
        errors.push(FieldError::invalid(scopes.path.clone(), scope, "unsupported scope"));
    }
    let all: Vec<&str> = scopes.texts().collect();
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| all.contains(scope)) {
            errors.push(scopes.invalid("conflicting scopes"));
        }
    }
    for expression in spec.get("scopeSelector.matchExpressions").items() {
        validate_scope(&expression, &mut errors);
    }
    if let Some(old) = old {
        let was = &old["spec"]["scopes"];
        scopes.immutable(was, &mut errors);
    }
    errors
}

fn validate_scope(expression: &At, errors: &mut FieldErrors) {
    let (scope, operator) = (expression.get("scopeName"), expression.get("operator"));
    if !SCOPES.contains(&scope.text()) {
        errors.push(scope.invalid("unsupported scope"));
    }
    let fixed = !matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass");
    if fixed && operator.text() != "Exists" {
        let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                   ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                   ResourceQuotaScopeNotBestEffort or \
                   ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(operator.invalid(why));
    }
    let values = expression.get("values");
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope \
                       selector";
            errors.push(values.required(why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope \
                       selector";
            errors.push(values.invalid(why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.push(operator.invalid("not a valid selector operator")),
    }
}

pub(crate) fn validate_limit_range(new: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = Vec::new();
    for limit in At::root(new).get("spec.limits").items() {
        let kind = limit.get("type");
        kind.each(names::qualified(kind.text()), &mut errors);
        if seen.contains(&kind.text()) {
            errors.push(kind.duplicate());
        }
        seen.push(kind.text());
        validate_limits(&limit, &mut errors);
    }
    errors
}

fn validate_limits(limit: &At, errors: &mut FieldErrors) {
    let kind = limit.get("type").text();
    let of = |list: &str, name: &str| quantities::parse(&limit.value[list][name]);
    let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let mut all: Vec<&str> =
        lists.iter().flat_map(|list| limit.get(list).entries()).map(|(name, _)| name).collect();
    all.sort_unstable();
    all.dedup();
    if kind == "Pod" {
        for list in ["default", "defaultRequest"] {
            if !limit.get(list).is_empty() {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(limit.get(list).forbidden(why));
            }
        }
    }
    if kind == "PersistentVolumeClaim"
        && of("min", "storage").is_none()
        && of("max", "storage").is_none()
    {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(limit.get("limits").required(why));
    }
    for name in all {
        let (min, max) = (of("min", name), of("max", name));
        let (default, request) = (of("default", name), of("defaultRequest", name));
        let pairs = [
            ("min", "min", min, "max", max),
            ("defaultRequest", "min", min, "defaultRequest", request),
            ("default", "min", min, "default", default),
            ("defaultRequest", "defaultRequest", request, "max", max),
            ("defaultRequest", "defaultRequest", request, "default", default),
            ("default", "default", default, "max", max),
        ];
        for (list, low_name, low, high_name, high) in pairs {
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                let at = limit.get(list).key(name);
                let (low_word, high_word) = (word(low_name), word(high_name));
                errors.push(FieldError::invalid(
                    at.path,
                    at.value.clone(),
                    format!("{low_word} value {low} is greater than {high_word} value {high}"),
                ));
            }
        }
        validate_ratio(limit, name, min, max, errors);
    }
}

fn word(list: &str) -> &str {
    match list {
        "defaultRequest" => "default request",
        other => other,
    }
}

fn validate_ratio(
    limit: &At,
    name: &str,
    min: Option<Quantity>,
    max: Option<Quantity>,
    errors: &mut FieldErrors,
) {
    let at = limit.get("maxLimitRequestRatio").key(name);
    let Some(ratio) = quantities::parse(at.value) else { return };
    if ratio < Quantity::from_units(1) {
        errors.push(at.invalid(format!("ratio {ratio} is less than 1")));
    }
    if let (Some(min), Some(max)) = (min, max)
        && min.sign() > 0
        && ratio.milli_value() as f64 / 1000.0 > max.milli_value() as f64 / min.milli_value() as f64
    {
        let bound = max.milli_value() as f64 / min.milli_value() as f64;
        errors.push(at.invalid(format!("ratio {ratio} is greater than max/min = {bound:.6}")));
    }
}
