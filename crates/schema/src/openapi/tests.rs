use super::*;
use crate::builtin;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn deployments() -> PathInfo {
    let gvk = Gvk::fixed("apps", "v1", "Deployment");
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    PathInfo {
        gvk: gvk.clone(),
        plural: "deployments".into(),
        namespaced: true,
        verbs: strings(&all),
        subresources: vec![SubPath {
            name: "status".into(),
            gvk,
            verbs: strings(&["get", "patch", "update"]),
        }],
        custom: None,
    }
}

fn pies(schema: Value) -> PathInfo {
    let custom =
        Custom { list_kind: "PieList".into(), revision: "1".into(), schema: schema.into() };
    PathInfo {
        gvk: Gvk::fixed("food.example.com", "v1", "Pie"),
        plural: "pies".into(),
        custom: Some(custom),
        subresources: Vec::new(),
        ..deployments()
    }
}

#[test]
fn custom_kinds_have_definitions_of_their_own() {
    let schema = json!({ "type": "object", "description": "Pie is a dish.", "required": ["spec"],
        "properties": { "spec": { "type": "object", "required": ["maybe"], "properties": {
            "maybe": { "type": "string", "nullable": true },
            "port": { "x-kubernetes-int-or-string": true },
            "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": { "a": { "type": "string" } } },
            "one": { "type": "object", "oneOf": [{ "required": ["a"] }] },
            "inner": { "type": "object", "x-kubernetes-embedded-resource": true,
                "properties": { "spec": { "type": "object" } } } } } } });
    let v3 = openapi_v3(builtin(), "food.example.com", "v1", &[pies(schema.clone())]);
    let pie = &v3["components"]["schemas"]["com.example.food.v1.Pie"];
    let gvk = json!({ "group": "food.example.com", "version": "v1", "kind": "Pie" });
    assert_eq!(pie["x-kubernetes-group-version-kind"], json!([gvk]));
    assert_eq!(pie["description"], "Pie is a dish.");
    assert!(pie["properties"]["apiVersion"]["description"].is_string());
    let spec = &pie["properties"]["spec"]["properties"];
    assert_eq!(spec["port"]["anyOf"][0]["type"], "integer");
    assert_eq!(spec["maybe"]["nullable"], true);
    assert_eq!(spec["inner"]["required"], json!(["kind", "apiVersion"]));
    let schemas = v3["components"]["schemas"].as_object().unwrap();
    assert!(schemas.contains_key("com.example.food.v1.PieList"));
    assert!(schemas.contains_key("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));
    let v2 = openapi_v2(builtin(), &[pies(schema)]);
    let spec = &v2["definitions"]["com.example.food.v1.Pie"]["properties"]["spec"];
    assert!(spec.get("required").is_none());
    assert_eq!(spec["properties"]["maybe"], json!({}));
    assert_eq!(spec["properties"]["free"], json!({ "x-kubernetes-preserve-unknown-fields": true }));
    assert_eq!(spec["properties"]["one"], json!({ "type": "object" }));
    let item = &v2["paths"]["/apis/food.example.com/v1/namespaces/{namespace}/pies/{name}"];
    assert_eq!(item["patch"]["consumes"].as_array().unwrap().len(), 3);
    assert_eq!(item["get"]["produces"], json!(["application/json", "application/yaml"]));
    let free = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let v2 = openapi_v2(builtin(), &[pies(free)]);
    assert_eq!(
        v2["definitions"]["com.example.food.v1.Pie"],
        json!({ "type": "object", "x-kubernetes-group-version-kind": [gvk] })
    );
}

#[test]
fn version_3_says_what_kubectl_looks_for() {
    let document = openapi_v3(builtin(), "apps", "v1", &[deployments()]);
    let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(item["patch"]["x-kubernetes-group-version-kind"], gvk);
    let queries: Vec<&str> = item["patch"]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(queries, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let schemas = &document["components"]["schemas"];
    let pod = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(pod["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(pod["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(pod["x-kubernetes-list-type"], "map");
    assert_eq!(
        pod["items"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.core.v1.Container"
    );
    let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"];
    assert_eq!(spec["required"], json!(["selector", "template"]));
    let strategy = &spec["properties"]["strategy"];
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    assert!(strategy["description"].as_str().unwrap().starts_with("The deployment strategy"));
    assert_eq!(
        schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
        json!([gvk])
    );
    let policy = &schemas["io.k8s.api.core.v1.Container"]["properties"]["imagePullPolicy"];
    assert_eq!(policy["enum"], json!(["Always", "IfNotPresent", "Never"]));
    assert!(
        policy["description"]
            .as_str()
            .unwrap()
            .contains("Possible enum values:\n - `\"Always\"` means")
    );
}

#[test]
fn every_reference_leads_to_a_definition() {
    for (document, prefix, place) in [
        (
            openapi_v2(builtin(), &[deployments(), pies(json!({ "type": "object" }))]),
            "#/definitions/",
            "/definitions",
        ),
        (
            openapi_v3(builtin(), "apps", "v1", &[deployments()]),
            "#/components/schemas/",
            "/components/schemas",
        ),
    ] {
        let known = document.pointer(place).unwrap().as_object().unwrap();
        let mut open = vec![&document];
        let mut seen = 0;
        while let Some(value) = open.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        let name = reference.strip_prefix(prefix).unwrap();
                        assert!(known.contains_key(name), "{reference}");
                        seen += 1;
                    }
                    open.extend(map.values());
                }
                Value::Array(list) => open.extend(list),
                _ => {}
            }
        }
        assert!(seen > 200, "{seen}");
    }
}

#[test]
fn the_protobuf_form_holds_extensions_as_text() {
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "t", "version": "v"},
        "paths": {},
        "definitions": {"a": {"type": "object", "x-y": ["z"]}},
    });
    let want = b"\x0a\x032.0\x12\x06\x0a\x01t\x12\x01v\x42\x00\x4a\x24\x0a\x22\x0a\x01a\x12\x1d\
        \xb2\x01\x08\x0a\x06object\xfa\x01\x0f\x0a\x03x-y\x12\x08\x12\x06[\"z\"]\n";
    assert_eq!(
        gnostic::encode(&document).escape_ascii().to_string(),
        want.escape_ascii().to_string()
    );
}
