//! What pods use, read when somebody asks: the node API, and eviction when something runs short.
use crate::shared::Shared;
use podlife::eviction::{ContainerUsage, PodUsage};
use runtime::{ContainerState, ContainerStats, DiskUsage, SandboxStatus};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How much is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What cgroups count.
    Cgroups,
    /// Also what lies on disk: looks at every file of every pod.
    Disk,
}

/// One pod that runs.
#[derive(Debug, Clone)]
pub struct PodReading {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Unix nanoseconds.
    pub started: i64,
    pub stats: ContainerStats,
    pub containers: Vec<ContainerReading>,
    pub volumes: Vec<VolumeReading>,
}

#[derive(Debug, Clone)]
pub struct ContainerReading {
    pub name: String,
    pub started: i64,
    pub stats: ContainerStats,
    pub layer: DiskUsage,
    pub logs: DiskUsage,
}

#[derive(Debug, Clone)]
pub struct VolumeReading {
    pub name: String,
    pub path: PathBuf,
    pub used: DiskUsage,
    /// On the node's own file system.
    pub on_node: bool,
}

/// Every pod that runs. What cannot be read is left out.
pub async fn read(shared: &Shared, depth: Depth) -> Vec<PodReading> {
    let mut out = Vec::new();
    for sandbox in shared.runtime.list().await.unwrap_or_default() {
        if sandbox.running.is_some()
            && let Some(reading) = pod(shared, sandbox, depth).await
        {
            out.push(reading);
        }
    }
    out
}

async fn pod(shared: &Shared, sandbox: SandboxStatus, depth: Depth) -> Option<PodReading> {
    let runtime = &shared.runtime;
    let stats = runtime.sandbox_stats(&sandbox.id).await.ok()?;
    let config = sandbox.config;
    let logs = shared
        .config
        .logs_dir()
        .join(format!("{}_{}_{}", config.namespace, config.name, config.uid));
    let mut containers = Vec::new();
    for container in sandbox.containers {
        let ContainerState::Running { started_at, .. } = container.state else { continue };
        let Ok(stats) = runtime.stats(&container.id).await else { continue };
        let name = container.config.name;
        let mut reading = ContainerReading {
            started: started_at,
            stats,
            layer: DiskUsage::default(),
            logs: DiskUsage::default(),
            name,
        };
        if depth == Depth::Disk {
            reading.layer = runtime.writable(&container.id).await.unwrap_or_default();
            let own = logs.join(&reading.name);
            let logs = tokio::task::spawn_blocking(move || DiskUsage::below(&own)).await;
            reading.logs = logs.unwrap_or_default();
        }
        containers.push(reading);
    }
    let volumes = match depth {
        Depth::Cgroups => Vec::new(),
        Depth::Disk => {
            let folder = shared.config.pods_dir().join(&config.uid).join("volumes");
            let volumes = tokio::task::spawn_blocking(move || volumes(&folder)).await;
            volumes.unwrap_or_default()
        }
    };
    Some(PodReading {
        namespace: config.namespace,
        name: config.name,
        uid: config.uid,
        started: sandbox.created_at,
        stats,
        containers,
        volumes,
    })
}

/// The volumes in a pod's folder: `<plug-in>/<name>`.
fn volumes(folder: &Path) -> Vec<VolumeReading> {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let own = device(folder);
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let all = entries(folder).into_iter().flat_map(|plugin| entries(&plugin));
    let read = |path: PathBuf| VolumeReading {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        used: DiskUsage::below(&path),
        on_node: device(&path) == own,
        path,
    };
    all.map(read).collect()
}

impl PodReading {
    /// All that the pod keeps on the node's disk.
    pub fn disk(&self) -> DiskUsage {
        let volumes = self.volumes.iter().filter(|volume| volume.on_node).map(|v| v.used);
        let containers = self.containers.iter().map(|c| c.layer.plus(c.logs));
        volumes.chain(containers).fold(DiskUsage::default(), DiskUsage::plus)
    }

    /// As eviction weighs it.
    pub fn usage(&self) -> PodUsage {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let disk = self.disk();
        let containers = self.containers.iter().map(|container| ContainerUsage {
            name: container.name.clone(),
            memory: number(container.stats.working_set),
            disk: number(container.layer.plus(container.logs).bytes),
        });
        PodUsage {
            memory: number(self.stats.working_set),
            processes: number(self.stats.pids),
            disk: number(disk.bytes),
            inodes: number(disk.inodes),
            containers: containers.collect(),
        }
    }
}
