//! What every cluster has: the system's namespaces, policy and priority classes, and the
//! `kubernetes` Service. Made at every start where it is missing, through the ordinary pipeline.
use crate::cache::feed::object_key;
use crate::clock;
use crate::codec::FieldValidation;
use crate::meta;
use crate::patching::Patch;
use crate::request_info::{Query, RequestInfo};
use crate::server::{Context, Server};
use crate::verbs::{create, update};
use api::{ApiError, User, Value};
use futures_util::future::try_join_all;
use value::json;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub(crate) async fn run(server: &Server) -> Result<(), ApiError> {
    let namespaces = NAMESPACES.map(|name| {
        ensure(
            server,
            json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
            }),
        )
    });
    try_join_all(namespaces).await?;
    server.caches.catch_up().await?;
    try_join_all(authz::bootstrap::objects().into_iter().map(|object| policy(server, object)))
        .await?;
    try_join_all(priority_classes().into_iter().map(|object| ensure(server, object))).await?;
    service_cidr(server).await?;
    kubernetes_service(server).await?;
    ensure(server, extension_authentication(server)).await?;
    server.caches.catch_up().await
}

/// By what those who serve aggregated APIs know this server and its users.
fn extension_authentication(server: &Server) -> Value {
    let pki = &server.config.pki;
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        "data": {
            "client-ca-file": pki.ca.cert_pem(),
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-client-ca-file": pki.front_proxy.cert_pem(),
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        },
    })
}

/// The request of the server itself for one object.
pub(crate) fn internal(
    server: &Server,
    verb: &'static str,
    object: &Value,
) -> Result<Option<Context>, ApiError> {
    let gvk = api::Gvk::new(
        object["apiVersion"].as_str().unwrap_or_default(),
        object["kind"].as_str().unwrap_or_default(),
    );
    let table = server.table();
    let Some(row) = table.rows.iter().find(|row| row.info().gvk == gvk && row.is_stored()) else {
        return Ok(None);
    };
    let info = RequestInfo {
        is_resource: true,
        verb,
        group: gvk.group.to_string(),
        version: gvk.version.to_string(),
        resource: row.plural().to_owned(),
        namespace: meta::text(object, "namespace").to_owned(),
        name: meta::text(object, "name").to_owned(),
        ..RequestInfo::default()
    };
    Ok(Some(Context {
        server: server.clone(),
        user: User::master("system:apiserver"),
        peer: None,
        info,
        query: Query::default(),
        row: row.clone(),
        user_agent: "kybern".into(),
        accept: String::new(),
        content_type: "application/json".into(),
        warnings: Vec::new(),
        // What every cluster has is nobody's to refuse.
        reviewed: true,
    }))
}

fn stored(context: &Context) -> Option<Value> {
    let (group, plural) = context.row.info().storage();
    let cache = context.server.caches.of(group, plural)?;
    let key = object_key(&context.info.namespace, &context.info.name);
    Some(cache.get(&key)?.value())
}

/// Makes the object if it is not there, and the kind is served.
async fn ensure(server: &Server, object: Value) -> Result<(), ApiError> {
    let Some(mut context) = internal(server, "create", &object)? else { return Ok(()) };
    if stored(&context).is_some() {
        return Ok(());
    }
    match create::insert(&mut context, object, false).await {
        Err(error) if error.reason != "AlreadyExists" => Err(error),
        _ => Ok(()),
    }
}

/// A role or binding: what is missing from one that is there is added, unless somebody said not to.
async fn policy(server: &Server, object: Value) -> Result<(), ApiError> {
    let Some(mut context) = internal(server, "patch", &object)? else { return Ok(()) };
    let Some(have) = stored(&context) else { return ensure(server, object).await };
    const AUTO: &str = "rbac.authorization.kubernetes.io/autoupdate";
    if have["metadata"]["annotations"][AUTO] != "true" || !have["aggregationRule"].is_null() {
        return Ok(());
    }
    let mut patch = json!({});
    for field in ["rules", "subjects"] {
        let wanted = object[field].as_array().into_iter().flatten();
        let empty = Vec::new();
        let there = have[field].as_array().unwrap_or(&empty);
        let missing: Vec<&Value> = wanted.filter(|item| !there.contains(item)).collect();
        if !missing.is_empty() {
            let all: Vec<&Value> = there.iter().chain(missing).collect();
            patch[field] = json!(all);
        }
    }
    if patch == json!({}) {
        return Ok(());
    }
    let source = update::Source::Patch(Patch::Merge(patch), FieldValidation::Ignore);
    update::change(&mut context, &source).await.map(|_| ())
}

fn priority_classes() -> Vec<Value> {
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": { "name": name }, "value": value, "description": description,
        })
    };
    vec![
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to \
             another node if necessary.",
        ),
    ]
}

/// The range that Services' addresses are from, told in the API too.
async fn service_cidr(server: &Server) -> Result<(), ApiError> {
    let cidr = server.config.service_cidr.to_string();
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" }, "spec": { "cidrs": [cidr] },
    });
    ensure(server, object.clone()).await?;
    server.caches.catch_up().await?;
    let Some(mut context) = internal(server, "patch", &object)? else { return Ok(()) };
    let conditions = stored(&context).unwrap_or_default()["status"]["conditions"].take();
    if conditions.as_array().is_some_and(|conditions| !conditions.is_empty()) {
        return Ok(());
    }
    context.info.subresource = "status".into();
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": clock::now_text(),
        "message": "Kubernetes default Service CIDR is ready",
    });
    let patch = Patch::Merge(json!({ "status": { "conditions": [ready] } }));
    let source = update::Source::Patch(patch, FieldValidation::Ignore);
    update::change(&mut context, &source).await.map(|_| ())
}

/// `kubernetes.default`: where pods find this server.
async fn kubernetes_service(server: &Server) -> Result<(), ApiError> {
    let (address, port) = server.config.advertise;
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let ip = server.config.service_cidr.nth(1).to_string();
    ensure(
        server,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
            "spec": {
                "clusterIP": ip, "type": "ClusterIP", "sessionAffinity": "None",
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
            },
        }),
    )
    .await?;
    // A pod cannot be sent to a loopback address: such a server is reached through its node.
    if address.is_loopback() {
        return Ok(());
    }
    const MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": { (MIRROR): "true" } },
        "subsets": [{
            "addresses": [{ "ip": address.to_string() }],
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{
            "addresses": [address.to_string()], "conditions": { "ready": true },
        }],
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    for object in [endpoints, slice] {
        ensure(server, object.clone()).await?;
        server.caches.catch_up().await?;
        // The address may be another one than at the last start.
        let Some(mut context) = internal(server, "patch", &object)? else { continue };
        let keys = ["subsets", "endpoints", "ports"];
        let mut patch = json!({});
        for key in keys {
            if let Some(value) = object.get(key) {
                patch[key] = value.clone();
            }
        }
        let source = update::Source::Patch(Patch::Merge(patch), FieldValidation::Ignore);
        update::change(&mut context, &source).await?;
    }
    Ok(())
}
