//! `/metrics/resource`, which metrics-server reads, and `/metrics`.
use crate::gauges::{self, Memory};
use crate::shared::Shared;
use crate::stats::{self, ContainerReading, Depth, PodReading};
use std::fmt::Write;

/// The resource metrics, sorted by name as every exporter sorts them.
pub(super) async fn resource(shared: &Shared) -> String {
    let readings = stats::read(shared, Depth::Cgroups).await;
    let mut out = containers(&readings);
    let millis = gauges::now() / 1_000_000;
    if let Some((used, _)) = gauges::processor_time() {
        head(&mut out, "node_cpu_usage_seconds_total", "counter", STABLE, NODE_CPU);
        let _ = writeln!(out, "node_cpu_usage_seconds_total {} {millis}", seconds(used));
    }
    if let Some(memory) = Memory::read() {
        head(&mut out, "node_memory_working_set_bytes", "gauge", STABLE, NODE_MEMORY);
        let _ = writeln!(out, "node_memory_working_set_bytes {} {millis}", memory.working_set);
    }
    pods(&mut out, &readings);
    head(&mut out, "resource_scrape_error", "gauge", STABLE, SCRAPE);
    out.push_str("resource_scrape_error 0\n");
    out
}

/// What the agent counts of itself.
pub(super) fn own(shared: &Shared) -> String {
    format!(
        "# HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox\n\
         # TYPE kubelet_running_pods gauge\nkubelet_running_pods {}\n",
        shared.routes.all().len()
    )
}

const STABLE: &str = "STABLE";
const NODE_CPU: &str = "Cumulative cpu time consumed by the node in core-seconds";
const NODE_MEMORY: &str = "Current working set of the node in bytes";
const SCRAPE: &str = "1 if there was an error while getting container metrics, 0 otherwise";

fn head(out: &mut String, name: &str, kind: &str, level: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} [{level}] {help}\n# TYPE {name} {kind}");
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn containers(readings: &[PodReading]) -> String {
    let mut out = String::new();
    type Of = dyn Fn(&ContainerReading) -> String;
    let mut series = |name: &str, kind: &str, help: &str, of: &Of| {
        head(&mut out, name, kind, STABLE, help);
        for pod in readings {
            for container in &pod.containers {
                let _ = writeln!(
                    out,
                    "{name}{{container={:?},namespace={:?},pod={:?}}} {}",
                    container.name,
                    pod.namespace,
                    pod.name,
                    of(container)
                );
            }
        }
    };
    series(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        &|c| format!("{} {}", seconds(c.stats.cpu_usage_ns), c.stats.at / 1_000_000),
    );
    series(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        &|c| format!("{} {}", c.stats.working_set, c.stats.at / 1_000_000),
    );
    series(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        &|c| (c.started as f64 / 1e9).to_string(),
    );
    out
}

fn pods(out: &mut String, readings: &[PodReading]) {
    let mut series = |name: &str, kind: &str, help: &str, of: &dyn Fn(&PodReading) -> String| {
        head(out, name, kind, STABLE, help);
        for pod in readings {
            let millis = pod.stats.at / 1_000_000;
            let _ = writeln!(
                out,
                "{name}{{namespace={:?},pod={:?}}} {} {millis}",
                pod.namespace,
                pod.name,
                of(pod)
            );
        }
    };
    series(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        &|pod| seconds(pod.stats.cpu_usage_ns).to_string(),
    );
    series(
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
        &|pod| pod.stats.working_set.to_string(),
    );
}
