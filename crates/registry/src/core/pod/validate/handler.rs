//! Checks of probes and lifecycle hooks.
use super::Context;
use crate::core::service::port_or_name;
use crate::{At, names};
use api::{FieldError, FieldErrors};

pub(super) fn probes(container: &At, context: &Context, errors: &mut FieldErrors) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(name);
        if !probe.is_set() {
            continue;
        }
        handler(&probe, context, errors);
        for field in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            probe.get(field).non_negative(errors);
        }
        let grace = probe.get("terminationGracePeriodSeconds");
        if grace.int().is_some_and(|seconds| seconds <= 0) {
            errors.push(grace.invalid("must be greater than 0"));
        }
        if name == "readinessProbe" {
            if grace.is_set() {
                errors.push(grace.invalid("must not be set for readinessProbes"));
            }
        } else if probe.get("successThreshold").number() != 1 {
            errors.push(probe.get("successThreshold").invalid("must be 1"));
        }
    }
}

pub(super) fn lifecycle(container: &At, context: &Context, errors: &mut FieldErrors) {
    let lifecycle = container.get("lifecycle");
    for name in ["postStart", "preStop"] {
        if lifecycle.has(name) {
            handler(&lifecycle.get(name), context, errors);
        }
    }
    if lifecycle.has("stopSignal") && !context.spec.has("os") {
        let why = "may not be set for containers with empty `spec.os.name`";
        errors.push(lifecycle.get("stopSignal").forbidden(why));
    }
}

fn handler(at: &At, context: &Context, errors: &mut FieldErrors) {
    let mut found = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = at.get(kind);
        if !action.is_set() {
            continue;
        }
        if found {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match kind {
            "exec" => {
                action.get("command").must("", errors);
            }
            "httpGet" => http_get(&action, errors),
            "tcpSocket" | "grpc" => port_or_name(&action.get("port"), errors),
            _ => sleep(&action, context.grace_seconds(), errors),
        }
    }
    if !found {
        errors.push(at.required("must specify a handler type"));
    }
}

fn http_get(action: &At, errors: &mut FieldErrors) {
    action.get("path").must("", errors);
    port_or_name(&action.get("port"), errors);
    let scheme = action.get("scheme");
    if !matches!(scheme.text(), "HTTP" | "HTTPS") {
        errors.push(scheme.not_supported(&["HTTP", "HTTPS"]));
    }
    for header in action.get("httpHeaders").items() {
        let name = header.get("name").text();
        let each = |why| FieldError::invalid(action.child("httpHeaders"), name, why);
        errors.extend(names::http_header(name).into_iter().map(each));
    }
}

fn sleep(action: &At, grace_seconds: Option<i64>, errors: &mut FieldErrors) {
    let seconds = action.get("seconds").number();
    if let Some(grace) = grace_seconds
        && !(0..=grace).contains(&seconds)
    {
        let why =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(action.path.clone(), seconds, why));
    }
}
