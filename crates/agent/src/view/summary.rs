//! `/stats/summary`: what the node and its pods use, in upstream's `stats/v1alpha1`.
use crate::gauges::{self, Disk, Gauges, MachineGauges, Memory};
use crate::shared::Shared;
use crate::stats::{self, Depth, PodReading};
use podlife::eviction::Level;
use runtime::{ContainerStats, DiskUsage};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Readings closer together than this say nothing about the present rate.
const LEAST_NANOS: i64 = 1_000_000_000;

/// Makes summaries. Keeps the last reading of processor time, for the rate since.
#[derive(Default)]
pub struct Summaries {
    last: Mutex<HashMap<String, Rate>>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    at: i64,
    used: u64,
    nano_cores: Option<u64>,
}

impl Rate {
    /// The rate of use up to a new reading.
    fn next(self, at: i64, used: u64) -> Self {
        let elapsed = at - self.at;
        if elapsed < LEAST_NANOS {
            return self;
        }
        let spent = u128::from(used.saturating_sub(self.used)) * 1_000_000_000;
        let nano_cores = u64::try_from(spent / elapsed.unsigned_abs() as u128).ok();
        Self { at, used, nano_cores }
    }
}

impl Summaries {
    pub async fn summary(&self, shared: &Shared, depth: Depth) -> Value {
        let readings = stats::read(shared, depth).await;
        let gauges = MachineGauges::new(&shared.config);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *last);
        let mut cpu = |key: String, at: i64, used: u64| {
            let first = Rate { at, used, nano_cores: None };
            let rate = before.get(&key).map_or(first, |old| old.next(at, used));
            last.insert(key, rate);
            let mut shown = json!({"time": time(at), "usageCoreNanoSeconds": used});
            if let Some(rate) = rate.nano_cores {
                shown["usageNanoCores"] = json!(rate);
            }
            shown
        };
        let disk = (depth == Depth::Disk).then(|| gauges.root()).flatten();
        let pods: Vec<Value> =
            readings.iter().map(|reading| pod(reading, disk, &mut cpu)).collect();
        let mut node = json!({"nodeName": shared.config.node_name});
        let at = gauges::now();
        if let Some((used, booted)) = gauges::processor_time() {
            node["cpu"] = cpu(String::new(), at, used);
            node["startTime"] = time(booted);
        }
        if let Some(memory) = Memory::read() {
            node["memory"] = json!({
                "time": time(at), "availableBytes": memory.total - memory.working_set,
                "usageBytes": memory.total - memory.free, "workingSetBytes": memory.working_set,
                "rssBytes": memory.anonymous,
            });
        }
        if let Some((running, most)) = gauges::processes() {
            node["rlimit"] = json!({"time": time(at), "maxpid": most, "curproc": running});
        }
        if let Some(disk) = disk {
            node["fs"] = file_system(at, disk, None);
        }
        if let Some(images) = gauges.images().filter(|_| depth == Depth::Disk) {
            let images = file_system(at, images, None);
            let layers = readings.iter().flat_map(|pod| &pod.containers).map(|c| c.layer);
            let layers = layers.fold(DiskUsage::default(), DiskUsage::plus);
            let own = disk.map(|disk| file_system(at, disk, Some(layers)));
            node["runtime"] = json!({"imageFs": images, "containerFs": own});
        }
        json!({"node": node, "pods": pods})
    }
}

fn pod(
    reading: &PodReading,
    disk: Option<Disk>,
    cpu: &mut impl FnMut(String, i64, u64) -> Value,
) -> Value {
    let uid = &reading.uid;
    let mut usage = |key: String, stats: &ContainerStats| {
        let limit = stats.memory_limit.filter(|limit| *limit > 0);
        let mut memory = json!({
            "time": time(stats.at), "usageBytes": stats.memory_usage,
            "workingSetBytes": stats.working_set, "rssBytes": stats.rss,
            "pageFaults": stats.page_faults, "majorPageFaults": stats.major_page_faults,
        });
        if let Some(limit) = limit {
            memory["availableBytes"] = json!(limit.saturating_sub(stats.working_set));
        }
        json!({"cpu": cpu(key, stats.at, stats.cpu_usage_ns), "memory": memory})
    };
    let mut containers = Vec::new();
    for container in &reading.containers {
        let mut shown = usage(format!("{uid}/{}", container.name), &container.stats);
        shown["name"] = json!(container.name);
        shown["startTime"] = time(container.started);
        if let Some(disk) = disk {
            let at = container.stats.at;
            shown["rootfs"] = file_system(at, disk, Some(container.layer));
            shown["logs"] = file_system(at, disk, Some(container.logs));
        }
        containers.push(shown);
    }
    let mut shown = usage(uid.clone(), &reading.stats);
    shown["podRef"] = json!({"name": reading.name, "namespace": reading.namespace, "uid": uid});
    shown["startTime"] = time(reading.started);
    shown["containers"] = json!(containers);
    shown["process_stats"] = json!({"process_count": reading.stats.pids});
    if let Some(disk) = disk {
        let at = reading.stats.at;
        shown["ephemeral-storage"] = file_system(at, disk, Some(reading.disk()));
        let volumes = reading.volumes.iter().filter_map(|volume| {
            let mut shown = file_system(at, gauges::disk(&volume.path)?, Some(volume.used));
            shown["name"] = json!(volume.name);
            Some(shown)
        });
        shown["volume"] = volumes.collect();
    }
    shown
}

/// A file system, and what of it is used: all of it, or what something keeps there.
fn file_system(at: i64, disk: Disk, used: Option<DiskUsage>) -> Value {
    let taken = |level: Level| level.capacity - level.available;
    json!({
        "time": time(at),
        "availableBytes": disk.bytes.available, "capacityBytes": disk.bytes.capacity,
        "usedBytes": used.map_or(json!(taken(disk.bytes)), |used| json!(used.bytes)),
        "inodesFree": disk.inodes.available, "inodes": disk.inodes.capacity,
        "inodesUsed": used.map_or(json!(taken(disk.inodes)), |used| json!(used.inodes)),
    })
}

fn time(nanos: i64) -> Value {
    let seconds = jiff::Timestamp::from_second(nanos / 1_000_000_000);
    seconds.map_or(Value::Null, |time| json!(time.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_between_two_readings() {
        let first = Rate { at: 0, used: 0, nano_cores: None };
        let soon = first.next(LEAST_NANOS / 2, 1 << 40);
        assert_eq!(soon.nano_cores, None);
        let later = first.next(4 * LEAST_NANOS, 2_000_000_000);
        assert_eq!(later.nano_cores, Some(500_000_000));
        // A container that was started anew counts from zero.
        assert_eq!(later.next(8 * LEAST_NANOS, 5).nano_cores, Some(0));
    }

    #[test]
    fn file_systems_as_upstream_shows_them() {
        let level = Level { available: 30, capacity: 100 };
        let disk = Disk { bytes: level, inodes: level };
        let shown = file_system(1_000_000_000, disk, None);
        assert_eq!(shown["usedBytes"], 70);
        assert_eq!(shown["time"], "1970-01-01T00:00:01Z");
        let used = DiskUsage { bytes: 5, inodes: 1 };
        let shown = file_system(0, disk, Some(used));
        assert_eq!((&shown["usedBytes"], &shown["inodesUsed"]), (&json!(5), &json!(1)));
        assert_eq!((&shown["availableBytes"], &shown["capacityBytes"]), (&json!(30), &json!(100)));
    }
}
