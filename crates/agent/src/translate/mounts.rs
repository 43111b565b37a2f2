//! What a container sees of its volumes and of the pod's own files.
use api::k8s::api::core::v1::{Container, VolumeMount};
use podlife::expand;
use runtime::{Mount, MountKind, Propagation};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use volume::Mounted;

/// The mode of folders that are made for sub-paths.
const SUB_PATH_MODE: u32 = 0o750;

/// Files that the node provides, and where a container sees them.
#[derive(Debug, Clone)]
pub struct OwnFile {
    pub source: PathBuf,
    pub destination: String,
    pub readonly: bool,
}

/// All mounts, shallow ones before those inside them. Blocks: makes folders for sub-paths.
pub fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, Mounted>,
    env: &BTreeMap<String, String>,
    own: &[OwnFile],
) -> Result<Vec<Mount>, String> {
    if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err("volumeDevices (block volumes) are not supported by this node yet".to_owned());
    }
    let mut out = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let volume = volumes.get(&wanted.name).ok_or_else(|| {
            format!(
                "cannot find volume {:?} to mount into container {:?}",
                wanted.name, container.name
            )
        })?;
        out.push(one(wanted, volume, env)?);
    }
    for file in own {
        if out.iter().any(|mount| mount.destination == file.destination) {
            continue;
        }
        out.push(Mount {
            kind: MountKind::Bind,
            destination: file.destination.clone(),
            source: file.source.clone(),
            readonly: file.readonly,
            ..Mount::default()
        });
    }
    out.sort_by_key(|mount| Path::new(&mount.destination).components().count());
    Ok(out)
}

fn one(
    wanted: &VolumeMount,
    volume: &Mounted,
    env: &BTreeMap<String, String>,
) -> Result<Mount, String> {
    let sub_path = sub_path(wanted, env)?;
    if let Some(sub_path) = &sub_path {
        make_sub_path(&volume.path, sub_path, &wanted.name)?;
    }
    let readonly = volume.readonly || wanted.read_only == Some(true);
    let recursive = match wanted.recursive_read_only.as_deref() {
        Some("Enabled" | "IfPossible") if readonly => true,
        Some("Enabled") => {
            let path = &wanted.mount_path;
            return Err(format!("recursiveReadOnly of {path} needs readOnly"));
        }
        _ => false,
    };
    let destination = match wanted.mount_path.starts_with('/') {
        true => wanted.mount_path.clone(),
        false => format!("/{}", wanted.mount_path),
    };
    Ok(Mount {
        kind: MountKind::Bind,
        destination,
        source: volume.path.clone(),
        sub_path,
        readonly,
        recursive_readonly: recursive,
        propagation: match wanted.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
        ..Mount::default()
    })
}

fn sub_path(
    wanted: &VolumeMount,
    env: &BTreeMap<String, String>,
) -> Result<Option<PathBuf>, String> {
    let text = match (&wanted.sub_path_expr, &wanted.sub_path) {
        (Some(expression), _) if !expression.is_empty() => {
            let lookup = |name: &str| env.get(name).cloned();
            let (text, unknown) = expand::expand_with(expression, lookup);
            if !unknown.is_empty() {
                return Err(format!("missing value for {:?}", unknown.join(", ")));
            }
            text
        }
        (_, Some(path)) if !path.is_empty() => path.clone(),
        _ => return Ok(None),
    };
    let path = PathBuf::from(&text);
    let plain =
        |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir);
    if text.is_empty() || !path.components().all(plain) {
        return Err(format!("subPath {text:?} must be a relative path without '..'"));
    }
    Ok(Some(path))
}

/// Makes the folder if nothing is there; no link leads out of the volume.
fn make_sub_path(volume: &Path, sub_path: &Path, name: &str) -> Result<(), String> {
    let fail = |error: std::io::Error| {
        format!("failed to create subPath directory for volumeMount {name:?}: {error}")
    };
    let root = sys::mount::open_place(volume).map_err(fail)?;
    let flags = nix::libc::O_PATH;
    let found = sys::mount::open_at(root.as_fd(), sub_path, flags, 0, sys::mount::Resolve::Beneath);
    match found {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            sys::mount::make_dirs_at(root.as_fd(), sub_path, SUB_PATH_MODE).map_err(fail)?;
            Ok(())
        }
        Err(error) => Err(fail(error)),
    }
}
