//! Admission webhooks, which a server on loopback plays: each path behaves in its own way.
use super::*;
use base64::Engine;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::Mutex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What webhooks were sent, path by path.
type Heard = Arc<Mutex<Vec<(String, Value)>>>;

struct Hooks {
    port: u16,
    ca: String,
    heard: Heard,
}

impl Hooks {
    async fn serve(lab: &Lab) -> Self {
        let pki = &lab.server.config.pki;
        let local = "127.0.0.1".parse().unwrap();
        let issued = pki.ca.issue(&pki::Profile::server("hooks", &[], &[local])).unwrap();
        let tls = tls(&issued.cert_pem, &issued.key_pem, pki.ca.cert_pem()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Heard::default();
        let told = Arc::clone(&heard);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(Arc::clone(&told), request));
                    let builder =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let engine = base64::engine::general_purpose::STANDARD;
        Self { port, ca: engine.encode(pki.ca.cert_pem()), heard }
    }

    /// A webhook at the path, for config maps and their scale.
    fn hook(&self, path: &str, more: Value) -> Value {
        let mut hook = json!({
            "name": format!("{path}.test.example"), "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
            "clientConfig": {
                "url": format!("https://127.0.0.1:{}/{path}", self.port), "caBundle": self.ca,
            },
            "rules": [{
                "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps"],
            }],
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        hook
    }

    fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

async fn answer(
    told: Heard,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<String>, Infallible> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let request = &review["request"];
    let patch = |patch: Value| {
        let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
        json!({ "allowed": true, "patchType": "JSONPatch", "patch": patch })
    };
    let mut response = match path.as_str() {
        "deny" => json!({ "allowed": false, "status": { "code": 403, "message": "not this" } }),
        "warn" => json!({ "allowed": true, "warnings": ["mind the gap"] }),
        "label" | "count" if request["operation"] == "DELETE" => json!({ "allowed": true }),
        "label" | "stubborn" => patch(json!([
            { "op": "add", "path": "/metadata/labels", "value": { "by": "webhook" } },
            { "op": "add", "path": "/nonsense", "value": 1 },
            { "op": "remove", "path": "/metadata/uid" },
        ])),
        // Counts how often it was asked about the object.
        "count" => {
            let before = request["object"]["data"]["count"].as_str().unwrap_or_default();
            patch(json!([
                { "op": "add", "path": "/data/count", "value": format!("{before}i") },
            ]))
        }
        "hang" => std::future::pending().await,
        _ => json!({ "allowed": true }),
    };
    response["uid"] = request["uid"].clone();
    told.lock().unwrap().push((path, request.clone()));
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    Ok(Response::new(review.to_string()))
}

async fn configure(lab: &Lab, kind: &str, name: &str, hooks: Value) -> Answer {
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations",
        kind.to_ascii_lowercase()
    );
    let body = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}WebhookConfiguration"),
        "metadata": { "name": name }, "webhooks": hooks,
    });
    let answer = lab.post(&path, body).await;
    lab.server.caches.catch_up().await.unwrap();
    answer
}

fn map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "1" },
    })
}

#[tokio::test]
async fn mutating_ones_change_what_is_stored() {
    let lab = Lab::new().await;
    let hooks = Hooks::serve(&lab).await;
    let again = json!({ "reinvocationPolicy": "IfNeeded" });
    let list = json!([hooks.hook("count", again), hooks.hook("label", json!({}))]);
    configure(&lab, "Mutating", "a", list).await.ok();
    let made = lab.post(MAPS, map("one")).await.ok();
    assert_eq!(made["metadata"]["labels"], json!({ "by": "webhook" }));
    assert_eq!(made["data"], json!({ "a": "1", "count": "ii" }), "asked again after a change");
    assert!(made.get("nonsense").is_none(), "what the kind does not have is dropped");
    assert!(made["metadata"]["uid"].is_string(), "what is the server's stays");
    let heard = hooks.take();
    let paths: Vec<&str> = heard.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["count", "label", "count"]);
    let (_, request) = &heard[0];
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(
        request["resource"],
        json!({ "group": "", "version": "v1", "resource": "configmaps" })
    );
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!((&request["namespace"], &request["name"]), (&json!("default"), &json!("one")));
    assert_eq!(request["options"]["kind"], "CreateOptions");
    // An update and a deletion are told with what was before.
    let one = format!("{MAPS}/one");
    lab.send("PATCH", &one, json!({ "data": { "a": "2" } })).await.ok();
    lab.send("DELETE", &one, Value::Null).await.ok();
    let heard = hooks.take();
    let told = |at: usize| (heard[at].1["operation"].clone(), heard[at].1["oldObject"].clone());
    assert_eq!((told(0).0, &told(0).1["data"]["a"]), (json!("UPDATE"), &json!("1")));
    let (_, last) = heard.last().unwrap();
    assert_eq!((&last["operation"], &last["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(last["options"]["kind"], "DeleteOptions");
    lab.post(MAPS, map("two")).await.ok();
    let list = json!([hooks.hook("stubborn", json!({}))]);
    configure(&lab, "Mutating", "b", list).await.ok();
    let message = "Internal error occurred: admission webhook \"stubborn.test.example\" attempted \
                   to modify the object, which is not supported for this operation";
    lab.send("DELETE", &format!("{MAPS}/two"), Value::Null).await.refused(500, message);
}

#[tokio::test]
async fn validating_ones_refuse() {
    let lab = Lab::new().await;
    let hooks = Hooks::serve(&lab).await;
    let selected = json!({ "objectSelector": { "matchLabels": { "no": "way" } } });
    let list = json!([hooks.hook("deny", selected), hooks.hook("warn", json!({}))]);
    configure(&lab, "Validating", "a", list).await.ok();
    let answer = lab.post(MAPS, map("one")).await;
    assert_eq!(answer.warnings, ["299 - \"mind the gap\""]);
    answer.ok();
    let mut marked = map("two");
    marked["metadata"]["labels"] = json!({ "no": "way" });
    let message = "admission webhook \"deny.test.example\" denied the request: not this";
    lab.post(MAPS, marked).await.refused(403, message);
    lab.get(&format!("{MAPS}/two")).await.refused(404, "configmaps \"two\" not found");
    // Neither a dry run passes by, nor an update that brings the label, nor who takes it off.
    let labels = json!({ "metadata": { "labels": { "no": "way" } } });
    let dry = format!("{MAPS}/one?dryRun=All");
    lab.send("PATCH", &dry, labels).await.refused(403, message);
    // Their own configurations are beyond them.
    let all = json!([{
        "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"],
    }]);
    let list = json!([hooks.hook("deny", json!({ "rules": all }))]);
    configure(&lab, "Validating", "b", list).await.ok();
    lab.post(MAPS, map("three")).await.refused(403, message);
    let b = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/b";
    lab.send("DELETE", b, Value::Null).await.ok();
    lab.server.caches.catch_up().await.unwrap();
    lab.post(MAPS, map("three")).await.ok();
}

#[tokio::test]
async fn a_webhook_that_fails_refuses_or_is_passed_over() {
    let lab = Lab::new().await;
    let hooks = Hooks::serve(&lab).await;
    let url = |path: &str| format!("https://127.0.0.1:{}/{path}?timeout=1s", hooks.port);
    let called = "Internal error occurred: failed calling webhook";
    for (more, want) in [
        (
            json!({ "timeoutSeconds": 1 }),
            format!("Post {:?}: context deadline exceeded", url("hang")),
        ),
        (
            json!({
                "timeoutSeconds": 1,
                "clientConfig": {
                    "service": { "namespace": "default", "name": "none" }, "caBundle": hooks.ca,
                },
            }),
            "Post \"https://none.default.svc:443/?timeout=1s\": service \"none\" not found".into(),
        ),
        (json!({ "matchConditions": [{ "name": "a", "expression": "true" }] }), String::new()),
    ] {
        let list = json!([hooks.hook("hang", more.clone())]);
        let warnings = configure(&lab, "Validating", "a", list).await.warnings.len();
        let answer = lab.post(MAPS, map("one")).await;
        if want.is_empty() {
            assert_eq!(warnings, 1);
            let why = "its matchConditions cannot be evaluated yet";
            answer.refused(500, &format!("{called} \"hang.test.example\": {why}"));
        } else {
            let why = format!("failed to call webhook: {want}");
            answer.refused(500, &format!("{called} \"hang.test.example\": {why}"));
        }
        let a = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/a";
        lab.send("DELETE", a, Value::Null).await.ok();
        let mut ignored = more;
        ignored["failurePolicy"] = "Ignore".into();
        configure(&lab, "Validating", "a", json!([hooks.hook("hang", ignored)])).await.ok();
        lab.post(&format!("{MAPS}?dryRun=All"), map("one")).await.ok();
        lab.send("DELETE", a, Value::Null).await.ok();
    }
}

/// A certificate of an authority that the configuration does not name.
#[tokio::test]
async fn a_webhook_must_prove_who_it_is() {
    let lab = Lab::new().await;
    let hooks = Hooks::serve(&lab).await;
    let dir = tempfile::tempdir().unwrap();
    let other = pki::Pki::load_or_create(dir.path()).unwrap();
    let other = base64::engine::general_purpose::STANDARD.encode(other.ca.cert_pem());
    let mut hook = hooks.hook("warn", json!({}));
    hook["clientConfig"]["caBundle"] = other.into();
    configure(&lab, "Mutating", "a", json!([hook])).await.ok();
    let url = format!("https://127.0.0.1:{}/warn?timeout=5s", hooks.port);
    let refused = lab.post(MAPS, map("one")).await;
    let why = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let message = format!(
        "Internal error occurred: failed calling webhook \"warn.test.example\": failed to call \
         webhook: Post {url:?}: {why}"
    );
    refused.refused(500, &message);
}
