//! Starting containers: image, configuration, the container itself, its post-start hook.
use super::{Done, PodPaths, Worker, time};
use crate::act::{self, Target};
use crate::seams::Image;
use crate::shared::Shared;
use crate::translate::{self, env, mounts, security};
use api::k8s::api::core::v1::{Container, LifecycleHandler, Pod};
use jiff::{SignedDuration, Timestamp};
use podlife::downward::Addresses;
use podlife::probe::ProbeKind;
use podlife::{Op, PodExt, Probes, Role, Run, StartError, pods};
use reconcile::NoteKind;
use runtime::{ContainerConfig, Error, LogPolicy};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use volume::Mounted;

/// After an error that is not an image's.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// A post-start hook may take as long as the pod's start may: it is bounded all the same.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);

/// Why there is no container: reason and message for the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartFailure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl StartFailure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// A container that was made, and maybe started.
pub(crate) struct Started {
    id: String,
    image: String,
    image_id: String,
    stop_signal: i32,
    user: (i64, i64, Vec<i64>),
    /// It could not be started.
    failed: Option<String>,
}

impl Worker {
    pub(super) fn start_container(&mut self, name: &str, role: Role, now: Timestamp) {
        let found = self.facts.container(name);
        if found.error.take().is_none() {
            if let Some(exit) = found.run.as_ref().and_then(|run| run.exit.as_ref()) {
                found.restart_backoff.next(exit.finished, now);
            }
        }
        found.op = Some(Op::Pulling);
        let Some((_, container)) = pods::find(&self.pod, name) else { return };
        let (shared, pod, name) = (self.shared.clone(), self.pod.clone(), name.to_owned());
        let key = name.clone();
        let task = self.work.spawn(async move {
            let result = container_image(&shared, &pod, &container, role).await;
            Done::Image { name, result }
        });
        self.pulls.insert(key, task);
    }

    pub(super) fn image_ready(
        &mut self,
        name: &str,
        result: Result<Arc<Image>, StartFailure>,
        now: Timestamp,
    ) {
        self.pulls.remove(name);
        let Some((role, container)) = pods::find(&self.pod, name) else { return };
        let image = match result {
            Ok(image) => image,
            Err(failure) => return self.start_failed(name, role, failure, now),
        };
        let found = self.facts.container(name);
        found.pull_backoff.reset();
        found.op = Some(Op::Starting);
        let attempt = if found.run.is_some() { found.restarts + 1 } else { found.restarts };
        let Some(sandbox) = self.sandbox_id.clone() else {
            let failure = StartFailure::new("CreateContainerError", "the pod's sandbox is gone");
            return self.start_failed(name, role, failure, now);
        };
        let target = match self.target_of(name) {
            Ok(target) => target,
            Err(failure) => return self.start_failed(name, role, failure, now),
        };
        let making = Making {
            target,
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            paths: self.paths.clone(),
            sandbox,
            container,
            role,
            attempt,
            image,
            mounted: self.mounted.clone(),
            pod_ips: self.facts.pod_ips.clone(),
        };
        let name = name.to_owned();
        self.work.spawn(async move {
            let result = making.start().await.map(Box::new);
            Done::Started { name, result }
        });
    }

    /// The container whose processes an ephemeral one is to see.
    fn target_of(&self, name: &str) -> Result<Option<String>, StartFailure> {
        let all = self.pod.spec_ref().ephemeral_containers.iter().flatten();
        let own = all.filter(|own| own.name == name);
        let mut targets = own.filter_map(|own| own.target_container_name.as_deref());
        let Some(target) = targets.next().filter(|target| !target.is_empty()) else {
            return Ok(None);
        };
        let run = self.facts.containers.get(target).and_then(|found| found.run.as_ref());
        match run.filter(|run| run.exit.is_none()) {
            Some(run) => Ok(Some(run.id.clone())),
            None => {
                let text = format!("unable to find target container {target}");
                Err(StartFailure::new("CreateContainerConfigError", text))
            }
        }
    }

    fn start_failed(&mut self, name: &str, role: Role, failure: StartFailure, now: Timestamp) {
        let message = match failure.reason {
            "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError" => {
                format!("Error: {}", failure.reason)
            }
            _ => format!("Error: {}", failure.message),
        };
        let warning = NoteKind::Warning;
        self.shared.events.container(&self.pod, (name, role), warning, "Failed", message);
        let found = self.facts.container(name);
        found.op = None;
        let retry_at = if failure.reason == "ErrImagePull" {
            found.pull_backoff.next(now, now);
            found.pull_backoff.until(now).unwrap_or(now)
        } else {
            now + RETRY
        };
        found.error = Some(StartError {
            reason: failure.reason.to_owned(),
            message: failure.message,
            at: now,
            retry_at,
            noted: false,
        });
    }

    pub(super) fn started(
        &mut self,
        name: &str,
        result: Result<Box<Started>, StartFailure>,
        now: Timestamp,
    ) {
        self.replacing.remove(name);
        let Some((role, container)) = pods::find(&self.pod, name) else { return };
        let started = match result {
            Ok(started) => *started,
            Err(failure) => return self.start_failed(name, role, failure, now),
        };
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.clone());
        let sandbox = self.facts.sandbox.attempt;
        let found = self.facts.container(name);
        found.op = None;
        found.probes = Probes::default();
        found.restart_to_resize = false;
        found.resources = container.resources.clone();
        let mut outdated = None;
        if let Some(old) = found.run.take() {
            found.restarts += 1;
            outdated = found.last.take().map(|exit| exit.container_id);
            found.last = old.exit;
        }
        let restarts = found.restarts;
        let id = started.id.clone();
        found.run = Some(Run {
            id: started.id,
            sandbox,
            image: started.image,
            image_id: started.image_id,
            started: started.failed.is_none().then_some(now),
            hooked: hook.is_none() || started.failed.is_some(),
            hook_failed: false,
            exit: None,
            kill_at: None,
            noted: false,
            user: Some(started.user),
        });
        self.stop_signals.insert(id.clone(), started.stop_signal);
        if let Some(outdated) = outdated {
            self.remove_outdated(name, outdated, restarts);
        }
        if let Some(message) = started.failed {
            let exit = runtime::Exit {
                code: 128,
                signal: None,
                oom_killed: false,
                started_at: 0,
                finished_at: super::nanos(now),
                message,
                start_failed: true,
            };
            return self.exited(&id, &exit);
        }
        if let Some(exit) = self.early_exits.remove(&id) {
            return self.exited(&id, &exit);
        }
        match hook {
            Some(hook) => self.run_hook(name, &id, container, hook),
            None => self.start_probes(name),
        }
    }

    /// Of a container's attempts the newest two are kept, for their logs.
    fn remove_outdated(&mut self, name: &str, id: String, restarts: u32) {
        self.stop_signals.remove(&id);
        let shared = self.shared.clone();
        let old = restarts.checked_sub(2);
        let (paths, name) = (self.paths.clone(), name.to_owned());
        self.work.spawn(async move {
            if let Err(error) = shared.runtime.remove_container(&id).await {
                tracing::debug!(id, %error, "an old container stays behind");
            }
            if let Some(old) = old {
                let _ = tokio::task::spawn_blocking(move || paths.forget(&name, old)).await;
            }
            Done::Nothing
        });
    }

    fn run_hook(&mut self, name: &str, run: &str, container: Container, hook: LifecycleHandler) {
        let target = self.target(run, container);
        let (shared, name, run) = (self.shared.clone(), name.to_owned(), run.to_owned());
        self.work.spawn(async move {
            let result = handle(&shared, &target, &hook, HOOK_TIMEOUT).await;
            Done::Hook { name, run, result }
        });
    }

    pub(super) fn hooked(&mut self, name: &str, run: &str, result: Result<(), String>) {
        let found = self.facts.container(name);
        let Some(current) = found.run.as_mut().filter(|current| current.id == run) else { return };
        if current.exit.is_some() {
            return;
        }
        match result {
            Ok(()) => {
                current.hooked = true;
                self.start_probes(name);
            }
            Err(error) => {
                current.hook_failed = true;
                tracing::debug!(error, container = name, "the post-start hook failed");
                if let Some((role, _)) = pods::find(&self.pod, name) {
                    let message = "PostStartHook failed".to_owned();
                    let about = (name, role);
                    let warning = NoteKind::Warning;
                    let reason = "FailedPostStartHook";
                    self.shared.events.container(&self.pod, about, warning, reason, message);
                }
            }
        }
    }

    pub(super) fn target(&self, run: &str, container: Container) -> Target {
        let host = self.facts.pod_ips.first().or(self.shared.node.host_ips.first());
        Target {
            host: host.cloned().unwrap_or_default(),
            container_id: run.to_owned(),
            container: Arc::new(container),
        }
    }

    /// The limits of running containers follow the spec: the pod's own grow before and shrink after
    /// those of its containers.
    pub(super) fn resize(&mut self, before: &Pod) {
        let mut changes = Vec::new();
        for container in &self.pod.spec_ref().containers {
            let mut all = before.spec_ref().containers.iter();
            let old = all.find(|old| old.name == container.name);
            let Some(old) = old.filter(|old| old.resources != container.resources) else {
                continue;
            };
            let found = self.facts.containers.entry(container.name.clone()).or_default();
            let Some(run) = found.run.as_ref().filter(|run| run.exit.is_none()) else { continue };
            if needs_restart(old, container) {
                found.restart_to_resize = true;
                continue;
            }
            found.resources = container.resources.clone();
            let own = container.resources.as_ref();
            changes.push((run.id.clone(), translate::container_resources(&self.pod, own)));
        }
        let pod_changed =
            podlife::resources::pod_limits(before) != podlife::resources::pod_limits(&self.pod);
        let Some(sandbox) = self.sandbox_id.clone().filter(|_| pod_changed) else {
            return self.apply_resize(changes);
        };
        let both = translate::larger(before, &self.pod);
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        self.work.spawn(async move {
            let runtime = &shared.runtime;
            let mut result = runtime.update_sandbox_resources(&sandbox, &both).await;
            for (id, resources) in changes {
                result = result.and(runtime.update_resources(&id, &resources).await);
            }
            let own = translate::pod_resources(&pod);
            result = result.and(runtime.update_sandbox_resources(&sandbox, &own).await);
            tell_resize(&shared, &pod, result);
            Done::Nothing
        });
    }

    fn apply_resize(&mut self, changes: Vec<(String, runtime::Resources)>) {
        if changes.is_empty() {
            return;
        }
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        self.work.spawn(async move {
            let mut result = Ok(());
            for (id, resources) in changes {
                result = result.and(shared.runtime.update_resources(&id, &resources).await);
            }
            tell_resize(&shared, &pod, result);
            Done::Nothing
        });
    }

    pub(super) fn judge(&mut self, run: &str, name: &str, kind: ProbeKind, verdict: bool) {
        let found = self.facts.container(name);
        if found.run.as_ref().is_none_or(|current| current.id != run || current.exit.is_some()) {
            return;
        }
        match kind {
            ProbeKind::Startup => {
                let first = found.probes.startup.is_none();
                if first {
                    found.probes.startup = Some(verdict);
                    if verdict {
                        self.stop_probe(run, ProbeKind::Startup);
                        self.start_probes(name);
                    }
                }
            }
            ProbeKind::Liveness => found.probes.liveness = Some(verdict),
            ProbeKind::Readiness => found.probes.readiness = Some(verdict),
        }
    }
}

fn tell_resize(shared: &Shared, pod: &Pod, result: Result<(), Error>) {
    if let Err(error) = result {
        let message = format!("error resizing the pod's containers: {error}");
        shared.events.pod(pod, NoteKind::Warning, "ResizeError", message);
    }
}

/// Whether a changed resource's policy is to restart the container.
fn needs_restart(old: &Container, new: &Container) -> bool {
    let changed = |name: &str| {
        let of = |container: &Container| {
            let own = container.resources.as_ref();
            let request = podlife::resources::request(own, name);
            (request, podlife::resources::limit(own, name))
        };
        of(old) != of(new)
    };
    let policies = new.resize_policy.as_deref().unwrap_or_default();
    policies
        .iter()
        .any(|policy| policy.restart_policy == "RestartContainer" && changed(&policy.resource_name))
}

async fn container_image(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    role: Role,
) -> Result<Arc<Image>, StartFailure> {
    let name = container.image.as_deref().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    let about = Some((container.name.as_str(), role));
    let got = shared.puller.get(pod, about, name, policy).await;
    got.map_err(|failure| StartFailure::new(failure.reason, failure.message))
}

/// Everything that one start needs.
struct Making {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    paths: PodPaths,
    sandbox: String,
    /// Whose process namespace it shares.
    target: Option<String>,
    container: Container,
    role: Role,
    attempt: u32,
    image: Arc<Image>,
    mounted: BTreeMap<String, Mounted>,
    pod_ips: Vec<String>,
}

impl Making {
    async fn start(self) -> Result<Started, StartFailure> {
        let bad_config = |text| StartFailure::new("CreateContainerConfigError", text);
        let config = self.config().await.map_err(bad_config)?;
        let runtime = &self.shared.runtime;
        let id = match runtime.create_container(&self.sandbox, &config).await {
            Ok(id) => id,
            Err(Error::Config(text)) => return Err(bad_config(text)),
            Err(error) => {
                return Err(StartFailure::new("CreateContainerError", error.to_string()));
            }
        };
        self.event(NoteKind::Normal, "Created", "Container created".to_owned());
        let user = &config.user;
        let groups = user.groups.iter().copied().map(i64::from).collect();
        let mut started = Started {
            id,
            image: config.image.clone(),
            image_id: config.image_id.clone(),
            stop_signal: config.stop_signal,
            user: (i64::from(user.uid), i64::from(user.gid), groups),
            failed: None,
        };
        match runtime.start_container(&started.id).await {
            Ok(_) => self.event(NoteKind::Normal, "Started", "Container started".to_owned()),
            Err(error) => {
                self.event(NoteKind::Warning, "Failed", format!("Error: {error}"));
                started.failed = Some(error.to_string());
            }
        }
        Ok(started)
    }

    fn event(&self, kind: NoteKind, reason: &'static str, message: String) {
        let about = (self.container.name.as_str(), self.role);
        self.shared.events.container(&self.pod, about, kind, reason, message);
    }

    async fn config(&self) -> Result<ContainerConfig, String> {
        let (shared, pod, container, image) =
            (&self.shared, &self.pod, &self.container, &self.image);
        let services = shared.services.visible_to(pod.namespace());
        let sources = env::Sources {
            pod,
            objects: &*shared.volumes.objects,
            services: &services,
            addresses: Addresses { pod_ips: &self.pod_ips, host_ips: &shared.node.host_ips },
            allocatable: &shared.volumes.allocatable,
        };
        let env = env::environment(&sources, container, image).await?;
        let args = translate::command_line(container, image, &env.by_name);
        if args.is_empty() {
            return Err("no command specified: neither the image nor the pod has one".to_owned());
        }
        let user = security::user(pod, container, image)?;
        let seccomp_dir = shared.config.root.join("seccomp");
        let name = &container.name;
        let config = ContainerConfig {
            name: name.clone(),
            attempt: self.attempt,
            image: container.image.clone().unwrap_or_default(),
            image_id: image.id.clone(),
            layers: image.layers.clone(),
            args,
            env: env.list,
            cwd: container.working_dir.clone().unwrap_or_else(|| image.cwd.clone()),
            security: security::security(pod, container, &seccomp_dir)?,
            resources: translate::container_resources(pod, container.resources.as_ref()),
            oom_score_adj: Some(podlife::resources::oom_score(pod, container, shared.memory_bytes)),
            log_path: Some(self.paths.log(name, self.attempt)),
            log: LogPolicy::default(),
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            stop_signal: translate::stop_signal(container, image),
            pids_of: self.target.clone(),
            ..ContainerConfig::default()
        };
        self.with_files(config, user, env.by_name).await
    }

    /// The part that reads and writes files.
    async fn with_files(
        &self,
        mut config: ContainerConfig,
        user: runtime::user::UserSpec,
        env: BTreeMap<String, String>,
    ) -> Result<ContainerConfig, String> {
        let (container, mounted) = (self.container.clone(), self.mounted.clone());
        let own = self.own_files();
        let message = self.paths.message(&container.name, self.attempt);
        let made = tokio::task::spawn_blocking(move || {
            make_message_file(&message)?;
            config.user =
                runtime::user::resolve(&config.layers, &user).map_err(|e| e.to_string())?;
            config.mounts = mounts::mounts(&container, &mounted, &env, &own)?;
            Ok(config)
        });
        made.await.unwrap_or_else(|_| Err("preparing the container was interrupted".to_owned()))
    }

    fn own_files(&self) -> Vec<mounts::OwnFile> {
        let file = |source: PathBuf, destination: &str| mounts::OwnFile {
            source,
            destination: destination.to_owned(),
            readonly: false,
        };
        let message = self.container.termination_message_path.as_deref();
        vec![
            file(self.paths.hosts(), "/etc/hosts"),
            file(self.paths.resolv_conf(), "/etc/resolv.conf"),
            file(self.paths.hostname(), "/etc/hostname"),
            file(
                self.paths.message(&self.container.name, self.attempt),
                message.filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log"),
            ),
        ]
    }
}

/// The container's user may not be the node's: everyone may write its last words.
fn make_message_file(path: &std::path::Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let make = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = std::fs::File::create(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o666))
    };
    make().map_err(|error| format!("cannot make {}: {error}", path.display()))
}

/// Carries out a lifecycle hook.
pub(crate) async fn handle(
    shared: &Shared,
    target: &Target,
    hook: &LifecycleHandler,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(action) = &hook.exec {
        act::exec(&*shared.runtime, target, action, timeout).await
    } else if let Some(action) = &hook.http_get {
        act::http_get(target, action, "kube-lifecycle/1.37", timeout, false).await
    } else if let Some(action) = &hook.tcp_socket {
        act::tcp(target, action, timeout).await
    } else if let Some(action) = &hook.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds).min(timeout)).await;
        Ok(())
    } else {
        Ok(())
    }
}

/// When a container that an earlier agent started began.
pub(crate) fn began(started_at: i64) -> Option<Timestamp> {
    time(started_at)
}
