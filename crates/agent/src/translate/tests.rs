use super::env::{Sources, environment};
use super::security;
use super::*;
use api::k8s::api::core::v1::{ConfigMap, Secret, Service};
use async_trait::async_trait;
use jiff::Timestamp;
use podlife::downward::Addresses;
use serde_json::{Value, json};
use std::sync::Arc;

struct Objects;

#[async_trait]
impl volume::Objects for Objects {
    async fn config_map(&self, _: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        let data = json!({"metadata": {}, "data": {"k": "map", "k2": "two"}});
        Ok((name == "m").then(|| Arc::new(serde_json::from_value(data).unwrap())))
    }
    async fn secret(&self, _: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        let data = json!({"metadata": {}, "data": {"k": "c2VjcmV0"}});
        Ok((name == "s").then(|| Arc::new(serde_json::from_value(data).unwrap())))
    }
    async fn certificate(
        &self,
        _: &api::k8s::api::core::v1::Pod,
        _: &str,
        source: &api::k8s::api::core::v1::PodCertificateProjection,
    ) -> Result<volume::Certificate, String> {
        let chain = format!("chain of {}\n", source.signer_name);
        Ok(volume::Certificate { key: "key\n".into(), chain, refresh_at: Timestamp::MAX })
    }
    async fn trust_bundles(
        &self,
        _: &volume::ObjectRef,
    ) -> Result<Vec<api::k8s::api::certificates::v1::ClusterTrustBundle>, String> {
        Ok(Vec::new())
    }
    async fn token(&self, _: &volume::TokenFor) -> Result<volume::Token, String> {
        Err("none".into())
    }
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "ns", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn container(extra: Value) -> Container {
    let mut whole = json!({"name": "c", "image": "i"});
    whole.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

async fn env_of(extra: Value) -> Result<Vec<String>, String> {
    let pod = pod(json!({"containers": [], "enableServiceLinks": true}));
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "my-db", "namespace": "ns"},
        "spec": {"clusterIP": "10.96.0.5", "ports": [{"name": "sql", "port": 5432}]},
    }))
    .unwrap();
    let services = [Arc::new(service)];
    let allocatable = BTreeMap::new();
    let sources = Sources {
        pod: &pod,
        objects: &Objects,
        services: &services,
        addresses: Addresses::default(),
        allocatable: &allocatable,
    };
    let image = Image { env: vec!["PATH=/bin".into(), "A=image".into()], ..Image::default() };
    let made = environment(&sources, &container(extra), &image).await?;
    Ok(made.list.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

#[tokio::test]
async fn variables_of_all_kinds() {
    let list = env_of(json!({
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}},
            {"secretRef": {"name": "no", "optional": true}}],
        "env": [
            {"name": "A", "value": "own"},
            {"name": "B", "value": "$(A)-$(P_k)-$(NO)"},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "E", "valueFrom": {"configMapKeyRef":
                {"name": "m", "key": "no", "optional": true}}},
            {"name": "F", "value": "$(MY_DB_SERVICE_HOST)"},
        ],
    }))
    .await
    .unwrap();
    assert_eq!(list[..2], ["PATH=/bin", "A=own"]);
    for want in [
        "MY_DB_SERVICE_PORT_SQL=5432",
        "MY_DB_PORT=tcp://10.96.0.5:5432",
        "MY_DB_PORT_5432_TCP_ADDR=10.96.0.5",
        "P_k=map",
        "B=own-map-$(NO)",
        "C=secret",
        "D=p",
        "F=10.96.0.5",
    ] {
        assert!(list.iter().any(|pair| pair == want), "{want} in {list:?}");
    }
    assert!(!list.iter().any(|pair| pair.starts_with("E=")));
}

#[tokio::test]
async fn missing_sources_are_named() {
    for (extra, want) in [
        (json!({"envFrom": [{"configMapRef": {"name": "x"}}]}), "configmap \"x\" not found"),
        (
            json!({"env": [{"name": "A", "valueFrom":
                {"secretKeyRef": {"name": "s", "key": "x"}}}]}),
            "couldn't find key x in Secret ns/s",
        ),
    ] {
        assert_eq!(env_of(extra).await.unwrap_err(), want);
    }
}

#[test]
fn command_lines() {
    let image = Image { entrypoint: vec!["/e".into()], cmd: vec!["c".into()], ..Image::default() };
    let env = BTreeMap::from([("X".to_owned(), "1".to_owned())]);
    for (extra, want) in [
        (json!({}), vec!["/e", "c"]),
        (json!({"args": ["$(X)"]}), vec!["/e", "1"]),
        (json!({"command": ["/x", "$$(X)"]}), vec!["/x", "$(X)"]),
        (json!({"command": ["/x"], "args": ["a"]}), vec!["/x", "a"]),
    ] {
        assert_eq!(command_line(&container(extra), &image, &env), want);
    }
}

#[test]
fn stop_signals() {
    let image = |signal: &str| Image { stop_signal: signal.into(), ..Image::default() };
    let plain = container(json!({}));
    for (text, want) in
        [("", 15), ("SIGQUIT", 3), ("QUIT", 3), ("9", 9), ("SIGRTMIN+3", 37), ("odd", 15)]
    {
        assert_eq!(stop_signal(&plain, &image(text)), want, "{text}");
    }
    let own = container(json!({"lifecycle": {"stopSignal": "SIGUSR1"}}));
    assert_eq!(stop_signal(&own, &image("SIGQUIT")), 10);
}

#[test]
fn non_root_is_checked() {
    let check = |pod_context: Value, own: Value, user: &str| {
        let pod = pod(json!({"containers": [], "securityContext": pod_context}));
        let image = Image { user: user.into(), ..Image::default() };
        security::user(&pod, &container(json!({"securityContext": own})), &image)
            .err()
            .unwrap_or_default()
    };
    let on = json!({"runAsNonRoot": true});
    assert_eq!(check(on.clone(), json!({}), "1000:1000"), "");
    assert_eq!(check(on.clone(), json!({"runAsUser": 5}), ""), "");
    assert_eq!(check(on.clone(), json!({"runAsNonRoot": false}), ""), "");
    let place = "(pod: \"p_ns(u)\", container: c)";
    let want = format!("container has runAsNonRoot and image will run as root {place}");
    assert_eq!(check(on.clone(), json!({}), ""), want);
    let want = format!("container's runAsUser breaks non-root policy {place}");
    assert_eq!(check(on.clone(), json!({"runAsUser": 0}), "7"), want);
    assert!(check(on, json!({}), "web").contains("non-numeric user (web)"));
}

#[test]
fn what_is_forbidden() {
    let context = |context: Value| {
        security::forbidden(&pod(json!({"containers": [], "securityContext": context})))
    };
    assert_eq!(
        context(json!({"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]})),
        None
    );
    let (reason, message) =
        context(json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})).unwrap();
    assert_eq!(reason, "SysctlForbidden");
    assert_eq!(message, "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    assert!(context(json!({"appArmorProfile": {"type": "RuntimeDefault"}})).is_some());
}

#[test]
fn privileges() {
    let of = |own: Value| {
        let container = container(json!({"securityContext": own}));
        let pod = pod(json!({"containers": [], "securityContext":
            {"seccompProfile": {"type": "RuntimeDefault"}}}));
        security::security(&pod, &container, std::path::Path::new("/s"))
    };
    let plain = of(json!({"allowPrivilegeEscalation": false})).unwrap();
    assert!(plain.no_new_privileges && plain.seccomp == runtime::Seccomp::RuntimeDefault);
    let all = of(json!({"privileged": true})).unwrap();
    assert!(all.privileged && all.seccomp == runtime::Seccomp::Unconfined);
    let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}});
    assert_eq!(of(local).unwrap().seccomp, runtime::Seccomp::Localhost("/s/a/b.json".into()));
    let out = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}});
    assert!(of(out).is_err());
}

#[test]
fn mounts_and_sub_paths() {
    let dir = tempfile::tempdir().unwrap();
    let mounted =
        |readonly| volume::Mounted { path: dir.path().to_owned(), readonly, refresh_at: None };
    let volumes =
        BTreeMap::from([("v".to_owned(), mounted(false)), ("r".to_owned(), mounted(true))]);
    let env = BTreeMap::from([("N".to_owned(), "one".to_owned())]);
    let own = [mounts::OwnFile {
        source: "/x/hosts".into(),
        destination: "/etc/hosts".into(),
        readonly: false,
    }];
    let make = |list: Value| {
        let container = container(json!({"volumeMounts": list}));
        mounts::mounts(&container, &volumes, &env, &own)
    };
    let made = make(json!([
        {"name": "v", "mountPath": "/a/b/c", "subPathExpr": "$(N)/x"},
        {"name": "r", "mountPath": "/a"},
    ]))
    .unwrap();
    let places: Vec<&str> = made.iter().map(|mount| mount.destination.as_str()).collect();
    assert_eq!(places, ["/a", "/etc/hosts", "/a/b/c"]);
    assert!(made[0].readonly && !made[2].readonly);
    assert!(dir.path().join("one/x").is_dir());
    let own_hosts = make(json!([{"name": "v", "mountPath": "/etc/hosts"}])).unwrap();
    assert_eq!(own_hosts.len(), 1);
    for bad in [
        json!([{"name": "no", "mountPath": "/a"}]),
        json!([{"name": "v", "mountPath": "/a", "subPath": "../x"}]),
        json!([{"name": "v", "mountPath": "/a", "subPathExpr": "$(NO)"}]),
    ] {
        assert!(make(bad.clone()).is_err(), "{bad}");
    }
    std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
    assert!(make(json!([{"name": "v", "mountPath": "/a", "subPath": "link/x"}])).is_err());
}
