//! Beginning the actions that concern the pod as a whole.
use super::{Done, Up, Worker, stop};
use crate::hosts;
use crate::node::HANDLERS;
use crate::seams::PodPort;
use crate::shared::Shared;
use crate::translate;
use crate::worker::PodPaths;
use api::Key;
use api::k8s::api::core::v1::Pod;
use api::k8s::api::node::v1::RuntimeClass;
use podlife::{PodExt, Sandbox, SandboxState, Step, admit, pods};
use reconcile::NoteKind;
use std::path::Path;
use std::sync::Arc;

impl Worker {
    pub(super) fn start_sandbox(&mut self, attempt: u32) {
        if attempt > 1 && self.facts.sandbox.state == SandboxState::Gone {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.shared.events.pod(&self.pod, NoteKind::Normal, "SandboxChanged", message);
        }
        let old = self.sandbox_id.take();
        if let Some(old) = &old {
            self.shared.routes.remove(old);
        }
        self.facts.sandbox = Sandbox { attempt, state: SandboxState::Starting };
        let (shared, pod, paths) = (self.shared.clone(), self.pod.clone(), self.paths.clone());
        let own = self.own.clone();
        self.work.spawn(async move {
            if let Some(old) = old {
                forget_sandbox(&shared, &old).await;
            }
            let up = sandbox(&shared, &pod, attempt, &paths).await;
            if let Ok(up) = &up {
                shared.routes.add(&up.id, own);
            }
            Done::Sandbox(up)
        });
    }

    pub(super) fn stop_sandbox(&mut self) {
        self.facts.sandbox.state = SandboxState::Stopping;
        let (shared, id, uid) =
            (self.shared.clone(), self.sandbox_id.clone(), self.pod.uid().to_owned());
        self.work.spawn(async move {
            Done::SandboxStopped(stop::stop_sandbox(&shared, id.as_deref(), &uid).await)
        });
    }

    pub(super) fn mount_volumes(&mut self) {
        self.facts.volumes = Step::Busy;
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let ips = self.facts.pod_ips.clone();
        self.work.spawn(async move {
            let all = volume::set_up_all(&shared.volumes, &pod, &ips).await;
            Done::Volumes(all.map_err(|error| error.text()))
        });
    }

    pub(super) fn unmount_volumes(&mut self) {
        self.facts.volumes = Step::Undoing;
        self.mounted.clear();
        let (shared, uid) = (self.shared.clone(), self.pod.uid().to_owned());
        self.work.spawn_blocking(move || {
            let done = volume::tear_down_all(&shared.volumes, &uid);
            Done::Unmounted(done.map_err(|error| error.text()))
        });
    }

    pub(super) fn note_back_off(&mut self, name: &str, message: String) {
        if let Some((role, _)) = pods::find(&self.pod, name) {
            let kind = NoteKind::Warning;
            let kind = if message.contains("pulling image") { NoteKind::Normal } else { kind };
            let pulling = kind == NoteKind::Normal;
            let events = &self.shared.events;
            events.container(&self.pod, (name, role), kind, "BackOff", message);
            if pulling {
                let message = "Error: ImagePullBackOff".to_owned();
                events.container(&self.pod, (name, role), NoteKind::Warning, "Failed", message);
            }
        }
        let found = self.facts.container(name);
        if let Some(error) = &mut found.error {
            error.noted = true;
        } else if let Some(run) = &mut found.run {
            run.noted = true;
        }
    }
}

/// Forgets what an earlier sandbox of the pod left.
async fn forget_sandbox(shared: &Shared, id: &str) {
    for result in [shared.runtime.stop_sandbox(id).await, shared.runtime.remove_sandbox(id).await] {
        if let Err(error) = result {
            tracing::debug!(sandbox = id, %error, "an old sandbox stays behind for now");
        }
    }
}

async fn sandbox(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    attempt: u32,
    paths: &PodPaths,
) -> Result<Up, String> {
    let config = translate::sandbox(&shared.config, pod, attempt)?;
    check_runtime_class(shared, pod).await?;
    let made = shared.runtime.run_sandbox(&config).await.map_err(|error| error.to_string())?;
    let ips = match connect(shared, pod, made.netns.as_deref()).await {
        Ok(ips) => ips,
        Err(error) => {
            forget_sandbox(shared, &made.id).await;
            return Err(format!("failed to set up pod network: {error}"));
        }
    };
    let (files, pod) = (paths.clone(), pod.clone());
    let (addresses, shared) = (ips.clone(), shared.clone());
    let written =
        tokio::task::spawn_blocking(move || write_files(&shared, &pod, &addresses, &files)).await;
    match written {
        Ok(Ok(())) => Ok(Up { id: made.id, ips }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err("writing the pod's files was interrupted".to_owned()),
    }
}

/// A pod may ask for a runtime by class: this node has one.
async fn check_runtime_class(shared: &Shared, pod: &Pod) -> Result<(), String> {
    let name = pod.spec_ref().runtime_class_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Ok(());
    }
    let class = shared.client.get::<RuntimeClass>(&Key::new("", name)).await;
    let class = class.map_err(|error| {
        let why = crate::seams::chain(&error);
        format!("failed to get runtime class {name:?} of the pod: {why}")
    })?;
    match HANDLERS.contains(&class.handler.as_str()) {
        true => Ok(()),
        false => Err(format!(
            "failed to get sandbox runtime: no runtime for {:?} is configured",
            class.handler
        )),
    }
}

async fn connect(shared: &Shared, pod: &Pod, netns: Option<&Path>) -> Result<Vec<String>, String> {
    match netns {
        Some(netns) => shared.network.attach(pod.uid(), netns, host_ports(pod)).await,
        None => Ok(shared.node.host_ips.clone()),
    }
}

/// The ports of the node that lead into the pod.
pub(crate) fn host_ports(pod: &Pod) -> Vec<PodPort> {
    let wanted = admit::host_ports(pod);
    let sidecars = pod.init_containers().iter().filter(|c| c.restart_policy.is_some());
    let all = sidecars.chain(&pod.spec_ref().containers);
    let ports = all.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let host = wanted.iter().find(|(_, p, n)| p == protocol && *n == number)?.clone();
            let container_port = u16::try_from(port.container_port).ok()?;
            Some(PodPort { host, container_port })
        })
        .collect()
}

/// The files that all containers of the pod see.
pub(crate) fn write_files(
    shared: &Shared,
    pod: &Pod,
    ips: &[String],
    paths: &PodPaths,
) -> Result<(), String> {
    let config = &shared.config;
    let domain = &config.cluster_domain;
    let machine = match pod.host_network() {
        true => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        false => String::new(),
    };
    let files = [
        (paths.hosts(), hosts::etc_hosts(pod, ips, domain, &machine)),
        (
            paths.resolv_conf(),
            hosts::resolv_conf(pod, &shared.resolver, config.cluster_dns, domain),
        ),
        (paths.hostname(), format!("{}\n", hosts::kernel_host_name(pod, domain)?)),
    ];
    std::fs::create_dir_all(&paths.dir)
        .map_err(|error| format!("cannot make {}: {error}", paths.dir.display()))?;
    for (path, text) in files {
        // Written in place: running containers have the file itself mounted.
        std::fs::write(&path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
