//! Pods from manifests in a folder: they run whether or not there is an API server, which only
//! shows them by way of mirror pods.
use crate::config::AgentConfig;
use api::k8s::api::core::v1::Pod;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use podlife::PodExt;
use registry::Resource;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use value::{Value, json};

pub const SOURCE: &str = "kubernetes.io/config.source";
pub const HASH: &str = "kubernetes.io/config.hash";
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The largest manifest that is read.
const MAX_MANIFEST: u64 = 1 << 20;

/// A pod of this node's own.
pub fn is_static(pod: &Pod) -> bool {
    pod.annotation(SOURCE) == Some("file")
}

/// What the API shows of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.annotation(MIRROR).is_some()
}

/// The mirror of a static pod: the same, but owned by the node and known by its hash.
pub fn mirror_of(pod: &Pod, node_uid: &str) -> Pod {
    let mut mirror = pod.clone();
    let hash = pod.annotation(HASH).unwrap_or_default().to_owned();
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    annotations.insert(MIRROR.to_owned(), hash);
    mirror.metadata.uid = None;
    mirror.metadata.owner_references = value::from_value(&json!([{
        "apiVersion": "v1", "kind": "Node", "uid": node_uid, "controller": true,
        "name": pod.spec_ref().node_name,
    }]))
    .ok();
    mirror.status = None;
    mirror
}

/// Follows the folder: `tell` gets all pods at the start and again whenever a file changes.
pub async fn follow(
    config: &AgentConfig,
    folder: &Path,
    mut tell: impl FnMut(Vec<Pod>),
) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(folder, flags)?;
    // An inotify descriptor reads like a pipe.
    let mut events = Receiver::from_file_unchecked(File::from(OwnedFd::from(inotify)))?;
    let mut buffer = vec![0; 4096];
    loop {
        tell(read_all(config, folder));
        // What it was does not matter: the whole folder is looked at again.
        events.read(&mut buffer).await?;
    }
}

/// Every pod that the folder's files describe. What is wrong with a file is logged, not fatal.
fn read_all(config: &AgentConfig, folder: &Path) -> Vec<Pod> {
    let mut found: BTreeMap<(String, String), Pod> = BTreeMap::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifest = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        if name.starts_with('.') || !manifest {
            continue;
        }
        match read(config, &path) {
            Ok(pod) => {
                let key = (pod.namespace().to_owned(), pod.name().to_owned());
                found.entry(key).or_insert(pod);
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), error, "not a manifest of a pod");
            }
        }
    }
    found.into_values().collect()
}

fn read(config: &AgentConfig, path: &Path) -> Result<Pod, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_MANIFEST {
        return Err(format!("{size} bytes are more than {MAX_MANIFEST}"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    parse(config, &path.to_string_lossy(), &bytes)
}

/// A manifest as the pod that runs.
fn parse(config: &AgentConfig, path: &str, bytes: &[u8]) -> Result<Pod, String> {
    let (mut value, _) = schema::yaml_to_json(bytes).map_err(|error| error.to_string())?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err("apiVersion must be v1 and kind Pod".to_owned());
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err("metadata.name is required".to_owned());
    }
    let name = format!("{name}-{}", config.node_name);
    let mut hash = Sha256::new();
    for part in [config.node_name.as_bytes(), path.as_bytes(), bytes] {
        hash.update(part);
        hash.update([0]);
    }
    let uid: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let meta = &mut value["metadata"];
    meta["name"] = json!(name);
    if meta["namespace"].as_str().is_none_or(str::is_empty) {
        meta["namespace"] = json!("default");
    }
    meta["uid"] = json!(uid);
    meta["annotations"][SOURCE] = json!("file");
    meta["annotations"][HASH] = json!(uid);
    value["spec"]["nodeName"] = json!(config.node_name);
    tolerate_everything(&mut value["spec"]);
    if let Some(row) = pods() {
        row.default(&mut value);
        let errors = row.validate(&value, None);
        if let Some(first) = errors.first() {
            return Err(first.to_string());
        }
    }
    let mut pod: Pod = value::from_value(&value).map_err(|error| error.to_string())?;
    pod.status = None;
    if let Some(what) = needs_the_api(&pod) {
        return Err(format!("static pods may not refer to {what}"));
    }
    Ok(pod)
}

fn tolerate_everything(spec: &mut Value) {
    let all = json!({"operator": "Exists", "effect": "NoExecute"});
    match spec["tolerations"].as_array_mut() {
        Some(list) => list.push(all),
        None => spec["tolerations"] = json!([all]),
    }
}

fn pods() -> Option<&'static dyn Resource> {
    let mut rows = registry::RESOURCES.iter();
    rows.find(|row| row.info().plural == "pods" && row.info().gvk.group.is_empty()).copied()
}

fn needs_the_api(pod: &Pod) -> Option<&'static str> {
    if pod.spec_ref().service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some("a service account");
    }
    match volume::references(pod).first()? {
        volume::ObjectRef::ConfigMap(_) => Some("config maps"),
        volume::ObjectRef::Secret(_) => Some("secrets"),
        volume::ObjectRef::TrustBundle(_) | volume::ObjectRef::TrustBundles(_) => {
            Some("cluster trust bundles")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> Result<Pod, String> {
        let config = crate::worker::tests::config(Path::new("/x"));
        parse(&config, "/m/a.yaml", text.as_bytes())
    }

    #[test]
    fn manifests_become_pods_of_the_node() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  \
                    - {name: c, image: img}\n";
        let first = pod(text).unwrap();
        assert_eq!((first.name(), first.namespace()), ("a-n1", "default"));
        assert!(is_static(&first) && !is_mirror(&first));
        assert_eq!(first.spec_ref().restart_policy.as_deref(), Some("Always"));
        assert_eq!(pod(text).unwrap().metadata.uid, first.metadata.uid);
        let changed = pod(&text.replace("img", "img2")).unwrap();
        assert_ne!(changed.metadata.uid, first.metadata.uid);
        let mirror = mirror_of(&first, "node-uid");
        assert_eq!(mirror.annotation(MIRROR), first.metadata.uid.as_deref());
        assert_eq!(mirror.metadata.uid, None);
    }

    #[test]
    fn what_is_no_static_pod() {
        for (text, want) in [
            ("kind: Service\napiVersion: v1\n", "apiVersion must be v1"),
            ("kind: Pod\napiVersion: v1\nmetadata: {}\n", "metadata.name is required"),
            (
                "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {containers: [{name: c, \
                 image: i}], volumes: [{name: v, secret: {secretName: s}}]}\n",
                "static pods may not refer to secrets",
            ),
        ] {
            let error = pod(text).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }

    #[tokio::test]
    async fn the_folder_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().to_owned();
        let config = crate::worker::tests::config(root.path());
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn({
            let folder = folder.clone();
            async move {
                let tell = |pods: Vec<Pod>| {
                    let _ = sender.send(pods.len());
                };
                follow(&config, &folder, tell).await
            }
        });
        assert_eq!(told.recv().await, Some(0));
        let text = "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {containers: [{name: \
                    c, image: i}]}\n";
        std::fs::write(folder.join(".tmp"), text).unwrap();
        std::fs::rename(folder.join(".tmp"), folder.join("a.yaml")).unwrap();
        while told.recv().await != Some(1) {}
        std::fs::remove_file(folder.join("a.yaml")).unwrap();
        while told.recv().await != Some(0) {}
        task.abort();
    }
}
