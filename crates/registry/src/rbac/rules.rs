//! What roles and bindings of both scopes have in common.
use crate::at::{items_mut, set_default, sub};
use crate::cells::{find, text};
use crate::{At, Column, names};
use api::{FieldErrors, Value};

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

/// Errors of one rule; only cluster roles have paths that are no resources.
pub(super) fn validate_rule(rule: &At, namespaced: bool, errors: &mut FieldErrors) {
    let verbs = rule.get("verbs");
    if verbs.is_empty() {
        errors.push(verbs.required("verbs must contain at least one value"));
    }
    let paths = rule.get("nonResourceURLs");
    if !paths.is_empty() {
        if namespaced {
            errors.push(paths.invalid("namespaced rules cannot apply to non-resource URLs"));
        }
        let resources = ["apiGroups", "resources", "resourceNames"];
        if resources.iter().any(|field| !rule.get(field).is_empty()) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(paths.invalid(why));
        }
        return;
    }
    for (field, why) in [
        ("apiGroups", "resource rules must supply at least one api group"),
        ("resources", "resource rules must supply at least one resource"),
    ] {
        if rule.get(field).is_empty() {
            errors.push(rule.get(field).required(why));
        }
    }
}

pub(super) fn default_binding(object: &mut Value) {
    if let Some(role) = sub(object, "roleRef") {
        set_default(role, "apiGroup", GROUP);
    }
    for subject in items_mut(object, "subjects") {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            set_default(subject, "apiGroup", GROUP);
        }
    }
}

pub(super) fn validate_binding(new: &Value, old: Option<&Value>, kinds: &[&str]) -> FieldErrors {
    let (root, mut errors) = (At::root(new), FieldErrors::new());
    let role = root.get("roleRef");
    if role.get("apiGroup").text() != GROUP {
        errors.push(role.get("apiGroup").not_supported(&[GROUP]));
    }
    if !kinds.contains(&role.get("kind").text()) {
        errors.push(role.get("kind").not_supported(kinds));
    }
    let name = role.get("name");
    name.named(|text| names::path_segment(text, false), &mut errors);
    for subject in root.get("subjects").items() {
        validate_subject(&subject, &mut errors);
    }
    if let Some(old) = old
        && !crate::at::same(role.value, &old["roleRef"])
    {
        errors.push(role.invalid("cannot change roleRef"));
    }
    errors
}

fn validate_subject(subject: &At, errors: &mut FieldErrors) {
    let (name, group) = (subject.get("name"), subject.get("apiGroup"));
    name.must("", errors);
    match subject.get("kind").text() {
        "ServiceAccount" => {
            if !name.is_empty() {
                name.each(names::subdomain(name.text(), false), errors);
            }
            if !group.is_empty() {
                errors.push(group.not_supported(&[""]));
            }
            subject.get("namespace").must("", errors);
        }
        "User" | "Group" if group.text() != GROUP => errors.push(group.not_supported(&[GROUP])),
        "User" | "Group" => {}
        _ => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.push(subject.get("kind").not_supported(&kinds));
        }
    }
}

pub(super) const ROLE: Column = Column::new("Role", "string", "The role that is given.")
    .cell(|o, _| format!("{}/{}", text(o, "roleRef.kind"), text(o, "roleRef.name")).into());

/// Names of the subjects of a kind.
pub(super) fn subjects(binding: &Value, kind: &str) -> String {
    let list = At::new(find(binding, "subjects"), "");
    let texts: Vec<String> = list
        .items()
        .filter(|subject| subject.get("kind").text() == kind)
        .map(|subject| match subject.get("namespace").text() {
            namespace if kind == "ServiceAccount" && !namespace.is_empty() => {
                format!("{namespace}/{}", subject.get("name").text())
            }
            _ => subject.get("name").text().to_owned(),
        })
        .collect();
    texts.join(", ")
}
