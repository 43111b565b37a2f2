//! Volumes of pods: what each kind of volume puts where, kept up to date, and undone at the end.
//!
//! A kind is one file in `plugins` and one line in [`PLUGINS`]. Knows neither containers nor how
//! objects are fetched: those come through [`Objects`]. A volume's folder exists from set-up to
//! tear-down; content of files that follow objects changes atomically.
pub mod atomic;
pub mod payload;
pub mod plugins;
pub mod refs;
mod trust;

pub use atomic::{File, Files};
pub use refs::{ObjectRef, references};

use api::Quantity;
use api::k8s::api::certificates::v1::ClusterTrustBundle;
use api::k8s::api::core::v1::{ConfigMap, Pod, PodCertificateProjection, Secret, Volume};
use async_trait::async_trait;
use jiff::Timestamp;
use podlife::PodExt;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every kind of volume. The first that claims a volume has it.
pub static PLUGINS: &[&dyn VolumePlugin] = &[
    &plugins::empty_dir::EmptyDir,
    &plugins::host_path::HostPath,
    &plugins::config_map::ConfigMapVolume,
    &plugins::secret::SecretVolume,
    &plugins::downward::Downward,
    &plugins::projected::Projected,
    &plugins::image::ImageVolume,
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the pod asks for is not there or cannot be done; the text is for the pod's event.
    #[error("{0}")]
    Refused(String),
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
    /// The whole error on one line.
    pub fn text(&self) -> String {
        match self {
            Self::Refused(text) => text.clone(),
            Self::Io { source, .. } => format!("{self}: {source}"),
        }
    }
}

/// A token for a service account, bound to a pod.
#[derive(Debug, Clone)]
pub struct TokenFor {
    pub namespace: String,
    pub service_account: String,
    /// Empty: the API server's own.
    pub audience: String,
    pub expiration_seconds: i64,
    pub pod: String,
    pub pod_uid: String,
}

#[derive(Debug, Clone)]
pub struct Token {
    pub token: String,
    pub expires: Timestamp,
}

/// A key and its certificate, with those between it and the signer's root; in PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub key: String,
    pub chain: String,
    /// A new one should be asked for then.
    pub refresh_at: Timestamp,
}

/// Where a volume's content comes from. A missing object is `None`; an error is something else.
#[async_trait]
pub trait Objects: Send + Sync {
    async fn config_map(&self, ns: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String>;
    async fn secret(&self, ns: &str, name: &str) -> Result<Option<Arc<Secret>>, String>;
    async fn token(&self, wanted: &TokenFor) -> Result<Token, String>;
    /// What a signer gave for the pod's projection; as long as it takes, but not for ever.
    async fn certificate(
        &self,
        pod: &Pod,
        volume: &str,
        source: &PodCertificateProjection,
    ) -> Result<Certificate, String>;
    /// The trust bundles that the reference is to, in the order of their names.
    async fn trust_bundles(&self, wanted: &ObjectRef) -> Result<Vec<ClusterTrustBundle>, String>;
}

/// Where images come from that are volumes.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// The unpacked layers, the lowest first.
    async fn layers(
        &self,
        pod: &Pod,
        reference: &str,
        policy: &str,
    ) -> Result<Vec<PathBuf>, String>;
}

/// What volumes of all pods share.
#[derive(Clone)]
pub struct Context {
    /// `<node root>/pods`
    pub pods_dir: PathBuf,
    /// The same on a file system in memory: for what must not reach a disk.
    pub memory_dir: PathBuf,
    pub objects: Arc<dyn Objects>,
    pub images: Arc<dyn ImageSource>,
    /// What resource fields say when the container has no limit.
    pub allocatable: Arc<BTreeMap<String, Quantity>>,
    /// For `status.hostIP` in files.
    pub host_ips: Vec<String>,
}

/// A volume that is ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    pub path: PathBuf,
    /// Containers get it read-only whatever they ask for.
    pub readonly: bool,
    /// The content goes stale then.
    pub refresh_at: Option<Timestamp>,
}

/// One volume of one pod.
pub struct Request<'a> {
    pub context: &'a Context,
    pub pod: &'a Pod,
    pub volume: &'a Volume,
    /// Addresses that the status does not show yet.
    pub pod_ips: &'a [String],
}

impl Request<'_> {
    /// The volume's own folder on disk.
    pub fn dir(&self, plugin: &str) -> PathBuf {
        volume_dir(&self.context.pods_dir, self.pod.uid(), plugin, &self.volume.name)
    }
    /// The volume's own folder in memory.
    pub fn memory_dir(&self, plugin: &str) -> PathBuf {
        volume_dir(&self.context.memory_dir, self.pod.uid(), plugin, &self.volume.name)
    }
    pub fn fs_group(&self) -> Option<u32> {
        let group = self.pod.spec_ref().security_context.as_ref()?.fs_group?;
        u32::try_from(group).ok()
    }
}

fn volume_dir(root: &Path, uid: &str, plugin: &str, name: &str) -> PathBuf {
    root.join(uid).join("volumes").join(plugin).join(name)
}

/// One kind of volume.
#[async_trait]
pub trait VolumePlugin: Send + Sync {
    /// The kind's folder name.
    fn name(&self) -> &'static str;
    fn claims(&self, volume: &Volume) -> bool;
    /// Makes the volume, or brings its content up to date: both are the same.
    async fn set_up(&self, request: &Request<'_>) -> Result<Mounted, Error>;
    /// Undoes what is not merely a folder of files.
    fn tear_down(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Sets up (or refreshes) one volume. The error is worded for the pod's event.
pub async fn set_up(request: &Request<'_>) -> Result<Mounted, Error> {
    let name = &request.volume.name;
    let plugin = PLUGINS.iter().find(|plugin| plugin.claims(request.volume)).ok_or_else(|| {
        let text = format!(
            "MountVolume.SetUp failed for volume {name:?} : no volume plugin of this node \
             supports its kind of volume"
        );
        Error::Refused(text)
    })?;
    plugin.set_up(request).await.map_err(|error| {
        let text = error.text();
        Error::Refused(format!("MountVolume.SetUp failed for volume {name:?} : {text}"))
    })
}

/// Sets up all volumes of a pod.
pub async fn set_up_all(
    context: &Context,
    pod: &Pod,
    pod_ips: &[String],
) -> Result<BTreeMap<String, Mounted>, Error> {
    let mut mounted = BTreeMap::new();
    for volume in pod.spec_ref().volumes.iter().flatten() {
        let request = Request { context, pod, volume, pod_ips };
        mounted.insert(volume.name.clone(), set_up(&request).await?);
    }
    Ok(mounted)
}

/// Removes everything that a pod's volumes have put anywhere. Blocks.
pub fn tear_down_all(context: &Context, uid: &str) -> Result<(), Error> {
    for root in [&context.memory_dir, &context.pods_dir] {
        let volumes = root.join(uid).join("volumes");
        for plugin in PLUGINS {
            let dir = volumes.join(plugin.name());
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                plugin.tear_down(&path).map_err(Error::io("unmount", &path))?;
            }
        }
        match std::fs::remove_dir_all(&volumes) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &volumes)(error));
            }
            _ => {}
        }
    }
    let own = context.memory_dir.join(uid);
    match std::fs::remove_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", &own)(error))
        }
        _ => Ok(()),
    }
}

/// Whether the content of a volume follows objects of the API.
pub fn follows_objects(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

#[cfg(test)]
mod tests;
