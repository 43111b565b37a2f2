//! The content of an image, read-only.
use crate::plugins::empty_dir::{is_mount_point, unmount};
use crate::{Error, Mounted, Request, VolumePlugin};
use api::k8s::api::core::v1::Volume;
use async_trait::async_trait;
use std::io;
use std::path::{Path, PathBuf};

pub struct ImageVolume;

#[async_trait]
impl VolumePlugin for ImageVolume {
    fn name(&self) -> &'static str {
        "kubernetes.io~image"
    }
    fn claims(&self, volume: &Volume) -> bool {
        volume.image.is_some()
    }
    async fn set_up(&self, request: &Request<'_>) -> Result<Mounted, Error> {
        let source = request.volume.image.clone().unwrap_or_default();
        let reference = source.reference.unwrap_or_default();
        let policy = source.pull_policy.as_deref().unwrap_or("IfNotPresent");
        let found = request.context.images.layers(request.pod, &reference, policy).await;
        let layers = found.map_err(Error::Refused)?;
        if let [only] = layers.as_slice() {
            return Ok(Mounted { path: only.clone(), readonly: true, refresh_at: None });
        }
        let path = request.dir(self.name());
        let dir = path.clone();
        let made = tokio::task::spawn_blocking(move || stack(&layers, &dir)).await;
        made.map_err(|_| Error::Refused("mounting the image was interrupted".to_owned()))??;
        Ok(Mounted { path, readonly: true, refresh_at: None })
    }
    fn tear_down(&self, dir: &Path) -> io::Result<()> {
        unmount(dir)
    }
}

fn stack(layers: &[PathBuf], dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(Error::io("make the folder", dir))?;
    if layers.is_empty() || is_mount_point(dir).map_err(Error::io("read", dir))? {
        return Ok(());
    }
    let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    sys::mount::overlay_readonly(&layers, dir).map_err(Error::io("mount the image on", dir))
}
