//! Checks that every kind with a pod template shares: the selector, the template, the numbers.
use crate::core::pod::validate;
use crate::{At, ints, selectors};
use api::{FieldError, FieldErrors, Value};

/// A selector that is there, good, and not empty.
pub(crate) fn selector(spec: &At, kind: &str, errors: &mut FieldErrors) {
    let selector = spec.get("selector");
    if !selector.is_set() {
        errors.push(selector.required(""));
        return;
    }
    selectors::validate(&selector, errors);
    if selector.is_empty() || crate::at::same(selector.value, &Value::Null) {
        errors.push(selector.invalid(format!("empty selector is invalid for {kind}")));
    }
}

/// The selector chooses the pods of the template.
pub(crate) fn matches(spec: &At, errors: &mut FieldErrors) {
    let labels = spec.get("template.metadata.labels");
    let Some(selector) = selectors::parse(spec.get("selector").value) else { return };
    let get = |key: &str| labels.value.get(key).and_then(Value::as_str);
    if !selector.is_everything() && !selector.matches_with(get) {
        let why = "`selector` does not match template `labels`";
        errors.push(labels.invalid(why));
    }
}

/// A template whose pods are kept running for good.
pub(crate) fn lasting_template(spec: &At, kind: &str, errors: &mut FieldErrors) {
    let template = spec.get("template");
    validate::template(&template, errors);
    let policy = template.get("spec.restartPolicy");
    if policy.text() != "Always" {
        errors.push(policy.not_supported(&["Always"]));
    }
    let deadline = template.get("spec.activeDeadlineSeconds");
    if deadline.is_set() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(deadline.forbidden(why));
    }
}

/// `maxUnavailable` and `maxSurge` that may not both be nothing.
pub(crate) fn rolling(rolling: &At, errors: &mut FieldErrors) {
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    int_or_percent(&unavailable, errors);
    int_or_percent(&surge, errors);
    if ints::is_zero(&unavailable) && ints::is_zero(&surge) {
        errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
    }
    ints::at_most_all(&unavailable, errors);
}

pub(crate) fn int_or_percent(at: &At, errors: &mut FieldErrors) {
    ints::non_negative_or_percent(at, errors);
}

pub(crate) fn non_negative(spec: &At, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        spec.get(field).non_negative(errors);
    }
}

/// Counts of a status are not negative, and not more than `replicas`.
pub(crate) fn status(new: &Value, old: &Value, all: &str, parts: &[&str]) -> FieldErrors {
    let (status, mut errors) = (At::root(new).get("status"), FieldErrors::new());
    let total = status.get(all);
    total.non_negative(&mut errors);
    status.get("observedGeneration").non_negative(&mut errors);
    for part in parts {
        let count = status.get(part);
        count.non_negative(&mut errors);
        if all == "replicas" && count.number() > total.number() {
            let why = "cannot be greater than status.replicas";
            errors.push(count.invalid(why));
        }
    }
    let (now, was) = (status.get("collisionCount"), old["status"]["collisionCount"].as_i64());
    if was.is_some_and(|was| now.number() < was) {
        let shown = now.number();
        let why = "cannot be decremented";
        errors.push(FieldError::invalid(now.path, shown, why));
    }
    errors
}

#[cfg(test)]
mod tests;
