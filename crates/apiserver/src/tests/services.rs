//! What Services are given, and what the cluster has from the start.
use super::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["ports"] = json!([{ "port": 80 }]);
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec })
}

#[tokio::test]
async fn addresses_are_given_once() {
    let lab = Lab::new().await;
    let own = lab.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(own["spec"]["clusterIP"], "10.96.0.1");
    let made = lab.post(SERVICES, service("a", json!({ "type": "NodePort" }))).await.ok();
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.96."), "{made}");
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..32768).contains(&port));
    let taken = lab.post(SERVICES, service("b", json!({ "clusterIP": ip }))).await;
    taken.refused(
        422,
        &format!(
            "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to \
             allocate IP {ip}: provided IP is already allocated"
        ),
    );
    // What is taken stays taken after a restart, and is free after its Service is gone.
    let lab = lab.restart().await;
    assert_eq!(lab.post(SERVICES, service("b", json!({ "clusterIP": ip }))).await.status, 422);
    lab.send("DELETE", &format!("{SERVICES}/a"), Value::Null).await.ok();
    lab.server.caches.catch_up().await.unwrap();
    lab.post(SERVICES, service("b", json!({ "clusterIP": ip }))).await.ok();
    let none = lab.post(SERVICES, service("c", json!({ "clusterIP": "None" }))).await.ok();
    assert_eq!(none["spec"]["clusterIP"], "None");
    assert_eq!(
        lab.post(SERVICES, service("d", json!({ "clusterIP": "1.2.3.4" }))).await.status,
        422
    );
    // A name that is taken gives back what was reserved for it.
    let before = lab.post(SERVICES, service("b", json!({ "clusterIP": "10.96.0.77" }))).await;
    assert_eq!(before.status, 409);
    lab.post(SERVICES, service("e", json!({ "clusterIP": "10.96.0.77" }))).await.ok();
}

#[tokio::test]
async fn the_cluster_has_its_policy() {
    let mut lab = Lab::new().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = lab.get(&format!("/api/v1/namespaces/{name}")).await.ok();
        assert_eq!(namespace["status"]["phase"], "Active");
    }
    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    lab.get(&format!("{ROLES}/cluster-admin")).await.ok();
    lab.user = User::new("system:kube-scheduler", &[User::ALL_AUTHENTICATED]);
    lab.get("/api/v1/pods").await.ok();
    assert_eq!(lab.get("/api/v1/secrets").await.status, 403);
}

#[tokio::test]
async fn namespaces_end_by_finalize() {
    let lab = Lab::new().await;
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "x" } });
    lab.post("/api/v1/namespaces", body).await.ok();
    let path = "/api/v1/namespaces/x";
    let mut ending = lab.send("DELETE", path, Value::Null).await.ok();
    assert_eq!(ending["status"]["phase"], "Terminating");
    let maps = "/api/v1/namespaces/x/configmaps";
    let late = lab.post(maps, config_map("late")).await;
    late.refused(
        403,
        "configmaps \"late\" is forbidden: unable to create new content in namespace x because it \
         is being terminated",
    );
    ending["spec"]["finalizers"] = json!([]);
    lab.send("PUT", &format!("{path}/finalize"), ending).await.ok();
    assert_eq!(lab.get(path).await.status, 404);
}
