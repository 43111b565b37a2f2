//! Pods: binding, graceful deletion, scale, tokens, reviews.
use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn lab() -> Lab {
    let lab = Lab::new().await;
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    lab.post("/api/v1/namespaces/default/serviceaccounts", account).await.ok();
    lab
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    })
}

#[tokio::test]
async fn a_pod_is_bound_once_and_ends_with_grace() {
    let lab = lab().await;
    let made = lab.post(PODS, pod("p")).await.ok();
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let nominated = json!({ "status": { "nominatedNodeName": "n1" } });
    let told = lab.send("PATCH", &format!("{PODS}/p/status"), nominated).await.ok();
    assert_eq!(told["status"]["nominatedNodeName"], "n1");
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "p" },
        "target": { "kind": "Node", "name": "n1" },
    });
    lab.post(&format!("{PODS}/p/binding"), binding.clone()).await.ok();
    let bound = lab.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["nominatedNodeName"], Value::Null);
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    lab.post(&format!("{PODS}/p/binding"), binding).await.refused(
        409,
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \
         \"n1\"",
    );
    let listed = lab.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let ending = lab.send("DELETE", &format!("{PODS}/p"), Value::Null).await.ok();
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    lab.get(&format!("{PODS}/p")).await.ok();
    let now = json!({ "gracePeriodSeconds": 0 });
    lab.send("DELETE", &format!("{PODS}/p"), now).await.ok();
    assert_eq!(lab.get(&format!("{PODS}/p")).await.status, 404);
}

#[tokio::test]
async fn status_is_its_own() {
    let lab = lab().await;
    lab.post(PODS, pod("p")).await.ok();
    let path = format!("{PODS}/p");
    let both = json!({ "status": { "phase": "Running" }, "metadata": { "labels": { "a": "b" } } });
    let main = lab.send("PATCH", &path, both.clone()).await.ok();
    assert_eq!(
        (&main["status"]["phase"], &main["metadata"]["labels"]["a"]),
        (&json!("Pending"), &json!("b"))
    );
    let status = lab.send("PATCH", &format!("{path}/status"), both).await.ok();
    assert_eq!(status["status"]["phase"], "Running");
}

#[tokio::test]
async fn scale_changes_replicas() {
    let lab = lab().await;
    const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "r" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "a": "b" } },
            "template": {
                "metadata": { "labels": { "a": "b" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    });
    lab.post(SETS, set).await.ok();
    let path = format!("{SETS}/r/scale");
    let mut scale = lab.get(&path).await.ok();
    assert_eq!(scale["status"]["selector"], "a=b");
    scale["spec"]["replicas"] = 3.into();
    assert_eq!(lab.send("PUT", &path, scale.clone()).await.ok()["spec"]["replicas"], 3);
    assert_eq!(lab.send("PUT", &path, scale).await.status, 409, "the version is an old one");
    lab.send("PATCH", &path, json!({ "spec": { "replicas": 5 } })).await.ok();
    let set = lab.get(&format!("{SETS}/r")).await.ok();
    assert_eq!((&set["spec"]["replicas"], &set["metadata"]["generation"]), (&json!(5), &json!(3)));
}

#[tokio::test]
async fn tokens_are_issued_and_believed() {
    let mut lab = lab().await;
    const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
    let ask =
        json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let made = lab.post(&format!("{ACCOUNTS}/default/token"), ask.clone()).await.ok();
    let token = made["status"]["token"].as_str().unwrap().to_owned();
    let as_token = async |lab: &Lab, uri: &str| {
        let request = Request::get(uri)
            .header("authorization", format!("Bearer {token}"))
            .body(crate::body::empty())
            .unwrap();
        answer(lab.server.handle(request, ConnInfo::default()).await).await
    };
    as_token(&lab, "/api").await.ok();
    let refused = as_token(&lab, PODS).await;
    assert!(
        refused.message().starts_with(
            "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list"
        ),
        "{}",
        refused.body
    );
    let mut short = ask;
    short["spec"]["expirationSeconds"] = 5.into();
    assert_eq!(lab.post(&format!("{ACCOUNTS}/default/token"), short).await.status, 422);
    lab.send("DELETE", &format!("{ACCOUNTS}/default"), Value::Null).await.ok();
    lab.server.caches.catch_up().await.unwrap();
    as_token(&lab, "/api").await.refused(401, "Unauthorized");
    lab.user = User::new("jane", &[User::ALL_AUTHENTICATED]);
    assert_eq!(lab.post(&format!("{ACCOUNTS}/default/token"), json!({})).await.status, 403);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let mut lab = lab().await;
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rule = |resources: &[&str], verbs: &[&str]| json!({ "apiGroups": ["", "rbac.authorization.k8s.io"], "resources": resources, "verbs": verbs });
    let role = |name: &str, rule: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": name }, "rules": [rule],
        })
    };
    lab.post(&format!("{RBAC}/roles"), role("maker", rule(&["roles"], &["create"]))).await.ok();
    lab.post(&format!("{RBAC}/rolebindings"), json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "maker" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "maker" },
        "subjects": [{ "kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io" }],
    }))
    .await
    .ok();
    lab.server.caches.catch_up().await.unwrap();
    lab.user = User::new("jane", &[User::ALL_AUTHENTICATED]);
    lab.post(&format!("{RBAC}/roles"), role("same", rule(&["roles"], &["create"]))).await.ok();
    let more = lab.post(&format!("{RBAC}/roles"), role("more", rule(&["secrets"], &["get"]))).await;
    assert_eq!(more.status, 403);
    assert!(
        more.message().contains("is attempting to grant RBAC permissions not currently held"),
        "{}",
        more.body
    );
    let mine = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "namespace": "default", "verb": "get", "resource": "secrets",
        }},
    });
    const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(lab.post(REVIEWS, mine).await.ok()["status"]["allowed"], false);
    let as_root = [("impersonate-user", "root"), ("impersonate-group", "system:masters")];
    let refused = answer(lab.raw("GET", PODS, &as_root, Bytes::new()).await).await;
    refused.refused(
        403,
        "users \"root\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API \
         group \"\" at the cluster scope",
    );
}

#[tokio::test]
async fn certificates_are_approved_apart() {
    let lab = Lab::new().await;
    const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    use base64::{Engine, engine::general_purpose::STANDARD};
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": { "name": "r" },
        "spec": {
            "request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"], "username": "somebody",
        },
    });
    let mut made = lab.post(REQUESTS, body).await.ok();
    assert_eq!(made["spec"]["username"], "admin", "who asks is the server's to say");
    made["status"] = json!({ "conditions": [{
        "type": "Approved", "status": "True", "reason": "Test", "message": "ok",
    }]});
    let path = format!("{REQUESTS}/r");
    lab.send("PUT", &format!("{path}/status"), made.clone()).await;
    let before = lab.get(&path).await.ok();
    assert!(before["status"]["conditions"].is_null(), "{before}");
    made["metadata"] = before["metadata"].clone();
    let approved = lab.send("PUT", &format!("{path}/approval"), made).await.ok();
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
}
