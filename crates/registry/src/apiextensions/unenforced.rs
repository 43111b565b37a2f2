//! What a definition says that nothing here acts on: its writer is told, by path.
use super::schema::member;
use crate::At;
use api::Value;

/// One definition is warned of no more often than this.
const MAX_WARNINGS: usize = 20;

pub(super) fn warnings(crd: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let spec = At::root(crd).get("spec");
    if spec.get("conversion.strategy").text() == "Webhook" {
        let versions = spec.get("versions");
        let stored = versions.items().find(|version| version.get("storage").bool());
        let stored = stored.map_or(String::new(), |version| version.get("name").text().to_owned());
        out.push(format!(
            "spec.conversion.strategy: conversion webhooks are not called yet: only the storage \
             version {stored:?} is served"
        ));
    }
    for version in spec.get("versions").items() {
        walk(&version.get("schema.openAPIV3Schema"), &mut out);
    }
    out
}

fn walk(schema: &At, out: &mut Vec<String>) {
    if out.len() >= MAX_WARNINGS || !schema.value.is_object() {
        return;
    }
    let rules = member(schema, "x-kubernetes-validations");
    if !rules.is_empty() {
        out.push(format!("{} is not enforced yet", rules.path));
    }
    let pattern = member(schema, "pattern");
    if schema::custom::check_pattern(pattern.text()) == Err(schema::custom::PatternError::Unicode) {
        let why = schema::custom::PatternError::Unicode;
        out.push(format!("{} is not enforced: {why}", pattern.path));
    }
    for name in ["items", "additionalProperties", "not"] {
        walk(&member(schema, name), out);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        member(schema, name).items().for_each(|part| walk(&part, out));
    }
    member(schema, "properties").entries().for_each(|(_, property)| walk(&property, out));
}
