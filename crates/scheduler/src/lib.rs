//! Binds pods to nodes: the shell around `placement`.
//!
//! One task holds the snapshot and the queues and decides; bindings are written beside it, a
//! bounded number at once. A decision counts at once ([`placement::Snapshot::place`]); a binding
//! that fails is taken back. Pods that fit nowhere wait for a change that could help, and no timer
//! runs for them but their back-off and one sweep in five minutes.
mod act;
mod queue;

use act::Actor;
use api::Kind;
use api::k8s::api::core::v1::{Namespace, Node, Pod};
use informer::{Caches, Change, Recorder};
use placement::{Decision, PodInfo, Snapshot, is_terminal, schedule};
use queue::{Queue, Waiting};
use reconcile::Target;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The name that pods ask for.
pub const NAME: &str = "default-scheduler";
/// Decisions between two looks at what has changed.
const BATCH: usize = 128;

enum Input {
    Pod(Option<Arc<Pod>>, Option<Arc<Pod>>),
    Node(Option<Arc<Node>>, Option<Arc<Node>>),
    Namespace(Option<Arc<Namespace>>, Option<Arc<Namespace>>),
    Bound { uid: String, failed: bool },
}

/// A scheduler that listens; make it before [`Caches::start`].
pub struct Scheduler {
    caches: Caches,
    inputs: mpsc::UnboundedReceiver<Input>,
    sender: mpsc::UnboundedSender<Input>,
}

impl Scheduler {
    pub fn new(caches: &Caches) -> Self {
        // Not bounded: its length is that of the changes of three kinds, which the watch bounds.
        let (sender, inputs) = mpsc::unbounded_channel();
        listen::<Pod>(caches, &sender, Input::Pod);
        listen::<Node>(caches, &sender, Input::Node);
        listen::<Namespace>(caches, &sender, Input::Namespace);
        Self { caches: caches.clone(), inputs, sender }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let kinds = [Target::of::<Pod>(), Target::of::<Node>(), Target::of::<Namespace>()];
        self.caches.synced(&kinds).await;
        let client = self.caches.client().named(NAME);
        let recorder = Recorder::start(client.clone(), NAME, "");
        let sender = self.sender.clone();
        let report = move |uid: String, failed: bool| {
            let _ = sender.send(Input::Bound { uid, failed });
        };
        let state = State {
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            pods: HashMap::new(),
            actor: Actor::new(client, recorder, Arc::new(report)),
        };
        state.run(self.inputs).await;
    }
}

fn listen<K: Kind>(
    caches: &Caches,
    sender: &mpsc::UnboundedSender<Input>,
    input: fn(Option<Arc<K>>, Option<Arc<K>>) -> Input,
) {
    let sender = sender.clone();
    caches.listen(Target::of::<K>(), move |_, change: &Change| {
        let (old, new) = (change.old::<K>(), change.new::<K>());
        if old.is_some() || new.is_some() {
            let _ = sender.send(input(old, new));
        }
    });
}

struct State {
    snapshot: Snapshot,
    queue: Queue,
    /// Pods that wait for a node, by uid.
    pods: HashMap<String, Arc<Pod>>,
    actor: Actor,
}

impl State {
    async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        loop {
            while let Ok(input) = inputs.try_recv() {
                self.take(input);
            }
            let now = Instant::now();
            let next = self.queue.advance(now);
            let mut decided = 0;
            while decided < BATCH
                && self.actor.has_room()
                && let Some(uid) = self.queue.pop()
            {
                self.decide(&uid);
                decided += 1;
            }
            if decided > 0 {
                // Let bindings and reflectors have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                () = timer => {}
                // With no room for a binding, pods wait for one to be done.
                () = self.actor.room(), if self.queue.has_active() => {}
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Pod(_, Some(pod)) => self.pod_changed(&pod),
            Input::Pod(Some(pod), None) => self.pod_gone(pod.uid()),
            Input::Node(old, Some(node)) => {
                self.snapshot.set_node(&node);
                if old.is_none_or(|old| act::matters(&old, &node)) {
                    self.queue.wake(Waiting::Node);
                }
            }
            Input::Node(Some(node), None) => self.snapshot.remove_node(&node.key().name),
            Input::Namespace(_, Some(namespace)) => {
                self.snapshot.set_namespace(&namespace);
                self.queue.wake(Waiting::PodPlaced);
            }
            Input::Namespace(Some(namespace), None) => {
                self.snapshot.remove_namespace(&namespace.key().name);
            }
            Input::Bound { uid, failed } => {
                self.actor.done();
                if failed {
                    self.snapshot.remove(&uid);
                    if self.pods.contains_key(&uid) {
                        self.queue.back_off(&uid, Instant::now());
                    }
                    self.queue.wake(Waiting::PodGone);
                }
            }
            Input::Pod(None, None) | Input::Node(None, None) | Input::Namespace(None, None) => {}
        }
    }

    fn pod_changed(&mut self, pod: &Arc<Pod>) {
        let uid = pod.uid();
        if is_terminal(pod) {
            return self.pod_gone(uid);
        }
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        if !node.is_empty() {
            self.pods.remove(uid);
            self.queue.remove(uid);
            let new = !self.snapshot.is_placed(uid);
            self.snapshot.place(&Arc::new(PodInfo::new(pod)), node);
            if new {
                self.queue.wake(Waiting::PodPlaced);
            }
            return;
        }
        let ours = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(NAME) == NAME;
        if !ours || pod.metadata.deletion_timestamp.is_some() {
            self.pods.remove(uid);
            return self.queue.remove(uid);
        }
        if self.snapshot.is_placed(uid) {
            // Being bound: what it looks like now matters only if that fails.
            self.pods.insert(uid.to_owned(), pod.clone());
            return;
        }
        let known = self.pods.insert(uid.to_owned(), pod.clone());
        let gated = spec.and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|g| !g.is_empty());
        if gated {
            self.queue.remove(uid);
            return self.actor.tell_gated(pod);
        }
        let priority = spec.and_then(|spec| spec.priority).unwrap_or(0);
        // Our own condition on it is no reason to look again.
        if known
            .is_none_or(|old| old.spec != pod.spec || old.metadata.labels != pod.metadata.labels)
        {
            self.queue.add(uid, priority);
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.queue.remove(uid);
        if self.snapshot.is_placed(uid) {
            self.snapshot.remove(uid);
            self.queue.wake(Waiting::PodGone);
        }
    }

    fn decide(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else { return };
        let info = Arc::new(PodInfo::new(&pod));
        match schedule(&mut self.snapshot, &info) {
            Decision::Place { node } => {
                self.snapshot.place(&info, &node);
                self.actor.bind(&pod, &node);
            }
            Decision::Refused(refusal) => {
                self.queue.refuse(uid, &refusal.plugins, Instant::now());
                self.actor.tell_refused(&pod, &refusal.message);
                if let Some((node, victims)) = refusal.preempt {
                    let victims = victims.iter().filter_map(|uid| {
                        let placed = self.snapshot.node(&node)?.pods.get(uid)?;
                        // One that is going already makes room anyway.
                        (!placed.deleting).then(|| placed.clone())
                    });
                    self.actor.preempt(&pod, &node, victims.collect());
                }
            }
        }
    }
}
