//! All pods of the node: takes them in, starts a worker for each, and frees what belongs to none.
use crate::shared::Shared;
use crate::translate::security;
use crate::worker::{self, Begin, Msg};
use api::k8s::api::core::v1::{Node, Pod};
use client::Resource;
use informer::{Reflector, Step};
use podlife::admit::{InUse, NodeOffer, admit};
use podlife::{PodExt, Verdict};
use reconcile::NoteKind;
use runtime::{Event, SandboxStatus};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;

/// Where others look up the node's pods. Cheap to clone.
#[derive(Clone, Default)]
pub struct PodTable {
    inner: Arc<Mutex<BTreeMap<String, Arc<Pod>>>>,
}

impl PodTable {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pod>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.lock().values().cloned().collect()
    }
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let all = self.lock();
        let mut named = all.values().filter(|p| p.namespace() == namespace && p.name() == name);
        // A pod and its successor of the same name: the one that is not on its way out.
        let first = named.next().cloned()?;
        Some(named.find(|pod| pod.deletion().is_none()).cloned().unwrap_or(first))
    }
}

/// What the manager is told.
pub enum Change {
    /// Every pod that the API has for this node.
    All(Vec<Pod>),
    Pod(Pod),
    Gone(Pod),
}

struct Manager {
    shared: Arc<Shared>,
    workers: HashMap<String, UnboundedSender<Msg>>,
    /// Left by an earlier agent and not claimed by a pod yet.
    found: HashMap<String, Vec<SandboxStatus>>,
    table: PodTable,
    /// Pods that this node has refused: they use nothing.
    refused: BTreeSet<String>,
    node: watch::Receiver<Arc<Node>>,
    synced: bool,
}

/// Follows the node's pods in the API and runs them. Never returns but with an error of the
/// runtime.
pub async fn run(
    shared: Arc<Shared>,
    node: watch::Receiver<Arc<Node>>,
    table: PodTable,
) -> Result<(), runtime::Error> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let fields = format!("spec.nodeName={}", shared.config.node_name);
    let reflector = Reflector::new(shared.client.clone(), Resource::of::<Pod>()).fields(fields);
    let follow = reflector.run::<Pod>(move |step| {
        let change = match step {
            Step::Reset { items, .. } => Change::All(items),
            Step::Changed { object, .. } => Change::Pod(object),
            Step::Deleted { object, .. } => Change::Gone(object),
            Step::Progress { .. } => return,
        };
        let _ = sender.send(change);
    });
    tokio::select! {
        () = follow => Ok(()),
        result = serve(shared, receiver, node, table) => result,
    }
}

/// Runs pods as `changes` tell.
pub async fn serve(
    shared: Arc<Shared>,
    mut changes: mpsc::UnboundedReceiver<Change>,
    node: watch::Receiver<Arc<Node>>,
    table: PodTable,
) -> Result<(), runtime::Error> {
    // Subscribed before listing, so that nothing falls between the two.
    let mut events = shared.runtime.events();
    let mut found: HashMap<String, Vec<SandboxStatus>> = HashMap::new();
    for status in shared.runtime.list().await? {
        found.entry(status.config.uid.clone()).or_default().push(status);
    }
    let mut manager = Manager {
        shared: shared.clone(),
        workers: HashMap::new(),
        found,
        table,
        refused: BTreeSet::new(),
        node,
        synced: false,
    };
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => manager.take(change),
                None => return Ok(()),
            },
            event = events.recv() => match event {
                Ok(event) => route(&shared, event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "events of the runtime were lost; comparing");
                    compare(&shared).await?;
                }
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

fn route(shared: &Shared, event: Event) {
    let sandbox = match &event {
        Event::ContainerStarted { sandbox, .. }
        | Event::ContainerExited { sandbox, .. }
        | Event::SandboxGone { sandbox } => sandbox.clone(),
    };
    shared.routes.send(&sandbox, Msg::Runtime(event));
}

async fn compare(shared: &Shared) -> Result<(), runtime::Error> {
    let mut listed: HashMap<String, SandboxStatus> =
        shared.runtime.list().await?.into_iter().map(|s| (s.id.clone(), s)).collect();
    for (id, worker) in shared.routes.all() {
        let msg = match listed.remove(&id) {
            Some(status) => Msg::Listed(Box::new(status)),
            None => Msg::Runtime(Event::SandboxGone { sandbox: id }),
        };
        let _ = worker.send(msg);
    }
    Ok(())
}

impl Manager {
    fn take(&mut self, change: Change) {
        self.workers.retain(|_, worker| !worker.is_closed());
        match change {
            Change::All(mut pods) => {
                let live: BTreeSet<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
                let gone: Vec<Arc<Pod>> =
                    self.table.all().into_iter().filter(|pod| !live.contains(pod.uid())).collect();
                for pod in gone {
                    self.gone(pod);
                }
                // The oldest have the first claim on what the node has.
                pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
                for pod in pods {
                    self.pod(Arc::new(pod));
                }
                if !std::mem::replace(&mut self.synced, true) {
                    self.free_unclaimed();
                }
            }
            Change::Pod(pod) => self.pod(Arc::new(pod)),
            Change::Gone(pod) => self.gone(Arc::new(pod)),
        }
    }

    fn pod(&mut self, pod: Arc<Pod>) {
        let uid = pod.uid().to_owned();
        self.table.lock().insert(uid.clone(), pod.clone());
        if let Some(worker) = self.workers.get(&uid)
            && worker.send(Msg::Pod(pod.clone())).is_ok()
        {
            return;
        }
        let found = self.found.remove(&uid).unwrap_or_default();
        // What runs already was accepted once, and what has ended needs nothing.
        let verdict = match found.is_empty() && !pod.is_terminal() && pod.deletion().is_none() {
            true => self.judge(&pod),
            false => None,
        };
        if let Some(verdict) = &verdict {
            self.refused.insert(uid.clone());
            let (reason, message) = (verdict.reason.clone(), verdict.message.clone());
            self.shared.events.pod_named(&pod, NoteKind::Warning, reason, message);
        }
        let begin = Begin { pod, found, verdict };
        self.workers.insert(uid, worker::spawn(self.shared.clone(), begin));
    }

    fn judge(&self, pod: &Pod) -> Option<Verdict> {
        if let Some((reason, message)) = security::forbidden(pod) {
            let reason = reason.to_owned();
            return Some(Verdict { reason, message, rejected: true });
        }
        let mut used = InUse::default();
        for other in self.table.all() {
            let counts = other.uid() != pod.uid()
                && !other.is_terminal()
                && !self.refused.contains(other.uid())
                && self.workers.contains_key(other.uid());
            if counts {
                used.add(&other);
            }
        }
        admit(pod, &offer(&self.node.borrow()), &used).err()
    }

    fn gone(&mut self, pod: Arc<Pod>) {
        self.table.lock().remove(pod.uid());
        self.refused.remove(pod.uid());
        if let Some(worker) = self.workers.remove(pod.uid()) {
            let _ = worker.send(Msg::Gone(pod));
        }
    }

    /// Ends sandboxes of pods that the API does not know, and frees addresses of none.
    fn free_unclaimed(&mut self) {
        let shared = self.shared.clone();
        let unclaimed: Vec<SandboxStatus> = self.found.drain().flat_map(|(_, list)| list).collect();
        let live: BTreeSet<String> = self.table.lock().keys().cloned().collect();
        tokio::spawn(async move {
            for status in unclaimed {
                let (id, uid) = (status.id.as_str(), status.config.uid.as_str());
                tracing::info!(sandbox = id, uid, "ending a pod that nobody knows");
                for result in
                    [shared.runtime.stop_sandbox(id).await, shared.runtime.remove_sandbox(id).await]
                {
                    if let Err(error) = result {
                        tracing::warn!(sandbox = id, %error, "a sandbox stays behind");
                    }
                }
            }
            if let Err(error) = shared.network.keep_only(live.clone()).await {
                tracing::warn!(error, "unused addresses stay behind");
            }
            let cleaned = tokio::task::spawn_blocking(move || free_folders(&shared, &live)).await;
            if cleaned.is_err() {
                tracing::warn!("unused folders stay behind");
            }
        });
    }
}

fn free_folders(shared: &Shared, live: &BTreeSet<String>) {
    let pods = shared.config.pods_dir();
    let entries = std::fs::read_dir(&pods).into_iter().flatten().flatten();
    for entry in entries {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if live.contains(&uid) {
            continue;
        }
        let torn = volume::tear_down_all(&shared.volumes, &uid).map_err(|error| error.text());
        let removed = torn.and_then(|()| {
            std::fs::remove_dir_all(entry.path()).map_err(|error| error.to_string())
        });
        if let Err(error) = removed {
            tracing::warn!(uid, error, "a folder of a pod that is gone stays behind");
        }
    }
}

/// What the node offers, as its object says.
pub fn offer(node: &Node) -> NodeOffer {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    NodeOffer {
        name: node.metadata.name.clone().unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        allocatable: allocatable
            .into_iter()
            .flatten()
            .filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?)))
            .collect(),
        no_execute: taints
            .into_iter()
            .flatten()
            .filter(|taint| taint.effect == "NoExecute")
            .map(|taint| (taint.key.clone(), taint.value.clone().unwrap_or_default()))
            .collect(),
    }
}
