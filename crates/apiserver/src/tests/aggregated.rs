//! Aggregated APIs, as far as they can be without somebody who serves one.
use super::*;

const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

fn service(version: &str, priority: i64) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": format!("{version}.others.example") },
        "spec": {
            "group": "others.example", "version": version, "insecureSkipTLSVerify": true,
            "groupPriorityMinimum": 1000, "versionPriority": priority,
            "service": { "namespace": "default", "name": "others" },
        },
    })
}

async fn condition(lab: &Lab, name: &str, reason: &str) -> Value {
    let watch = format!("{PATH}?watch=true&fieldSelector=metadata.name={name}");
    let mut events = Events::new(lab.raw("GET", &watch, &[], Bytes::new()).await);
    loop {
        let (_, object) = events.next().await.expect("the watch goes on");
        let list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if let Some(found) = list.into_iter().find(|one| one["reason"] == reason) {
            return found;
        }
    }
}

#[tokio::test]
async fn who_is_not_there_is_told_of_and_not_asked() {
    let lab = Lab::new().await;
    let made = lab.post(PATH, service("v1", 10)).await;
    assert!(made.warnings.is_empty());
    made.ok();
    lab.post(PATH, service("v2", 20)).await.ok();
    let found = condition(&lab, "v1.others.example", "ServiceNotFound").await;
    assert_eq!((&found["type"], &found["status"]), (&json!("Available"), &json!("False")));
    assert_eq!(found["message"], "service/others in \"default\" is not present");
    // It is in discovery all the same, the more important version first.
    let group = lab.get("/apis/others.example").await.ok();
    let versions: Vec<&Value> =
        group["versions"].as_array().unwrap().iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, ["v2", "v1"]);
    let groups = lab.get("/apis").await.ok();
    let last = groups["groups"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["name"], "others.example");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let all = answer(lab.raw("GET", "/apis", &[("accept", accept)], Bytes::new()).await).await;
    let items = all.ok()["items"].as_array().unwrap().clone();
    assert_eq!(items.last().unwrap()["versions"][0]["freshness"], "Stale");
    for path in ["/apis/others.example/v1", "/apis/others.example/v1/namespaces/default/things"] {
        lab.get(path).await.refused(503, "service unavailable");
    }
    // A Service that listens elsewhere, and one that nobody stands behind.
    let body = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "others" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    lab.post("/api/v1/namespaces/default/services", body).await.ok();
    let found = condition(&lab, "v1.others.example", "ServicePortError").await;
    assert_eq!(found["message"], "service/others in \"default\" is not listening on port 443");
    let ports = json!({ "spec": { "ports": [{ "port": 443 }] } });
    lab.send("PATCH", "/api/v1/namespaces/default/services/others", ports).await.ok();
    condition(&lab, "v1.others.example", "MissingEndpoints").await;
    // With its APIServices the group goes.
    for version in ["v1", "v2"] {
        lab.send("DELETE", &format!("{PATH}/{version}.others.example"), Value::Null).await.ok();
    }
    lab.server.caches.catch_up().await.unwrap();
    let message = "the server could not find the requested resource";
    lab.get("/apis/others.example").await.refused(404, message);
    lab.get("/apis/others.example/v1").await.refused(404, message);
}

/// What those who serve aggregated APIs need to know of this server.
#[tokio::test]
async fn the_way_in_is_published() {
    let lab = Lab::new().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let data = lab.get(path).await.ok()["data"].clone();
    let pki = &lab.server.config.pki;
    assert_eq!(data["client-ca-file"], pki.ca.cert_pem());
    assert_eq!(data["requestheader-client-ca-file"], pki.front_proxy.cert_pem());
    assert_ne!(pki.ca.cert_pem(), pki.front_proxy.cert_pem());
}
