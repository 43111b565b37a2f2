//! Pods with limits on what they keep on disk are measured, and evicted when they keep more.
use super::{Done, Worker};
use jiff::{SignedDuration, Timestamp};
use podlife::usage::{self, Usage};
use podlife::{PodExt, SandboxState, Step, Verdict};
use reconcile::NoteKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often, from the end of one measurement to the next: the kernel tells nobody of use.
const INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// What an evicted pod has to end in.
const EVICTION_GRACE_SECONDS: i64 = 1;

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
                let stats = shared.runtime.stats(&id).await;
                layers.push((name, stats.map_or(0, |stats| stats.writable_bytes)));
            }
            let measured = tokio::task::spawn_blocking(move || {
                let volumes = volumes.into_iter().map(|(name, dir)| (name, on_disk(&dir)));
                let containers = layers.into_iter().map(|(name, layer)| {
                    let all = layer + on_disk(&logs.join(&name));
                    (name, all)
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
        self.shared.events.pod(&self.pod, NoteKind::Warning, "Evicted", message.clone());
        self.facts.verdict = Some(Verdict {
            reason: "Evicted".to_owned(),
            message,
            rejected: false,
            grace_seconds: Some(EVICTION_GRACE_SECONDS),
        });
    }
}

/// Bytes that the files below a folder occupy. What vanishes meanwhile occupies nothing.
fn on_disk(dir: &Path) -> u64 {
    let mut waiting = vec![dir.to_owned()];
    let mut bytes = 0;
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                waiting.push(entry.path());
            }
            // A file with several names is counted once, by and large.
            bytes += meta.blocks() * 512 / if meta.is_dir() { 1 } else { meta.nlink().max(1) };
        }
    }
    bytes
}
