//! The four patches, and who owns what.
use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": {
            "selector": { "matchLabels": { "a": "b" } },
            "template": {
                "metadata": { "labels": { "a": "b" } },
                "spec": { "containers": [{ "name": "c", "image": "one" }] },
            },
        },
    })
}

async fn patch(lab: &Lab, uri: &str, kind: &str, body: Value) -> Answer {
    let headers = [("content-type", kind)];
    answer(lab.raw("PATCH", uri, &headers, body.to_string().into()).await).await
}

#[tokio::test]
async fn strategic_and_json_patches() {
    let lab = Lab::new().await;
    lab.post(DEPLOYMENTS, deployment()).await.ok();
    let path = format!("{DEPLOYMENTS}/d");
    let sidecar = json!({ "spec": { "template": { "spec": {
        "containers": [{ "name": "s", "image": "two" }],
    }}}});
    const STRATEGIC: &str = "application/strategic-merge-patch+json";
    let merged = patch(&lab, &path, STRATEGIC, sidecar).await.ok();
    let containers = &merged["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().unwrap().len(), 2);
    const JSON: &str = "application/json-patch+json";
    let replace = json!([{ "op": "replace", "path": "/spec/replicas", "value": 4 }]);
    assert_eq!(patch(&lab, &path, JSON, replace).await.ok()["spec"]["replicas"], 4);
    let failing = json!([{ "op": "test", "path": "/spec/replicas", "value": 5 }]);
    assert_eq!(patch(&lab, &path, JSON, failing).await.status, 422);
    assert_eq!(patch(&lab, &path, JSON, json!({})).await.status, 400);
    assert_eq!(patch(&lab, &path, "application/apply-patch+cbor", json!({})).await.status, 415);
    let wrong = json!({ "spec": { "replicas": "many" } });
    assert_eq!(patch(&lab, &path, STRATEGIC, wrong).await.status, 400);
}

#[tokio::test]
async fn applies_own_what_they_say() {
    let lab = Lab::new().await;
    const APPLY: &str = "application/apply-patch+yaml";
    let by = |manager: &str| format!("{DEPLOYMENTS}/d?fieldManager={manager}");
    let mut config = deployment();
    config["spec"]["replicas"] = 2.into();
    let made = patch(&lab, &by("one"), APPLY, config.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let owner = &made.body["metadata"]["managedFields"][0];
    assert_eq!((&owner["manager"], &owner["operation"]), (&json!("one"), &json!("Apply")));
    let again = patch(&lab, &by("one"), APPLY, config.clone()).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"], made.body["metadata"]["resourceVersion"],
        "the same again is no change"
    );
    config["spec"]["replicas"] = 3.into();
    patch(&lab, &by("two"), APPLY, config.clone())
        .await
        .refused(409, "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    let forced = patch(&lab, &format!("{}&force=true", by("two")), APPLY, config).await.ok();
    assert_eq!(forced["spec"]["replicas"], 3);
    let unnamed = patch(&lab, &format!("{DEPLOYMENTS}/d"), APPLY, deployment()).await;
    unnamed.refused(
        422,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for \
         apply patch",
    );
}

#[tokio::test]
async fn openapi_is_told() {
    let lab = Lab::new().await;
    let index = lab.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let apps = lab.get(&url).await.ok();
    let kinds = apps["components"]["schemas"].as_object().unwrap();
    assert!(kinds.contains_key("io.k8s.api.apps.v1.Deployment"));
    assert!(apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"].is_object());
    assert_eq!(lab.get("/openapi/v3/apis/nothing/v1").await.status, 404);
    assert_eq!(lab.get("/openapi/v2").await.ok()["swagger"], "2.0");
}
