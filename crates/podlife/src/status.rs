//! The status of a pod as the API shows it.
use crate::decide::{self, SHOW_PULL_ERROR, crash_loop_message};
use crate::facts::{ContainerFacts, Exit, Facts, SandboxState};
use crate::pods::{self, PodExt, RestartPolicy, Role};
use crate::resources;
use api::k8s::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod,
    PodCondition, PodIP, PodStatus,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::Timestamp;

/// The condition of a pod that ends for the node's or the cluster's sake.
const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// What the status says of the node.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    pub host_ips: Vec<String>,
    /// Scheme of container ids, such as `kybern`.
    pub runtime: String,
}

/// The status to write; what others own in the present one is carried over.
pub fn status(pod: &Pod, facts: &Facts, node: &NodeFacts, now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let rejected = facts.verdict.as_ref().is_some_and(|verdict| verdict.rejected);
    let view = View { pod, facts, node, now, phase: phase(pod, facts, now) };
    let mut new = PodStatus {
        phase: Some(view.phase.to_owned()),
        start_time: Some(old.start_time.clone().unwrap_or(seconds(facts.started))),
        qos_class: old.qos_class.clone().or_else(|| Some(resources::qos(pod).name().to_owned())),
        observed_generation: pod.metadata.generation,
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        ..PodStatus::default()
    };
    (new.reason, new.message) = reason(&view, &old);
    if rejected {
        new.conditions = old.conditions.clone();
        return new;
    }
    addresses(&view, &old, &mut new);
    let spec = pod.spec_ref();
    let init = pod.init_containers().iter();
    let init: Vec<_> = init.map(|c| view.container(c, pods::init_role(c))).collect();
    let main: Vec<_> = spec.containers.iter().map(|c| view.container(c, Role::Main)).collect();
    let late = pod.ephemeral_containers().iter();
    let late: Vec<_> =
        late.map(|c| view.container(&pods::as_container(c), Role::Ephemeral)).collect();
    new.conditions = Some(view.conditions(&old, &init, &main));
    new.init_container_statuses = Some(init).filter(|list| !list.is_empty());
    new.container_statuses = Some(main);
    new.ephemeral_container_statuses = Some(late).filter(|list| !list.is_empty());
    new
}

/// The pod's phase.
pub fn phase(pod: &Pod, facts: &Facts, now: Timestamp) -> &'static str {
    match pod.phase() {
        "Succeeded" => return "Succeeded",
        "Failed" => return "Failed",
        _ => {}
    }
    if facts.verdict.is_some() || decide::past_deadline(pod, facts, now) {
        return "Failed";
    }
    let alive = facts.containers.values().any(|found| {
        found.op.is_some() || found.run.as_ref().is_some_and(|run| run.exit.is_none())
    });
    if pod.deletion().is_some() && !alive {
        return last_phase(pod, facts);
    }
    if decide::init_failed(pod, facts) {
        return if alive { "Pending" } else { "Failed" };
    }
    if !decide::initialized(pod, facts) && !main_ran(pod, facts) {
        return "Pending";
    }
    let mut tally = Tally::default();
    for container in &pod.spec_ref().containers {
        tally.count(facts.containers.get(&container.name));
    }
    match tally {
        Tally { waiting: 1.., .. } => "Pending",
        Tally { running: 1.., .. } => "Running",
        Tally { stopped: 0, .. } => "Pending",
        _ if !decide::completed(pod, facts) || alive => "Running",
        Tally { stopped, succeeded, .. } if stopped == succeeded => "Succeeded",
        _ => "Failed",
    }
}

/// The phase of a deleted pod of which nothing runs any more.
fn last_phase(pod: &Pod, facts: &Facts) -> &'static str {
    let main = &pod.spec_ref().containers;
    let codes = main.iter().map(|container| {
        let run = facts.containers.get(&container.name).and_then(|found| found.run.as_ref());
        run.and_then(|run| run.exit.as_ref()).map(|exit| exit.code)
    });
    if codes.into_iter().all(|code| code == Some(0)) { "Succeeded" } else { "Failed" }
}

fn main_ran(pod: &Pod, facts: &Facts) -> bool {
    let main = &pod.spec_ref().containers;
    main.iter().any(|c| facts.containers.get(&c.name).is_some_and(|found| found.run.is_some()))
}

#[derive(Default)]
struct Tally {
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

impl Tally {
    fn count(&mut self, found: Option<&ContainerFacts>) {
        let Some(found) = found else {
            self.waiting += 1;
            return;
        };
        match &found.run {
            Some(run) if run.exit.is_some() => {
                self.stopped += 1;
                let code = run.exit.as_ref().map(|exit| exit.code);
                self.succeeded += usize::from(code == Some(0));
            }
            Some(run) if run.started.is_some() && (run.hooked || run.hook_failed) => {
                self.running += 1;
            }
            Some(_) if found.last.is_some() => self.stopped += 1,
            _ => self.waiting += 1,
        }
    }
}

fn reason(view: &View<'_>, old: &PodStatus) -> (Option<String>, Option<String>) {
    if let Some(verdict) = &view.facts.verdict {
        return (Some(verdict.reason.clone()), Some(verdict.message.clone()));
    }
    if decide::past_deadline(view.pod, view.facts, view.now) && !view.pod.is_terminal() {
        let message = "Pod was active on the node longer than the specified deadline";
        return (Some("DeadlineExceeded".to_owned()), Some(message.to_owned()));
    }
    // Node lifecycle may have written one; it holds as long as the pod does not run again.
    if view.pod.is_terminal() {
        return (old.reason.clone(), old.message.clone());
    }
    (None, None)
}

fn addresses(view: &View<'_>, old: &PodStatus, new: &mut PodStatus) {
    let host = &view.node.host_ips;
    new.host_ip = host.first().cloned();
    let host_ips = host.iter().map(|ip| HostIP { ip: ip.clone() }).collect::<Vec<_>>();
    new.host_ips = Some(host_ips).filter(|list| !list.is_empty());
    let ready = view.facts.sandbox.state == SandboxState::Ready;
    let own = match view.pod.host_network() {
        true if ready => host,
        _ => &view.facts.pod_ips,
    };
    if own.is_empty() {
        new.pod_ip = old.pod_ip.clone();
        new.pod_ips = old.pod_ips.clone();
        return;
    }
    new.pod_ip = own.first().cloned();
    new.pod_ips = Some(own.iter().map(|ip| PodIP { ip: ip.clone() }).collect());
}

struct View<'a> {
    pod: &'a Pod,
    facts: &'a Facts,
    node: &'a NodeFacts,
    now: Timestamp,
    phase: &'static str,
}

impl View<'_> {
    fn container(&self, container: &Container, role: Role) -> ContainerStatus {
        let found = self.facts.containers.get(&container.name);
        let run = found.and_then(|found| found.run.as_ref());
        let (state, last) = self.state(container, role, found);
        let started = found.is_some() && decide::is_started(self.facts, container);
        let id = run.map(|run| self.full_id(&run.id));
        let old = self.old(&container.name, role);
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            image_id: run.map(|run| run.image_id.clone()).unwrap_or_default(),
            container_id: id.or_else(|| old.as_ref().and_then(|o| o.container_id.clone())),
            ready: self.ready(container, role, found, started),
            started: Some(if role == Role::Init { false } else { started }),
            restart_count: found.map_or(0, |found| found.restarts).min(i32::MAX as u32) as i32,
            allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
            resources: found
                .filter(|_| state.running.is_some())
                .and_then(|found| found.resources.clone()),
            user: run.and_then(|run| run.user.as_ref()).map(|(uid, gid, groups)| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: *uid,
                    gid: *gid,
                    supplemental_groups: Some(groups.clone()).filter(|list| !list.is_empty()),
                }),
            }),
            stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
            last_state: Some(last),
            state: Some(state),
            ..ContainerStatus::default()
        }
    }

    fn old(&self, name: &str, role: Role) -> Option<&ContainerStatus> {
        let status = self.pod.status.as_ref()?;
        let list = match role {
            Role::Init | Role::Sidecar => status.init_container_statuses.as_ref(),
            Role::Main => status.container_statuses.as_ref(),
            Role::Ephemeral => status.ephemeral_container_statuses.as_ref(),
        };
        list?.iter().find(|status| status.name == name)
    }

    fn full_id(&self, id: &str) -> String {
        format!("{}://{id}", self.node.runtime)
    }

    fn state(
        &self,
        container: &Container,
        role: Role,
        found: Option<&ContainerFacts>,
    ) -> (ContainerState, ContainerState) {
        let Some(found) = found else {
            return (self.not_begun(), ContainerState::default());
        };
        let last = found.last.as_ref().map(|exit| self.terminated(exit)).unwrap_or_default();
        let Some(run) = &found.run else {
            let state = match &found.error {
                Some(_) => self.waiting_for_error(container, found),
                None => self.not_begun(),
            };
            return (state, last);
        };
        match &run.exit {
            None if run.started.is_some() && (run.hooked || run.hook_failed) => {
                let running = ContainerStateRunning { started_at: run.started.map(seconds) };
                (ContainerState { running: Some(running), ..ContainerState::default() }, last)
            }
            None => (self.not_begun(), last),
            Some(exit) => {
                let ended = self.terminated(exit);
                if found.error.is_some() {
                    return (self.waiting_for_error(container, found), ended);
                }
                match self.back_off(container, role, found, exit) {
                    Some(message) => (waiting("CrashLoopBackOff", Some(message)), ended),
                    None => (ended, last),
                }
            }
        }
    }

    fn back_off(
        &self,
        container: &Container,
        role: Role,
        found: &ContainerFacts,
        exit: &Exit,
    ) -> Option<String> {
        let over = self.pod.deletion().is_some()
            || matches!(self.phase, "Failed" | "Succeeded")
            || !pods::restarts(self.pod, container, role, exit.code);
        let until = found.restart_backoff.until(exit.finished)?;
        let waits = !over && until > self.now && found.op.is_none();
        waits.then(|| crash_loop_message(self.pod, &container.name, found))
    }

    fn not_begun(&self) -> ContainerState {
        let initializing =
            !self.pod.init_containers().is_empty() && !decide::initialized(self.pod, self.facts);
        let reason = if initializing { "PodInitializing" } else { "ContainerCreating" };
        waiting(reason, None)
    }

    fn waiting_for_error(&self, container: &Container, found: &ContainerFacts) -> ContainerState {
        let Some(error) = &found.error else { return self.not_begun() };
        let shown_until = error.at.checked_add(SHOW_PULL_ERROR).unwrap_or(error.at);
        if !error.is_pull() || self.now < shown_until || found.op.is_some() {
            return waiting(&error.reason, Some(error.message.clone()));
        }
        let image = container.image.as_deref().unwrap_or_default();
        let message =
            format!("Back-off pulling image {image:?}: {}: {}", error.reason, error.message);
        waiting("ImagePullBackOff", Some(message))
    }

    fn terminated(&self, exit: &Exit) -> ContainerState {
        let terminated = ContainerStateTerminated {
            container_id: Some(self.full_id(&exit.container_id)),
            exit_code: exit.code,
            signal: exit.signal,
            reason: Some(exit.reason.clone()),
            message: exit.message.clone(),
            // One that never ran began, as container runtimes say, when time did.
            started_at: Some(exit.started.map_or(Time(Timestamp::UNIX_EPOCH), seconds)),
            finished_at: Some(seconds(exit.finished)),
        };
        ContainerState { terminated: Some(terminated), ..ContainerState::default() }
    }

    fn ready(
        &self,
        container: &Container,
        role: Role,
        found: Option<&ContainerFacts>,
        started: bool,
    ) -> bool {
        let Some(found) = found else { return false };
        match role {
            Role::Init => {
                let exit = found.run.as_ref().and_then(|run| run.exit.as_ref());
                exit.is_some_and(|exit| exit.code == 0)
            }
            Role::Ephemeral => false,
            Role::Main | Role::Sidecar => {
                started
                    && (container.readiness_probe.is_none() || found.probes.readiness == Some(true))
            }
        }
    }

    fn conditions(
        &self,
        old: &PodStatus,
        init: &[ContainerStatus],
        main: &[ContainerStatus],
    ) -> Vec<PodCondition> {
        let owned = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];
        let old = old.conditions.clone().unwrap_or_default();
        let containers = self.containers_ready(init, main);
        let pod_ready = match &containers {
            Verdict { status: true, .. } => self.gates(&old),
            other => other.clone(),
        };
        let sandbox = Verdict::plain(self.facts.sandbox.state == SandboxState::Ready);
        let mut new: Vec<PodCondition> = [sandbox, self.initialized(init), pod_ready, containers]
            .into_iter()
            .zip(owned)
            .map(|(verdict, type_)| self.condition(&old, type_, verdict))
            .collect();
        if !old.iter().any(|condition| condition.type_ == "PodScheduled") {
            new.push(self.condition(&old, "PodScheduled", Verdict::plain(true)));
        }
        let evicted = self.facts.verdict.as_ref().filter(|verdict| verdict.reason == "Evicted");
        if let Some(evicted) = evicted {
            let verdict = Verdict {
                reason: Some("TerminationByKubelet"),
                message: Some(evicted.message.clone()),
                ..Verdict::plain(true)
            };
            new.push(self.condition(&old, DISRUPTION_TARGET, verdict));
        }
        let known: Vec<String> = new.iter().map(|condition| condition.type_.clone()).collect();
        new.extend(old.into_iter().filter(|condition| !known.contains(&condition.type_)));
        new
    }

    fn condition(&self, old: &[PodCondition], type_: &str, verdict: Verdict) -> PodCondition {
        let status = if verdict.status { "True" } else { "False" };
        let before = old.iter().find(|condition| condition.type_ == type_);
        let since = before
            .filter(|condition| condition.status == status)
            .and_then(|condition| condition.last_transition_time.clone())
            .unwrap_or(seconds(self.now));
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.map(str::to_owned),
            message: verdict.message,
            last_probe_time: None,
            last_transition_time: Some(since),
            observed_generation: self.pod.metadata.generation,
        }
    }

    fn finished(&self) -> Option<Verdict> {
        match self.phase {
            "Succeeded" => Some(Verdict::because("PodCompleted", None)),
            "Failed" => Some(Verdict::because("PodFailed", None)),
            _ => None,
        }
    }

    fn initialized(&self, init: &[ContainerStatus]) -> Verdict {
        if self.phase == "Succeeded" {
            return Verdict { reason: Some("PodCompleted"), ..Verdict::plain(true) };
        }
        if decide::initialized(self.pod, self.facts) || main_ran(self.pod, self.facts) {
            return Verdict::plain(true);
        }
        let specs = self.pod.init_containers().iter().zip(init);
        let open: Vec<&str> = specs
            .filter(|(spec, status)| match pods::init_role(spec) {
                Role::Sidecar => status.started != Some(true),
                _ => !status.ready,
            })
            .map(|(spec, _)| spec.name.as_str())
            .collect();
        let message = format!("containers with incomplete status: [{}]", open.join(" "));
        Verdict::because("ContainersNotInitialized", Some(message))
    }

    fn containers_ready(&self, init: &[ContainerStatus], main: &[ContainerStatus]) -> Verdict {
        if let Some(finished) = self.finished() {
            return finished;
        }
        let sidecars = self.pod.init_containers().iter().zip(init);
        let sidecars = sidecars
            .filter(|(spec, _)| pods::init_role(spec) == Role::Sidecar)
            .map(|(_, status)| status);
        let unready: Vec<&str> = sidecars
            .chain(main)
            .filter(|status| !status.ready)
            .map(|status| status.name.as_str())
            .collect();
        if unready.is_empty() {
            return Verdict::plain(true);
        }
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        Verdict::because("ContainersNotReady", Some(message))
    }

    fn gates(&self, old: &[PodCondition]) -> Verdict {
        let gates = self.pod.spec_ref().readiness_gates.as_deref().unwrap_or_default();
        let open: Vec<String> = gates
            .iter()
            .filter_map(|gate| {
                let type_ = &gate.condition_type;
                match old.iter().find(|condition| &condition.type_ == type_) {
                    None => Some(format!(
                        "corresponding condition of pod readiness gate {type_:?} does not exist."
                    )),
                    Some(found) if found.status != "True" => Some(format!(
                        "the status of pod readiness gate {type_:?} is not \"True\", but {}",
                        found.status
                    )),
                    Some(_) => None,
                }
            })
            .collect();
        match open.is_empty() {
            true => Verdict::plain(true),
            false => Verdict::because("ReadinessGatesNotReady", Some(open.join(", "))),
        }
    }
}

#[derive(Clone)]
struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn plain(status: bool) -> Self {
        Self { status, reason: None, message: None }
    }
    fn because(reason: &'static str, message: Option<String>) -> Self {
        Self { status: false, reason: Some(reason), message }
    }
}

/// Whole seconds: what the API's clients read and write.
fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// What the name of an exit's reason is when nothing more is known.
pub fn exit_reason(code: i32, oom_killed: bool, start_failed: bool) -> &'static str {
    match code {
        _ if oom_killed => "OOMKilled",
        _ if start_failed => "StartError",
        0 => "Completed",
        _ => "Error",
    }
}

/// Whether a pod without a deadline and with this policy can ever end by itself.
pub fn runs_forever(pod: &Pod) -> bool {
    pod.restart_policy() == RestartPolicy::Always
}

#[cfg(test)]
mod tests;
