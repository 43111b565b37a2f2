//! Decisions of the pure core alone: no API, no store, one thread.
use crate::Bench;
use crate::objects::{self, Constraint};
use crate::report::{KYBERN, Measure, Target};
use crate::stats::Samples;
use anyhow::{Context, Result, bail};
use api::k8s::api::core::v1::{Node, Pod};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use placement::{Decision, PodInfo, Snapshot, schedule};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

const NODES: usize = 5000;
/// What is placed before anything is measured: decisions must not cost more for it.
const PLACED: usize = 100_000;

/// Kinds of pods, each with the rate that it must reach.
const CASES: [(Constraint, f64); 6] = [
    (Constraint::Basic, 20_000.0),
    (Constraint::OneSet, 20_000.0),
    (Constraint::ZoneSpread, 2000.0),
    (Constraint::ZoneAffinity, 2000.0),
    (Constraint::PreferredAntiAffinity, 2000.0),
    (Constraint::HostAntiAffinity, 2000.0),
];

pub(super) async fn core(bench: &mut Bench) -> Result<()> {
    let pods = bench.pick(4000, 1000);
    for placed in [0, PLACED] {
        let mut snapshot = nodes()?;
        fill(&mut snapshot, placed)?;
        for (constraint, rate) in CASES {
            let (samples, seconds) = decide(&mut snapshot, constraint, pods)?;
            let name = constraint.name();
            let case = format!("{name}, {NODES} nodes, {placed} pods before");
            let measure = Measure::new("core", case, KYBERN, &samples, "us");
            bench.report.add(measure.rate(pods as f64 / seconds).target(Target::PerSecond(rate)));
        }
    }
    Ok(())
}

fn nodes() -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    for index in 0..NODES {
        let node: Node = serde_json::from_value(objects::node(index, "2026-01-01T00:00:00Z"))?;
        snapshot.set_node(&node);
    }
    Ok(snapshot)
}

fn fill(snapshot: &mut Snapshot, pods: usize) -> Result<()> {
    let mut template = object("", Constraint::Basic);
    template["metadata"]["labels"] = json!({"app": "other"});
    let template: Pod = serde_json::from_value(template)?;
    for index in 0..pods {
        let mut info = PodInfo::new(&template);
        info.uid = format!("before-{index}");
        snapshot.place(&Arc::new(info), &objects::node_name(index % NODES));
    }
    Ok(())
}

fn object(name: &str, constraint: Constraint) -> Value {
    let mut pod = objects::placed_pod(name, constraint);
    pod["metadata"]["namespace"] = json!("bench");
    pod["metadata"]["uid"] = json!(name);
    pod
}

/// From a pod to its being counted where it goes, in microseconds each; and the processor time that
/// all took, in seconds: what else runs on the machine does not count. All are gone afterwards.
fn decide(snapshot: &mut Snapshot, constraint: Constraint, pods: usize) -> Result<(Samples, f64)> {
    let mut objects = Vec::with_capacity(pods);
    for index in 0..pods {
        objects.push(serde_json::from_value::<Pod>(object(&format!("pod-{index}"), constraint))?);
    }
    let mut samples = Samples::default();
    let before = processor_time()?;
    for pod in &objects {
        let start = Instant::now();
        let info = Arc::new(PodInfo::new(pod));
        match schedule(snapshot, &info) {
            Decision::Place { node } => {
                snapshot.place(&info, &node);
            }
            Decision::Refused(refusal) => bail!("{}", refusal.message),
        }
        samples.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let seconds = processor_time()? - before;
    for index in 0..pods {
        snapshot.remove(&format!("pod-{index}"));
    }
    Ok((samples, seconds))
}

/// Of this thread, in seconds.
fn processor_time() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("cannot read the processor's time")?;
    let times = [usage.user_time(), usage.system_time()];
    Ok(times.iter().map(|time| time.num_microseconds() as f64 / 1e6).sum())
}
