use super::*;
use crate::refs::ObjectRef;
use base64::Engine;
use serde_json::{Value, json};
use std::sync::Mutex;

#[derive(Default)]
struct Fake {
    config_maps: Mutex<BTreeMap<String, Arc<ConfigMap>>>,
    secrets: BTreeMap<String, Arc<Secret>>,
    bundles: Vec<ClusterTrustBundle>,
}

#[async_trait]
impl Objects for Fake {
    async fn config_map(&self, _: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        Ok(self.config_maps.lock().unwrap().get(name).cloned())
    }
    async fn secret(&self, _: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        Ok(self.secrets.get(name).cloned())
    }
    async fn certificate(
        &self,
        _: &api::k8s::api::core::v1::Pod,
        _: &str,
        source: &api::k8s::api::core::v1::PodCertificateProjection,
    ) -> Result<Certificate, String> {
        let chain = format!("chain of {}\n", source.signer_name);
        Ok(Certificate { key: "key\n".into(), chain, refresh_at: Timestamp::MAX })
    }
    async fn trust_bundles(&self, wanted: &ObjectRef) -> Result<Vec<ClusterTrustBundle>, String> {
        let of = |bundle: &ClusterTrustBundle| match wanted {
            ObjectRef::TrustBundles(signer) => bundle.spec.signer_name.as_ref() == Some(signer),
            other => bundle.metadata.name.as_deref() == Some(other.name()),
        };
        Ok(self.bundles.iter().filter(|bundle| of(bundle)).cloned().collect())
    }
    async fn token(&self, wanted: &TokenFor) -> Result<Token, String> {
        let token = format!("{}:{}:{}", wanted.service_account, wanted.audience, wanted.pod_uid);
        let life = jiff::SignedDuration::from_secs(wanted.expiration_seconds);
        Ok(Token { token, expires: Timestamp::now() + life })
    }
}

#[async_trait]
impl ImageSource for Fake {
    async fn layers(&self, _: &Pod, reference: &str, _: &str) -> Result<Vec<PathBuf>, String> {
        match reference {
            "one" => Ok(vec!["/layers/one".into()]),
            _ => Err(format!("no image {reference}")),
        }
    }
}

fn set(fake: &Fake, name: &str, data: Value) {
    let object = serde_json::from_value(json!({"metadata": {}, "data": data})).unwrap();
    fake.config_maps.lock().unwrap().insert(name.into(), Arc::new(object));
}

struct Lab {
    root: tempfile::TempDir,
    context: Context,
}

fn lab(fake: Arc<Fake>) -> Lab {
    let root = tempfile::tempdir().unwrap();
    let context = Context {
        pods_dir: root.path().join("pods"),
        memory_dir: root.path().join("memory"),
        objects: fake.clone(),
        images: fake,
        allocatable: Arc::new(BTreeMap::from([("cpu".into(), Quantity::from_units(4))])),
        host_ips: vec!["192.0.2.1".into()],
    };
    Lab { root, context }
}

fn pod(volumes: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "1", "b": "x\"y"}},
        "spec": {
            "serviceAccountName": "sa",
            "containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}}}],
            "volumes": volumes,
        },
    }))
    .unwrap()
}

async fn mount(lab: &Lab, volume: Value) -> Result<Mounted, String> {
    let pod = pod(json!([volume]));
    let all = set_up_all(&lab.context, &pod, &["10.0.0.9".into()]).await;
    all.map(|mut all| all.remove("v").unwrap()).map_err(|error| error.text())
}

fn read(mounted: &Mounted, path: &str) -> String {
    std::fs::read_to_string(mounted.path.join(path)).unwrap()
}

#[tokio::test]
async fn config_maps_and_their_updates() {
    let fake = Arc::new(Fake::default());
    set(&fake, "m", json!({"a": "1", "b": "2"}));
    let lab = lab(fake.clone());
    let all = json!({"name": "v", "configMap": {"name": "m", "defaultMode": 256}});
    let mounted = mount(&lab, all.clone()).await.unwrap();
    assert_eq!((read(&mounted, "a"), read(&mounted, "b")), ("1".into(), "2".into()));
    set(&fake, "m", json!({"a": "3"}));
    mount(&lab, all).await.unwrap();
    assert_eq!(read(&mounted, "a"), "3");
    assert!(!mounted.path.join("b").exists());
}

#[tokio::test]
async fn items_optional_and_missing() {
    let fake = Arc::new(Fake::default());
    set(&fake, "m", json!({"a": "1"}));
    let lab = lab(fake);
    let of = |name: &str, key: &str, optional: bool| {
        json!({"name": "v", "configMap": {"name": name, "optional": optional,
            "items": [{"key": key, "path": "x/y", "mode": 384}]}})
    };
    let mounted = mount(&lab, of("m", "a", false)).await.unwrap();
    assert_eq!(read(&mounted, "x/y"), "1");
    let prefix = "MountVolume.SetUp failed for volume \"v\" : ";
    let error = mount(&lab, of("m", "no", false)).await.unwrap_err();
    assert_eq!(error, format!("{prefix}configmap references non-existent config key: no"));
    let error = mount(&lab, of("no", "a", false)).await.unwrap_err();
    assert_eq!(error, format!("{prefix}configmap \"no\" not found"));
    let mounted = mount(&lab, of("no", "a", true)).await.unwrap();
    assert!(!mounted.path.join("x").exists());
}

#[tokio::test]
async fn secrets_lie_in_memory() {
    let data = json!({"metadata": {}, "data": {"k": "c2VjcmV0"}});
    let secret: Secret = serde_json::from_value(data).unwrap();
    let fake =
        Fake { secrets: BTreeMap::from([("s".into(), Arc::new(secret))]), ..Fake::default() };
    let lab = lab(Arc::new(fake));
    let mounted = mount(&lab, json!({"name": "v", "secret": {"secretName": "s"}})).await.unwrap();
    assert!(mounted.path.starts_with(&lab.context.memory_dir));
    assert_eq!(read(&mounted, "k"), "secret");
}

#[tokio::test]
async fn the_pods_own_fields() {
    let lab = lab(Arc::default());
    let volume = json!({"name": "v", "downwardAPI": {"items": [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
        {"path": "memory", "resourceFieldRef":
            {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
    ]}});
    let mounted = mount(&lab, volume).await.unwrap();
    assert_eq!(read(&mounted, "labels"), "a=\"1\"\nb=\"x\\\"y\"");
    assert_eq!(read(&mounted, "name"), "p");
    assert_eq!(read(&mounted, "cpu"), "4", "without a limit it is what the node has");
    assert_eq!(read(&mounted, "memory"), "64");
}

#[tokio::test]
async fn projected_tokens_are_renewed_in_time() {
    let fake = Arc::new(Fake::default());
    set(&fake, "ca", json!({"ca.crt": "PEM"}));
    let lab = lab(fake);
    let volume = json!({"name": "v", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 1000}},
        {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}});
    let mounted = mount(&lab, volume).await.unwrap();
    assert_eq!(read(&mounted, "token"), "sa::u");
    assert_eq!(
        (read(&mounted, "ca.crt"), read(&mounted, "namespace")),
        ("PEM".into(), "ns".into())
    );
    let left = mounted.refresh_at.unwrap().duration_since(Timestamp::now()).as_secs();
    assert!((790..=800).contains(&left), "{left}");
}

#[tokio::test]
async fn certificates_come_with_their_key() {
    let lab = lab(Arc::new(Fake::default()));
    let source = json!({
        "signerName": "x/y", "keyType": "ED25519", "credentialBundlePath": "both",
        "keyPath": "key", "certificateChainPath": "chain",
    });
    let volume = json!({"name": "v", "projected": {"sources": [{"podCertificate": source}]}});
    let mounted = mount(&lab, volume).await.unwrap();
    let read = |path| read(&mounted, path);
    assert_eq!((read("key"), read("chain")), ("key\n".into(), "chain of x/y\n".into()));
    assert_eq!(read("both"), "key\nchain of x/y\n");
    assert_eq!(mounted.refresh_at, Some(Timestamp::MAX));
}

#[tokio::test]
async fn trust_bundles_become_one_file_of_anchors() {
    let pem = |bytes: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let (one, two) = (pem(b"one"), pem(b"two"));
    let bundle = |name: &str, signer: Option<&str>, labels: Value, text: String| {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"signerName": signer, "trustBundle": text},
        }))
        .unwrap()
    };
    let fake = Fake {
        bundles: vec![
            bundle("named", None, json!({}), format!("words before\n{one}")),
            bundle("a", Some("x/y"), json!({"k": "1"}), one.clone()),
            bundle("b", Some("x/y"), json!({"k": "2"}), format!("{two}{one}")),
        ],
        ..Fake::default()
    };
    let lab = lab(Arc::new(fake));
    let volume = |source: Value| {
        let mut source = source;
        source["path"] = "anchors".into();
        json!({"name": "v", "projected": {"sources": [{"clusterTrustBundle": source}]}})
    };
    let everything = json!({"signerName": "x/y", "labelSelector": {}});
    for (source, want) in [
        (json!({"name": "named"}), one.clone()),
        (everything, format!("{one}{two}")),
        (json!({"signerName": "x/y", "labelSelector": {"matchLabels": {"k": "1"}}}), one),
        (json!({"signerName": "x/y", "optional": true}), String::new()),
        (json!({"name": "none", "optional": true}), String::new()),
    ] {
        let mounted = mount(&lab, volume(source.clone())).await.unwrap();
        assert_eq!(read(&mounted, "anchors"), want, "{source}");
    }
    for (source, want) in [
        (json!({"name": "none"}), "clustertrustbundle \"none\" not found"),
        (
            json!({"signerName": "x/y"}),
            "combination of signerName and labelSelector matched zero ClusterTrustBundles",
        ),
    ] {
        let error = mount(&lab, volume(source)).await.unwrap_err();
        assert!(error.ends_with(want), "{error}");
    }
}

#[tokio::test]
async fn everything_is_removed_at_the_end() {
    let fake = Arc::new(Fake::default());
    set(&fake, "m", json!({"a": "1"}));
    let lab = lab(fake);
    let mounted = mount(&lab, json!({"name": "v", "emptyDir": {}})).await.unwrap();
    std::fs::write(mounted.path.join("data"), "x").unwrap();
    mount(&lab, json!({"name": "v", "configMap": {"name": "m"}})).await.unwrap();
    mount(&lab, json!({"name": "v", "downwardAPI": {}})).await.unwrap();
    tear_down_all(&lab.context, "u").unwrap();
    tear_down_all(&lab.context, "u").unwrap();
    assert!(!mounted.path.exists());
    let left: Vec<_> = std::fs::read_dir(lab.root.path().join("memory")).unwrap().collect();
    assert!(left.is_empty());
}

#[tokio::test]
async fn unknown_kinds_say_so() {
    let lab = lab(Arc::default());
    let error = mount(&lab, json!({"name": "v", "nfs": {"server": "s", "path": "/"}})).await;
    assert!(error.unwrap_err().contains("no volume plugin of this node supports"));
}

#[test]
fn what_a_pod_refers_to() {
    let mut pod = pod(json!([
        {"name": "a", "configMap": {"name": "m1"}},
        {"name": "b", "projected": {"sources": [{"secret": {"name": "s1"}}]}},
    ]));
    let container = json!({"name": "c",
        "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}],
        "envFrom": [{"configMapRef": {"name": "m2"}}]});
    let spec = pod.spec.as_mut().unwrap();
    spec.containers = vec![serde_json::from_value(container).unwrap()];
    spec.image_pull_secrets = Some(serde_json::from_value(json!([{"name": "s3"}])).unwrap());
    let names: Vec<_> = references(&pod).into_iter().collect();
    let map = |name: &str| ObjectRef::ConfigMap(name.into());
    let secret = |name: &str| ObjectRef::Secret(name.into());
    assert_eq!(names, [map("m1"), map("m2"), secret("s1"), secret("s2"), secret("s3")]);
}

#[tokio::test]
async fn an_image_of_one_layer_is_used_as_it_lies() {
    let lab = lab(Arc::default());
    let volume = |reference: &str| json!({"name": "v", "image": {"reference": reference}});
    let mounted = mount(&lab, volume("one")).await.unwrap();
    assert!(mounted.readonly && mounted.path == Path::new("/layers/one"));
    let error = mount(&lab, volume("two")).await.unwrap_err();
    assert!(error.ends_with("no image two"), "{error}");
}
