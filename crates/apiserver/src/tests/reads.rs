//! `get`, `list`, `watch`, discovery, tables, health.
use super::*;

#[tokio::test]
async fn pages_are_of_one_moment() {
    let lab = Lab::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        lab.post(MAPS, config_map(name)).await.ok();
    }
    let first = lab.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    lab.send("DELETE", &format!("{MAPS}/c"), Value::Null).await.ok();
    lab.post(MAPS, config_map("cc")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = lab.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = lab.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&third), ["e"]);
    assert!(third["metadata"]["continue"].is_null());
    let now = lab.get(MAPS).await.ok();
    assert_eq!(names(&now), ["a", "b", "cc", "d", "e"]);
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let then =
        lab.get(&format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(names(&then), ["a", "b", "c", "d", "e"]);
    lab.get(&format!("{MAPS}?continue=xyz")).await.refused(400, "continue key is not valid");
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn selectors_select() {
    let lab = Lab::new().await;
    for (name, app) in [("a", "x"), ("b", "y")] {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({ "app": app });
        lab.post(MAPS, map).await.ok();
    }
    for (query, want) in [
        ("labelSelector=app%3Dx", vec!["a"]),
        ("labelSelector=app%21%3Dx", vec!["b"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("labelSelector=none", vec![]),
    ] {
        assert_eq!(names(&lab.get(&format!("{MAPS}?{query}")).await.ok()), want, "{query}");
    }
    let bad = lab.get(&format!("{MAPS}?fieldSelector=spec.x%3Db")).await;
    assert_eq!(bad.status, 400);
    let want =
        r#""spec.x" is not a known field selector: only "metadata.name", "metadata.namespace""#;
    assert_eq!(bad.message(), want);
    assert_eq!(lab.get(&format!("{MAPS}?labelSelector=a%20b")).await.status, 400);
}

#[tokio::test]
async fn watches_see_selectors_change() {
    let lab = Lab::new().await;
    let start = lab.get(MAPS).await.ok()["metadata"]["resourceVersion"].clone();
    let uri = format!(
        "{MAPS}?watch=true&labelSelector=on%3Dyes&resourceVersion={}",
        start.as_str().unwrap()
    );
    let mut events = Events::new(lab.raw("GET", &uri, &[], Bytes::new()).await);
    lab.post(MAPS, config_map("a")).await.ok();
    let path = format!("{MAPS}/a");
    let label = |value: Value| json!({ "metadata": { "labels": { "on": value } } });
    lab.send("PATCH", &path, label("yes".into())).await.ok();
    lab.send("PATCH", &path, json!({ "data": { "x": "1" } })).await.ok();
    let off = lab.send("PATCH", &path, label(Value::Null)).await.ok();
    assert_eq!(events.brief().await, "ADDED a");
    assert_eq!(events.brief().await, "MODIFIED a");
    let (kind, object) = events.next().await.unwrap();
    assert_eq!(kind, "DELETED");
    // The object as it last matched, at the revision at which it stopped.
    assert_eq!(object["metadata"]["labels"]["on"], "yes");
    assert_eq!(object["metadata"]["resourceVersion"], off["metadata"]["resourceVersion"]);
    lab.send("PATCH", &path, label("yes".into())).await.ok();
    lab.send("DELETE", &path, Value::Null).await.ok();
    assert_eq!(events.brief().await, "ADDED a");
    assert_eq!(events.brief().await, "DELETED a");
}

#[tokio::test]
async fn watches_begin_where_they_are_told() {
    let lab = Lab::new().await;
    let first = lab.post(MAPS, config_map("a")).await.ok();
    lab.post(MAPS, config_map("b")).await.ok();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let watch = async |query: &str| {
        let uri = format!("{MAPS}?watch=true&timeoutSeconds=1&{query}");
        Events::new(lab.raw("GET", &uri, &[], Bytes::new()).await)
    };
    let mut after = watch(&format!("resourceVersion={version}")).await;
    assert_eq!(after.brief().await, "ADDED b");
    assert!(after.next().await.is_none(), "ends after its timeoutSeconds");
    let mut all = watch("resourceVersion=0").await;
    assert_eq!(all.brief().await, "ADDED a");
    let query = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut listing = watch(query).await;
    assert_eq!(listing.brief().await, "ADDED a");
    assert_eq!(listing.brief().await, "ADDED b");
    let (kind, mark) = listing.next().await.unwrap();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let uri = format!("{MAPS}?watch=true&sendInitialEvents=true");
    assert_eq!(lab.get(&uri).await.status, 422);
}

#[tokio::test]
async fn tables_and_metadata() {
    let lab = Lab::new().await;
    let mut map = config_map("a");
    map["data"] = json!({ "x": "1", "y": "2" });
    lab.post(MAPS, map).await.ok();
    let ask = async |accept: &str| {
        answer(lab.raw("GET", MAPS, &[("accept", accept)], Bytes::new()).await).await
    };
    let table = ask("application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await.ok();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][1]["name"], "Data");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let list = ask("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0]["data"].is_null());
    assert_eq!(ask("application/cbor").await.status, 406);
}

#[tokio::test]
async fn protobuf_both_ways() {
    let lab = Lab::new().await;
    const PROTO: &str = "application/vnd.kubernetes.protobuf";
    let gvk = api::Gvk::fixed("", "v1", "ConfigMap");
    let mut map = config_map("p");
    map["data"] = json!({ "k": "v" });
    let bytes = schema::encode_proto(schema::builtin(), &gvk, &map).unwrap();
    let headers = [("content-type", PROTO), ("accept", PROTO)];
    let made = lab.raw("POST", MAPS, &headers, bytes.into()).await;
    assert_eq!(made.status(), 201);
    let bytes = made.into_body().collect().await.unwrap().to_bytes();
    let (found, value) = schema::decode_proto(schema::builtin(), &bytes).unwrap();
    assert_eq!(found, gvk);
    assert_eq!(value["data"]["k"], "v");
    assert!(!value["metadata"]["uid"].as_str().unwrap().is_empty());
    let list = lab.raw("GET", MAPS, &[("accept", PROTO)], Bytes::new()).await;
    let bytes = list.into_body().collect().await.unwrap().to_bytes();
    let (found, value) = schema::decode_proto(schema::builtin(), &bytes).unwrap();
    assert_eq!(found.kind, "ConfigMapList");
    assert_eq!(value["items"][0]["metadata"]["name"], "p");
    // What was kept of the object is not what is listed after a change.
    lab.send("PATCH", &format!("{MAPS}/p"), json!({ "data": { "k": "new" } })).await.ok();
    let proto = async |accept: &str| {
        let list = lab.raw("GET", MAPS, &[("accept", accept)], Bytes::new()).await;
        let bytes = list.into_body().collect().await.unwrap().to_bytes();
        schema::decode_proto(schema::builtin(), &bytes).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(proto(PROTO).await.1["items"][0]["data"]["k"], "new");
    }
    let (found, value) =
        proto(&format!("{PROTO};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")).await;
    assert_eq!(found.kind, "PartialObjectMetadataList");
    assert_eq!(value["items"][0]["metadata"]["name"], "p");
    assert!(value["items"][0]["data"].is_null());
}

#[tokio::test]
async fn yaml_both_ways() {
    let lab = Lab::new().await;
    const YAML: [(&str, &str); 2] =
        [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let body = "metadata: {name: yam}\ndata:\n  text: |\n    one\n    two\n";
    let made = lab.raw("POST", MAPS, &YAML, body.into()).await;
    let kind = made.headers()["content-type"].clone();
    assert_eq!(kind, "application/yaml", "{}", answer(made).await.message());
    for path in [MAPS.to_owned(), format!("{MAPS}/yam")] {
        let got = lab.raw("GET", &path, &YAML, Bytes::new()).await;
        let bytes = got.into_body().collect().await.unwrap().to_bytes();
        let (value, _) = schema::yaml_to_json(&bytes).unwrap();
        let object = if path == MAPS { &value["items"][0] } else { &value };
        assert_eq!(object["data"]["text"], "one\ntwo\n", "{path}");
    }
    let watch = lab.raw("GET", &format!("{MAPS}?watch=1"), &YAML, Bytes::new()).await;
    assert_eq!(watch.status(), 406);
}

#[tokio::test]
async fn discovery_tells_all() {
    let lab = Lab::new().await;
    let core = lab.get("/api/v1").await.ok();
    let maps = core["resources"].as_array().unwrap();
    let maps = maps.iter().find(|row| row["name"] == "configmaps").unwrap();
    assert_eq!(maps["shortNames"], json!(["cm"]));
    assert_eq!(lab.get("/api").await.ok()["versions"], json!(["v1"]));
    assert_eq!(lab.get("/apis/nothing.example").await.status, 404);
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let all = lab.raw("GET", "/api", &[("accept", accept)], Bytes::new()).await;
    assert_eq!(all.headers()["content-type"], accept);
    let tag = all.headers()["etag"].to_str().unwrap().to_owned();
    let all = answer(all).await.ok();
    assert_eq!(all["items"][0]["versions"][0]["version"], "v1");
    let headers = [("accept", accept), ("if-none-match", &tag)];
    let same = lab.raw("GET", "/api", &headers, Bytes::new()).await;
    assert_eq!(same.status(), 304);
    assert!(!same.headers().contains_key("content-type"), "it would replace the cached one");
}

#[tokio::test]
async fn strangers_see_health_only() {
    let mut lab = Lab::new().await;
    let anonymous = async |uri: &str| {
        let request = Request::get(uri).body(crate::body::empty()).unwrap();
        answer(lab.server.handle(request, ConnInfo::default()).await).await
    };
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        anonymous(path).await.ok();
    }
    let verbose = anonymous("/readyz?verbose").await.ok();
    assert!(verbose.as_str().unwrap().contains("[+]etcd ok\n"), "{verbose}");
    assert_eq!(anonymous("/healthz/etcd").await.ok(), json!("ok"));
    for path in ["/", "/api", "/metrics", MAPS, "/openapi/v3"] {
        anonymous(path).await.refused(401, "Unauthorized");
    }
    lab.user = User::new("jane", &[User::ALL_AUTHENTICATED]);
    lab.get("/api/v1/namespaces/default/pods").await.refused(
        403,
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"default\"",
    );
    lab.get("/api").await.ok();
}

#[tokio::test]
async fn the_forgotten_past_is_expired() {
    let lab = Lab::new().await;
    let first = lab.post(MAPS, config_map("a")).await.ok();
    lab.post(MAPS, config_map("b")).await.ok();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let uri = format!("{MAPS}?watch=true&resourceVersion={version}");
    let lab = lab.restart().await;
    let mut old = Events::new(lab.raw("GET", &uri, &[], Bytes::new()).await);
    let (kind, status) = old.next().await.unwrap();
    assert_eq!((kind.as_str(), &status["code"]), ("ERROR", &json!(410)));
    assert!(old.next().await.is_none());
    assert_eq!(names(&lab.get(MAPS).await.ok()), ["a", "b"], "all is still there");
}

#[tokio::test]
async fn events_have_two_faces() {
    let lab = Lab::new().await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e" },
        "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p" },
        "reason": "Because", "message": "words", "type": "Normal",
        "lastTimestamp": "2999-01-01T00:00:00Z",
    });
    lab.post("/api/v1/namespaces/default/events", event).await.ok();
    let new = lab.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.ok();
    assert_eq!((&new["note"], &new["regarding"]["name"]), (&json!("words"), &json!("p")));
    assert!(new["message"].is_null());
    let list = lab.get("/apis/events.k8s.io/v1/events").await.ok();
    assert_eq!(list["items"][0]["note"], "words");
    let by = "/api/v1/events?fieldSelector=involvedObject.name%3Dp,reason%3DBecause";
    assert_eq!(lab.get(by).await.ok()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn old_events_are_let_go() {
    let lab = Lab::with(|config| config.event_ttl_seconds = 1).await;
    const EVENTS: &str = "/api/v1/namespaces/default/events";
    let event = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": name },
            "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p" },
        })
    };
    let uri = format!("{EVENTS}?watch=true&resourceVersion=0");
    let mut events = Events::new(lab.raw("GET", &uri, &[], Bytes::new()).await);
    let mut lasting = event("lasting");
    lasting["lastTimestamp"] = "2999-01-01T00:00:00Z".into();
    lab.post(EVENTS, lasting).await.ok();
    lab.post(EVENTS, event("short")).await.ok();
    assert_eq!(events.brief().await, "ADDED lasting");
    assert_eq!(events.brief().await, "ADDED short");
    assert_eq!(events.brief().await, "DELETED short");
    assert_eq!(names(&lab.get(EVENTS).await.ok()), ["lasting"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_every_write_in_order() {
    const WRITES: usize = 100;
    const WATCHERS: usize = 50;
    let lab = Lab::new().await;
    let uri = format!("{MAPS}?watch=true&resourceVersion=0");
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        watchers.push(Events::new(lab.raw("GET", &uri, &[], Bytes::new()).await));
    }
    let writes = (0..WRITES).map(|n| lab.post(MAPS, config_map(&format!("m{n}"))));
    for answer in futures_util::future::join_all(writes).await {
        answer.ok();
    }
    let seen = watchers.into_iter().map(|mut events| async move {
        let mut versions = Vec::new();
        for _ in 0..WRITES {
            let (kind, object) = events.next().await.unwrap();
            assert_eq!(kind, "ADDED");
            let version = object["metadata"]["resourceVersion"].as_str().unwrap();
            versions.push(version.parse::<u64>().unwrap());
        }
        versions
    });
    let seen = futures_util::future::join_all(seen).await;
    assert!(seen[0].is_sorted());
    assert!(seen.iter().all(|versions| *versions == seen[0]));
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_off() {
    let lab = Lab::new().await;
    let uri = format!("{MAPS}?watch=true&resourceVersion=0");
    let mut slow = Events::new(lab.raw("GET", &uri, &[], Bytes::new()).await);
    lab.post(MAPS, config_map("a")).await.ok();
    for n in 0..1100 {
        let patch = json!({ "data": { "n": n.to_string() } });
        lab.send("PATCH", &format!("{MAPS}/a"), patch).await.ok();
    }
    lab.server.caches.catch_up().await.unwrap();
    let mut got = 0;
    while slow.next().await.is_some() {
        got += 1;
    }
    assert_eq!(got, 1024, "what was queued is still sent, then the watch ends");
}
