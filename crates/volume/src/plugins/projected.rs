//! Several sources in one folder: ConfigMaps, Secrets, the pod's fields, service-account tokens,
//! trust bundles, certificates.
use crate::atomic::{File, Files};
use crate::payload::{self, DEFAULT_MODE, mode_of};
use crate::{Error, Mounted, Request, TokenFor, VolumePlugin, trust};
use api::k8s::api::core::v1::{
    PodCertificateProjection, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use podlife::PodExt;

/// A token is replaced after this part of its life, in percent, or at this age.
const REPLACE_AFTER_PERCENT: i64 = 80;
const REPLACE_AT_AGE: SignedDuration = SignedDuration::from_hours(24);
/// How long a token lives when the pod does not say.
const DEFAULT_TOKEN_SECONDS: i64 = 3600;

pub struct Projected;

#[async_trait]
impl VolumePlugin for Projected {
    fn name(&self) -> &'static str {
        "kubernetes.io~projected"
    }
    fn claims(&self, volume: &Volume) -> bool {
        volume.projected.is_some()
    }
    async fn set_up(&self, request: &Request<'_>) -> Result<Mounted, Error> {
        let projected = request.volume.projected.clone().unwrap_or_default();
        let mode = mode_of(projected.default_mode, DEFAULT_MODE);
        let mut files = Files::new();
        let mut refresh_at: Option<Timestamp> = None;
        for source in projected.sources.iter().flatten() {
            let (part, until) = one(request, source, mode).await?;
            files.extend(part);
            refresh_at = match (refresh_at, until) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        let path = request.memory_dir(self.name());
        payload::write(path.clone(), files, request.fs_group()).await?;
        Ok(Mounted { path, readonly: true, refresh_at })
    }
}

async fn one(
    request: &Request<'_>,
    source: &VolumeProjection,
    mode: u32,
) -> Result<(Files, Option<Timestamp>), Error> {
    if let Some(source) = &source.config_map {
        return Ok((payload::config_map(request, source, mode).await?, None));
    }
    if let Some(source) = &source.secret {
        return Ok((payload::secret(request, source, mode).await?, None));
    }
    if let Some(source) = &source.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        return Ok((payload::downward(request, items, mode)?, None));
    }
    if let Some(source) = &source.service_account_token {
        return token(request, source, mode).await;
    }
    if let Some(source) = &source.cluster_trust_bundle {
        let bytes = trust::anchors(request, source).await?;
        let (owner, mode) = reader(request, mode);
        return Ok((Files::from([(source.path.clone(), File { bytes, mode, owner })]), None));
    }
    if let Some(source) = &source.pod_certificate {
        return certificate(request, source, mode).await;
    }
    let text = "this kind of source of a projected volume is not supported yet";
    Err(Error::Refused(text.to_owned()))
}

async fn certificate(
    request: &Request<'_>,
    source: &PodCertificateProjection,
    mode: u32,
) -> Result<(Files, Option<Timestamp>), Error> {
    let objects = &request.context.objects;
    let issued = objects.certificate(request.pod, &request.volume.name, source).await;
    let issued = issued.map_err(Error::Refused)?;
    let (owner, mode) = reader(request, mode);
    let mut files = Files::new();
    for (path, text) in [
        (&source.credential_bundle_path, format!("{}{}", issued.key, issued.chain)),
        (&source.key_path, issued.key),
        (&source.certificate_chain_path, issued.chain),
    ] {
        if let Some(path) = path.as_ref().filter(|path| !path.is_empty()) {
            files.insert(path.clone(), File { bytes: text.into_bytes(), mode, owner });
        }
    }
    Ok((files, Some(issued.refresh_at)))
}

/// Who owns what only those who run the containers need to read, where that is known; and its mode.
fn reader(request: &Request<'_>, mode: u32) -> (Option<u32>, u32) {
    if request.fs_group().is_some() {
        return (None, 0o600);
    }
    let owner = payload::common_user(request.pod);
    (owner, if owner.is_some() { 0o600 } else { mode })
}

async fn token(
    request: &Request<'_>,
    source: &ServiceAccountTokenProjection,
    mode: u32,
) -> Result<(Files, Option<Timestamp>), Error> {
    let pod = request.pod;
    let account = pod.spec_ref().service_account_name.clone().filter(|name| !name.is_empty());
    let wanted = TokenFor {
        namespace: pod.namespace().to_owned(),
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        audience: source.audience.clone().unwrap_or_default(),
        expiration_seconds: source.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS),
        pod: pod.name().to_owned(),
        pod_uid: pod.uid().to_owned(),
    };
    let token = request.context.objects.token(&wanted).await.map_err(Error::Refused)?;
    let (owner, mode) = reader(request, mode);
    let file = File { bytes: token.token.into_bytes(), mode, owner };
    let now = Timestamp::now();
    let life = token.expires.duration_since(now);
    let part = life * i32::try_from(REPLACE_AFTER_PERCENT).unwrap_or(80) / 100;
    let refresh = now.checked_add(part.min(REPLACE_AT_AGE)).ok();
    Ok((Files::from([(source.path.clone(), file)]), refresh))
}
