//! Runs controllers: for each key a turn is the gate, one look, the effects, and what follows.
use crate::backoff::exponential;
use crate::execute::{Executor, Outcome};
use crate::gate::Gate;
use crate::{Caches, Change, Queue, Recorder};
use api::Key;
use futures_util::stream::{FuturesUnordered, StreamExt};
use reconcile::{Controller, Failure, Now, Plan, Signer, Target, Turn, World};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Keys of one controller that are worked on at once.
const WORKERS: usize = 16;
const FIRST_WAIT: Duration = Duration::from_millis(5);
const MOST_WAIT: Duration = Duration::from_secs(60);

/// Controllers over shared caches. Make it before [`Caches::start`].
pub struct Manager {
    shells: Vec<Shell>,
}

/// Controllers at work, until this is dropped.
pub struct Running {
    _tasks: JoinSet<()>,
}

struct Shell {
    caches: Caches,
    controller: Arc<dyn Controller>,
    kinds: Vec<Target>,
    executor: Arc<Executor>,
    todo: Arc<Todo>,
}

struct Todo {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue<Key>,
    gate: Gate,
    /// The last refusal, if it was one, and how many turns in a row went wrong.
    failed: HashMap<Key, (Option<Failure>, u32)>,
}

impl Manager {
    pub fn new(
        caches: &Caches,
        controllers: &[Arc<dyn Controller>],
        signer: Option<Arc<dyn Signer>>,
    ) -> Self {
        let shells = controllers.iter().map(|one| Shell::new(caches, one.clone(), signer.clone()));
        Self { shells: shells.collect() }
    }
    /// Each controller begins when the caches that it reads are complete.
    pub fn start(self) -> Running {
        let mut tasks = JoinSet::new();
        for shell in self.shells {
            tasks.spawn(shell.run());
        }
        Running { _tasks: tasks }
    }
}

impl Shell {
    fn new(
        caches: &Caches,
        controller: Arc<dyn Controller>,
        signer: Option<Arc<dyn Signer>>,
    ) -> Self {
        let client = caches.client().named(controller.name());
        let recorder = Recorder::start(client.clone(), controller.name(), "");
        let executor = Arc::new(Executor { client, recorder, signer });
        let todo = Arc::new(Todo { state: Mutex::default(), wake: Notify::new() });
        for declare in controller.indexes() {
            caches.declare(declare);
        }
        let mut kinds: HashSet<Target> = controller.reads().into_iter().collect();
        for target in &kinds {
            let todo = todo.clone();
            // Only for the gate: what was written may be of a kind that is merely read.
            caches.listen(*target, move |_, change| todo.release(change));
        }
        for watch in controller.watches() {
            let gated = !kinds.insert(watch.target);
            let todo = todo.clone();
            caches.listen(watch.target, move |world, change| {
                let mut keys = Vec::new();
                for object in change.old.iter().chain(&change.new) {
                    watch.keys(world, object, &mut keys);
                }
                todo.add(keys);
                if !gated {
                    todo.release(change);
                }
            });
        }
        Self {
            caches: caches.clone(),
            controller,
            kinds: kinds.into_iter().collect(),
            executor,
            todo,
        }
    }

    async fn run(self) {
        self.caches.synced(&self.kinds).await;
        tracing::debug!(controller = self.controller.name(), "started");
        let mut working = FuturesUnordered::new();
        loop {
            let mut next_due = None;
            while working.len() < WORKERS {
                let mut state = self.todo.lock();
                next_due = state.queue.advance(Instant::now());
                let Some(key) = state.queue.take() else { break };
                drop(state);
                working.push(self.turn(key));
            }
            let due = async {
                match next_due {
                    Some(when) => tokio::time::sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(()) = working.next(), if !working.is_empty() => {}
                () = self.todo.wake.notified() => {}
                () = due => {}
            }
        }
    }

    async fn turn(&self, key: Key) {
        // Calls within the process may be done at once: a run of such turns lets others go first.
        tokio::task::coop::consume_budget().await;
        let failed = {
            let world = self.caches.world();
            let mut state = self.todo.lock();
            if !state.gate.caught_up(&key, &world) {
                state.queue.done(&key);
                return;
            }
            state.failed.get(&key).cloned()
        };
        let plan = self.look(
            &self.caches.world(),
            &key,
            failed.as_ref().and_then(|(why, _)| why.as_ref()),
        );
        let Plan { effects, again_after } = plan;
        let outcome = self.executor.execute(effects).await;
        self.finish(key, outcome, again_after);
    }

    fn look(&self, world: &World, key: &Key, failed: Option<&Failure>) -> Plan {
        let _span = tracing::debug_span!("reconcile", by = self.controller.name(), %key).entered();
        let plan = self.controller.reconcile(&Turn { world, key, now: Now::now(), failed });
        if !plan.effects.is_empty() {
            let effects = plan.effects.len();
            tracing::debug!(effects, first = plan.effects[0].verb(), "planned");
        }
        plan
    }

    fn finish(&self, key: Key, outcome: Outcome, again_after: Option<Duration>) {
        // What came to nothing, as it does in a namespace that ends, would be planned again for
        // ever: the caches will tell when there is something new.
        let acted = !outcome.wrote.is_empty() || !outcome.deleted.is_empty();
        let world = self.caches.world();
        let mut state = self.todo.lock();
        for (target, revision) in outcome.wrote {
            if self.kinds.contains(&target) {
                state.gate.wrote(&key, target, revision);
            }
        }
        for (target, object, uid) in outcome.deleted {
            if self.kinds.contains(&target) {
                state.gate.deleted(&key, target, object, uid);
            }
        }
        if outcome.failed.is_some() || outcome.stale {
            let before = state.failed.get(&key).map_or(0, |(_, attempts)| *attempts);
            let wait = exponential(FIRST_WAIT, MOST_WAIT, before);
            state.failed.insert(key.clone(), (outcome.failed, before + 1));
            state.queue.add_at(key.clone(), Instant::now() + wait);
        } else {
            state.failed.remove(&key);
            if acted {
                state.queue.add(key.clone());
            }
        }
        if let Some(wait) = again_after {
            state.queue.add_at(key.clone(), Instant::now() + wait);
        }
        state.queue.done(&key);
        drop(state);
        drop(world);
    }
}

impl Todo {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the queue panics")
    }
    fn add(&self, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        let mut state = self.lock();
        for key in keys {
            state.queue.add(key);
        }
        drop(state);
        self.wake.notify_one();
    }
    fn release(&self, change: &Change) {
        let mut state = self.lock();
        let released = state.gate.release(change.target, change.key.as_ref(), change.seen);
        if released.is_empty() {
            return;
        }
        for key in released {
            state.queue.add(key);
        }
        drop(state);
        self.wake.notify_one();
    }
}
