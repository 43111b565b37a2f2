//! The pod's own fields as files.
use crate::payload::{self, DEFAULT_MODE, mode_of};
use crate::{Error, Mounted, Request, VolumePlugin};
use api::k8s::api::core::v1::Volume;
use async_trait::async_trait;

pub struct Downward;

#[async_trait]
impl VolumePlugin for Downward {
    fn name(&self) -> &'static str {
        "kubernetes.io~downward-api"
    }
    fn claims(&self, volume: &Volume) -> bool {
        volume.downward_api.is_some()
    }
    async fn set_up(&self, request: &Request<'_>) -> Result<Mounted, Error> {
        let source = request.volume.downward_api.clone().unwrap_or_default();
        let mode = mode_of(source.default_mode, DEFAULT_MODE);
        let items = source.items.unwrap_or_default();
        let files = payload::downward(request, &items, mode)?;
        let path = request.memory_dir(self.name());
        payload::write(path.clone(), files, request.fs_group()).await?;
        Ok(Mounted { path, readonly: true, refresh_at: None })
    }
}
