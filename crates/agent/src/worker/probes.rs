//! Probing containers: one task per probe, which waits for its own timer only.
use super::{Msg, Worker};
use crate::act::{self, Target};
use crate::shared::Shared;
use api::k8s::api::core::v1::{Pod, Probe};
use jiff::Timestamp;
use podlife::probe::{Counter, ProbeKind};
use podlife::{Role, pods};
use reconcile::NoteKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

impl Worker {
    /// Starts the probes that may run now: the others wait for the start-up probe.
    pub(super) fn start_probes(&mut self, name: &str) {
        let Some((role, container)) = pods::find(&self.pod, name) else { return };
        let Some(found) = self.facts.containers.get(name) else { return };
        let Some(run) = found.run.as_ref().filter(|run| run.exit.is_none()) else { return };
        if role == Role::Ephemeral || role == Role::Init {
            return;
        }
        let started = container.startup_probe.is_none() || found.probes.startup == Some(true);
        let wanted = if started {
            vec![
                (ProbeKind::Liveness, container.liveness_probe.clone()),
                (ProbeKind::Readiness, container.readiness_probe.clone()),
            ]
        } else {
            vec![(ProbeKind::Startup, container.startup_probe.clone())]
        };
        let (id, since) = (run.id.clone(), run.started);
        for (kind, probe) in wanted {
            let Some(probe) = probe else { continue };
            let running = self.probing.get(&id);
            if running.is_some_and(|list| list.iter().any(|(known, _)| *known == kind)) {
                continue;
            }
            let probing = Probing {
                shared: self.shared.clone(),
                pod: self.pod.clone(),
                role,
                target: self.target(&id, container.clone()),
                kind,
                probe,
                worker: self.own.clone(),
            };
            let task = tokio::spawn(probing.run(since));
            self.probing.entry(id.clone()).or_default().push((kind, task.abort_handle()));
        }
    }

    pub(super) fn stop_probes(&mut self, run: &str) {
        for (_, task) in self.probing.remove(run).into_iter().flatten() {
            task.abort();
        }
    }

    pub(super) fn stop_probe(&mut self, run: &str, kind: ProbeKind) {
        for (known, task) in self.probing.get(run).into_iter().flatten() {
            if *known == kind {
                task.abort();
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for (_, task) in self.probing.drain().flat_map(|(_, list)| list) {
            task.abort();
        }
    }
}

struct Probing {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    role: Role,
    target: Target,
    kind: ProbeKind,
    probe: Probe,
    worker: UnboundedSender<Msg>,
}

impl Probing {
    async fn run(self, since: Option<Timestamp>) {
        let seconds = |value: Option<i32>, least: i32, usual: i32| {
            let seconds = value.unwrap_or(usual).max(least);
            Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let delay = seconds(self.probe.initial_delay_seconds, 0, 0);
        let period = seconds(self.probe.period_seconds, 1, 10);
        let timeout = seconds(self.probe.timeout_seconds, 1, 1);
        let age = since.map(|since| Timestamp::now().duration_since(since));
        let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
        let mut next = Instant::now() + delay.saturating_sub(age);
        let mut counter = Counter::default();
        let mut told = None;
        loop {
            tokio::time::sleep_until(next).await;
            next = (next + period).max(Instant::now());
            let result = self.once(timeout).await;
            if let Err(text) = &result {
                let message = format!("{} probe failed: {text}", self.kind.name());
                let about = (self.target.container.name.as_str(), self.role);
                let warning = NoteKind::Warning;
                self.shared.events.container(&self.pod, about, warning, "Unhealthy", message);
            }
            let Some(verdict) = counter.observe(result.is_ok(), &self.probe) else { continue };
            if told == Some(verdict) {
                continue;
            }
            told = Some(verdict);
            let msg = Msg::Probe {
                run: self.target.container_id.clone(),
                name: self.target.container.name.clone(),
                kind: self.kind,
                verdict,
            };
            if self.worker.send(msg).is_err() {
                return;
            }
        }
    }

    async fn once(&self, timeout: Duration) -> Result<(), String> {
        let (probe, target) = (&self.probe, &self.target);
        if let Some(action) = &probe.exec {
            act::exec(&*self.shared.runtime, target, action, timeout).await
        } else if let Some(action) = &probe.http_get {
            act::http_get(target, action, "kube-probe/1.37", timeout, true).await
        } else if let Some(action) = &probe.tcp_socket {
            act::tcp(target, action, timeout).await
        } else if let Some(action) = &probe.grpc {
            act::grpc(target, action, timeout).await
        } else {
            Err("missing probe handler".to_owned())
        }
    }
}
