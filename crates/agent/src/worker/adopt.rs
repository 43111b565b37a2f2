//! Taking over what an earlier agent left running, and comparing with the runtime's list.
use super::{Worker, start};
use api::k8s::api::core::v1::{ContainerStatus as ApiStatus, Pod};
use podlife::{PodExt, Run, Sandbox, SandboxState};
use runtime::{ContainerState, ContainerStatus, SandboxStatus};

impl Worker {
    /// Rebuilds the facts from the runtime's list and the pod's last status.
    pub(super) fn adopt(&mut self, mut found: Vec<SandboxStatus>) {
        for status in api_statuses(&self.pod) {
            let restarts = u32::try_from(status.restart_count).unwrap_or_default();
            self.facts.container(&status.name).restarts = restarts;
        }
        found.sort_by_key(|status| status.config.attempt);
        let Some(newest) = found.pop() else {
            self.forget_unstarted();
            return;
        };
        let running = newest.running.is_some();
        self.facts.sandbox = Sandbox {
            attempt: newest.config.attempt,
            state: if running { SandboxState::Ready } else { SandboxState::Gone },
        };
        self.facts.pod_ips = match (running, self.pod.host_network()) {
            (false, _) => Vec::new(),
            (true, true) => self.shared.node.host_ips.clone(),
            (true, false) => self.shared.network.addresses(self.pod.uid()),
        };
        self.sandbox_id = Some(newest.id.clone());
        self.shared.routes.add(&newest.id, self.own.clone());
        let attempt = newest.config.attempt;
        let mut containers = newest.containers;
        containers.sort_by_key(|container| container.config.attempt);
        for container in containers {
            self.adopt_container(container, attempt, running);
        }
        self.forget_unstarted();
        let names: Vec<String> = self.facts.containers.keys().cloned().collect();
        for name in names {
            self.start_probes(&name);
        }
    }

    /// A container of which only a count is known begins with the next number.
    fn forget_unstarted(&mut self) {
        let old = api_statuses(&self.pod);
        for status in old {
            let found = self.facts.container(&status.name);
            let ran = status.container_id.as_ref().is_some_and(|id| !id.is_empty());
            if found.run.is_none() && ran {
                found.restarts += 1;
            }
        }
    }

    fn adopt_container(&mut self, status: ContainerStatus, sandbox: u32, alive: bool) {
        let config = &status.config;
        let name = config.name.clone();
        let (started, exit) = match &status.state {
            // Made but never started: it is started anew under the next number.
            ContainerState::Created => return,
            ContainerState::Running { started_at, .. } => (start::began(*started_at), None),
            ContainerState::Exited(exit) => (start::began(exit.started_at), Some(exit.clone())),
        };
        self.stop_signals.insert(status.id.clone(), config.stop_signal);
        let groups = config.user.groups.iter().copied().map(i64::from).collect();
        let user = (i64::from(config.user.uid), i64::from(config.user.gid), groups);
        let spec = podlife::pods::find(&self.pod, &name).map(|(_, container)| container);
        let found = self.facts.container(&name);
        if let Some(old) = found.run.take() {
            found.last = old.exit;
        }
        found.restarts = config.attempt;
        found.resources = spec.and_then(|container| container.resources);
        found.run = Some(Run {
            id: status.id.clone(),
            sandbox,
            image: config.image.clone(),
            image_id: config.image_id.clone(),
            started,
            hooked: true,
            hook_failed: false,
            exit: None,
            kill_at: None,
            noted: true,
            user: Some(user),
        });
        match exit {
            Some(exit) => self.exited(&status.id, &exit),
            None if alive => self.carry_probes(&name),
            None => {
                let now = super::nanos(jiff::Timestamp::now());
                let exit = runtime::Exit {
                    code: 137,
                    signal: Some(9),
                    oom_killed: false,
                    started_at: 0,
                    finished_at: now,
                    message: "The container could not be located when the pod was restored"
                        .to_owned(),
                    start_failed: false,
                };
                self.exited(&status.id, &exit);
            }
        }
    }

    /// What probes said before holds until they say otherwise.
    fn carry_probes(&mut self, name: &str) {
        let all = api_statuses(&self.pod);
        let Some(old) = all.iter().find(|status| status.name == name) else { return };
        let (ready, started) = (old.ready, old.started);
        let probes = &mut self.facts.container(name).probes;
        probes.readiness = Some(ready);
        probes.startup = started.filter(|started| *started);
    }

    /// Finds exits whose events were lost.
    pub(super) fn compare(&mut self, status: SandboxStatus) {
        if self.sandbox_id.as_deref() != Some(status.id.as_str()) {
            return;
        }
        for container in &status.containers {
            if let ContainerState::Exited(exit) = &container.state {
                self.exited(&container.id, exit);
            }
        }
        if status.running.is_none() {
            self.sandbox_gone(&status.id);
        }
    }
}

fn api_statuses(pod: &Pod) -> Vec<ApiStatus> {
    let status = pod.status.clone().unwrap_or_default();
    let lists = [
        status.init_container_statuses,
        status.container_statuses,
        status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten().collect()
}
