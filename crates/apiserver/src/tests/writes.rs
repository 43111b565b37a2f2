//! `create`, `update`, `patch`, `delete`, subresources, reviews.
use super::*;

#[tokio::test]
async fn objects_come_change_and_go() {
    let lab = Lab::new().await;
    let made = lab.post(MAPS, config_map("a")).await.ok();
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    let path = format!("{MAPS}/a");
    assert_eq!(lab.get(&path).await.ok(), made);
    lab.post(MAPS, config_map("a")).await.refused(409, "configmaps \"a\" already exists");
    let mut new = made.clone();
    new["data"] = json!({ "x": "1" });
    let changed = lab.send("PUT", &path, new.clone()).await.ok();
    assert_ne!(changed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let stale = lab.send("PUT", &path, new).await;
    stale.refused(
        409,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please \
         apply your changes to the latest version and try again",
    );
    let same = lab.send("PUT", &path, changed.clone()).await.ok();
    assert_eq!(same, changed, "a write that changes nothing writes nothing");
    let gone = lab.send("DELETE", &path, Value::Null).await.ok();
    assert_eq!(gone["status"], "Success");
    lab.get(&path).await.refused(404, "configmaps \"a\" not found");
    lab.send("DELETE", &path, Value::Null).await.refused(404, "configmaps \"a\" not found");
    lab.send("PUT", &path, config_map("b")).await.refused(404, "configmaps \"a\" not found");
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let lab = Lab::new().await;
    let mut typo = config_map("a");
    typo["dta"] = json!({});
    lab.post(&format!("{MAPS}?fieldValidation=Strict"), typo.clone())
        .await
        .refused(400, "strict decoding error: unknown field \"dta\"");
    let warned = lab.post(MAPS, typo.clone()).await;
    assert_eq!(warned.warnings, ["299 - \"unknown field \\\"dta\\\"\""]);
    typo["metadata"]["name"] = "b".into();
    let quiet = lab.post(&format!("{MAPS}?fieldValidation=Ignore&dryRun=All"), typo).await;
    assert!(quiet.warnings.is_empty());
    quiet.ok();
    lab.get(&format!("{MAPS}/b")).await.refused(404, "configmaps \"b\" not found");
    assert_eq!(lab.post(MAPS, config_map("No")).await.status, 422);
    let mut elsewhere = config_map("c");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    lab.post(MAPS, elsewhere).await.refused(
        400,
        "the namespace of the provided object does not match the namespace sent on the request",
    );
    let nowhere = lab.post("/api/v1/namespaces/nowhere/configmaps", config_map("c")).await;
    nowhere.refused(404, "namespaces \"nowhere\" not found");
    let body = Bytes::from(vec![b' '; 4 << 20]);
    let large = lab.raw("POST", MAPS, &[("content-type", "application/json")], body).await;
    assert_eq!(large.status(), 413);
    let deep = Bytes::from("[".repeat(100_000));
    let deep = lab.raw("POST", MAPS, &[("content-type", "application/json")], deep).await;
    assert_eq!(deep.status(), 400);
    let cbor = lab.raw("POST", MAPS, &[("content-type", "application/cbor")], Bytes::new()).await;
    assert_eq!(cbor.status(), 415);
    lab.get("/api/v1/nothing")
        .await
        .refused(404, "the server could not find the requested resource");
}

#[tokio::test]
async fn names_are_generated() {
    let lab = Lab::new().await;
    let mut map = config_map("");
    map["metadata"] = json!({ "generateName": "web-" });
    let name = lab.post(MAPS, map).await.ok()["metadata"]["name"].clone();
    let name = name.as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn finalizers_hold() {
    let lab = Lab::new().await;
    let mut map = config_map("a");
    map["metadata"]["finalizers"] = json!(["example.com/x"]);
    lab.post(MAPS, map).await.ok();
    let path = format!("{MAPS}/a");
    let marked = lab.send("DELETE", &path, Value::Null).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let again = lab.send("DELETE", &path, Value::Null).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], marked["metadata"]["resourceVersion"]);
    lab.send("PATCH", &path, json!({ "metadata": { "finalizers": null } })).await.ok();
    assert_eq!(lab.get(&path).await.status, 404);
}

#[tokio::test]
async fn deletions_have_preconditions_and_policies() {
    let lab = Lab::new().await;
    let made = lab.post(MAPS, config_map("a")).await.ok();
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let path = format!("{MAPS}/a");
    let options = |uid: &str| json!({ "preconditions": { "uid": uid } });
    lab.send("DELETE", &path, options("x")).await.refused(
        409,
        &format!(
            "Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in \
             precondition: x, UID in object meta: {uid}"
        ),
    );
    lab.send("DELETE", &format!("{path}?dryRun=All"), Value::Null).await.ok();
    lab.get(&path).await.ok();
    let policy = json!({ "propagationPolicy": "Foreground" });
    let held = lab.send("DELETE", &path, policy).await.ok();
    assert_eq!(held["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    for name in ["b", "c"] {
        lab.post(MAPS, config_map(name)).await.ok();
    }
    lab.send("DELETE", &format!("{MAPS}?fieldSelector=metadata.name%21%3Da"), Value::Null)
        .await
        .ok();
    let left = lab.get(MAPS).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn concurrent_patches_all_land() {
    let lab = Lab::new().await;
    lab.post(MAPS, config_map("a")).await.ok();
    let path = format!("{MAPS}/a");
    let patches = (0..20).map(|n| {
        let key = format!("k{n}");
        lab.send("PATCH", &path, json!({ "data": { (key): "v" } }))
    });
    for answer in futures_util::future::join_all(patches).await {
        answer.ok();
    }
    let data = lab.get(&path).await.ok()["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 20);
}
