//! All pods of the node: takes them in, starts a worker for each, and frees what belongs to none.
use crate::node::Health;
use crate::shared::Shared;
use crate::statics;
use crate::translate::security;
use crate::worker::{self, Begin, Msg};
use api::Quantity;
use api::k8s::api::core::v1::{Node, Pod};
use api::k8s::apimachinery::pkg::api::resource::Quantity as Text;
use client::Resource;
use informer::{Reflector, Step};
use podlife::admit::{InUse, NodeOffer, admit};
use podlife::{PodExt, Verdict};
use reconcile::NoteKind;
use runtime::{Event, SandboxStatus};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};

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
    /// Every pod that the node's own folder describes.
    Statics(Vec<Pod>),
    /// The node is short of something, and this pod has to go. `ended` is dropped once it is gone.
    Evict {
        uid: String,
        message: String,
        ended: oneshot::Sender<()>,
    },
}

/// What the manager knows of its node.
#[derive(Clone)]
pub struct Own {
    pub node: watch::Receiver<Arc<Node>>,
    pub health: watch::Receiver<Health>,
}

struct Manager {
    shared: Arc<Shared>,
    workers: HashMap<String, UnboundedSender<Msg>>,
    /// Left by an earlier agent and not claimed by a pod yet.
    found: HashMap<String, Vec<SandboxStatus>>,
    table: PodTable,
    /// Pods that this node has refused: they use nothing.
    refused: BTreeSet<String>,
    own: Own,
    synced: bool,
    mirrors: Mirrors,
}

/// What the API shows of static pods, by name.
type Mirrors = HashMap<(String, String), Arc<Pod>>;

/// Follows the node's pods in the API and runs them. Never returns but with an error of the
/// runtime.
pub async fn run(
    shared: Arc<Shared>,
    own: Own,
    table: PodTable,
    (sender, receiver): (UnboundedSender<Change>, UnboundedReceiver<Change>),
) -> Result<(), runtime::Error> {
    let fields = format!("spec.nodeName={}", shared.config.node_name);
    let reflector = Reflector::new(shared.client.clone(), Resource::of::<Pod>()).fields(fields);
    let folder = shared.config.static_pods.clone();
    let (config, manifests) = (shared.config.clone(), sender.clone());
    let statics = async {
        let Some(folder) = folder else { return std::future::pending().await };
        let tell = |pods| {
            let _ = manifests.send(Change::Statics(pods));
        };
        if let Err(error) = statics::follow(&config, &folder, tell).await {
            let folder = folder.display().to_string();
            tracing::error!(folder, %error, "static pods cannot be followed");
        }
        std::future::pending::<()>().await;
    };
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
        // The node's own pods come first: what runs of them must not be taken for nobody's.
        biased;
        () = statics => Ok(()),
        () = follow => Ok(()),
        result = serve(shared, receiver, own, table) => result,
    }
}

/// Runs pods as `changes` tell.
pub async fn serve(
    shared: Arc<Shared>,
    mut changes: UnboundedReceiver<Change>,
    own: Own,
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
        own,
        synced: false,
        mirrors: Mirrors::new(),
    };
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => manager.take(change).await,
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
    async fn take(&mut self, change: Change) {
        self.workers.retain(|_, worker| !worker.is_closed());
        match change {
            Change::All(pods) => self.all(pods).await,
            Change::Pod(pod) if statics::is_mirror(&pod) => self.mirror(Arc::new(pod)),
            Change::Pod(pod) => self.pod(Arc::new(pod)).await,
            Change::Gone(pod) if statics::is_mirror(&pod) => self.mirror_gone(&pod),
            Change::Gone(pod) => self.gone(Arc::new(pod)),
            Change::Statics(pods) => self.statics(pods).await,
            Change::Evict { uid, message, ended } => {
                if let Some(worker) = self.workers.get(&uid) {
                    let _ = worker.send(Msg::Evict { message, ended });
                }
            }
        }
    }

    async fn all(&mut self, pods: Vec<Pod>) {
        let (mirrors, mut pods): (Vec<Pod>, Vec<Pod>) =
            pods.into_iter().partition(statics::is_mirror);
        let live: BTreeSet<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
        let own = |pod: &Arc<Pod>| live.contains(pod.uid()) || statics::is_static(pod);
        let gone: Vec<Arc<Pod>> = self.table.all().into_iter().filter(|pod| !own(pod)).collect();
        for pod in gone {
            self.gone(pod);
        }
        // The oldest have the first claim on what the node has.
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for pod in pods {
            self.pod(Arc::new(pod)).await;
        }
        let known: BTreeSet<String> = mirrors.iter().map(|pod| pod.uid().to_owned()).collect();
        let lost = self.mirrors.values().filter(|mirror| !known.contains(mirror.uid()));
        for mirror in lost.cloned().collect::<Vec<_>>() {
            self.mirror_gone(&mirror);
        }
        for mirror in mirrors {
            self.mirror(Arc::new(mirror));
        }
        if !std::mem::replace(&mut self.synced, true) {
            self.free_unclaimed().await;
            // Now it is known which static pods have no mirror yet.
            let own = self.table.all().into_iter().filter(|pod| statics::is_static(pod));
            for pod in own.collect::<Vec<_>>() {
                self.want_mirror(&pod);
            }
        }
    }

    async fn statics(&mut self, pods: Vec<Pod>) {
        let live: BTreeSet<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
        let old = self.table.all().into_iter().filter(|pod| statics::is_static(pod));
        let gone: Vec<Arc<Pod>> = old.filter(|pod| !live.contains(pod.uid())).collect();
        for pod in gone {
            if let Some(mirror) = self.mirrors.get(&name_of(&pod)) {
                self.delete_mirror(mirror.clone());
            }
            self.gone(pod);
        }
        for pod in pods {
            if self.workers.contains_key(pod.uid()) {
                continue;
            }
            let pod = Arc::new(pod);
            self.pod(pod.clone()).await;
            if self.synced {
                self.want_mirror(&pod);
            }
        }
    }

    fn static_pod(&self, name: &(String, String)) -> Option<Arc<Pod>> {
        let all = self.table.lock();
        all.values().find(|pod| statics::is_static(pod) && name_of(pod) == *name).cloned()
    }

    /// The API shows (or shows no more) a static pod.
    fn mirror(&mut self, mirror: Arc<Pod>) {
        let name = name_of(&mirror);
        let own = self.static_pod(&name);
        let fits = own
            .as_ref()
            .is_some_and(|own| mirror.annotation(statics::MIRROR) == own.annotation(statics::HASH));
        self.mirrors.insert(name, mirror.clone());
        if !fits || mirror.deletion().is_some() {
            return self.delete_mirror(mirror);
        }
        if let Some(worker) = own.and_then(|own| self.workers.get(own.uid())) {
            let _ = worker.send(Msg::Mirror(Some(mirror)));
        }
    }

    fn mirror_gone(&mut self, mirror: &Pod) {
        let name = name_of(mirror);
        if self.mirrors.get(&name).is_some_and(|known| known.uid() == mirror.uid()) {
            self.mirrors.remove(&name);
        }
        let Some(own) = self.static_pod(&name) else { return };
        if let Some(worker) = self.workers.get(own.uid()) {
            let _ = worker.send(Msg::Mirror(None));
        }
        self.want_mirror(&own);
    }

    fn want_mirror(&self, pod: &Arc<Pod>) {
        if self.mirrors.contains_key(&name_of(pod)) {
            return;
        }
        let node_uid = self.own.node.borrow().metadata.uid.clone().unwrap_or_default();
        let mirror = statics::mirror_of(pod, &node_uid);
        let client = self.shared.client.clone();
        tokio::spawn(async move {
            // A mirror that cannot be made now is made when the folder or the watch tells again.
            match client.create(&mirror).await {
                Err(error) if !error.is_already_exists() => {
                    let error = crate::seams::chain(&error);
                    tracing::warn!(pod = mirror.written(), error, "cannot show a static pod");
                }
                _ => {}
            }
        });
    }

    fn delete_mirror(&self, mirror: Arc<Pod>) {
        let client = self.shared.client.clone();
        tokio::spawn(async move {
            let key = api::Key::new(mirror.namespace(), mirror.name());
            let params = client::DeleteParams::of_uid(mirror.uid()).grace(0);
            if let Err(error) = client.delete::<Pod>(&key, &params).await
                && !error.is_not_found()
            {
                let error = crate::seams::chain(&error);
                tracing::debug!(pod = mirror.written(), error, "cannot delete a mirror pod");
            }
        });
    }

    async fn pod(&mut self, pod: Arc<Pod>) {
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
            true => self.judge(&pod, &self.own.node.borrow()),
            false => None,
        };
        // The pod may have come sooner than the change of the node that it was placed by.
        let verdict = match verdict {
            Some(_) => match self.shared.client.get::<Node>(&self.own_key()).await {
                Ok(node) => self.judge(&pod, &node),
                Err(_) => verdict,
            },
            None => None,
        };
        if let Some(verdict) = &verdict {
            self.refused.insert(uid.clone());
            let (reason, message) = (verdict.reason.clone(), verdict.message.clone());
            self.shared.events.pod_named(&pod, NoteKind::Warning, reason, message);
        }
        let begin = Begin { pod, found, verdict };
        self.workers.insert(uid, worker::spawn(self.shared.clone(), begin));
    }

    fn own_key(&self) -> api::Key {
        api::Key::new("", self.shared.config.node_name.as_str())
    }

    fn judge(&self, pod: &Pod, node: &Node) -> Option<Verdict> {
        if let Some((reason, message)) = security::forbidden(pod) {
            let reason = reason.to_owned();
            return Some(Verdict { reason, message, rejected: true, grace_seconds: None });
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
        let conditions = self.own.health.borrow().conditions.clone();
        let offer = NodeOffer { conditions, ..offer(node) };
        admit(pod, &offer, &used).err()
    }

    fn gone(&mut self, pod: Arc<Pod>) {
        self.table.lock().remove(pod.uid());
        self.refused.remove(pod.uid());
        if let Some(worker) = self.workers.remove(pod.uid()) {
            let _ = worker.send(Msg::Gone(pod));
        }
    }

    /// Ends sandboxes of pods that the API does not know, and frees addresses and folders of none.
    /// What is to go is settled before it returns: a pod that comes next is not among it.
    async fn free_unclaimed(&mut self) {
        let shared = self.shared.clone();
        let unclaimed: Vec<SandboxStatus> = self.found.drain().flat_map(|(_, list)| list).collect();
        let live: BTreeSet<String> = self.table.lock().keys().cloned().collect();
        if let Err(error) = shared.network.keep_only(live.clone()).await {
            tracing::warn!(error, "unused addresses stay behind");
        }
        let (uids, logs) = unused_folders(&shared, &live);
        tokio::spawn(async move {
            for status in unclaimed {
                let (id, uid) = (status.id.as_str(), status.config.uid.as_str());
                tracing::info!(sandbox = id, uid, "ending a pod that nobody knows");
                let stopped = shared.runtime.stop_sandbox(id).await;
                let removed = shared.runtime.remove_sandbox(id).await;
                if let Err(error) = stopped.and(removed) {
                    tracing::warn!(sandbox = id, %error, "a sandbox stays behind");
                }
            }
            let freed =
                tokio::task::spawn_blocking(move || free_folders(&shared, &uids, &logs)).await;
            if freed.is_err() {
                tracing::warn!("unused folders stay behind");
            }
        });
    }
}

fn name_of(pod: &Pod) -> (String, String) {
    (pod.namespace().to_owned(), pod.name().to_owned())
}

/// Pods that have folders on the node but are not there, and their folders with logs.
fn unused_folders(shared: &Shared, live: &BTreeSet<String>) -> (Vec<String>, Vec<PathBuf>) {
    let names = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let (pods, logs) = (shared.config.pods_dir(), shared.config.logs_dir());
    let uids = names(pods).filter(|uid| !live.contains(uid)).collect();
    let of = |name: &str| name.rsplit('_').next().is_some_and(|uid| live.contains(uid));
    let logs = names(logs.clone()).filter(|name| !of(name)).map(|name| logs.join(name)).collect();
    (uids, logs)
}

fn free_folders(shared: &Shared, uids: &[String], logs: &[PathBuf]) {
    for uid in uids {
        let torn = volume::tear_down_all(&shared.volumes, uid).map_err(|error| error.text());
        let folder = shared.config.pods_dir().join(uid);
        let removed =
            torn.and_then(|()| std::fs::remove_dir_all(folder).map_err(|e| e.to_string()));
        if let Err(error) = removed {
            tracing::warn!(uid, error, "a folder of a pod that is gone stays behind");
        }
    }
    for folder in logs {
        if let Err(error) = std::fs::remove_dir_all(folder) {
            let folder = folder.display().to_string();
            tracing::warn!(folder, %error, "logs of a pod that is gone stay behind");
        }
    }
}

/// Resources as amounts to calculate with.
pub fn amounts(list: &BTreeMap<String, Text>) -> BTreeMap<String, Quantity> {
    let parsed = list.iter().map(|(name, text)| Some((name.clone(), text.0.parse().ok()?)));
    parsed.flatten().collect()
}

/// What the node offers, as its object says.
pub fn offer(node: &Node) -> NodeOffer {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    NodeOffer {
        name: node.metadata.name.clone().unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        allocatable: allocatable.map(amounts).unwrap_or_default(),
        no_execute: taints
            .into_iter()
            .flatten()
            .filter(|taint| taint.effect == "NoExecute")
            .map(|taint| (taint.key.clone(), taint.value.clone().unwrap_or_default()))
            .collect(),
        conditions: BTreeSet::new(),
    }
}
