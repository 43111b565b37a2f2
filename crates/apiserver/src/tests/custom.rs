//! Custom resources, from their definitions to their ends.
use super::*;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const PIES: &str = "/apis/example.com/v1/namespaces/default/pies";

fn schema() -> Value {
    json!({ "openAPIV3Schema": { "type": "object", "properties": {
        "spec": { "type": "object", "properties": {
            "size": { "type": "string", "enum": ["small", "large"] },
            "replicas": { "type": "integer", "minimum": 0 },
            "toppings": { "type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"], "items": { "type": "object",
                "required": ["name"], "properties": { "name": { "type": "string" },
                "grams": { "type": "integer" } } } } } },
        "status": { "type": "object", "properties": {
            "replicas": { "type": "integer" } } } } } })
}

fn version(name: &str, storage: bool, more: Value) -> Value {
    let mut version =
        json!({ "name": name, "served": true, "storage": storage, "schema": schema() });
    for (key, value) in more.as_object().unwrap() {
        version[key] = value.clone();
    }
    version
}

fn crd(versions: Value) -> Value {
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "pies.example.com" },
        "spec": { "group": "example.com", "scope": "Namespaced", "versions": versions,
            "names": { "plural": "pies", "kind": "Pie", "shortNames": ["pi"] } } })
}

fn pie(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Pie",
        "metadata": { "name": name }, "spec": spec })
}

/// What the controller would say.
async fn establish(lab: &Lab) {
    let names = json!({ "plural": "pies", "singular": "pie", "kind": "Pie",
        "listKind": "PieList", "shortNames": ["pi"] });
    let status = json!({ "status": { "acceptedNames": names, "conditions": [
        { "type": "Established", "status": "True", "reason": "InitialNamesAccepted",
          "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
    lab.send("PATCH", &format!("{CRDS}/pies.example.com/status"), status).await.ok();
    lab.server.caches.catch_up().await.unwrap();
}

async fn lab(versions: Value) -> Lab {
    let lab = Lab::new().await;
    lab.post(CRDS, crd(versions)).await.ok();
    establish(&lab).await;
    lab
}

async fn change(lab: &Lab, patch: Value) -> Answer {
    let answer = lab.send("PATCH", &format!("{CRDS}/pies.example.com"), patch).await;
    lab.server.caches.catch_up().await.unwrap();
    answer
}

async fn sent(lab: &Lab, method: &str, uri: &str, kind: &str, body: &Value) -> Answer {
    let body = Bytes::from(body.to_string());
    answer(lab.raw(method, uri, &[("content-type", kind)], body).await).await
}

#[tokio::test]
async fn a_kind_is_served_from_when_it_is_established_until_it_goes() {
    let lab = Lab::new().await;
    let made = lab.post(CRDS, crd(json!([version("v1", true, json!({}))]))).await;
    assert_eq!(made.warnings, [""; 0]);
    assert_eq!(lab.get(PIES).await.status, 404);
    establish(&lab).await;
    let made = lab.post(PIES, pie("a", json!({ "size": "small" }))).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    let groups = lab.get("/apis").await.ok().to_string();
    assert!(groups.contains("\"example.com/v1\""));
    let resources = lab.get("/apis/example.com/v1").await.ok();
    assert_eq!(resources["resources"][0]["shortNames"], json!(["pi"]));
    let lab = lab.restart().await;
    let list = lab.get(PIES).await.ok();
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&json!("PieList"), &json!("Pie")));
    let mut events =
        Events::new(lab.raw("GET", &format!("{PIES}?watch=true"), &[], Bytes::new()).await);
    assert_eq!(events.brief().await, "ADDED a");
    let gone = lab.send("DELETE", &format!("{CRDS}/pies.example.com"), Value::Null).await.ok();
    let finalizer = "customresourcecleanup.apiextensions.k8s.io";
    assert_eq!(gone["metadata"]["finalizers"], json!([finalizer]));
    assert_eq!(gone["status"]["conditions"][1]["reason"], "InstanceDeletionPending");
    lab.server.caches.catch_up().await.unwrap();
    lab.post(PIES, pie("b", json!({}))).await.refused(
        405,
        "create not allowed while custom resource definition is terminating is not supported on \
         resources of kind \"pies.example.com\"",
    );
    lab.send("DELETE", &format!("{PIES}/a"), Value::Null).await.ok();
    assert_eq!(events.brief().await, "DELETED a");
    change(&lab, json!({ "metadata": { "finalizers": null } })).await.ok();
    assert!(events.next().await.is_none());
    assert_eq!(lab.get(PIES).await.status, 404);
    assert_eq!(lab.get("/apis/example.com").await.status, 404);
}

#[tokio::test]
async fn what_does_not_hold_to_the_schema_is_refused() {
    let lab = lab(json!([version("v1", true, json!({}))])).await;
    lab.post(PIES, pie("a", json!({ "size": "huge" }))).await.refused(
        422,
        "Pie.example.com \"a\" is invalid: spec.size: Unsupported value: \"huge\": supported \
         values: \"small\", \"large\"",
    );
    lab.post(PIES, pie("a", json!({ "replicas": "many" }))).await.refused(
        422,
        "Pie.example.com \"a\" is invalid: spec.replicas: Invalid value: \"string\": \
         spec.replicas in body must be of type integer: \"string\"",
    );
    let odd = pie("a", json!({ "size": "small", "bogus": 1 }));
    lab.post(&format!("{PIES}?fieldValidation=Strict"), odd.clone())
        .await
        .refused(400, "strict decoding error: unknown field \"spec.bogus\"");
    let made = lab.post(PIES, odd).await;
    assert_eq!(made.warnings, ["299 - \"unknown field \\\"spec.bogus\\\"\""]);
    assert!(made.ok()["spec"].get("bogus").is_none());
    let path = format!("{PIES}/a");
    let twice = Bytes::from_static(
        br#"{"apiVersion":"example.com/v1","kind":"Pie","metadata":{"name":"b"},"spec":{"size":"small","size":"large"}}"#,
    );
    let strict = format!("{PIES}?fieldValidation=Strict");
    answer(lab.raw("POST", &strict, &[("content-type", "application/json")], twice).await)
        .await
        .refused(400, "strict decoding error: duplicate field \"spec.size\"");
    let strategic = "application/strategic-merge-patch+json";
    assert_eq!(sent(&lab, "PATCH", &path, strategic, &json!({})).await.status, 415);
    let json_patch = json!([{ "op": "replace", "path": "/spec/size", "value": "large" }]);
    sent(&lab, "PATCH", &path, "application/json-patch+json", &json_patch).await.ok();
    let new = lab.get(&path).await.ok();
    assert_eq!(
        (&new["spec"]["size"], &new["metadata"]["generation"]),
        (&json!("large"), &json!(2))
    );
    let mut put = new.clone();
    put["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    lab.send("PUT", &path, put).await.refused(
        422,
        "Pie.example.com \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be \
         specified for an update",
    );
}

#[tokio::test]
async fn protobuf_is_for_metadata_only() {
    let lab = lab(json!([version("v1", true, json!({}))])).await;
    lab.post(PIES, pie("a", json!({}))).await.ok();
    let proto = "application/vnd.kubernetes.protobuf";
    let get = async |accept: &str| lab.raw("GET", PIES, &[("accept", accept)], Bytes::new()).await;
    let only = answer(get(proto).await).await;
    only.refused(
        406,
        "only the following media types are accepted: application/json, application/yaml",
    );
    let both = get(&format!("{proto},application/json")).await;
    assert_eq!(both.headers()["content-type"], "application/json");
    let metadata = format!("{proto};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let metadata = get(&metadata).await;
    assert_eq!(
        (metadata.status(), &metadata.headers()["content-type"]),
        (StatusCode::OK, &proto.parse().unwrap())
    );
    let bytes = metadata.into_body().collect().await.unwrap().to_bytes();
    let (gvk, value) = schema::decode_proto(schema::builtin(), &bytes).unwrap();
    assert_eq!(gvk.kind, "PartialObjectMetadataList");
    assert_eq!(value["items"][0]["metadata"]["name"], "a");
    let body = sent(&lab, "POST", PIES, proto, &json!({})).await;
    assert_eq!(body.status, 415);
}

#[tokio::test]
async fn defaults_come_from_the_schema_as_it_is_now() {
    let lab = lab(json!([version("v1", true, json!({}))])).await;
    lab.post(PIES, pie("a", json!({}))).await.ok();
    let mut newer = version("v1", true, json!({}));
    newer["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"]["default"] =
        json!("large");
    let versions = json!({ "spec": { "versions": [newer] } });
    change(&lab, versions).await.ok();
    let read = lab.get(&format!("{PIES}/a")).await.ok();
    assert_eq!(read["spec"]["size"], "large");
    assert_eq!(lab.post(PIES, pie("b", json!({}))).await.ok()["spec"]["size"], "large");
    // Written back, it is stored so.
    let written = lab.send("PUT", &format!("{PIES}/a"), read.clone()).await.ok();
    assert_ne!(written["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"]);
    let again = lab.send("PUT", &format!("{PIES}/a"), written.clone()).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], written["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn versions_are_faces_of_what_is_stored() {
    let mut second = version(
        "v2",
        false,
        json!({ "deprecated": true,
        "selectableFields": [{ "jsonPath": ".spec.color" }] }),
    );
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        json!({ "color": { "type": "string", "default": "red" }, "size": { "type": "string" } });
    let lab = lab(json!([version("v1", true, json!({})), second])).await;
    let v2 = PIES.replace("v1", "v2");
    let uri = format!("{v2}?watch=true");
    let mut events = Events::new(lab.raw("GET", &uri, &[], Bytes::new()).await);
    lab.post(PIES, pie("a", json!({ "size": "small", "replicas": 1 }))).await.ok();
    let (kind, seen) = events.next().await.unwrap();
    assert_eq!(kind, "ADDED");
    assert_eq!(seen["apiVersion"], "example.com/v2");
    assert_eq!(seen["spec"], json!({ "size": "small", "color": "red" }));
    let list = lab.get(&v2).await;
    assert_eq!(list.warnings, ["299 - \"example.com/v2 Pie is deprecated\""]);
    let list = list.ok();
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["apiVersion"]),
        (&json!("example.com/v2"), &json!("example.com/v2"))
    );
    let group = lab.get("/apis/example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v2");
    // From now on stored as v2.
    let versions = |list: &[(&str, bool)]| -> Value {
        list.iter().map(|(name, storage)| version(name, *storage, json!({}))).collect()
    };
    let new = versions(&[("v1", false), ("v2", true)]);
    let changed = change(&lab, json!({ "spec": { "versions": new } })).await.ok();
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    let old = lab.get(&format!("{v2}/a")).await.ok();
    let written = lab.send("PUT", &format!("{v2}/a"), old.clone()).await.ok();
    assert_ne!(written["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"]);
    let lab = lab.restart().await;
    assert_eq!(lab.get(&format!("{PIES}/a")).await.ok()["apiVersion"], "example.com/v1");
    let only = versions(&[("v2", true)]);
    let refused = change(&lab, json!({ "spec": { "versions": only } })).await;
    assert_eq!(refused.status, 422);
    let status = json!({ "status": { "storedVersions": ["v2"] } });
    lab.send("PATCH", &format!("{CRDS}/pies.example.com/status"), status).await.ok();
    change(&lab, json!({ "spec": { "versions": only } })).await.ok();
    assert_eq!(lab.get(PIES).await.status, 404);
    assert_eq!(lab.get(&format!("{v2}/a")).await.ok()["spec"]["size"], "small");
}

#[tokio::test]
async fn webhooks_convert_nothing_yet_and_say_so() {
    let lab = Lab::new().await;
    let mut hooked = crd(json!([version("v1", true, json!({})), version("v2", false, json!({}))]));
    hooked["spec"]["conversion"] = json!({ "strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": { "url": "https://a.example/x" } } });
    hooked["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{ "rule": "true" }]);
    let made = lab.post(CRDS, hooked).await;
    assert!(made.warnings[0].contains("conversion webhooks are not called yet"));
    assert!(made.warnings[1].contains(
        "spec.versions[0].schema.openAPIV3Schema.x-kubernetes-validations is not enforced yet"
    ));
    establish(&lab).await;
    assert_eq!(lab.get(PIES).await.status, 200);
    lab.get(&PIES.replace("v1", "v2")).await.refused(
        500,
        "Internal error occurred: conversion webhook for example.com/v1, Kind=Pie failed: webhooks \
         are not called yet; use example.com/v1, which is what is stored",
    );
    assert_eq!(lab.get("/apis/example.com/v2").await.status, 404);
    let versions = json!([version("v1", false, json!({})), version("v2", true, json!({}))]);
    let refused = change(&lab, json!({ "spec": { "versions": versions } })).await;
    assert!(refused.message().contains("conversion webhooks are not called yet"));
}

#[tokio::test]
async fn status_and_scale_are_apart_where_they_are_asked_for() {
    let subresources = json!({ "subresources": { "status": {}, "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" } } });
    let lab = lab(json!([version("v1", true, subresources)])).await;
    let mut new = pie("a", json!({ "replicas": 2 }));
    new["status"] = json!({ "replicas": 9 });
    assert!(lab.post(PIES, new).await.ok().get("status").is_none());
    let path = format!("{PIES}/a");
    let patch = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "replicas": 5 },
        "status": { "replicas": 1 } });
    let told = lab.send("PATCH", &format!("{path}/status"), patch).await.ok();
    assert_eq!(told["spec"]["replicas"], 2);
    assert_eq!(told["status"]["replicas"], 1);
    assert!(told["metadata"].get("labels").is_none());
    assert_eq!(told["metadata"]["generation"], 1);
    let scale = lab.get(&format!("{path}/scale")).await.ok();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(2), &json!(1)));
    assert!(scale["status"].get("selector").is_none());
    let none = pie("none", json!({}));
    lab.post(PIES, none).await.ok();
    lab.get(&format!("{PIES}/none/scale")).await.refused(
        500,
        "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist",
    );
    let more = json!({ "spec": { "replicas": 3 } });
    lab.send("PATCH", &format!("{path}/scale"), more).await.ok();
    let now = lab.get(&path).await.ok();
    assert_eq!((&now["spec"]["replicas"], &now["metadata"]["generation"]), (&json!(3), &json!(2)));
    // Without the subresource, status is a field as any other.
    change(&lab, json!({ "spec": { "versions": [version("v1", true, json!({}))] } })).await.ok();
    assert_eq!(lab.get(&format!("{path}/status")).await.status, 404);
    let patch = json!({ "status": { "replicas": 7 } });
    let now = lab.send("PATCH", &path, patch).await.ok();
    assert_eq!(
        (&now["status"]["replicas"], &now["metadata"]["generation"]),
        (&json!(7), &json!(3))
    );
}

#[tokio::test]
async fn columns_and_selectors_are_the_definitions() {
    let more = json!({ "selectableFields": [{ "jsonPath": ".spec.size" }],
        "additionalPrinterColumns": [{ "name": "Size", "type": "string",
            "jsonPath": ".spec.size" }] });
    let lab = lab(json!([version("v1", true, more)])).await;
    for (name, size) in [("a", "small"), ("b", "large")] {
        lab.post(PIES, pie(name, json!({ "size": size }))).await.ok();
    }
    let found = lab.get(&format!("{PIES}?fieldSelector=spec.size%3Dlarge")).await.ok();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    lab.get(&format!("{PIES}?fieldSelector=spec.replicas%3D1"))
        .await
        .refused(400, "field label not supported: spec.replicas");
    let uri = format!("{PIES}?watch=true&fieldSelector=spec.size%3Dsmall");
    let mut events = Events::new(lab.raw("GET", &uri, &[], Bytes::new()).await);
    assert_eq!(events.brief().await, "ADDED a");
    lab.send("PATCH", &format!("{PIES}/a"), json!({ "spec": { "size": "large" } })).await.ok();
    assert_eq!(events.brief().await, "DELETED a");
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = answer(lab.raw("GET", PIES, &[("accept", accept)], Bytes::new()).await).await.ok();
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][1]["cells"], json!(["b", "large"]));
}

#[tokio::test]
async fn applying_knows_keys_and_what_is_not_declared() {
    let lab = lab(json!([version("v1", true, json!({}))])).await;
    let apply = async |manager: &str, config: Value| {
        let uri = format!("{PIES}/a?fieldManager={manager}");
        sent(&lab, "PATCH", &uri, "application/apply-patch+yaml", &config).await
    };
    let ham = pie("a", json!({ "toppings": [{ "name": "ham", "grams": 1 }] }));
    apply("one", ham).await.ok();
    let egg = pie("a", json!({ "toppings": [{ "name": "egg" }] }));
    let both = apply("two", egg).await.ok();
    assert_eq!(both["spec"]["toppings"].as_array().unwrap().len(), 2);
    let fields = &both["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:toppings"];
    assert!(fields["k:{\"name\":\"ham\"}"].is_object(), "{fields}");
    let mut odd = pie("a", json!({ "replicas": "x" }));
    odd["bogus"] = json!(1);
    odd["metadata"]["odd"] = json!(1);
    apply("two", odd).await.refused(
        400,
        "failed to create typed patch object (/a; example.com/v1, Kind=Pie): errors:\n  .bogus: \
         field not declared in schema\n  .metadata.odd: field not declared in schema\n  \
         .spec.replicas: expected numeric (int or float), got string",
    );
    let less = apply("one", pie("a", json!({}))).await.ok();
    assert_eq!(less["spec"]["toppings"], json!([{ "name": "egg" }]));
}

#[tokio::test]
async fn documents_tell_of_custom_kinds() {
    let lab = lab(json!([version("v1", true, json!({}))])).await;
    let document = lab.get("/openapi/v3/apis/example.com/v1").await.ok();
    let pie = &document["components"]["schemas"]["com.example.v1.Pie"];
    assert_eq!(pie["properties"]["spec"]["properties"]["replicas"]["type"], "integer");
    let url = |index: &Value| {
        index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned()
    };
    let before = url(&lab.get("/openapi/v3").await.ok());
    let mut newer = version("v1", true, json!({}));
    newer["schema"]["openAPIV3Schema"]["description"] = json!("Pie is a dish.");
    change(&lab, json!({ "spec": { "versions": [newer] } })).await.ok();
    assert_ne!(url(&lab.get("/openapi/v3").await.ok()), before);
    let document = lab.get("/openapi/v2").await.ok();
    assert_eq!(document["definitions"]["com.example.v1.Pie"]["description"], "Pie is a dish.");
    assert!(document["definitions"]["com.example.v1.PieList"].is_object());
}

#[tokio::test]
async fn pages_dry_runs_and_collections() {
    let lab = lab(json!([version("v1", true, json!({}))])).await;
    for name in ["a", "b", "c"] {
        lab.post(PIES, pie(name, json!({}))).await.ok();
    }
    lab.post(&format!("{PIES}?dryRun=All"), pie("d", json!({}))).await.ok();
    let page = lab.get(&format!("{PIES}?limit=2")).await.ok();
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = lab.get(&format!("{PIES}?limit=2&continue={token}")).await.ok();
    assert_eq!(rest["items"][0]["metadata"]["name"], "c");
    lab.send("DELETE", PIES, Value::Null).await.ok();
    let all = lab.get("/apis/example.com/v1/pies").await.ok();
    assert_eq!(all["items"], json!([]));
}
