//! Pods with limits on what they keep on disk are measured, and evicted when they keep more.
use super::{Done, Worker};
use jiff::{SignedDuration, Timestamp};
use podlife::usage::{self, Usage};
use podlife::{PodExt, SandboxState, Step, Verdict, eviction};
use reconcile::NoteKind;
use runtime::DiskUsage;
use std::path::PathBuf;

/// How often, from the end of one measurement to the next: the kernel tells nobody of use.
const INTERVAL: SignedDuration = SignedDuration::from_secs(10);

impl Worker {
    /// When the next measurement is due, if there is to be one.
    pub(super) fn measure_at(&self) -> Option<Timestamp> {
        let lives = self.facts.sandbox.state == SandboxState::Ready
            && self.facts.volumes == Step::Done
            && self.facts.verdict.is_none();
        if lives { self.measure_due } else { None }
    }

    /// Plans the first measurement of a pod that has limits.
    pub(super) fn plan_measuring(&mut self) {
        if self.measure_due.is_none() && !self.measuring && usage::is_limited(&self.pod) {
            self.measure_due = Timestamp::now().checked_add(INTERVAL).ok();
        }
    }

    pub(super) fn measure(&mut self) {
        self.measure_due = None;
        self.measuring = true;
        let volumes = self.pod.spec_ref().volumes.iter().flatten();
        let volumes: Vec<(String, PathBuf)> = volumes
            .filter(|volume| usage::on_disk(volume))
            .filter_map(|volume| {
                Some((volume.name.clone(), self.mounted.get(&volume.name)?.path.clone()))
            })
            .collect();
        let runs: Vec<(String, String)> = self
            .facts
            .containers
            .iter()
            .filter_map(|(name, found)| Some((name.clone(), found.run.as_ref()?.id.clone())))
            .collect();
        let (shared, logs) = (self.shared.clone(), self.paths.logs.clone());
        self.work.spawn(async move {
            let mut layers = Vec::new();
            for (name, id) in runs {
                let layer = shared.runtime.writable(&id).await;
                layers.push((name, layer.unwrap_or_default()));
            }
            let measured = tokio::task::spawn_blocking(move || {
                let below = DiskUsage::below;
                let volumes = volumes.into_iter().map(|(name, dir)| (name, below(&dir).bytes));
                let containers = layers.into_iter().map(|(name, layer)| {
                    let all = layer.plus(below(&logs.join(&name)));
                    (name, all.bytes)
                });
                Usage { volumes: volumes.collect(), containers: containers.collect() }
            });
            Done::Measured(measured.await.unwrap_or_default())
        });
    }

    pub(super) fn measured(&mut self, usage: &Usage) {
        self.measuring = false;
        self.plan_measuring();
        if self.facts.verdict.is_some() || self.pod.deletion().is_some() {
            return;
        }
        let Some(message) = usage::exceeded(&self.pod, usage) else { return };
        if eviction::is_critical(&self.pod) {
            tracing::warn!(pod = self.pod.written(), message, "a critical pod is not evicted");
            return;
        }
        self.evict(message);
    }

    /// Ends the pod for the node's sake. One that is on its way out gets less time.
    pub(super) fn evict(&mut self, message: String) {
        if self.facts.verdict.is_some() || self.pod.is_terminal() {
            return;
        }
        let reason = eviction::REASON;
        self.shared.events.pod(&self.pod, NoteKind::Warning, reason, message.clone());
        self.facts.verdict = Some(Verdict {
            reason: reason.to_owned(),
            message,
            rejected: false,
            grace_seconds: Some(eviction::GRACE_SECONDS),
        });
    }
}
