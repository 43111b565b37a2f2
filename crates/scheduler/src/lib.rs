//! Binds pods to nodes: the shell around `placement`.
//!
//! One task holds the snapshot and the queues and decides; bindings are written beside it, a
//! bounded number at once. A decision counts at once ([`placement::Snapshot::place`]); a binding
//! that fails is taken back. Pods that fit nowhere wait for a change that could help, and no timer
//! runs for them but their back-off and one sweep in five minutes.
mod act;
mod help;
mod queue;

use act::Actor;
use api::Kind;
use api::k8s::api::core::v1::{Namespace, Node, Pod};
use help::Help;
use informer::{Caches, Change, Recorder};
use placement::{Decision, PodInfo, Snapshot, is_terminal, schedule};
use queue::Queue;
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
    Bound {
        uid: String,
        failed: bool,
    },
    /// A pod that should have made room for another could not be evicted.
    Spared {
        uid: String,
        victim: String,
    },
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
        let report = move |input: Input| drop(sender.send(input));
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
    pods: HashMap<String, Pending>,
    actor: Actor,
}

#[derive(Clone)]
struct Pending {
    pod: Arc<Pod>,
    info: Arc<PodInfo>,
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
                () = self.actor.room(), if self.queue.has_ready() => {}
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Pod(old, Some(pod)) => self.pod_changed(old.as_deref(), &pod),
            Input::Pod(Some(pod), None) => self.pod_gone(pod.uid()),
            Input::Node(old, Some(node)) => {
                self.snapshot.set_node(&node);
                if old.is_none_or(|old| act::matters(&old, &node)) {
                    self.wake(&Help::Node(&node.key().name));
                }
            }
            Input::Node(Some(node), None) => {
                let name = node.key().name;
                self.snapshot.remove_node(&name);
                self.wake(&Help::Node(&name));
            }
            Input::Namespace(_, Some(namespace)) => {
                self.snapshot.set_namespace(&namespace);
                self.wake(&Help::Namespace);
            }
            Input::Namespace(Some(namespace), None) => {
                self.snapshot.remove_namespace(&namespace.key().name);
            }
            Input::Bound { uid, failed } => {
                self.actor.done();
                if failed {
                    if self.pods.contains_key(&uid) {
                        self.queue.back_off(&uid, Instant::now());
                    }
                    self.removed(&uid);
                }
            }
            Input::Spared { uid, victim } => {
                self.snapshot.stays(&uid, &victim);
                self.queue.wake(&uid, Instant::now());
            }
            Input::Pod(None, None) | Input::Node(None, None) | Input::Namespace(None, None) => {}
        }
    }

    fn pod_changed(&mut self, old: Option<&Pod>, pod: &Arc<Pod>) {
        let uid = pod.uid();
        if is_terminal(pod) {
            return self.pod_gone(uid);
        }
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let same = old.is_some_and(|old| act::counts_the_same(old, pod));
        if !node.is_empty() {
            if same && self.snapshot.is_placed(uid) {
                return;
            }
            self.pods.remove(uid);
            self.queue.remove(uid);
            return self.place(&Arc::new(PodInfo::new(pod)), node);
        }
        let ours = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(NAME) == NAME;
        if !ours || pod.metadata.deletion_timestamp.is_some() {
            return self.pod_left(uid);
        }
        let info = Arc::new(PodInfo::new(pod));
        let known =
            self.pods.insert(uid.to_owned(), Pending { pod: pod.clone(), info: info.clone() });
        if self.snapshot.is_placed(uid) {
            // Being bound: what it looks like now matters only if that fails.
            return;
        }
        if info.gated {
            self.queue.remove(uid);
            return self.actor.tell_gated(pod);
        }
        self.nomination_changed(known.as_ref(), &info);
        // Our own condition on it is no reason to look again.
        if known.is_none() || !same {
            self.queue.add(uid, info.priority);
        }
    }

    /// The API says, unlike before, which node room is made on for a pod.
    fn nomination_changed(&mut self, known: Option<&Pending>, info: &Arc<PodInfo>) {
        let before = known.and_then(|known| known.info.nominated.as_ref());
        if before == info.nominated.as_ref() {
            return;
        }
        match &info.nominated {
            Some(node) if self.snapshot.nominated(&info.uid) == Some(node) => {}
            Some(node) => self.snapshot.nominate(info, node, Vec::new()),
            None => self.withdraw(&info.uid),
        }
    }

    /// A pod counts on a node.
    fn place(&mut self, info: &Arc<PodInfo>, node: &str) {
        let reserved = self.snapshot.withdraw(&info.uid).filter(|reserved| reserved != node);
        if self.snapshot.place(info, node) {
            self.wake(&Help::Pod { info, left: None });
        }
        if let Some(reserved) = reserved {
            self.wake(&Help::Room(&reserved));
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        self.pod_left(uid);
        self.removed(uid);
    }

    /// A pod does not wait for a node any more.
    fn pod_left(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.queue.remove(uid);
        self.withdraw(uid);
    }

    fn withdraw(&mut self, uid: &str) {
        if let Some(node) = self.snapshot.withdraw(uid) {
            self.wake(&Help::Room(&node));
        }
    }

    fn removed(&mut self, uid: &str) {
        if let Some((info, node)) = self.snapshot.remove(uid) {
            self.wake(&Help::Pod { info: &info, left: Some(&node) });
        }
    }

    /// Something has changed: the pods that it may help get another turn.
    fn wake(&mut self, help: &Help<'_>) {
        let concerned = self.queue.plugins().filter(|plugin| help.concerns(plugin));
        let waiting = self.queue.waiting(concerned).into_iter();
        let waiting: Vec<Pending> = waiting.filter_map(|uid| self.pods.get(uid)).cloned().collect();
        let now = Instant::now();
        for Pending { info, .. } in waiting {
            if help.helps(&mut self.snapshot, &info) {
                self.queue.wake(&info.uid, now);
            }
        }
    }

    fn decide(&mut self, uid: &str) {
        let Some(Pending { pod, info }) = self.pods.get(uid).cloned() else { return };
        match schedule(&mut self.snapshot, &info) {
            Decision::Place { node } => {
                self.actor.bind(&pod, &node);
                self.place(&info, &node);
            }
            Decision::Refused(refusal) => {
                self.queue.refuse(uid, &refusal.plugins, Instant::now());
                let nominated = match &refusal.preempt {
                    Some((node, _)) => Some(Some(node.as_str())),
                    None => refusal.give_up.then_some(None),
                };
                self.actor.tell_refused(&pod, &refusal.message, nominated);
                if refusal.give_up {
                    self.withdraw(uid);
                }
                if let Some((node, victims)) = refusal.preempt {
                    self.preempt(&pod, &info, &node, victims);
                }
            }
        }
    }

    fn preempt(&mut self, pod: &Arc<Pod>, info: &Arc<PodInfo>, node: &str, victims: Vec<String>) {
        // Less important pods that were promised the room look for another.
        for other in self.snapshot.outranked_by(info, node) {
            self.snapshot.withdraw(&other.uid);
            if let Some(pending) = self.pods.get(&other.uid) {
                self.actor.tell_nominated(&pending.pod, None);
            }
            self.queue.wake(&other.uid, Instant::now());
        }
        let placed = self.snapshot.node(node).map(|node| &node.pods);
        let infos = victims.iter().filter_map(|uid| placed?.get(uid));
        // One that is going already makes room anyway.
        let infos = infos.filter(|victim| !victim.deleting).cloned().collect();
        self.snapshot.nominate(info, node, victims);
        self.actor.preempt(pod, node, infos);
    }
}

#[cfg(test)]
mod tests;
