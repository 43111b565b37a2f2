//! The files that ConfigMaps, Secrets and the pod itself become.
use crate::atomic::{File, Files};
use crate::{Error, Request};
use api::k8s::api::core::v1::{
    ConfigMap, ConfigMapProjection, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, SecretProjection,
};
use podlife::{PodExt, downward, pods};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The mode of files when neither the item nor the volume gives one.
pub const DEFAULT_MODE: u32 = 0o644;

/// How a set of keys becomes files.
pub struct Selection<'a> {
    pub items: Option<&'a [KeyToPath]>,
    pub default_mode: u32,
    pub optional: bool,
}

pub fn mode_of(mode: Option<i32>, otherwise: u32) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(otherwise) & 0o777
}

/// The files of a ConfigMap.
pub async fn config_map(
    request: &Request<'_>,
    source: &ConfigMapProjection,
    default_mode: u32,
) -> Result<Files, Error> {
    let (namespace, name) = (request.pod.namespace(), source.name.as_str());
    let found = request.context.objects.config_map(namespace, name).await;
    let found = found.map_err(Error::Refused)?;
    let optional = source.optional == Some(true);
    if found.is_none() && !optional {
        return Err(Error::Refused(format!("configmap {name:?} not found")));
    }
    let keys = found.map(|object| config_map_keys(&object)).unwrap_or_default();
    let selection = Selection { items: source.items.as_deref(), default_mode, optional };
    select(keys, &selection, "configmap references non-existent config key")
}

/// The files of a Secret.
pub async fn secret(
    request: &Request<'_>,
    source: &SecretProjection,
    default_mode: u32,
) -> Result<Files, Error> {
    let (namespace, name) = (request.pod.namespace(), source.name.as_str());
    let found = request.context.objects.secret(namespace, name).await;
    let found = found.map_err(Error::Refused)?;
    let optional = source.optional == Some(true);
    if found.is_none() && !optional {
        return Err(Error::Refused(format!("secret {name:?} not found")));
    }
    let keys = found.map(|object| secret_keys(&object)).unwrap_or_default();
    let selection = Selection { items: source.items.as_deref(), default_mode, optional };
    select(keys, &selection, "references non-existent secret key")
}

fn config_map_keys(object: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = object.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = object.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    text.chain(binary).collect()
}

fn secret_keys(object: &Secret) -> BTreeMap<String, Vec<u8>> {
    object.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect()
}

fn select(
    mut keys: BTreeMap<String, Vec<u8>>,
    selection: &Selection<'_>,
    missing: &str,
) -> Result<Files, Error> {
    let file = |bytes, mode| File { bytes, mode, owner: None };
    let Some(items) = selection.items.filter(|items| !items.is_empty()) else {
        let mode = selection.default_mode;
        return Ok(keys.into_iter().map(|(key, bytes)| (key, file(bytes, mode))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match keys.remove(&item.key) {
            Some(bytes) => {
                // A key may be named twice: put it back for the next item.
                keys.insert(item.key.clone(), bytes.clone());
                let mode = mode_of(item.mode, selection.default_mode);
                files.insert(item.path.clone(), file(bytes, mode));
            }
            None if selection.optional => {}
            None => return Err(Error::Refused(format!("{missing}: {}", item.key))),
        }
    }
    Ok(files)
}

/// The files that tell about the pod itself.
pub fn downward(
    request: &Request<'_>,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
) -> Result<Files, Error> {
    let mut files = Files::new();
    let addresses =
        downward::Addresses { pod_ips: request.pod_ips, host_ips: &request.context.host_ips };
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            downward::field(request.pod, &field.field_path, &addresses)
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let (_, container) = pods::find(request.pod, name)
                .ok_or_else(|| Error::Refused(format!("container {name} not found")))?;
            let allocatable = &request.context.allocatable;
            downward::resource(request.pod, &container, resource, allocatable)
        } else {
            continue;
        };
        let bytes = text.map_err(Error::Refused)?.into_bytes();
        let mode = mode_of(item.mode, default_mode);
        files.insert(item.path.clone(), File { bytes, mode, owner: None });
    }
    Ok(files)
}

/// The user that runs all containers of the pod, if it is one and the same.
pub fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec_ref();
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let all = pod.init_containers().iter().chain(&spec.containers);
    let mut users = all.map(|container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

/// Writes the files, away from the threads that must not block.
pub async fn write(dir: PathBuf, files: Files, group: Option<u32>) -> Result<(), Error> {
    let written = tokio::task::spawn_blocking(move || crate::atomic::write(&dir, &files, group));
    match written.await {
        Ok(result) => result.map(|_| ()),
        Err(_) => Err(Error::Refused("writing the volume's files was interrupted".to_owned())),
    }
}
