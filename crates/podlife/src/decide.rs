//! What to do next for a pod.
use crate::backoff;
use crate::facts::{ContainerFacts, Facts, Op, Run, SandboxState, Step};
use crate::pods::{self, PodExt, Role};
use api::k8s::api::core::v1::{Container, Pod};
use jiff::{SignedDuration, Timestamp};

/// How long a failed pull is shown as such before it is shown as a back-off.
pub(crate) const SHOW_PULL_ERROR: SignedDuration = SignedDuration::from_secs(2);
/// The least time that a sidecar gets to end when the pod's own time is used up.
const LEAST_SIDECAR_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// Something for the shell to do. It marks the facts when it begins and again when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    StartSandbox {
        attempt: u32,
    },
    /// Every container is dead: end the sandbox and free the pod's address.
    StopSandbox,
    MountVolumes,
    UnmountVolumes,
    /// Get the image, make the container, start it, run its post-start hook.
    StartContainer {
        name: String,
        role: Role,
    },
    /// Stop a container; a second time for the same one when it has less time than before.
    KillContainer {
        name: String,
        kill_at: Timestamp,
        why: Why,
    },
    /// Give up a pull that nobody waits for any more.
    AbortPull {
        name: String,
    },
    /// Write the event that says that a container waits.
    NoteBackOff {
        name: String,
        message: String,
    },
    /// Write the final status, then remove the pod from the API and from the node.
    Remove,
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The pod is being deleted, or has come to its end.
    PodEnds,
    Liveness,
    Startup,
    PostStartHook,
    ImageChanged,
    Resized,
}

/// The next actions, and when to ask again if nothing happens before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    pub actions: Vec<Action>,
    pub wake: Option<Timestamp>,
    /// Nothing of the pod runs any more and nothing will.
    pub finished: bool,
}

/// What is to be done for the pod as far as it can be done now.
pub fn decide(pod: &Pod, facts: &Facts, now: Timestamp) -> Decision {
    let mut planner = Planner { pod, facts, now, out: Decision::default() };
    planner.plan();
    planner.out
}

/// When the pod's active deadline is, if it has one.
pub fn deadline(pod: &Pod, facts: &Facts) -> Option<Timestamp> {
    let seconds = pod.spec_ref().active_deadline_seconds?;
    facts.started.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether the pod's deadline has passed.
pub fn past_deadline(pod: &Pod, facts: &Facts, now: Timestamp) -> bool {
    deadline(pod, facts).is_some_and(|at| at <= now)
}

/// Every container that decides about the pod's end has ended for good.
pub fn completed(pod: &Pod, facts: &Facts) -> bool {
    if init_failed(pod, facts) {
        return true;
    }
    let main = &pod.spec_ref().containers;
    !main.is_empty() && main.iter().all(|container| ended(pod, facts, container, Role::Main))
}

/// An init container has failed for good.
pub fn init_failed(pod: &Pod, facts: &Facts) -> bool {
    pod.init_containers().iter().any(|container| {
        pods::init_role(container) == Role::Init
            && ended(pod, facts, container, Role::Init)
            && exit_code(facts, &container.name) != Some(0)
    })
}

/// Whether all init containers have done their work in the current sandbox.
pub fn initialized(pod: &Pod, facts: &Facts) -> bool {
    main_has_run(pod, facts)
        || pod.init_containers().iter().all(|container| match pods::init_role(container) {
            Role::Sidecar => is_started(facts, container),
            _ => done_here(facts, &container.name),
        })
}

/// Running, its start-up probe passed, its post-start hook done.
pub fn is_started(facts: &Facts, container: &Container) -> bool {
    let Some(found) = facts.containers.get(&container.name) else { return false };
    let running = found
        .run
        .as_ref()
        .is_some_and(|run| run.started.is_some() && run.exit.is_none() && run.hooked);
    running && (container.startup_probe.is_none() || found.probes.startup == Some(true))
}

fn exit_code(facts: &Facts, name: &str) -> Option<i32> {
    Some(facts.containers.get(name)?.run.as_ref()?.exit.as_ref()?.code)
}

fn ended(pod: &Pod, facts: &Facts, container: &Container, role: Role) -> bool {
    exit_code(facts, &container.name)
        .is_some_and(|code| !pods::restarts(pod, container, role, code))
}

/// An init container that has succeeded in the current sandbox.
fn done_here(facts: &Facts, name: &str) -> bool {
    let run = facts.containers.get(name).and_then(|found| found.run.as_ref());
    run.is_some_and(|run| {
        run.sandbox == facts.sandbox.attempt && run.exit.as_ref().is_some_and(|e| e.code == 0)
    })
}

/// A main container was made in the current sandbox: initialisation lies behind.
fn main_has_run(pod: &Pod, facts: &Facts) -> bool {
    pod.spec_ref().containers.iter().any(|container| {
        let run = facts.containers.get(&container.name).and_then(|found| found.run.as_ref());
        run.is_some_and(|run| run.sandbox == facts.sandbox.attempt)
    })
}

fn alive(found: &ContainerFacts) -> bool {
    found.op.is_some() || found.run.as_ref().is_some_and(|run| run.exit.is_none())
}

struct Planner<'a> {
    pod: &'a Pod,
    facts: &'a Facts,
    now: Timestamp,
    out: Decision,
}

impl Planner<'_> {
    fn plan(&mut self) {
        let (pod, facts) = (self.pod, self.facts);
        let grace = facts.verdict.as_ref().and_then(|verdict| verdict.grace_seconds);
        let grace = grace.unwrap_or(i64::MAX).min(pod.grace_seconds());
        if let Some(at) = pod.deletion() {
            return self.end(at.min(self.after(grace)));
        }
        let judged = facts.verdict.is_some() || past_deadline(pod, facts, self.now);
        if judged || pod.is_terminal() || completed(pod, facts) {
            return self.end(self.after(grace));
        }
        if let Some(at) = deadline(pod, facts) {
            self.wake(at);
        }
        self.prepare();
        let ready = facts.sandbox.state == SandboxState::Ready && facts.volumes == Step::Done;
        if !ready {
            return;
        }
        if self.init() {
            for container in &pod.spec_ref().containers {
                self.drive(container, Role::Main);
            }
        }
        for ephemeral in pod.ephemeral_containers() {
            self.drive(&pods::as_container(ephemeral), Role::Ephemeral);
        }
    }

    fn after(&self, seconds: i64) -> Timestamp {
        let grace = SignedDuration::from_secs(seconds);
        self.now.checked_add(grace).unwrap_or(Timestamp::MAX)
    }

    fn wake(&mut self, at: Timestamp) {
        self.out.wake = Some(self.out.wake.map_or(at, |earlier| earlier.min(at)));
    }

    fn due(&mut self, at: Timestamp) -> bool {
        if at > self.now {
            self.wake(at);
        }
        at <= self.now
    }

    /// Sandbox and volumes, at the same time.
    fn prepare(&mut self) {
        match &self.facts.volumes {
            Step::Todo | Step::Undone => self.out.actions.push(Action::MountVolumes),
            Step::Failed { retry_at, .. } if self.due(*retry_at) => {
                self.out.actions.push(Action::MountVolumes);
            }
            _ => {}
        }
        let start = match &self.facts.sandbox.state {
            SandboxState::Absent | SandboxState::Gone => true,
            SandboxState::Failed { retry_at, .. } => self.due(*retry_at),
            _ => false,
        };
        // What belonged to a dead sandbox is recorded as ended before a new one is made.
        if start && !self.facts.containers.values().any(alive) {
            let attempt = self.facts.sandbox.attempt + 1;
            self.out.actions.push(Action::StartSandbox { attempt });
        }
    }

    /// Drives the init containers; true once the main ones may run.
    fn init(&mut self) -> bool {
        let behind = main_has_run(self.pod, self.facts);
        for container in self.pod.init_containers() {
            let role = pods::init_role(container);
            if role == Role::Init {
                if behind || done_here(self.facts, &container.name) {
                    continue;
                }
                self.drive(container, role);
                return false;
            }
            self.drive(container, role);
            if !behind && !is_started(self.facts, container) {
                return false;
            }
        }
        true
    }

    fn drive(&mut self, container: &Container, role: Role) {
        let Some(found) = self.facts.containers.get(&container.name) else {
            return self.start(container, role);
        };
        if found.op.is_some() {
            return;
        }
        if let Some(error) = &found.error {
            let shown_until = error.at.checked_add(SHOW_PULL_ERROR).unwrap_or(error.at);
            if error.is_pull() && !error.noted && self.due(shown_until) {
                let image = container.image.as_deref().unwrap_or_default();
                let message = format!("Back-off pulling image {image:?}");
                let name = container.name.clone();
                self.out.actions.push(Action::NoteBackOff { name, message });
            }
            if self.due(error.retry_at) {
                self.start(container, role);
            }
            return;
        }
        match &found.run {
            None => self.start(container, role),
            Some(run) if run.exit.is_none() => self.watch_over(container, role, found, run),
            Some(run) => self.after_exit(container, role, found, run),
        }
    }

    fn start(&mut self, container: &Container, role: Role) {
        let name = container.name.clone();
        self.out.actions.push(Action::StartContainer { name, role });
    }

    /// A running container: is there a reason to end it?
    fn watch_over(&mut self, container: &Container, role: Role, found: &ContainerFacts, run: &Run) {
        let image = container.image.as_deref().unwrap_or_default();
        let probe_grace = |probe: &Option<api::k8s::api::core::v1::Probe>| {
            probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds)
        };
        let (why, grace) = if run.hook_failed {
            (Why::PostStartHook, None)
        } else if found.probes.startup == Some(false) {
            (Why::Startup, probe_grace(&container.startup_probe))
        } else if found.probes.liveness == Some(false) {
            (Why::Liveness, probe_grace(&container.liveness_probe))
        } else if matches!(role, Role::Main | Role::Sidecar) && image != run.image {
            (Why::ImageChanged, None)
        } else if found.restart_to_resize {
            (Why::Resized, None)
        } else {
            return;
        };
        if run.kill_at.is_none() {
            let spec = self.pod.spec_ref().termination_grace_period_seconds;
            let kill_at = self.after(grace.or(spec).unwrap_or(30));
            let name = container.name.clone();
            self.out.actions.push(Action::KillContainer { name, kill_at, why });
        }
    }

    fn after_exit(&mut self, container: &Container, role: Role, found: &ContainerFacts, run: &Run) {
        let Some(exit) = &run.exit else { return };
        // An init container's success in an earlier sandbox does not count in this one.
        let again = pods::restarts(self.pod, container, role, exit.code)
            || role == Role::Init && run.sandbox != self.facts.sandbox.attempt;
        if !again {
            return;
        }
        match found.restart_backoff.until(exit.finished) {
            Some(at) if !self.due(at) => {
                if !run.noted {
                    let name = container.name.clone();
                    let message = format!(
                        "Back-off restarting failed container {name} in pod {}",
                        self.pod.written()
                    );
                    self.out.actions.push(Action::NoteBackOff { name, message });
                }
            }
            _ => self.start(container, role),
        }
    }

    /// Ends the pod: main containers at once, then sidecars from the last to the first, then the
    /// sandbox, then the volumes.
    fn end(&mut self, kill_at: Timestamp) {
        let facts = self.facts;
        let sidecar = |name: &String| {
            let found = self.pod.init_containers().iter().find(|c| &c.name == name);
            found.is_some_and(|container| pods::init_role(container) == Role::Sidecar)
        };
        let (sidecars, others): (Vec<_>, Vec<_>) =
            facts.containers.iter().partition(|(name, _)| sidecar(name));
        let mut waiting = false;
        for (name, found) in others {
            waiting |= self.stop(name, found, kill_at);
        }
        let forced = kill_at <= self.now;
        let late = self.now.checked_add(LEAST_SIDECAR_GRACE).unwrap_or(self.now);
        let kill_sidecar_at = if forced { kill_at } else { kill_at.max(late) };
        for container in self.pod.init_containers().iter().rev() {
            let found = sidecars.iter().find(|(name, _)| *name == &container.name);
            let Some((name, found)) = found else { continue };
            if waiting && !forced {
                // It has its turn later; but a pull for it is no use any more.
                self.abort(name, found);
                continue;
            }
            waiting |= self.stop(name, found, kill_sidecar_at);
        }
        if !waiting && !facts.containers.values().any(alive) {
            self.undo();
        }
    }

    /// Returns true while the container lives.
    fn stop(&mut self, name: &str, found: &ContainerFacts, kill_at: Timestamp) -> bool {
        if found.op.is_some() {
            self.abort(name, found);
            return true;
        }
        let Some(run) = found.run.as_ref().filter(|run| run.exit.is_none()) else { return false };
        // Told again only if it gets noticeably less time: the answer must not change by asking.
        let earlier = run
            .kill_at
            .is_none_or(|old| old.duration_since(kill_at) >= SignedDuration::from_secs(1));
        if earlier {
            let (name, why) = (name.to_owned(), Why::PodEnds);
            self.out.actions.push(Action::KillContainer { name, kill_at, why });
        }
        true
    }

    fn abort(&mut self, name: &str, found: &ContainerFacts) {
        if found.op == Some(Op::Pulling) {
            self.out.actions.push(Action::AbortPull { name: name.to_owned() });
        }
    }

    fn undo(&mut self) {
        match self.facts.sandbox.state {
            SandboxState::Absent | SandboxState::Gone => {}
            SandboxState::Ready | SandboxState::Failed { .. } => {
                return self.out.actions.push(Action::StopSandbox);
            }
            SandboxState::Starting | SandboxState::Stopping => return,
        }
        match self.facts.volumes {
            Step::Done | Step::Failed { .. } => {
                return self.out.actions.push(Action::UnmountVolumes);
            }
            Step::Busy | Step::Undoing => return,
            Step::Todo | Step::Undone => {}
        }
        self.out.finished = true;
        if self.pod.deletion().is_some() && !self.facts.removal_sent {
            self.out.actions.push(Action::Remove);
        }
    }
}

/// The message of a container that waits before it is started again.
pub(crate) fn crash_loop_message(pod: &Pod, name: &str, found: &ContainerFacts) -> String {
    let delay = backoff::written(found.restart_backoff.delay());
    format!("back-off {delay} restarting failed container={name} pod={}", pod.written())
}

#[cfg(test)]
mod tests;
