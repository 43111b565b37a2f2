//! Tables of definitions that are refused.
use crate::Resource;
use crate::apiextensions::custom_resource_definition::CustomResourceDefinitions;
use api::Value;
use value::json;

fn made(change: impl FnOnce(&mut Value)) -> Value {
    let mut crd = json!({ "metadata": { "name": "pies.example.com" }, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": { "plural": "pies", "kind": "Pie" },
        "versions": [{ "name": "v1", "served": true, "storage": true, "schema": {
            "openAPIV3Schema": { "type": "object", "properties": {
                "spec": { "type": "object" } } } } }] } });
    change(&mut crd["spec"]);
    CustomResourceDefinitions.default(&mut crd);
    CustomResourceDefinitions.prepare_create(&mut crd);
    crd
}

fn texts(new: &Value, old: Option<&Value>) -> Vec<String> {
    CustomResourceDefinitions.validate(new, old).iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_one() {
    let crd = made(|_| {});
    assert_eq!(crd["spec"]["names"]["listKind"], "PieList");
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(texts(&crd, None), [""; 0]);
    assert_eq!(texts(&crd, Some(&crd)), [""; 0]);
}

#[test]
fn schemas() {
    let top = "spec.validation.openAPIV3Schema";
    for (schema, want) in [
        (json!({}), format!("{top}.type: Required value: must not be empty at the root")),
        (
            json!({ "type": "object", "properties": { "a": {} } }),
            format!(
                "{top}.properties[a].type: Required value: must not be empty for specified \
                 object fields"
            ),
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "array" } } }),
            format!("{top}.properties[a].items: Required value: must be specified"),
        ),
        (
            json!({ "type": "object", "anyOf": [{ "description": "x" }] }),
            format!("{top}.anyOf[0].description: Forbidden: must be empty to be structural"),
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "array",
                "items": { "type": "object", "properties": { "k": { "type": "string" } } },
                "x-kubernetes-list-type": "map" } } }),
            format!(
                "{top}.properties[a].x-kubernetes-list-map-keys: Required value: must not be \
                 empty if x-kubernetes-list-type is map"
            ),
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "string",
                "enum": ["x"], "default": "y" } } }),
            format!(
                "{top}.properties[a].default: Unsupported value: \"y\": supported values: \"x\""
            ),
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "object",
                "default": { "b": 1 } } } }),
            format!(
                "{top}.properties[a].default: Invalid value: {{\"b\":1}}: must not have unknown \
                 fields: b"
            ),
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "string",
                "pattern": "(" } } }),
            format!(
                "{top}.properties[a].pattern: Invalid value: \"(\": must be a valid regular \
                 expression, but isn't: found open group without closing ')'"
            ),
        ),
        (
            json!({ "type": "object", "properties": { "metadata": { "type": "object",
                "properties": { "labels": { "type": "object" } } } } }),
            format!(
                "{top}.properties[metadata]: Forbidden: must not specify anything other than \
                 name and generateName, but metadata is implicitly specified"
            ),
        ),
    ] {
        let crd = made(|spec| spec["versions"][0]["schema"]["openAPIV3Schema"] = schema.clone());
        assert_eq!(texts(&crd, None), [want], "{schema}");
    }
    let free = json!({ "type": "object", "properties": { "port": {
        "x-kubernetes-int-or-string": true,
        "anyOf": [{ "type": "integer" }, { "type": "string" }] } } });
    let crd = made(|spec| spec["versions"][0]["schema"]["openAPIV3Schema"] = free);
    assert_eq!(texts(&crd, None), [""; 0]);
}

#[test]
fn names_and_versions() {
    let crd = made(|spec| spec["names"]["plural"] = json!("cakes"));
    assert_eq!(
        texts(&crd, None),
        ["metadata.name: Invalid value: \"pies.example.com\": must be \
          spec.names.plural+\".\"+spec.group"]
    );
    let none = made(|spec| spec["versions"][0]["storage"] = json!(false));
    assert!(
        texts(&none, None)[0].ends_with("must have exactly one version marked as storage version")
    );
    let old = made(|_| {});
    let mut new = made(|spec| spec["versions"][0]["name"] = json!("v2"));
    new["status"]["storedVersions"] = json!(["v1", "v2"]);
    assert!(texts(&new, Some(&old))[0].starts_with(
        "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was"
    ));
}
