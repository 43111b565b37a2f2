//! The machine is driven by a small shell that performs every action at once and writes it down.
use super::*;
use crate::facts::{Exit, StartError};
use crate::status::{NodeFacts, status};
use api::k8s::api::core::v1::{ContainerStatus, PodStatus};
use serde_json::{Value, json};

struct Sim {
    pod: Pod,
    facts: Facts,
    now: Timestamp,
    log: Vec<String>,
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec,
    }))
    .unwrap()
}

fn container(name: &str) -> Value {
    json!({"name": name, "image": "img"})
}

impl Sim {
    fn new(spec: Value) -> Self {
        let now = Timestamp::from_second(1_000_000).unwrap();
        Self { pod: pod(spec), facts: Facts::new(now), now, log: Vec::new() }
    }

    /// Performs actions until there are none; then asking again must change nothing.
    fn settle(&mut self) -> String {
        for _ in 0..100 {
            let decision = decide(&self.pod, &self.facts, self.now);
            if decision.actions.is_empty() {
                return std::mem::take(&mut self.log).join(" ");
            }
            for action in decision.actions {
                self.perform(action);
            }
        }
        panic!("the machine does not settle: {:?}", self.log);
    }

    fn perform(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::StartSandbox { attempt } => {
                self.facts.sandbox = crate::Sandbox { attempt, state: SandboxState::Ready };
                self.facts.pod_ips = vec!["10.0.0.9".into()];
                self.log.push(format!("sandbox{attempt}"));
            }
            Action::StopSandbox => {
                self.facts.sandbox.state = SandboxState::Gone;
                self.log.push("-sandbox".into());
            }
            Action::MountVolumes => {
                self.facts.volumes = Step::Done;
                self.log.push("mount".into());
            }
            Action::UnmountVolumes => {
                self.facts.volumes = Step::Undone;
                self.log.push("-mount".into());
            }
            Action::StartContainer { name, .. } => {
                let attempt = self.facts.sandbox.attempt;
                let (_, spec) = pods::find(&self.pod, &name).unwrap();
                let found = self.facts.container(&name);
                found.error = None;
                found.restart_to_resize = false;
                if let Some(old) = found.run.take() {
                    let exit = old.exit.expect("only an ended container starts again");
                    found.restart_backoff.next(exit.finished, now);
                    found.last = Some(exit);
                    found.restarts += 1;
                }
                found.probes = Default::default();
                found.run = Some(Run {
                    id: format!("{name}{}", found.restarts),
                    sandbox: attempt,
                    image: spec.image.unwrap_or_default(),
                    image_id: "sha256:1".into(),
                    started: Some(now),
                    hooked: true,
                    hook_failed: false,
                    exit: None,
                    kill_at: None,
                    noted: false,
                    user: None,
                });
                self.log.push(format!("+{name}"));
            }
            Action::KillContainer { name, kill_at, why } => {
                let grace = kill_at.duration_since(now).as_secs();
                let run = self.facts.container(&name).run.as_mut().unwrap();
                run.kill_at = Some(kill_at);
                self.log.push(format!("kill {name} {grace}s {why:?}"));
            }
            Action::AbortPull { name } => {
                self.facts.container(&name).op = None;
                self.log.push(format!("abort {name}"));
            }
            Action::NoteBackOff { name, message } => {
                let found = self.facts.container(&name);
                if let Some(error) = &mut found.error {
                    error.noted = true;
                } else {
                    found.run.as_mut().unwrap().noted = true;
                }
                self.log.push(format!("note {name}: {message}"));
            }
            Action::Remove => {
                self.facts.removal_sent = true;
                self.log.push("remove".into());
            }
        }
    }

    fn exit(&mut self, name: &str, code: i32) {
        let now = self.now;
        let run = self.facts.container(name).run.as_mut().unwrap();
        run.exit = Some(Exit {
            container_id: run.id.clone(),
            code,
            signal: None,
            reason: crate::status::exit_reason(code, false, false).into(),
            message: None,
            started: run.started,
            finished: now,
        });
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn delete(&mut self, grace: i64) {
        let at = self.now + SignedDuration::from_secs(grace);
        self.pod.metadata.deletion_timestamp =
            Some(api::k8s::apimachinery::pkg::apis::meta::v1::Time(at));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    fn status(&self) -> PodStatus {
        let node = NodeFacts { host_ips: vec!["192.0.2.1".into()], runtime: "kybern".into() };
        status(&self.pod, &self.facts, &node, self.now)
    }

    fn phase(&self) -> String {
        self.status().phase.unwrap()
    }

    fn main(&self) -> ContainerStatus {
        self.status().container_statuses.unwrap().remove(0)
    }

    fn wake_in(&self) -> Option<i64> {
        let wake = decide(&self.pod, &self.facts, self.now).wake;
        wake.map(|at| at.duration_since(self.now).as_secs())
    }
}

#[test]
fn a_pod_starts_runs_and_is_deleted() {
    let mut sim = Sim::new(json!({"containers": [container("a"), container("b")]}));
    assert_eq!(sim.phase(), "Pending");
    assert_eq!(sim.settle(), "mount sandbox1 +a +b");
    assert_eq!(sim.phase(), "Running");
    assert_eq!(sim.wake_in(), None, "a running pod wakes nobody");
    sim.delete(30);
    assert_eq!(sim.settle(), "kill a 30s PodEnds kill b 30s PodEnds");
    sim.pass(5);
    assert_eq!(sim.settle(), "", "the same deadline is not told again");
    sim.exit("a", 0);
    assert_eq!(sim.settle(), "");
    sim.exit("b", 137);
    assert_eq!(sim.settle(), "-sandbox -mount remove");
    assert_eq!(sim.phase(), "Failed");
    assert_eq!(sim.settle(), "");
}

#[test]
fn a_shorter_grace_is_told_to_running_containers() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.settle();
    sim.delete(60);
    assert_eq!(sim.settle(), "kill a 60s PodEnds");
    sim.delete(0);
    assert_eq!(sim.settle(), "kill a 0s PodEnds");
}

#[test]
fn init_containers_run_one_after_another() {
    let mut sim = Sim::new(json!({
        "initContainers": [container("i1"), container("i2")], "containers": [container("a")],
    }));
    assert_eq!(sim.settle(), "mount sandbox1 +i1");
    assert_eq!(sim.main().state.unwrap().waiting.unwrap().reason.unwrap(), "PodInitializing");
    sim.exit("i1", 1);
    assert_eq!(sim.settle(), "+i1", "the first restart is immediate");
    sim.exit("i1", 0);
    assert_eq!(sim.settle(), "+i2");
    assert_eq!(sim.phase(), "Pending");
    sim.exit("i2", 0);
    assert_eq!(sim.settle(), "+a");
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut sim = Sim::new(json!({
        "restartPolicy": "Never",
        "initContainers": [container("i")], "containers": [container("a")],
    }));
    sim.settle();
    sim.exit("i", 2);
    assert_eq!(sim.settle(), "-sandbox -mount");
    assert_eq!(sim.phase(), "Failed");
}

#[test]
fn sidecars_start_before_and_end_after_the_main_containers() {
    let mut sidecar = container("s1");
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] = json!({"tcpSocket": {"port": 1}});
    let mut second = container("s2");
    second["restartPolicy"] = json!("Always");
    let mut sim = Sim::new(json!({
        "restartPolicy": "Never",
        "initContainers": [sidecar, container("i"), second], "containers": [container("a")],
    }));
    assert_eq!(sim.settle(), "mount sandbox1 +s1");
    sim.facts.container("s1").probes.startup = Some(true);
    assert_eq!(sim.settle(), "+i");
    sim.exit("i", 0);
    assert_eq!(sim.settle(), "+s2 +a");
    sim.exit("s1", 0);
    assert_eq!(sim.settle(), "+s1", "a sidecar restarts whatever the pod's policy is");
    sim.exit("a", 0);
    assert_eq!(sim.settle(), "kill s2 30s PodEnds");
    assert_eq!(sim.phase(), "Running");
    sim.exit("s2", 143);
    assert_eq!(sim.settle(), "kill s1 30s PodEnds");
    sim.exit("s1", 143);
    assert_eq!(sim.settle(), "-sandbox -mount");
    assert_eq!(sim.phase(), "Succeeded", "the sidecars' codes do not count");
}

#[test]
fn restarts_back_off_and_recover() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.settle();
    sim.exit("a", 1);
    assert_eq!(sim.settle(), "+a");
    let mut waits = Vec::new();
    for _ in 0..7 {
        sim.exit("a", 1);
        let note = "note a: Back-off restarting failed container a in pod p_ns(u)";
        assert_eq!(sim.settle(), note);
        let wait = sim.wake_in().unwrap();
        waits.push(wait);
        sim.pass(wait);
        assert_eq!(sim.settle(), "+a");
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    sim.pass(601);
    sim.exit("a", 1);
    assert_eq!(sim.settle(), "+a", "a long healthy run forgets the failures");
    sim.exit("a", 1);
    sim.settle();
    assert_eq!(sim.wake_in(), Some(10));
    let main = sim.main();
    let waiting = main.state.unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.unwrap(), "CrashLoopBackOff");
    assert_eq!(waiting.message.unwrap(), "back-off 10s restarting failed container=a pod=p_ns(u)");
    assert_eq!(main.last_state.unwrap().terminated.unwrap().exit_code, 1);
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn restart_policies() {
    for (policy, own, code, want, phase) in [
        ("Always", None, 0, "+a", "Running"),
        ("OnFailure", None, 0, "-sandbox -mount", "Succeeded"),
        ("OnFailure", None, 1, "+a", "Running"),
        ("Never", None, 0, "-sandbox -mount", "Succeeded"),
        ("Never", None, 1, "-sandbox -mount", "Failed"),
        ("Never", Some(json!({"restartPolicy": "OnFailure"})), 1, "+a", "Running"),
        ("Always", Some(json!({"restartPolicy": "Never"})), 1, "-sandbox -mount", "Failed"),
        ("Never", Some(rules("In", 42)), 42, "+a", "Running"),
        ("Never", Some(rules("In", 42)), 41, "-sandbox -mount", "Failed"),
        ("Never", Some(rules("NotIn", 42)), 41, "+a", "Running"),
    ] {
        let mut main = container("a");
        if let (Some(own), Some(main)) = (own, main.as_object_mut()) {
            main.extend(own.as_object().unwrap().clone());
        }
        let mut sim = Sim::new(json!({"restartPolicy": policy, "containers": [main]}));
        sim.settle();
        sim.exit("a", code);
        assert_eq!(sim.settle(), want, "{policy} {code}");
        assert_eq!(sim.phase(), phase, "{policy} {code}");
    }
}

fn rules(operator: &str, code: i32) -> Value {
    json!({"restartPolicy": "Never", "restartPolicyRules": [
        {"action": "Restart", "exitCodes": {"operator": operator, "values": [code]}},
    ]})
}

#[test]
fn probes_kill_and_the_container_restarts() {
    for (kind, why) in [("livenessProbe", "Liveness"), ("startupProbe", "Startup")] {
        let mut main = container("a");
        main[kind] = json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 7});
        let mut sim = Sim::new(json!({"containers": [main]}));
        sim.settle();
        let probes = &mut sim.facts.container("a").probes;
        match kind {
            "livenessProbe" => probes.liveness = Some(false),
            _ => probes.startup = Some(false),
        }
        assert_eq!(sim.settle(), format!("kill a 7s {why}"));
        sim.exit("a", 137);
        assert_eq!(sim.settle(), "+a");
    }
}

#[test]
fn readiness_needs_its_probe() {
    let mut main = container("a");
    main["readinessProbe"] = json!({"tcpSocket": {"port": 1}});
    main["startupProbe"] = json!({"tcpSocket": {"port": 1}});
    let mut sim = Sim::new(json!({"containers": [main]}));
    sim.settle();
    let shown = |sim: &Sim| (sim.main().started.unwrap(), sim.main().ready);
    assert_eq!(shown(&sim), (false, false));
    sim.facts.container("a").probes.startup = Some(true);
    assert_eq!(shown(&sim), (true, false));
    sim.facts.container("a").probes.readiness = Some(true);
    assert_eq!(shown(&sim), (true, true));
}

#[test]
fn failed_pulls_become_back_offs() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.facts.sandbox = crate::Sandbox { attempt: 1, state: SandboxState::Ready };
    sim.facts.volumes = Step::Done;
    sim.facts.container("a").error = Some(StartError {
        reason: "ErrImagePull".into(),
        message: "not found".into(),
        at: sim.now,
        retry_at: sim.now + SignedDuration::from_secs(10),
        noted: false,
    });
    let shown = |sim: &Sim| sim.main().state.unwrap().waiting.unwrap();
    assert_eq!(sim.settle(), "");
    assert_eq!(shown(&sim).reason.unwrap(), "ErrImagePull");
    assert_eq!(sim.wake_in(), Some(2));
    sim.pass(2);
    assert_eq!(sim.settle(), "note a: Back-off pulling image \"img\"");
    let waiting = shown(&sim);
    assert_eq!(waiting.reason.unwrap(), "ImagePullBackOff");
    let message = "Back-off pulling image \"img\": ErrImagePull: not found";
    assert_eq!(waiting.message.unwrap(), message);
    sim.pass(8);
    assert_eq!(sim.settle(), "+a");
}

#[test]
fn a_pull_is_given_up_when_the_pod_goes() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.facts.sandbox = crate::Sandbox { attempt: 1, state: SandboxState::Ready };
    sim.facts.volumes = Step::Done;
    sim.facts.container("a").op = Some(Op::Pulling);
    sim.delete(30);
    assert_eq!(sim.settle(), "abort a -sandbox -mount remove");
}

#[test]
fn a_dead_sandbox_is_made_again_with_everything_in_it() {
    let spec = json!({"initContainers": [container("i")], "containers": [container("a")]});
    let mut sim = Sim::new(spec);
    sim.settle();
    sim.exit("i", 0);
    sim.settle();
    sim.facts.sandbox.state = SandboxState::Gone;
    assert_eq!(sim.settle(), "", "first the exits must be known");
    sim.exit("a", 137);
    assert_eq!(sim.settle(), "sandbox2 +i");
    sim.exit("i", 0);
    assert_eq!(sim.settle(), "+a");
}

#[test]
fn a_dead_sandbox_of_a_pod_that_never_restarts_ends_it() {
    let mut sim = Sim::new(json!({"restartPolicy": "Never", "containers": [container("a")]}));
    sim.settle();
    sim.facts.sandbox.state = SandboxState::Gone;
    sim.exit("a", 137);
    assert_eq!(sim.settle(), "-mount");
    assert_eq!(sim.phase(), "Failed");
}

#[test]
fn the_deadline_ends_the_pod() {
    let spec = json!({
        "activeDeadlineSeconds": 60, "terminationGracePeriodSeconds": 5,
        "containers": [container("a")],
    });
    let mut sim = Sim::new(spec);
    sim.settle();
    assert_eq!(sim.wake_in(), Some(60));
    sim.pass(60);
    assert_eq!(sim.settle(), "kill a 5s PodEnds");
    let status = sim.status();
    assert_eq!(status.reason.unwrap(), "DeadlineExceeded");
    assert_eq!(status.phase.unwrap(), "Failed");
    sim.exit("a", 143);
    assert_eq!(sim.settle(), "-sandbox -mount");
}

#[test]
fn sandbox_and_volume_failures_are_retried_when_due() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    let retry_at = sim.now + SignedDuration::from_secs(3);
    sim.facts.volumes = Step::Failed { message: "no".into(), retry_at };
    sim.facts.sandbox.state = SandboxState::Failed { message: "no".into(), retry_at };
    assert_eq!(sim.settle(), "");
    assert_eq!(sim.wake_in(), Some(3));
    sim.pass(3);
    assert_eq!(sim.settle(), "mount sandbox1 +a");
}

#[test]
fn a_new_image_restarts_the_container_in_place() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.settle();
    sim.pod.spec.as_mut().unwrap().containers[0].image = Some("img:2".into());
    assert_eq!(sim.settle(), "kill a 30s ImageChanged");
    sim.exit("a", 0);
    assert_eq!(sim.settle(), "+a");
}

#[test]
fn a_resize_that_needs_it_restarts_the_container() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.settle();
    sim.facts.container("a").restart_to_resize = true;
    assert_eq!(sim.settle(), "kill a 30s Resized");
    sim.exit("a", 0);
    assert_eq!(sim.settle(), "+a");
}

#[test]
fn ephemeral_containers_join_and_never_restart() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.settle();
    sim.pod.spec.as_mut().unwrap().ephemeral_containers =
        Some(serde_json::from_value(json!([container("d")])).unwrap());
    assert_eq!(sim.settle(), "+d");
    sim.exit("d", 1);
    assert_eq!(sim.settle(), "");
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn a_terminal_pod_is_not_started() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.pod.status = Some(PodStatus { phase: Some("Succeeded".into()), ..Default::default() });
    assert_eq!(sim.settle(), "");
    assert!(decide(&sim.pod, &sim.facts, sim.now).finished);
}

#[test]
fn a_rejected_pod_only_gets_its_status() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.facts.verdict = Some(crate::Verdict {
        reason: "OutOfcpu".into(),
        message: "no".into(),
        rejected: true,
        grace_seconds: None,
    });
    assert_eq!(sim.settle(), "");
    let status = sim.status();
    assert_eq!(
        (status.phase.unwrap(), status.reason.unwrap()),
        ("Failed".into(), "OutOfcpu".into())
    );
    assert_eq!(status.container_statuses, None);
    sim.delete(0);
    assert_eq!(sim.settle(), "remove");
}

#[test]
fn a_failed_post_start_hook_kills_the_container() {
    let mut sim = Sim::new(json!({"containers": [container("a")]}));
    sim.settle();
    let run = sim.facts.container("a").run.as_mut().unwrap();
    (run.hooked, run.hook_failed) = (false, true);
    assert_eq!(sim.settle(), "kill a 30s PostStartHook");
}
