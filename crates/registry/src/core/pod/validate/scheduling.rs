//! Checks of where a pod may go: affinity, tolerations, spreading, gates.
use crate::{At, names, selectors};
use api::{FieldError, FieldErrors};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(affinity: &At, errors: &mut FieldErrors) {
    let node = affinity.get("nodeAffinity");
    if node.has(REQUIRED) {
        node_selector(&node.get(REQUIRED), errors);
    }
    for term in node.get(PREFERRED).items() {
        weight(&term, errors);
        node_selector_term(&term.get("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let rules = affinity.get(kind);
        for term in rules.get(REQUIRED).items() {
            pod_term(&term, errors);
        }
        for weighted in rules.get(PREFERRED).items() {
            weight(&weighted, errors);
            pod_term(&weighted.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &At, errors: &mut FieldErrors) {
    let weight = term.get("weight");
    if !(1..=100).contains(&weight.number()) {
        let why = "must be in the range 1-100";
        errors.push(FieldError::invalid(weight.path.clone(), weight.number(), why));
    }
}

/// As in node affinity, and in the affinity of a persistent volume.
pub(crate) fn node_selector(selector: &At, errors: &mut FieldErrors) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.must("must have at least one node selector term", errors) {
        for term in terms.items() {
            node_selector_term(&term, errors);
        }
    }
}

pub(crate) fn node_selector_term(term: &At, errors: &mut FieldErrors) {
    for expression in term.get("matchExpressions").items() {
        let values = expression.get("values");
        match expression.get("operator").text() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(values.required(why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(values.forbidden(why));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(values.required(why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => {
                let operator = expression.get("operator");
                errors.push(operator.invalid("not a valid selector operator"));
            }
        }
        let key = expression.get("key");
        key.each(names::qualified(key.text()), errors);
    }
    for expression in term.get("matchFields").items() {
        let (key, values) = (expression.get("key"), expression.get("values"));
        match expression.get("operator").text() {
            "In" | "NotIn" if values.len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node \
                           field selector";
                errors.push(values.required(why));
            }
            "In" | "NotIn" => {}
            _ => {
                let operator = expression.get("operator");
                errors.push(operator.invalid("not a valid selector operator"));
            }
        }
        if key.text() == "metadata.name" {
            for value in values.items() {
                value.each(names::subdomain(value.text(), false), errors);
            }
        } else {
            errors.push(key.invalid("not a valid field selector key"));
        }
    }
}

fn pod_term(term: &At, errors: &mut FieldErrors) {
    for selector in ["labelSelector", "namespaceSelector"] {
        selectors::validate(&term.get(selector), errors);
    }
    for name in term.get("namespaces").texts() {
        let each = |why| FieldError::invalid(term.child("namespace"), name, why);
        errors.extend(names::label(name, false).into_iter().map(each));
    }
    label_keys(term, errors);
    let key = term.get("topologyKey");
    if key.must("can not be empty", errors) {
        key.each(names::qualified(key.text()), errors);
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys` add to a selector, and are not in each other.
fn label_keys(term: &At, errors: &mut FieldErrors) {
    let both: Vec<&str> = term.get("mismatchLabelKeys").texts().collect();
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.get(field);
        if !keys.is_empty() && !term.has("labelSelector") {
            let why = "must not be specified when labelSelector is not set";
            errors.push(keys.forbidden(why));
        }
        for key in keys.items() {
            key.each(names::qualified(key.text()), errors);
            if field == "matchLabelKeys" && both.contains(&key.text()) {
                errors.push(key.invalid("exists in both matchLabelKeys and mismatchLabelKeys"));
            }
        }
    }
}

pub(super) fn gates(gates: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for gate in gates.items() {
        let name = gate.get("name").text();
        let each = |why| FieldError::invalid(gate.path.clone(), name, why);
        errors.extend(names::qualified(name).into_iter().map(each));
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(gate.path.clone(), name));
        }
        seen.push(name);
    }
}

pub(super) fn tolerations(tolerations: &At, errors: &mut FieldErrors) {
    for toleration in tolerations.items() {
        let (key, operator) = (toleration.get("key"), toleration.get("operator"));
        let (value, effect) = (toleration.get("value"), toleration.get("effect"));
        let shown =
            |text: &str, why: &str| FieldError::invalid(toleration.child("operator"), text, why);
        if !key.is_empty() {
            key.each(names::qualified(key.text()), errors);
        } else if operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all \
                       values and all keys\"";
            errors.push(shown(operator.text(), why));
        }
        if toleration.has("tolerationSeconds") && effect.text() != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(effect.path.clone(), effect.text(), why));
        }
        match operator.text() {
            "" | "Equal" => {
                let texts = names::label_value(value.text());
                if !texts.is_empty() {
                    errors.push(shown(value.text(), &texts.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(shown(value.text(), why));
            }
            "Exists" => {}
            "Lt" | "Gt" if value.text().parse::<i64>().is_ok() => {}
            "Lt" | "Gt" => {
                let why = "must be a valid decimal integer in canonical form";
                errors.push(FieldError::invalid(value.path.clone(), value.text(), why));
            }
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        effect.one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], false, errors);
    }
}

pub(super) fn topology_spread(constraints: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for constraint in constraints.items() {
        let (skew, key) = (constraint.get("maxSkew"), constraint.get("topologyKey"));
        if skew.number() <= 0 {
            let why = "must be greater than zero";
            errors.push(FieldError::invalid(skew.path.clone(), skew.number(), why));
        }
        key.must("can not be empty", errors);
        let action = constraint.get("whenUnsatisfiable");
        if !matches!(action.text(), "DoNotSchedule" | "ScheduleAnyway") {
            let actions = ["DoNotSchedule", "ScheduleAnyway"];
            errors.push(FieldError::not_supported(action.path.clone(), action.text(), &actions));
        }
        let pair = format!("{{{}, {}}}", key.text(), action.text());
        if seen.contains(&pair) {
            let field = constraint.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(field, pair.clone()));
        }
        seen.push(pair);
        let domains = constraint.get("minDomains");
        if let Some(count) = domains.int() {
            if count <= 0 {
                errors.push(domains.invalid("must be greater than zero"));
            }
            if action.text() != "DoNotSchedule" {
                errors.push(domains.invalid(format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    action.text()
                )));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.get(field).one_of(&["Honor", "Ignore"], false, errors);
        }
        label_keys(&constraint, errors);
        selectors::validate(&constraint.get("labelSelector"), errors);
    }
}
