//! One task per pod: asks [`podlife`] what to do, does it, records what came of it, and reports the
//! status. It sleeps until something happens: a message, a finished piece of work, or a time that
//! the decision named.
//!
//! Work runs in a [`JoinSet`] so that the task itself never waits for anything slow; the facts say
//! what is under way, so nothing is begun twice.
mod adopt;
mod begin;
mod paths;
mod probes;
mod report;
mod start;
mod stop;
mod usage;

use crate::seams::Image;
use crate::shared::Shared;
use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::{SignedDuration, Timestamp};
use podlife::probe::ProbeKind;
use podlife::{Action, Exit, Facts, PodExt, Run, SandboxState, Step, Verdict, decide};
use reconcile::NoteKind;
use runtime::{Event, SandboxStatus};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use volume::Mounted;

pub use paths::PodPaths;
use report::Reporter;
use start::{StartFailure, Started};

/// Turns of the loop without waiting, after which something is wrong.
const MAX_TURNS: usize = 1000;
/// After a failed sandbox or volume.
const RETRY: SignedDuration = SignedDuration::from_secs(2);

/// What a worker is told.
#[derive(Debug)]
pub enum Msg {
    /// The pod as the API has it now.
    Pod(Arc<Pod>),
    /// The API has it no more; as it was last.
    Gone(Arc<Pod>),
    Runtime(Event),
    /// The runtime's list, after events were lost.
    Listed(Box<SandboxStatus>),
    /// An object that the pod refers to has changed.
    Objects,
    Probe {
        run: String,
        name: String,
        kind: ProbeKind,
        verdict: bool,
    },
    /// What the API shows of this static pod.
    Mirror(Option<Arc<Pod>>),
    /// The node is short of something: the pod has to go.
    Evict {
        message: String,
        /// Dropped once nothing of it is left.
        ended: oneshot::Sender<()>,
    },
}

/// A finished piece of work.
pub(crate) enum Done {
    Sandbox(Result<Up, String>),
    SandboxStopped(Result<(), String>),
    Volumes(Result<BTreeMap<String, Mounted>, String>),
    Unmounted(Result<(), String>),
    Image { name: String, result: Result<Arc<Image>, StartFailure> },
    Started { name: String, result: Result<Box<Started>, StartFailure> },
    Hook { name: String, run: String, result: Result<(), String> },
    Reported(Result<Box<Pod>, client::Error>),
    Refreshed(Result<BTreeMap<String, Mounted>, String>),
    Removed(Result<(), String>),
    Measured(podlife::usage::Usage),
    Nothing,
}

/// A sandbox that runs and is connected.
pub(crate) struct Up {
    pub(crate) id: String,
    pub(crate) ips: Vec<String>,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// The newest version known.
    pod: Arc<Pod>,
    facts: Facts,
    paths: PodPaths,
    inbox: mpsc::UnboundedReceiver<Msg>,
    own: mpsc::UnboundedSender<Msg>,
    work: JoinSet<Done>,
    sandbox_id: Option<String>,
    mounted: BTreeMap<String, Mounted>,
    /// Objects have changed since the volumes were last set up.
    stale: bool,
    refreshing: bool,
    /// After a refresh that failed.
    refresh_again_at: Option<Timestamp>,
    pulls: HashMap<String, AbortHandle>,
    /// By run.
    kills: HashMap<String, (watch::Sender<Timestamp>, AbortHandle)>,
    probing: HashMap<String, Vec<(ProbeKind, AbortHandle)>>,
    stop_signals: HashMap<String, i32>,
    /// Exits that were told before the start was.
    early_exits: HashMap<String, runtime::Exit>,
    followed: BTreeSet<volume::ObjectRef>,
    reporter: Reporter,
    /// Containers that are stopped to be started again at once with another image, and since when.
    replacing: HashMap<String, Timestamp>,
    /// A static pod's face in the API: its status is written there.
    mirror: Option<Arc<Pod>>,
    /// The API has forgotten the pod: nothing is reported any more.
    orphan: bool,
    removed: bool,
    /// When what the pod keeps on disk is measured next, and whether it is just now.
    measure_due: Option<Timestamp>,
    measuring: bool,
    /// Who waits for the end of the pod.
    awaited: Vec<oneshot::Sender<()>>,
}

/// How a pod's worker is begun.
pub struct Begin {
    pub pod: Arc<Pod>,
    /// What an earlier agent left running: every sandbox of the pod.
    pub found: Vec<SandboxStatus>,
    pub verdict: Option<Verdict>,
}

/// Starts a worker; it ends when nothing of the pod is left, and says so by closing its inbox.
pub fn spawn(shared: Arc<Shared>, begin: Begin) -> mpsc::UnboundedSender<Msg> {
    let (own, inbox) = mpsc::unbounded_channel();
    let sender = own.clone();
    let worker = Worker::new(shared, begin, own, inbox);
    tokio::spawn(worker.run());
    sender
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        begin: Begin,
        own: mpsc::UnboundedSender<Msg>,
        inbox: mpsc::UnboundedReceiver<Msg>,
    ) -> Self {
        let paths = PodPaths::new(&shared.config, &begin.pod);
        let mut worker = Self {
            facts: Facts::new(started_at(&begin.pod)),
            shared,
            pod: begin.pod,
            paths,
            inbox,
            own,
            work: JoinSet::new(),
            sandbox_id: None,
            mounted: BTreeMap::new(),
            stale: false,
            refreshing: false,
            refresh_again_at: None,
            pulls: HashMap::new(),
            kills: HashMap::new(),
            probing: HashMap::new(),
            stop_signals: HashMap::new(),
            early_exits: HashMap::new(),
            followed: BTreeSet::new(),
            reporter: Reporter::default(),
            replacing: HashMap::new(),
            mirror: None,
            orphan: false,
            removed: false,
            measure_due: None,
            measuring: false,
            awaited: Vec::new(),
        };
        worker.facts.verdict = begin.verdict;
        worker.adopt(begin.found);
        worker
    }

    async fn run(mut self) {
        self.follow();
        self.plan_measuring();
        let mut turns = 0;
        loop {
            let now = Timestamp::now();
            let report_at = self.report(now);
            let decision = decide(&self.pod, &self.facts, now);
            let mut begun = false;
            for action in decision.actions {
                begun |= self.begin(action, now);
            }
            turns = if begun { turns + 1 } else { 0 };
            if begun && turns < MAX_TURNS {
                continue;
            }
            if turns >= MAX_TURNS {
                tracing::error!(pod = %self.pod.written(), "the pod's actions do not settle");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            if decision.finished {
                self.awaited.clear();
            }
            if self.removed || self.orphan && decision.finished {
                break;
            }
            let own = [self.refresh_at(), self.measure_at()];
            let wake = [decision.wake, report_at].into_iter().chain(own).flatten().min();
            self.wait(wake, now).await;
        }
        self.finish().await;
    }

    /// Sleeps until something happens, and takes in everything that has happened.
    async fn wait(&mut self, wake: Option<Timestamp>, now: Timestamp) {
        let until = wake.map(|at| {
            let wait = std::time::Duration::try_from(at.duration_since(now)).unwrap_or_default();
            Instant::now() + wait
        });
        let alarm = async {
            match until {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            msg = self.inbox.recv() => {
                if let Some(msg) = msg {
                    self.receive(msg);
                }
            }
            Some(done) = self.work.join_next() => self.finished(done),
            () = alarm => {}
        }
        while let Ok(msg) = self.inbox.try_recv() {
            self.receive(msg);
        }
        while let Some(done) = self.work.try_join_next() {
            self.finished(done);
        }
        if let Some(at) = self.refresh_at()
            && at <= Timestamp::now()
        {
            self.refresh();
        }
        if self.measure_at().is_some_and(|at| at <= Timestamp::now()) {
            self.measure();
        }
    }

    fn receive(&mut self, msg: Msg) {
        match msg {
            Msg::Pod(pod) => self.update(pod),
            Msg::Gone(pod) => self.gone(&pod),
            Msg::Runtime(event) => self.observe(event),
            Msg::Listed(status) => self.compare(*status),
            Msg::Objects => self.objects_changed(),
            Msg::Probe { run, name, kind, verdict } => self.judge(&run, &name, kind, verdict),
            Msg::Mirror(mirror) => self.mirror = mirror,
            Msg::Evict { message, ended } => {
                self.awaited.push(ended);
                self.evict(message);
            }
        }
    }

    fn update(&mut self, pod: Arc<Pod>) {
        if revision(&pod) < revision(&self.pod) {
            return;
        }
        let before = self.pod.clone();
        self.pod = pod;
        self.follow();
        self.plan_measuring();
        self.resize(&before);
        if before.metadata.labels != self.pod.metadata.labels
            || before.metadata.annotations != self.pod.metadata.annotations
        {
            self.refresh();
        }
    }

    fn gone(&mut self, last: &Pod) {
        let mut pod = Pod::clone(&self.pod);
        let grace = last.metadata.deletion_grace_period_seconds;
        let grace = grace.unwrap_or_else(|| pod.grace_seconds());
        let until = Timestamp::now() + SignedDuration::from_secs(grace.max(0));
        let known = pod.deletion().map_or(until, |at| at.min(until));
        pod.metadata.deletion_timestamp = Some(Time(known));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.pod = Arc::new(pod);
        self.orphan = true;
        self.facts.removal_sent = true;
    }

    fn follow(&mut self) {
        let wanted = volume::references(&self.pod);
        if wanted == self.followed {
            return;
        }
        let shared = &self.shared;
        let (uid, namespace) = (self.pod.uid(), self.pod.namespace());
        shared.follow.follow(uid, namespace, &wanted, self.own.clone());
        self.followed = wanted;
    }

    fn objects_changed(&mut self) {
        let now = Timestamp::now();
        if let Step::Failed { retry_at, .. } = &mut self.facts.volumes {
            *retry_at = now;
        }
        for found in self.facts.containers.values_mut() {
            if let Some(error) = found.error.as_mut().filter(|error| !error.is_pull()) {
                error.retry_at = now;
            }
        }
        self.refresh();
    }

    fn observe(&mut self, event: Event) {
        match event {
            Event::ContainerStarted { .. } => {}
            Event::ContainerExited { id, exit, .. } => self.exited(&id, &exit),
            Event::SandboxGone { sandbox } => self.sandbox_gone(&sandbox),
        }
    }

    fn sandbox_gone(&mut self, id: &str) {
        if self.sandbox_id.as_deref() != Some(id) {
            return;
        }
        if self.facts.sandbox.state == SandboxState::Ready {
            self.facts.sandbox.state = SandboxState::Gone;
            self.facts.pod_ips.clear();
        }
        // The shim that would tell of exits is gone with everything in it.
        let running: Vec<String> = self.runs().map(|run| run.id.clone()).collect();
        for id in running {
            let exit = runtime::Exit {
                code: 137,
                signal: Some(9),
                oom_killed: false,
                started_at: 0,
                finished_at: nanos(Timestamp::now()),
                message: "The container's sandbox is gone".to_owned(),
                start_failed: false,
            };
            self.exited(&id, &exit);
        }
    }

    /// Runs that have not ended.
    fn runs(&self) -> impl Iterator<Item = &Run> {
        let runs = self.facts.containers.values().filter_map(|found| found.run.as_ref());
        runs.filter(|run| run.exit.is_none())
    }

    fn name_of(&self, run: &str) -> Option<String> {
        let mut all = self.facts.containers.iter();
        let found = all.find(|(_, found)| found.run.as_ref().is_some_and(|r| r.id == run));
        found.map(|(name, _)| name.clone())
    }

    fn exited(&mut self, id: &str, exit: &runtime::Exit) {
        self.stop_probes(id);
        if let Some((_, task)) = self.kills.remove(id) {
            task.abort();
        }
        let Some(name) = self.name_of(id) else {
            self.early_exits.insert(id.to_owned(), exit.clone());
            return;
        };
        let made = self.exit_of(&name, id, exit);
        let found = self.facts.container(&name);
        let Some(run) = found.run.as_mut().filter(|run| run.exit.is_none()) else { return };
        run.exit = Some(Exit { started: run.started.or(made.started), ..made });
        found.probes = podlife::Probes::default();
    }

    fn exit_of(&self, name: &str, id: &str, exit: &runtime::Exit) -> Exit {
        let attempt = self.facts.containers.get(name).map_or(0, |found| found.restarts);
        let message = match exit.message.as_str() {
            "" => self.paths.termination_message(&self.pod, name, attempt, exit.code),
            text => Some(text.to_owned()),
        };
        Exit {
            container_id: id.to_owned(),
            code: exit.code,
            signal: exit.signal,
            reason: podlife::status::exit_reason(exit.code, exit.oom_killed, exit.start_failed)
                .to_owned(),
            message,
            started: time(exit.started_at),
            finished: time(exit.finished_at).unwrap_or_else(Timestamp::now),
        }
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                tracing::error!(%error, pod = %self.pod.written(), "a piece of work panicked");
                return;
            }
        };
        let now = Timestamp::now();
        match done {
            Done::Sandbox(result) => self.sandbox_up(result, now),
            Done::SandboxStopped(result) => self.sandbox_stopped(result, now),
            Done::Volumes(result) => self.volumes_up(result, now),
            Done::Unmounted(result) => {
                if let Err(error) = result {
                    tracing::warn!(pod = %self.pod.written(), error, "a volume stays behind");
                }
                self.facts.volumes = Step::Undone;
            }
            Done::Image { name, result } => self.image_ready(&name, result, now),
            Done::Started { name, result } => self.started(&name, result, now),
            Done::Hook { name, run, result } => self.hooked(&name, &run, result),
            Done::Reported(result) => self.reported(result, now),
            Done::Refreshed(result) => self.refreshed(result, now),
            Done::Measured(usage) => self.measured(&usage),
            Done::Removed(result) => match result {
                Ok(()) => self.removed = true,
                Err(error) => {
                    tracing::debug!(pod = %self.pod.written(), error, "removal is tried again");
                    self.facts.removal_sent = false;
                    self.reporter.hold(now);
                }
            },
            Done::Nothing => {}
        }
    }

    fn sandbox_up(&mut self, result: Result<Up, String>, now: Timestamp) {
        match result {
            Ok(up) => {
                self.facts.sandbox.state = SandboxState::Ready;
                self.facts.pod_ips = up.ips;
                self.sandbox_id = Some(up.id);
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.warn("FailedCreatePodSandBox", message.clone());
                let retry_at = now + RETRY;
                self.facts.sandbox.state = SandboxState::Failed { message, retry_at };
            }
        }
    }

    fn sandbox_stopped(&mut self, result: Result<(), String>, now: Timestamp) {
        self.facts.sandbox.state = match result {
            Ok(()) => SandboxState::Gone,
            Err(message) => {
                self.warn("FailedKillPod", format!("error killing pod: {message}"));
                SandboxState::Failed { message, retry_at: now + RETRY }
            }
        };
    }

    fn volumes_up(&mut self, result: Result<BTreeMap<String, Mounted>, String>, now: Timestamp) {
        match result {
            Ok(mounted) => {
                self.mounted = mounted;
                self.facts.volumes = Step::Done;
                if std::mem::take(&mut self.stale) {
                    self.refresh();
                }
            }
            Err(message) => {
                self.warn("FailedMount", message.clone());
                self.facts.volumes = Step::Failed { message, retry_at: now + RETRY * 5 };
            }
        }
    }

    fn warn(&self, reason: &'static str, message: String) {
        self.shared.events.pod(&self.pod, NoteKind::Warning, reason, message);
    }

    /// When a volume's content goes stale by itself.
    fn refresh_at(&self) -> Option<Timestamp> {
        if self.facts.volumes != Step::Done || self.refreshing {
            return None;
        }
        let own = self.mounted.values().filter_map(|mounted| mounted.refresh_at);
        own.chain(self.refresh_again_at).min()
    }

    /// Brings volumes up to date that follow objects.
    fn refresh(&mut self) {
        let follows = self.pod.spec_ref().volumes.iter().flatten().any(volume::follows_objects);
        if !follows || self.pod.deletion().is_some() {
            return;
        }
        if self.facts.volumes != Step::Done || self.refreshing {
            // What is under way may have read what was there before: once more when it is done.
            self.stale = matches!(self.facts.volumes, Step::Busy | Step::Done);
            return;
        }
        self.refreshing = true;
        self.refresh_again_at = None;
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let ips = self.facts.pod_ips.clone();
        self.work.spawn(async move {
            let all = volume::set_up_all(&shared.volumes, &pod, &ips).await;
            Done::Refreshed(all.map_err(|error| error.text()))
        });
    }

    fn refreshed(&mut self, result: Result<BTreeMap<String, Mounted>, String>, now: Timestamp) {
        self.refreshing = false;
        match result {
            Ok(mounted) => self.mounted = mounted,
            Err(message) => {
                self.warn("FailedMount", message);
                let again = now + SignedDuration::from_secs(30);
                self.refresh_again_at = Some(again);
                for mounted in self.mounted.values_mut().filter(|m| m.refresh_at.is_some()) {
                    mounted.refresh_at = Some(again);
                }
            }
        }
        if std::mem::take(&mut self.stale) {
            self.refresh();
        }
    }

    /// Nothing of the pod is left but what every pod leaves: remove that too.
    async fn finish(mut self) {
        self.work.abort_all();
        if let Some(id) = &self.sandbox_id {
            self.shared.routes.remove(id);
        }
        self.shared.follow.forget(self.pod.uid());
        if self.orphan && !self.removed {
            let (shared, paths) = (self.shared.clone(), self.paths.clone());
            let sandbox = self.sandbox_id.clone();
            if let Err(error) = stop::remove_from_node(&shared, &paths, sandbox).await {
                tracing::warn!(pod = %self.pod.written(), error, "something of a pod stays behind");
            }
        }
        self.inbox.close();
    }

    /// Returns false if the action has to wait for something that is under way.
    fn begin(&mut self, action: Action, now: Timestamp) -> bool {
        match action {
            Action::StartSandbox { attempt } => self.start_sandbox(attempt),
            Action::StopSandbox => self.stop_sandbox(),
            Action::MountVolumes => self.mount_volumes(),
            Action::UnmountVolumes => self.unmount_volumes(),
            Action::StartContainer { name, role } => self.start_container(&name, role, now),
            Action::KillContainer { name, kill_at, why } => self.kill(&name, kill_at, why),
            Action::AbortPull { name } => {
                if let Some(task) = self.pulls.remove(&name) {
                    task.abort();
                }
                self.facts.container(&name).op = None;
            }
            Action::NoteBackOff { name, message } => self.note_back_off(&name, message),
            Action::Remove => return self.remove(),
        }
        true
    }
}

pub(crate) fn revision(pod: &Pod) -> api::Revision {
    api::Kind::revision(pod)
}

fn started_at(pod: &Pod) -> Timestamp {
    let known = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    known.map_or_else(Timestamp::now, |time| time.0)
}

pub(crate) fn time(nanos: i64) -> Option<Timestamp> {
    if nanos <= 0 { None } else { Timestamp::from_nanosecond(i128::from(nanos)).ok() }
}

pub(crate) fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
