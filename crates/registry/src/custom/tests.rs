use super::*;

fn crd(version: Value) -> Value {
    let mut first = json!({ "name": "v1", "served": true, "storage": true,
        "schema": { "openAPIV3Schema": { "type": "object", "properties": {
            "spec": { "type": "object", "properties": {
                "size": { "type": "string", "default": "small" },
                "replicas": { "type": "integer" } } },
            "status": { "type": "object", "properties": {
                "replicas": { "type": "integer" } } } } } } });
    for (key, value) in version.as_object().unwrap() {
        first[key] = value.clone();
    }
    json!({
        "metadata": { "name": "pies.example.com", "uid": "u", "generation": 1 },
        "spec": { "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "pies", "singular": "pie", "kind": "Pie", "listKind": "PieList" },
            "versions": [first] },
        "status": {
            "acceptedNames": { "plural": "pies", "singular": "pie", "kind": "Pie",
                "listKind": "PieList", "shortNames": ["pi"], "categories": ["all"] },
            "conditions": [{ "type": "Established", "status": "True" }] },
    })
}

fn row(version: Value) -> Arc<CustomResource> {
    Definition::read(&crd(version)).unwrap().served.remove(0)
}

#[test]
fn a_row_says_what_its_definition_does() {
    let row = row(json!({
        "subresources": { "status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" } },
        "selectableFields": [{ "jsonPath": ".spec.size" }],
        "additionalPrinterColumns": [
            { "name": "Size", "type": "string", "jsonPath": ".spec.size" },
            { "name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas",
              "priority": 1 } ],
    }));
    let info = row.info();
    assert_eq!((&*info.plural, &*info.gvk.kind, info.namespaced()), ("pies", "Pie", true));
    assert_eq!(row.short_names(), ["pi"]);
    assert_eq!(info.subresources.len(), 2);
    assert_eq!(row.scale().unwrap().replicas, "/spec/replicas");
    let pie = json!({ "metadata": { "name": "a" }, "spec": { "size": "big", "replicas": 2 } });
    assert_eq!(row.cells(&pie, 0), [json!("a"), json!("big"), json!(2)]);
    assert_eq!(row.headings()[2]["priority"], 1);
    assert_eq!(row.field(&pie, "spec.size").unwrap(), "big");
    assert_eq!(row.stored_field("spec.replicas"), None);
    let bad = json!({ "spec": { "replicas": -1 } });
    let texts: Vec<String> = row.validate(&bad, None).iter().map(ToString::to_string).collect();
    assert_eq!(texts, [".spec.replicas: Invalid value: -1: should be a non-negative integer"]);
}

#[test]
fn status_writes_nothing_else() {
    let row = row(json!({ "subresources": { "status": {} } }));
    let old = json!({ "metadata": { "name": "a", "labels": { "a": "b" } }, "status": {} });
    let mut new = json!({ "metadata": { "name": "a", "labels": { "x": "y" },
        "managedFields": [1] }, "status": { "replicas": 1 } });
    row.prepare_subresource("status", &mut new, &old);
    assert_eq!(new["metadata"]["labels"], json!({ "a": "b" }));
    assert_eq!(new["metadata"]["managedFields"], json!([1]));
}

#[test]
fn versions_differ_in_name_and_schema() {
    let mut definition = crd(json!({ "served": true }));
    definition["spec"]["versions"].as_array_mut().unwrap().push(json!({
        "name": "v2", "served": true, "storage": false, "deprecated": true,
        "selectableFields": [{ "jsonPath": ".spec.color" }],
        "schema": { "openAPIV3Schema": { "type": "object", "properties": {
            "spec": { "type": "object", "properties": {
                "color": { "type": "string", "default": "red" } } } } } } }));
    let made = Definition::read(&definition).unwrap();
    assert!(made.is_as(&definition));
    assert_eq!(made.stored.fields()[..], ["spec.color"]);
    let [v1, v2] = &made.served[..] else { panic!("two versions") };
    assert_eq!(v2.deprecation(), Some("example.com/v2 Pie is deprecated"));
    assert!(v1.convert().is_none());
    let stored = json!({ "apiVersion": "example.com/v1", "kind": "Pie", "spec": { "size": "s" } });
    let seen = v2.convert().unwrap().to_own(stored);
    assert_eq!(
        seen,
        json!({ "apiVersion": "example.com/v2", "kind": "Pie", "spec": { "color": "red" } })
    );
    assert_eq!(v2.convert().unwrap().to_stored(seen)["apiVersion"], "example.com/v1");
    let mut older = json!({ "apiVersion": "example.com/v0", "kind": "Pie", "spec": {} });
    assert!(made.stored.freshen(&mut older));
    assert_eq!(older["spec"]["size"], "small");
    assert!(!made.stored.freshen(&mut older));
    definition["spec"]["conversion"] = json!({ "strategy": "Webhook" });
    assert_eq!(Definition::read(&definition).unwrap().served.len(), 1);
    definition["status"]["conditions"] = json!([]);
    assert!(Definition::read(&definition).unwrap().served.is_empty());
}
