//! What may change of a pod once it is there: almost nothing.
use crate::at::{items_mut, restore, same, set, sub};
use crate::core::pod::prepare::qos_class;
use crate::{At, names};
use api::{FieldError, FieldErrors, Value};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,\
     `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
     `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn pod(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (now, was) = (At::root(new).get("spec"), At::root(old).get("spec"));
    for list in ["containers", "initContainers"] {
        if now.get(list).len() != was.get(list).len() {
            let why = "pod updates may not add or remove containers";
            errors.push(now.get(list).forbidden(why));
            return;
        }
    }
    if !deadline(&now, &was, errors) {
        return;
    }
    added_tolerations(&now, &was, errors);
    deleted_gates(&now, &was, errors);
    if same(now.value, was.value) {
        return;
    }
    let mut munged = now.value.clone();
    for list in ["containers", "initContainers"] {
        let before: Vec<At> = was.get(list).items().collect();
        for (container, before) in items_mut(&mut munged, list).zip(before) {
            restore(container, before.value, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut munged, was.value, field);
    }
    let grace = was.get("terminationGracePeriodSeconds").number();
    if grace < 0 && munged["terminationGracePeriodSeconds"] == 1 {
        set(&mut munged, "terminationGracePeriodSeconds", grace);
    }
    if !was.get("schedulingGates").is_empty() {
        narrowed(&mut munged, &now, &was, errors);
    }
    if !same(&munged, was.value) {
        let mut lines = Vec::new();
        differences("", was.value, &munged, &mut lines);
        errors.push(now.forbidden(format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}\n",
            lines.join("\n")
        )));
    }
}

/// It may only come nearer.
fn deadline(now: &At, was: &At, errors: &mut FieldErrors) -> bool {
    let (new, old) = (now.get("activeDeadlineSeconds"), was.get("activeDeadlineSeconds"));
    match (new.int(), old.int()) {
        (Some(new_seconds), Some(old_seconds)) if old_seconds < new_seconds => {
            errors.push(new.invalid("must be less than or equal to previous value"));
            return false;
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(new.path, Value::Null, why));
        }
        _ => {}
    }
    true
}

fn added_tolerations(now: &At, was: &At, errors: &mut FieldErrors) {
    let list = now.get("tolerations");
    for old in was.get("tolerations").items() {
        let kept = list.items().any(|new| {
            let mut old = old.value.clone();
            restore(&mut old, new.value, "tolerationSeconds");
            same(&old, new.value)
        });
        if !kept {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(list.forbidden(why));
            return;
        }
    }
}

fn deleted_gates(now: &At, was: &At, errors: &mut FieldErrors) {
    for gate in now.get("schedulingGates").items() {
        let name = gate.get("name");
        let had = was.get("schedulingGates").items().any(|g| g.get("name").text() == name.text());
        if !had {
            let why = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.text()
            );
            errors.push(name.forbidden(why));
        }
    }
}

/// A gated pod's node selector and node affinity may be made narrower.
fn narrowed(munged: &mut Value, now: &At, was: &At, errors: &mut FieldErrors) {
    let (new, old) = (now.get("nodeSelector"), was.get("nodeSelector"));
    if !same(new.value, old.value) {
        for (key, value) in old.entries() {
            if new.value.get(key) != Some(value.value) {
                let why = "only additions to spec.nodeSelector are allowed (no mutations or \
                           deletions)";
                errors.push(new.invalid(why));
                break;
            }
        }
        restore(munged, was.value, "nodeSelector");
    }
    let affinity = "affinity.nodeAffinity";
    let (new, old) = (now.get(affinity), was.get(affinity));
    if same(new.value, old.value) {
        return;
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let (terms, had): (Vec<At>, Vec<At>) =
        (new.get(required).items().collect(), old.get(required).items().collect());
    if !had.is_empty() {
        if terms.len() != had.len() {
            errors.push(
                new.get(required).invalid(
                    "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
                ),
            );
        }
        for (term, had) in terms.iter().zip(&had) {
            for list in ["matchExpressions", "matchFields"] {
                let kept = had.get(list).items().all(|expression| {
                    term.get(list).items().any(|new| same(new.value, expression.value))
                });
                if !kept {
                    let why = "only additions are allowed (no mutations or deletions)";
                    errors.push(term.get(list).invalid(why));
                }
            }
        }
    }
    match (sub(munged, "affinity").is_some(), old.is_set()) {
        (true, _) => restore(&mut munged["affinity"], was.get("affinity").value, "nodeAffinity"),
        (false, true) => restore(munged, was.value, "affinity"),
        (false, false) => {}
    }
}

/// Lines of `-` and `+`, one pair for each place that is not the same.
fn differences(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    if same(old, new) {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let none = Value::Null;
                let at = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
                let (a, b) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                differences(&at, a, b, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), a, b, lines);
            }
        }
        _ => {
            lines.push(format!("- {path}: {old}"));
            lines.push(format!("+ {path}: {new}"));
        }
    }
}

pub(super) fn ephemeral_containers(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let mirror = "kubernetes.io/config.mirror";
    if At::root(old).get("metadata.annotations").has(mirror) {
        let why = "static pods do not support ephemeral containers";
        *errors = vec![FieldError::forbidden("", why)];
        return;
    }
    let list = At::root(new).get("spec.ephemeralContainers");
    for was in At::root(old).get("spec.ephemeralContainers").items() {
        let name = was.get("name").text();
        match list.items().find(|container| container.get("name").text() == name) {
            None => {
                errors.push(list.forbidden(format!(
                    "existing ephemeral containers {name:?} may not be removed\n"
                )))
            }
            Some(now) if !same(now.value, was.value) => {
                let mut lines = Vec::new();
                differences("", was.value, now.value, &mut lines);
                errors.push(list.forbidden(format!(
                    "existing ephemeral containers {name:?} may not be changed\n{}\n",
                    lines.join("\n")
                )));
            }
            Some(_) => {}
        }
    }
}

pub(super) fn resize(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (now, was) = (At::root(new).get("spec"), At::root(old).get("spec"));
    if At::root(old).get("metadata.annotations").has("kubernetes.io/config.mirror") {
        *errors = vec![FieldError::forbidden("", "static pods cannot be resized")];
        return;
    }
    if qos_class(new) != qos_class(old) {
        let why = "Pod QOS Class may not change as a result of resizing";
        let shown = At::root(new).get("status.qosClass").text();
        errors.push(FieldError::invalid("spec", shown, why));
    }
    for list in ["containers", "initContainers"] {
        let (containers, before) = (now.get(list), was.get(list));
        if containers.len() != before.len() {
            let why = format!("{list} may not be added or removed on resize");
            errors.push(containers.forbidden(why));
            return;
        }
        for (container, before) in containers.items().zip(before.items()) {
            if container.get("name").text() != before.get("name").text() {
                let why = format!("{list} may not be renamed or reordered on resize");
                errors.push(container.get("name").forbidden(why));
                return;
            }
            resized(&container, &before, errors);
        }
    }
}

/// Only CPU and memory change, and none of them goes away.
fn resized(container: &At, before: &At, errors: &mut FieldErrors) {
    let resources = container.get("resources");
    for list in ["requests", "limits"] {
        let (now, was) = (resources.get(list), before.get("resources").get(list));
        for (name, amount) in was.entries() {
            let new = now.value.get(name);
            let movable = matches!(name, "cpu" | "memory");
            if !movable && new != Some(amount.value) {
                let why = "only cpu and memory resources are mutable";
                errors.push(FieldError::forbidden("spec", why));
            } else if movable && new.is_none() {
                errors.push(now.forbidden(format!("resource {list} cannot be removed")));
            }
        }
        for (name, _) in now.entries() {
            if !matches!(name, "cpu" | "memory") && was.value.get(name).is_none() {
                let why = "only cpu and memory resources are mutable";
                errors.push(FieldError::forbidden("spec", why));
            }
        }
    }
}

pub(super) fn status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (now, was) = (At::root(new).get("status"), At::root(old).get("status"));
    let spec = At::root(old).get("spec");
    let nominated = now.get("nominatedNodeName");
    if !nominated.is_empty() {
        nominated.each(names::subdomain(nominated.text(), false), errors);
    }
    for (i, ip) in now.get("podIPs").items().enumerate() {
        ip.get("ip").each(names::ip(ip.get("ip").text()), errors);
        if i > 1 {
            let list = now.get("podIPs");
            errors.push(list.invalid("may specify no more than one IP for each IP family"));
        }
    }
    if !was.get("qosClass").is_empty() {
        now.get("qosClass").immutable(was.get("qosClass").value, errors);
    }
    transitions(&now.get("containerStatuses"), &was.get("containerStatuses"), &spec, errors);
}

/// A container that has ended for good stays ended.
fn transitions(now: &At, was: &At, spec: &At, errors: &mut FieldErrors) {
    let rules = |list: &str| {
        spec.get(list).items().any(|container| !container.get("restartPolicyRules").is_empty())
    };
    if rules("containers") || rules("initContainers") {
        return;
    }
    for old in was.items() {
        let name = old.get("name").text();
        let ended = old.get("state.terminated");
        let own = spec.get("containers").items().find(|c| c.get("name").text() == name);
        let policy = own
            .map(|container| container.get("restartPolicy").text())
            .filter(|policy| !policy.is_empty())
            .unwrap_or(spec.get("restartPolicy").text());
        let restarts = match policy {
            "Never" => false,
            "OnFailure" => ended.get("exitCode").number() != 0,
            _ => true,
        };
        if !ended.is_set() || restarts {
            continue;
        }
        let new = now.items().find(|status| status.get("name").text() == name);
        if new.is_some_and(|new| !new.get("state.terminated").is_set()) {
            let why = "may not be transitioned to non-terminated state";
            let path = old.path.clone();
            errors.push(FieldError::forbidden(format!("{path}.state"), why));
        }
    }
}
