//! What claims and their templates have in common.
use crate::at::{items_mut, set, set_default, sub};
use crate::{At, names};
use api::{FieldErrors, Value};

/// Requests ask for exactly one device, unless they say otherwise.
pub(super) fn default_spec(spec: &mut Value) {
    let Some(devices) = sub(spec, "devices") else { return };
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = sub(request, "exactly") {
            default_request(exactly);
        }
        for alternative in items_mut(request, "firstAvailable") {
            default_request(alternative);
        }
    }
}

fn default_request(request: &mut Value) {
    set_default(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount"
        && request["count"].as_i64().unwrap_or_default() == 0
    {
        set(request, "count", 1);
    }
    for toleration in items_mut(request, "tolerations") {
        set_default(toleration, "operator", "Equal");
    }
}

pub(super) fn validate_spec(spec: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for request in spec.get("devices.requests").items() {
        let name = request.get("name");
        name.named(|text| names::label(text, false), errors);
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
        match (request.has("exactly"), !request.get("firstAvailable").is_empty()) {
            (true, true) | (false, false) => {
                errors.push(
                    request.required("exactly one of `exactly` or `firstAvailable` is required"),
                );
            }
            (true, false) => validate_exactly(&request.get("exactly"), errors),
            (false, true) => {
                for alternative in request.get("firstAvailable").items() {
                    validate_exactly(&alternative, errors);
                }
            }
        }
    }
}

fn validate_exactly(request: &At, errors: &mut FieldErrors) {
    let class = request.get("deviceClassName");
    class.named(|text| names::subdomain(text, false), errors);
    let (mode, count) = (request.get("allocationMode"), request.get("count"));
    mode.one_of(&["All", "ExactCount"], true, errors);
    match mode.text() {
        "All" if count.number() != 0 => {
            errors.push(count.invalid("must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" if count.number() <= 0 => {
            errors.push(count.invalid("must be greater than zero"));
        }
        _ => {}
    }
}
