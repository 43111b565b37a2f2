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

/// Lets everybody else go first before it writes, as a disk does.
struct Slow(store::mem::Mem);

impl store::Store for Slow {
    fn range(
        &self,
        keys: std::ops::Range<String>,
        at: store::ReadAt,
        limit: u32,
    ) -> store::Boxed<'_, Result<store::Page, store::Error>> {
        self.0.range(keys, at, limit)
    }
    fn put(
        &self,
        key: &str,
        value: bytes::Bytes,
        expect: store::Expect,
    ) -> store::Boxed<'_, Result<store::Entry, store::Error>> {
        let put = self.0.put(key, value, expect);
        Box::pin(async move {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            put.await
        })
    }
    fn delete(
        &self,
        key: &str,
        expect: store::Revision,
    ) -> store::Boxed<'_, Result<(store::Entry, store::Revision), store::Error>> {
        self.0.delete(key, expect)
    }
    fn watch(
        &self,
        keys: std::ops::Range<String>,
        after: store::Revision,
    ) -> store::Boxed<'_, Result<store::Changes, store::Error>> {
        self.0.watch(keys, after)
    }
    fn compact(&self, upto: store::Revision) -> store::Boxed<'_, Result<(), store::Error>> {
        self.0.compact(upto)
    }
    fn latest(&self) -> store::Boxed<'_, Result<store::Revision, store::Error>> {
        self.0.latest()
    }
}

/// Each of many writers at once is judged by all that were before it.
#[tokio::test]
async fn a_quota_holds_against_many_at_once() {
    let slow = Arc::new(Slow(store::mem::Mem::default()));
    let lab = Lab::over(tempfile::tempdir().unwrap(), slow, |_| ()).await;
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "configmaps": "5" } } });
    lab.post("/api/v1/namespaces/default/resourcequotas", quota).await.ok();
    let names: Vec<String> = (0..20).map(|index| format!("m{index}")).collect();
    let posts = names.iter().map(|name| lab.post(MAPS, config_map(name)));
    let answers = futures_util::future::join_all(posts).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 5);
    let refused = answers.iter().find(|answer| answer.status != 201).unwrap();
    assert_eq!(refused.status, 403);
    let why =
        "exceeded quota: q, requested: configmaps=1, used: configmaps=5, limited: configmaps=5";
    assert!(refused.message().ends_with(why), "{}", refused.message());
    // What is deleted makes room.
    let kept = lab.get(MAPS).await.ok()["items"][0]["metadata"]["name"].clone();
    lab.send("DELETE", &format!("{MAPS}/{}", kept.as_str().unwrap()), json!(null)).await.ok();
    lab.post(MAPS, config_map("another")).await.ok();
    assert_eq!(lab.post(MAPS, config_map("one-more")).await.status, 403);
}

/// The first versions of some kinds keep what they own; who deletes a job is told so.
#[tokio::test]
async fn jobs_leave_their_pods_unless_told_otherwise() {
    let lab = Lab::new().await;
    const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
    let job = |name: &str| {
        json!({
            "metadata": { "name": name }, "spec": { "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i" }],
            }}},
        })
    };
    for (name, policy, finalizers) in [
        ("a", json!({}), json!(["orphan"])),
        ("b", json!({ "propagationPolicy": "Foreground" }), json!(["foregroundDeletion"])),
    ] {
        lab.post(JOBS, job(name)).await.ok();
        let left = lab.send("DELETE", &format!("{JOBS}/{name}"), policy).await.ok();
        assert_eq!(left["metadata"]["finalizers"], finalizers);
    }
    lab.post(JOBS, job("c")).await.ok();
    let policy = json!({ "propagationPolicy": "Background" });
    lab.send("DELETE", &format!("{JOBS}/c"), policy).await.ok();
    assert_eq!(lab.get(&format!("{JOBS}/c")).await.status, 404);
}
