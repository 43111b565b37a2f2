//! Keeps the file system of the images from filling up, as the kubelet does.
use crate::events::Events;
use crate::gauges::Gauges;
use crate::seams::Images;
use crate::shared::Shared;
use api::k8s::api::core::v1::Node;
use reconcile::NoteKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Use of the disk, in percent, at which images go, and down to which.
pub const HIGH_PERCENT: i64 = 85;
pub const LOW_PERCENT: i64 = 80;
/// An image that was used more lately than this stays: it may be about to be used.
pub const MIN_AGE: Duration = Duration::from_secs(120);
const INTERVAL: Duration = Duration::from_secs(300);

/// See the module.
pub struct Collector {
    pub shared: Arc<Shared>,
    pub images: Arc<dyn Images>,
    pub gauges: Arc<dyn Gauges>,
    pub node: watch::Receiver<Arc<Node>>,
    pub events: Events,
}

impl Collector {
    pub fn new(
        shared: &Arc<Shared>,
        images: Arc<dyn Images>,
        gauges: Arc<dyn Gauges>,
        node: watch::Receiver<Arc<Node>>,
    ) -> Self {
        let shared = shared.clone();
        Self { events: shared.events.clone(), shared, images, gauges, node }
    }

    /// Never returns.
    pub async fn run(&self) {
        let mut failed = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let result = self.collect().await;
            // Once may be a coincidence.
            if let Err(error) = &result {
                tracing::warn!(error, "images cannot be collected");
                if failed {
                    self.warn("ImageGCFailed", error.clone());
                }
            }
            failed = result.is_err();
        }
    }

    /// Frees as much as the thresholds want.
    pub async fn collect(&self) -> Result<(), String> {
        self.images.mark_used(self.in_use().await).await?;
        let Some(disk) = self.gauges.images() else {
            return Err("the file system of the images cannot be read".to_owned());
        };
        let capacity = disk.bytes.capacity;
        let available = disk.bytes.available.min(capacity);
        if capacity == 0 {
            let message = "invalid capacity 0 on image filesystem".to_owned();
            self.warn("InvalidDiskCapacity", message.clone());
            return Err(message);
        }
        if 100 - percent(available, capacity, 100) < HIGH_PERCENT {
            return Ok(());
        }
        let wanted = percent(capacity, 100, 100 - LOW_PERCENT) - available;
        let freed = self.images.free(wanted).await?;
        if freed < wanted {
            let message = format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} \
                 bytes, but only found {freed} bytes eligible to free."
            );
            self.warn("FreeDiskSpaceFailed", message.clone());
            return Err(message);
        }
        Ok(())
    }

    /// Frees whatever can be freed.
    pub async fn free_all(&self) -> Result<(), String> {
        self.images.mark_used(self.in_use().await).await?;
        self.images.free(i64::MAX).await.map(drop)
    }

    /// The topmost layers of all containers of the node, of ended ones too: they may start again.
    async fn in_use(&self) -> Vec<PathBuf> {
        let all = self.shared.runtime.list().await.unwrap_or_default();
        let containers = all.into_iter().flat_map(|sandbox| sandbox.containers);
        containers.filter_map(|container| container.config.layers.last().cloned()).collect()
    }

    fn warn(&self, reason: &'static str, message: String) {
        let node = self.node.borrow().clone();
        self.events.node(&node, NoteKind::Warning, reason, message);
    }
}

/// `part` of `whole`, in units of `scale`, without overflow.
fn percent(part: i64, whole: i64, scale: i64) -> i64 {
    (i128::from(part) * i128::from(scale) / i128::from(whole.max(1))) as i64
}
