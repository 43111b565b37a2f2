//! Keeps the node from running out of memory, disk or process numbers: says so in its conditions,
//! makes room, and ends pods when that is not enough.
//!
//! For memory the kernel has an event, and [`Alarm`] waits for it. It has none for the free space
//! of a file system, nor for process numbers; those are looked at every [`INTERVAL`], as the
//! kubelet does.
use crate::collector::Collector;
use crate::gauges::{Alarm, Gauges};
use crate::manager::{Change, PodTable};
use crate::node::Health;
use crate::shared::Shared;
use crate::stats::{self, Depth};
use api::k8s::api::core::v1::{Node, Pod};
use jiff::Timestamp;
use podlife::PodExt;
use podlife::eviction::{self, Condition, Met, PodUsage, Pressure, Signal, Threshold};
use reconcile::NoteKind;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};

const INTERVAL: Duration = Duration::from_secs(10);
/// How long an evicted pod may take to be gone before the next one is looked at.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

/// See the module.
pub struct Evictor {
    pub shared: Arc<Shared>,
    pub table: PodTable,
    pub thresholds: Vec<Threshold>,
    pub gauges: Arc<dyn Gauges>,
    pub collector: Arc<Collector>,
    pub node: watch::Receiver<Arc<Node>>,
    pub health: watch::Sender<Health>,
    pub changes: UnboundedSender<Change>,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub struct State {
    pressure: Pressure,
    /// Pods that were told to go: the API may not know yet that they did.
    evicted: BTreeSet<String>,
}

impl Evictor {
    /// One that asks `collector` to make room.
    pub fn new(
        collector: &Arc<Collector>,
        table: PodTable,
        health: watch::Sender<Health>,
        changes: UnboundedSender<Change>,
    ) -> Self {
        Self {
            shared: collector.shared.clone(),
            table,
            thresholds: collector.shared.config.eviction_hard.clone(),
            gauges: collector.gauges.clone(),
            collector: collector.clone(),
            node: collector.node.clone(),
            health,
            changes,
        }
    }

    /// Never returns.
    pub async fn run(self) {
        let alarm = Alarm::new();
        let mut state = State::default();
        loop {
            if self.turn(&mut state).await {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = alarm.wait() => {}
            }
        }
    }

    /// Looks at the node once; true if a pod was evicted.
    pub async fn turn(&self, state: &mut State) -> bool {
        let met = eviction::met(&self.thresholds, &self.gauges.levels());
        state.pressure.observe(&met, Timestamp::now());
        let conditions = state.pressure.conditions();
        self.health.send_if_modified(|health| {
            let changed = health.conditions != conditions;
            health.conditions = conditions;
            changed
        });
        let Some(first) = met.first().map(|met| met.signal) else { return false };
        let message = format!("Attempting to reclaim {}", first.resource());
        let node = self.node.borrow().clone();
        self.shared.events.node(&node, NoteKind::Warning, "EvictionThresholdMet", message);
        if first.condition() == Condition::Disk {
            self.reclaim(first).await;
            if eviction::met(&self.thresholds, &self.gauges.levels()).is_empty() {
                return false;
            }
        }
        self.evict_one(first, &met, &mut state.evicted).await
    }

    /// Frees what no pod misses.
    async fn reclaim(&self, signal: Signal) {
        let of_images = matches!(signal, Signal::ImagefsAvailable | Signal::ImagefsInodesFree);
        let apart = self.gauges.images_are_apart();
        // Writable layers lie in the node's own folder, beside logs and volumes.
        if !(apart && of_images)
            && let Err(error) = self.shared.runtime.reclaim().await
        {
            tracing::warn!(%error, "what ended containers left cannot be removed");
        }
        if (!apart || of_images)
            && let Err(error) = self.collector.free_all().await
        {
            tracing::warn!(error, "unused images cannot be removed");
        }
    }

    /// Ends the pod that is first to go, and waits until it is gone.
    async fn evict_one(&self, signal: Signal, met: &[Met], evicted: &mut BTreeSet<String>) -> bool {
        let mut pods = self.candidates(signal).await;
        evicted.retain(|uid| pods.iter().any(|(pod, _)| pod.uid() == uid));
        pods.retain(|(pod, _)| !evicted.contains(pod.uid()));
        eviction::rank(signal.resource(), &mut pods);
        for (pod, usage) in pods {
            if eviction::is_critical(&pod) {
                tracing::warn!(pod = pod.written(), "a critical pod is not evicted");
                continue;
            }
            let message = eviction::message(signal, met, &pod, usage.as_ref());
            tracing::info!(pod = pod.written(), message, "evicting a pod");
            let (ended, gone) = oneshot::channel();
            let uid = pod.uid().to_owned();
            evicted.insert(uid.clone());
            if self.changes.send(Change::Evict { uid, message, ended }).is_err() {
                return false;
            }
            // The other end is dropped when nothing is left of the pod.
            if tokio::time::timeout(CLEANUP_TIMEOUT, gone).await.is_err() {
                tracing::warn!(pod = pod.written(), "an evicted pod takes long to end");
            }
            return true;
        }
        tracing::warn!(signal = signal.name(), "no pod can be evicted from the node");
        false
    }

    /// Every pod that has not ended, with what it uses.
    async fn candidates(&self, signal: Signal) -> Vec<(Arc<Pod>, Option<PodUsage>)> {
        let disk = signal.condition() == Condition::Disk;
        let depth = if disk { Depth::Disk } else { Depth::Cgroups };
        let readings = stats::read(&self.shared, depth).await;
        let mut usages: HashMap<String, PodUsage> =
            readings.iter().map(|reading| (reading.uid.clone(), reading.usage())).collect();
        let alive = self.table.all().into_iter().filter(|pod| !pod.is_terminal());
        alive.map(|pod| (pod.clone(), usages.remove(pod.uid()))).collect()
    }
}
