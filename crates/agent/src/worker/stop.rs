//! Ending containers, sandboxes, and what a pod has on its node.
use super::{Done, PodPaths, Worker, start};
use crate::act::Target;
use crate::seams::chain;
use crate::shared::Shared;
use api::Key;
use api::k8s::api::core::v1::{Container, Pod};
use client::DeleteParams;
use jiff::{SignedDuration, Timestamp};
use podlife::probe::ProbeKind;
use podlife::{PodExt, Why, pods};
use reconcile::NoteKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What is left for the signal at least when a hook has used up the time.
const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(2);

impl Worker {
    pub(super) fn kill(&mut self, name: &str, kill_at: Timestamp, why: Why) {
        let Some((role, container)) = pods::find(&self.pod, name) else { return };
        let Some(run) = self.facts.container(name).run.as_mut() else { return };
        run.kill_at = Some(kill_at);
        let id = run.id.clone();
        if let Some((deadline, _)) = self.kills.get(&id) {
            deadline.send_replace(kill_at);
            return;
        }
        if matches!(why, Why::ImageChanged | Why::Resized) {
            self.replacing.insert(name.to_owned(), Timestamp::now());
        }
        let message = match why {
            Why::PodEnds => format!("Stopping container {name}"),
            Why::Liveness => format!("Container {name} failed liveness probe, will be restarted"),
            Why::Startup => format!("Container {name} failed startup probe, will be restarted"),
            Why::PostStartHook => "FailedPostStartHook".to_owned(),
            Why::Resized => format!("Container {name} resize requires restart"),
            Why::ImageChanged => format!("Container {name} definition changed, will be restarted"),
        };
        let normal = NoteKind::Normal;
        self.shared.events.container(&self.pod, (name, role), normal, "Killing", message);
        self.stop_probe(&id, ProbeKind::Liveness);
        self.stop_probe(&id, ProbeKind::Startup);
        let (deadline, changes) = watch::channel(kill_at);
        let ending = Ending {
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            role,
            target: self.target(&id, container),
            signal: self.stop_signals.get(&id).copied().filter(|signal| *signal > 0),
            deadline: changes,
        };
        let task = self.work.spawn(async move {
            ending.run().await;
            Done::Nothing
        });
        self.kills.insert(id, (deadline, task));
    }

    /// The final status is written first: returns false until it is.
    pub(super) fn remove(&mut self) -> bool {
        if !self.reporter.settled() {
            return false;
        }
        self.facts.removal_sent = true;
        let (shared, pod, paths) = (self.shared.clone(), self.pod.clone(), self.paths.clone());
        let sandbox = self.sandbox_id.clone();
        self.work.spawn(async move { Done::Removed(remove(&shared, &pod, &paths, sandbox).await) });
        true
    }
}

/// One container's end.
struct Ending {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    role: podlife::Role,
    target: Target,
    signal: Option<i32>,
    deadline: watch::Receiver<Timestamp>,
}

impl Ending {
    async fn run(mut self) {
        let container = self.target.container.clone();
        let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone());
        let mut least = None;
        if let Some(hook) = hook.filter(|_| self.left() > Duration::ZERO) {
            let (shared, target, limit) = (self.shared.clone(), self.target.clone(), self.left());
            let result = tokio::select! {
                result = start::handle(&shared, &target, &hook, limit) => result,
                () = self.time_up(None) => Err("the grace period is over".to_owned()),
            };
            if let Err(error) = result {
                tracing::debug!(error, container = container.name, "the pre-stop hook failed");
                self.event(&container, "FailedPreStopHook", "PreStopHook failed".to_owned());
            }
            least = Some(Timestamp::now() + LEAST_GRACE);
        }
        let runtime = self.shared.runtime.clone();
        let id = self.target.container_id.clone();
        if self.left() > Duration::ZERO || least.is_some() {
            let signal = self.signal.unwrap_or(nix::libc::SIGTERM);
            if let Err(error) = runtime.signal_container(&id, signal).await {
                tracing::debug!(id, %error, "a container cannot be told to stop");
            }
            self.time_up(least).await;
        }
        if let Err(error) = runtime.signal_container(&id, nix::libc::SIGKILL).await {
            tracing::warn!(id, %error, "a container cannot be killed");
        }
    }

    fn left(&self) -> Duration {
        let left = self.deadline.borrow().duration_since(Timestamp::now());
        Duration::try_from(left).unwrap_or_default()
    }

    /// Returns at the deadline, however often it is brought forward. Dropped when the container
    /// ends.
    async fn time_up(&mut self, least: Option<Timestamp>) {
        loop {
            let left = match least {
                Some(least) => {
                    let rest = least.duration_since(Timestamp::now());
                    self.left().max(Duration::try_from(rest).unwrap_or_default())
                }
                None => self.left(),
            };
            tokio::select! {
                () = tokio::time::sleep(left) => return,
                Ok(()) = self.deadline.changed() => {}
            }
        }
    }

    fn event(&self, container: &Container, reason: &'static str, message: String) {
        let about = (container.name.as_str(), self.role);
        self.shared.events.container(&self.pod, about, NoteKind::Warning, reason, message);
    }
}

/// Ends a sandbox and frees the pod's address.
pub(crate) async fn stop_sandbox(
    shared: &Shared,
    id: Option<&str>,
    uid: &str,
) -> Result<(), String> {
    // The link goes with the namespace, but the address is freed only when nobody can use it.
    if let Some(id) = id {
        shared.runtime.stop_sandbox(id).await.map_err(|error| error.to_string())?;
    }
    shared.network.detach(uid).await
}

/// Removes everything of a pod of which nothing runs.
pub(crate) async fn remove_from_node(
    shared: &Arc<Shared>,
    paths: &PodPaths,
    sandbox: Option<String>,
) -> Result<(), String> {
    if let Some(id) = sandbox {
        shared.runtime.remove_sandbox(&id).await.map_err(|error| error.to_string())?;
    }
    let (shared, paths) = (shared.clone(), paths.clone());
    let removed = tokio::task::spawn_blocking(move || {
        volume::tear_down_all(&shared.volumes, &paths.uid).map_err(|error| error.text())?;
        for dir in [&paths.dir, &paths.logs] {
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("cannot remove {}: {error}", dir.display()));
                }
                _ => {}
            }
        }
        Ok(())
    });
    removed.await.unwrap_or_else(|_| Err("the removal was interrupted".to_owned()))
}

async fn remove(
    shared: &Arc<Shared>,
    pod: &Pod,
    paths: &PodPaths,
    sandbox: Option<String>,
) -> Result<(), String> {
    remove_from_node(shared, paths, sandbox).await?;
    let key = Key::new(pod.namespace(), pod.name());
    let params = DeleteParams::of_uid(pod.uid()).grace(0);
    match shared.client.delete::<Pod>(&key, &params).await {
        Ok(_) => Ok(()),
        // Gone already, or another pod has the name.
        Err(error) if matches!(error.code(), 404 | 409) => Ok(()),
        Err(error) => Err(chain(&error)),
    }
}
