//! Pulling: manifest, configuration, layers; each checked against its digest, each layer unpacked
//! as it arrives.
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};

use crate::import::diff_ids;
use crate::manifest::{self, Descriptor, Document, Manifest};
use crate::reference::is_digest;
use crate::registry::{self, HttpError, Registry};
use crate::store::{self, Brought, MAX_CONFIG};
use crate::{Error, Image, ImageRef, Images, Progress, PullOptions};

const MAX_MANIFEST: usize = 4 << 20;
/// Layers on their way at once.
const PARALLEL: usize = 3;
/// Pieces of a layer between the network and the disk.
const PIECES: usize = 64;

/// What is told while a pull goes on.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

impl Images {
    /// Pulls an image, whether or not it is here, and names it. What is here already is not
    /// fetched again.
    pub async fn pull(
        &self,
        reference: &ImageRef,
        options: &PullOptions,
        progress: Option<ProgressFn>,
    ) -> Result<Image, Error> {
        let images = self.clone();
        let adding = tokio::task::spawn_blocking(move || images.adding()).await;
        let _adding = adding.map_err(|e| Error::Invalid(format!("a task ended early: {e}")))??;
        let mut error = None;
        for mirror in &options.mirrors {
            // A mirror is not the registry: its credentials are not for it.
            match self.pull_from(mirror, &[], reference, options, progress.clone()).await {
                Ok(image) => return Ok(image),
                Err(e) => error = Some(e),
            }
        }
        if let Some(error) = error {
            tracing::warn!(%error, image = %reference, "no mirror has the image");
        }
        self.pull_from(&reference.host, &options.auths, reference, options, progress).await
    }

    async fn pull_from(
        &self,
        base: &str,
        auths: &[crate::Auth],
        reference: &ImageRef,
        options: &PullOptions,
        progress: Option<ProgressFn>,
    ) -> Result<Image, Error> {
        let named = |e: HttpError| explain(reference, e);
        let registry = Registry::new(base, &reference.repository, auths)
            .map_err(|why| named(HttpError::Other(why)))?;
        let registry = Arc::new(registry);
        let (digest, manifest) =
            find(&registry, reference, &options.platform).await.map_err(named)?;
        let config = blob(&registry, &manifest.config).await.map_err(named)?;
        let ids = diff_ids(&config, manifest.layers.len())?;
        let total = manifest.layers.iter().map(|l| l.size).sum();
        let meter = Meter { done: Arc::default(), total, tell: progress };
        let gate = Arc::new(Semaphore::new(PARALLEL));
        let mut tasks = tokio::task::JoinSet::new();
        for (diff_id, layer) in ids.into_iter().zip(manifest.layers) {
            if !is_digest(&diff_id) || !is_digest(&layer.digest) {
                return Err(Error::Invalid(format!("image {reference}: not a sha256 digest")));
            }
            let (images, registry) = (self.clone(), registry.clone());
            let (gate, meter, reference) = (gate.clone(), meter.clone(), reference.clone());
            tasks.spawn(async move {
                let _turn = gate.acquire_owned().await;
                images.fetch_layer(&registry, &reference, &diff_id, &layer, &meter).await
            });
        }
        // The first failure ends the others: dropping the set aborts them.
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| named(HttpError::Other(format!("a task ended early: {e}"))))??;
        }
        let (images, reference) = (self.clone(), reference.clone());
        let added = tokio::task::spawn_blocking(move || {
            let repo_digest = format!("{}@{digest}", reference.name());
            images.add_image(&config, Some(&reference), Some(repo_digest), Brought::FromRegistry)
        });
        added.await.map_err(|e| Error::Invalid(format!("a task ended early: {e}")))?
    }

    async fn fetch_layer(
        &self,
        registry: &Registry,
        reference: &ImageRef,
        diff_id: &str,
        layer: &Descriptor,
        meter: &Meter,
    ) -> Result<(), Error> {
        if self.layer_path(diff_id).is_dir() {
            meter.add(layer.size);
            return Ok(());
        }
        let body = registry.blob(&layer.digest).await.map_err(|e| explain(reference, e))?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let (images, id) = (self.clone(), diff_id.to_owned());
        let unpacking = tokio::task::spawn_blocking(move || {
            images.add_compressed(&id, Pieces { receiver, current: Bytes::new() })
        });
        let sent = transfer(body, &sender, layer, meter).await;
        if let Err(e) = &sent {
            // The layer must not pass for whole.
            let _ = sender.send(Err(e.to_string())).await;
        }
        drop(sender);
        let unpacked = unpacking.await;
        sent.map_err(|e| explain(reference, e))?;
        unpacked.map_err(|e| Error::Invalid(format!("a task ended early: {e}")))?
    }
}

#[derive(Clone)]
struct Meter {
    done: Arc<AtomicU64>,
    total: u64,
    tell: Option<ProgressFn>,
}

impl Meter {
    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(tell) = &self.tell {
            tell(Progress { done: done.min(self.total), total: self.total });
        }
    }
}

/// Passes a blob on piece by piece. Its digest is checked before its end is passed on, so that a
/// wrong one never becomes a layer.
async fn transfer(
    mut body: Incoming,
    sender: &mpsc::Sender<Result<Bytes, String>>,
    layer: &Descriptor,
    meter: &Meter,
) -> Result<(), HttpError> {
    let mut hash = Sha256::new();
    let mut wanted = true;
    while let Some(data) = registry::next(&mut body).await? {
        hash.update(&data);
        meter.add(data.len() as u64);
        // Whoever unpacks may know enough (another process was faster); the digest still counts.
        wanted = wanted && sender.send(Ok(data)).await.is_ok();
        if !wanted {
            return Ok(());
        }
    }
    let found = format!("sha256:{}", hex::encode(hash.finalize()));
    if found != layer.digest {
        let wanted = &layer.digest;
        return Err(HttpError::Other(format!("blob {wanted} arrived as {found}")));
    }
    Ok(())
}

/// What arrives, for a thread that reads.
struct Pieces {
    receiver: mpsc::Receiver<Result<Bytes, String>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(Ok(data)) => self.current = data,
                Some(Err(why)) => return Err(io::Error::other(why)),
            }
        }
        let n = self.current.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

/// The manifest for the platform, and the digest of what the reference names.
async fn find(
    registry: &Registry,
    reference: &ImageRef,
    platform: &str,
) -> Result<(String, Manifest), HttpError> {
    let bytes = registry.manifest(reference.selector(), manifest::ACCEPT, MAX_MANIFEST).await?;
    let digest = store::digest(&bytes);
    if reference.digest.as_ref().is_some_and(|wanted| *wanted != digest) {
        return Err(HttpError::Other(format!("the manifest arrived as {digest}")));
    }
    let mut document = manifest::parse(&bytes)?;
    for _ in 0..3 {
        match document {
            Document::Manifest(manifest) => return Ok((digest, manifest)),
            Document::Index(index) => {
                let chosen = index.choose(platform)?;
                if !is_digest(&chosen.digest) {
                    return Err(HttpError::Other("the index names no sha256 digest".to_owned()));
                }
                let accept = manifest::ACCEPT;
                let bytes = registry.manifest(&chosen.digest, accept, MAX_MANIFEST).await?;
                let found = store::digest(&bytes);
                if found != chosen.digest {
                    let wanted = &chosen.digest;
                    return Err(HttpError::Other(format!("manifest {wanted} arrived as {found}")));
                }
                document = manifest::parse(&bytes)?;
            }
        }
    }
    Err(HttpError::Other("indexes are nested too deeply".to_owned()))
}

async fn blob(registry: &Registry, descriptor: &Descriptor) -> Result<Vec<u8>, HttpError> {
    if !is_digest(&descriptor.digest) {
        return Err(HttpError::Other("the configuration has no sha256 digest".to_owned()));
    }
    let mut body = registry.blob(&descriptor.digest).await?;
    let mut bytes = Vec::new();
    while let Some(data) = registry::next(&mut body).await? {
        bytes.extend_from_slice(&data);
        if bytes.len() as u64 > MAX_CONFIG {
            return Err(HttpError::Other("the configuration is too long".to_owned()));
        }
    }
    let found = store::digest(&bytes);
    if found == descriptor.digest {
        return Ok(bytes);
    }
    Err(HttpError::Other(format!("blob {} arrived as {found}", descriptor.digest)))
}

fn explain(reference: &ImageRef, error: HttpError) -> Error {
    let (image, why) = (reference.to_string(), error.to_string());
    match error {
        HttpError::NotFound => Error::Missing { image, why },
        HttpError::Other(text) if text.starts_with("no match for platform") => {
            Error::Missing { image, why }
        }
        HttpError::Unauthorized(_) => Error::Unauthorized { image, why },
        HttpError::Other(_) => Error::Registry { image, why },
    }
}
