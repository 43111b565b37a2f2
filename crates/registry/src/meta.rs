//! What holds for the metadata of every kind: the checks of upstream's `ValidateObjectMeta` and
//! `ValidateObjectMetaUpdate`.
use crate::{At, names};
use api::{FieldError, FieldErrors, Value};

const MAX_ANNOTATION_BYTES: usize = 256 << 10;

/// Checks the metadata of a new object, after a name has been generated. `name_rule` is the row's
/// `validate_name`; `path` is `metadata`, or the path of a template's metadata.
pub fn validate_meta(
    meta: &Value,
    namespaced: bool,
    name_rule: &dyn Fn(&str, bool) -> Vec<String>,
    path: &str,
) -> FieldErrors {
    let (at, mut errors) = (At::new(meta, path), FieldErrors::new());
    let generate = at.get("generateName");
    if !generate.text().is_empty() {
        generate.each(name_rule(generate.text(), true), &mut errors);
    }
    let name = at.get("name");
    if name.must("name or generateName is required", &mut errors) {
        name.each(name_rule(name.text(), false), &mut errors);
    }
    let namespace = at.get("namespace");
    match (namespaced, namespace.text()) {
        (true, "") => errors.push(namespace.required("")),
        (true, text) => namespace.each(names::label(text, false), &mut errors),
        (false, "") => {}
        (false, _) => errors.push(namespace.forbidden("not allowed on this type")),
    }
    at.get("generation").non_negative(&mut errors);
    validate_common(&at, &mut errors);
    validate_finalizers(&at.get("finalizers"), &mut errors);
    errors
}

/// Checks the metadata of a changed object against what is stored. Both are complete: the pipeline
/// has filled in what clients may leave out (uid, creationTimestamp, resourceVersion…).
pub fn validate_meta_update(new: &Value, old: &Value, path: &str) -> FieldErrors {
    let (at, mut errors) = (At::new(new, path), FieldErrors::new());
    if !old["deletionTimestamp"].is_null() {
        let had: Vec<&str> = At::root(&old["finalizers"]).texts().collect();
        let finalizers = at.get("finalizers");
        let mut extra: Vec<&str> = finalizers.texts().filter(|f| !had.contains(f)).collect();
        extra.sort_unstable();
        extra.dedup();
        if !extra.is_empty() {
            let list: Vec<String> = extra.iter().map(|name| format!("{name:?}")).collect();
            errors.push(finalizers.forbidden(format!(
                "no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{{{}}}",
                list.join(", ")
            )));
        }
    }
    if at.get("resourceVersion").is_empty() {
        let field = at.child("resourceVersion");
        errors.push(FieldError::invalid(field, "", "must be specified for an update"));
    }
    let generation = at.get("generation");
    generation.non_negative(&mut errors);
    if generation.number() < old["generation"].as_i64().unwrap_or_default() {
        errors.push(generation.invalid("must not be decremented"));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        at.get(field).immutable(&old[field], &mut errors);
    }
    validate_common(&at, &mut errors);
    errors
}

fn validate_common(at: &At, errors: &mut FieldErrors) {
    validate_labels(&at.get("labels"), errors);
    validate_annotations(&at.get("annotations"), errors);
    validate_owners(&at.get("ownerReferences"), errors);
    for entry in at.get("managedFields").items() {
        entry.get("operation").one_of(&["Apply", "Update"], true, errors);
        let kind = entry.get("fieldsType");
        if !matches!(kind.text(), "" | "FieldsV1") {
            errors.push(kind.invalid("must be `FieldsV1`"));
        }
        for (field, max) in [("manager", 128), ("subresource", 256)] {
            if entry.get(field).len() > max {
                errors.push(entry.get(field).too_long(max));
            }
        }
    }
}

/// A map of labels; every error is at the map's own path.
pub fn validate_labels(labels: &At, errors: &mut FieldErrors) {
    for (key, value) in labels.entries() {
        for (text, texts) in
            [(key, names::qualified(key)), (value.text(), names::label_value(value.text()))]
        {
            let each = |why| FieldError::invalid(labels.path.clone(), text, why);
            errors.extend(texts.into_iter().map(each));
        }
    }
}

/// A map of annotations.
pub fn validate_annotations(annotations: &At, errors: &mut FieldErrors) {
    let mut bytes = 0;
    for (key, value) in annotations.entries() {
        bytes += key.len() + value.len();
        let each = |why| FieldError::invalid(annotations.path.clone(), key, why);
        errors.extend(names::qualified(&key.to_lowercase()).into_iter().map(each));
    }
    if bytes > MAX_ANNOTATION_BYTES {
        errors.push(annotations.too_long(MAX_ANNOTATION_BYTES));
    }
}

fn validate_owners(owners: &At, errors: &mut FieldErrors) {
    let mut controller = None;
    for owner in owners.items() {
        let version = owner.get("apiVersion");
        let parts: Vec<&str> = version.text().split('/').collect();
        if version.must("must not be empty", errors)
            && (parts.len() > 2 || parts.last().is_none_or(|v| v.is_empty()))
        {
            errors.push(version.invalid("must be <group>/<version> or <version>"));
        }
        for field in ["kind", "name", "uid"] {
            owner.get(field).must("must not be empty", errors);
        }
        if version.text() == "v1" && owner.get("kind").text() == "Event" {
            errors.push(owner.invalid("/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.get("controller").bool() {
            let this = format!("{}/{}", owner.get("kind").text(), owner.get("name").text());
            match &controller {
                Some(first) => errors.push(owners.invalid(format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {first} and {this}"
                ))),
                None => controller = Some(this),
            }
        }
    }
}

fn validate_finalizers(finalizers: &At, errors: &mut FieldErrors) {
    let mut special = 0;
    for name in finalizers.texts() {
        let each = |why| FieldError::invalid(finalizers.path.clone(), name, why);
        errors.extend(names::qualified(name).into_iter().map(each));
        special |= match name {
            "orphan" => 1,
            "foregroundDeletion" => 2,
            _ => 0,
        };
    }
    if special == 3 {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(finalizers.invalid(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn create() {
        for (meta, want) in [
            (json!({ "name": "a", "namespace": "b" }), vec![]),
            (
                json!({ "namespace": "b" }),
                vec!["metadata.name: Required value: name or generateName is required"],
            ),
            (json!({ "name": "a" }), vec!["metadata.namespace: Required value"]),
            (
                json!({ "name": "a", "namespace": "b", "ownerReferences": [
                    { "apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u" }] }),
                vec![
                    "metadata.ownerReferences[0]: Invalid value: {\"apiVersion\":\"v1\",\"kind\":\
                     \"Event\",\"name\":\"e\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from \
                     being an owner",
                ],
            ),
            (
                json!({ "name": "a", "namespace": "b", "labels": { "x y": "z" } }),
                vec![
                    "metadata.labels: Invalid value: \"x y\": name part must consist of \
                     alphanumeric characters, '-', '_' or '.', and must start and end with an \
                     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
                     used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
            ),
            (
                json!({ "name": "a", "namespace": "b",
                    "annotations": { "a": "x".repeat(MAX_ANNOTATION_BYTES) } }),
                vec!["metadata.annotations: Too long: may not be more than 262144 bytes"],
            ),
        ] {
            let got = validate_meta(&meta, true, &names::subdomain, "metadata");
            assert_eq!(texts(&got), want);
        }
        let meta = json!({ "name": "a", "namespace": "b" });
        let got = validate_meta(&meta, false, &names::subdomain, "metadata");
        assert_eq!(texts(&got), ["metadata.namespace: Forbidden: not allowed on this type"]);
    }

    #[test]
    fn update() {
        let old = json!({ "name": "a", "uid": "1", "resourceVersion": "5", "generation": 2 });
        assert_eq!(validate_meta_update(&old, &old, "metadata"), []);
        let new = json!({ "name": "b", "uid": "1", "generation": 1 });
        assert_eq!(
            texts(&validate_meta_update(&new, &old, "metadata")),
            [
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.name: Invalid value: \"b\": field is immutable",
            ]
        );
        let old =
            json!({ "resourceVersion": "1", "deletionTimestamp": "t", "finalizers": ["a/b"] });
        let mut new = old.clone();
        new["finalizers"] = json!(["a/b", "c/d"]);
        assert_eq!(
            texts(&validate_meta_update(&new, &old, "metadata")),
            ["metadata.finalizers: Forbidden: no new finalizers can be added if the object is \
              being deleted, found new finalizers []string{\"c/d\"}"]
        );
    }
}
