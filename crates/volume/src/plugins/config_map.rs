//! The keys of a ConfigMap as files.
use crate::payload::{self, DEFAULT_MODE, mode_of};
use crate::{Error, Mounted, Request, VolumePlugin};
use api::k8s::api::core::v1::{ConfigMapProjection, Volume};
use async_trait::async_trait;

pub struct ConfigMapVolume;

#[async_trait]
impl VolumePlugin for ConfigMapVolume {
    fn name(&self) -> &'static str {
        "kubernetes.io~configmap"
    }
    fn claims(&self, volume: &Volume) -> bool {
        volume.config_map.is_some()
    }
    async fn set_up(&self, request: &Request<'_>) -> Result<Mounted, Error> {
        let source = request.volume.config_map.clone().unwrap_or_default();
        let mode = mode_of(source.default_mode, DEFAULT_MODE);
        let projection = ConfigMapProjection {
            name: source.name,
            items: source.items,
            optional: source.optional,
        };
        let files = payload::config_map(request, &projection, mode).await?;
        let path = request.dir(self.name());
        payload::write(path.clone(), files, request.fs_group()).await?;
        Ok(Mounted { path, readonly: true, refresh_at: None })
    }
}
