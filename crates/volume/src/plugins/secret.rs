//! The keys of a Secret as files, in memory only.
use crate::payload::{self, DEFAULT_MODE, mode_of};
use crate::{Error, Mounted, Request, VolumePlugin};
use api::k8s::api::core::v1::{SecretProjection, Volume};
use async_trait::async_trait;

pub struct SecretVolume;

#[async_trait]
impl VolumePlugin for SecretVolume {
    fn name(&self) -> &'static str {
        "kubernetes.io~secret"
    }
    fn claims(&self, volume: &Volume) -> bool {
        volume.secret.is_some()
    }
    async fn set_up(&self, request: &Request<'_>) -> Result<Mounted, Error> {
        let source = request.volume.secret.clone().unwrap_or_default();
        let mode = mode_of(source.default_mode, DEFAULT_MODE);
        let projection = SecretProjection {
            name: source.secret_name.unwrap_or_default(),
            items: source.items,
            optional: source.optional,
        };
        let files = payload::secret(request, &projection, mode).await?;
        let path = request.memory_dir(self.name());
        payload::write(path.clone(), files, request.fs_group()).await?;
        Ok(Mounted { path, readonly: true, refresh_at: None })
    }
}
