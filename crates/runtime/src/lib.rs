//! The container runtime seam: what a node needs of a container runtime, and two that provide it.
//!
//! [`Embedded`](embedded::Embedded) runs real containers through one [`shim`] process per pod;
//! [`Hollow`](hollow::Hollow) only pretends, for simulation. Knows nothing of the API's types: the
//! agent translates a pod into a [`SandboxConfig`] and [`ContainerConfig`]s.
//!
//! Invariants: an object returned by [`Runtime::list`] survives the death of the calling process;
//! nothing is polled (exits arrive as [`Event`]s); an id is never used twice.
mod cleanup;
pub mod config;
pub mod embedded;
pub mod error;
pub mod hollow;
mod layout;
pub mod session;
pub mod shim;
pub mod user;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

pub use cleanup::cleanup_all;
pub use config::{
    Capabilities, ContainerConfig, Device, LogPolicy, Mount, MountKind, Propagation, Resources,
    Rlimit, SandboxConfig, Seccomp, Security, User,
};
pub use error::Error;
pub use session::{AttachConfig, AttachSession, ExecConfig, ExecOutput, ExecSession, Resize};

/// Events kept for a subscriber that lags; one that lags further is told so and must list anew.
pub const EVENT_QUEUE: usize = 4096;

/// A container runtime. All calls may be made at once from many tasks; calls about one sandbox
/// are carried out in order.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Makes the pod's namespaces and cgroup. With `host_network` there is no [`Sandbox::netns`].
    /// The loopback link of a new network namespace is up; nothing else is in it.
    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error>;
    /// Records a container and checks what can be checked before a start; returns its id.
    async fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
    ) -> Result<String, Error>;
    /// Returns once the container's program has been executed. [`Error::Start`] when it cannot be:
    /// the container is then exited with code 128.
    async fn start_container(&self, id: &str) -> Result<i32, Error>;
    /// Sends `signal` to the container's first process. An exited container is no error.
    async fn signal_container(&self, id: &str, signal: i32) -> Result<(), Error>;
    /// Removes an exited or never started container: its writable layer and cgroup, not its logs.
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    /// Changes the limits of a running container in place.
    async fn update_resources(&self, id: &str, resources: &Resources) -> Result<(), Error>;
    /// Kills every container at once and gives up the pod's namespaces and cgroup. Idempotent.
    async fn stop_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Forgets a stopped sandbox and its containers. Idempotent.
    async fn remove_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Every sandbox with its containers, also those started by an earlier process.
    async fn list(&self) -> Result<Vec<SandboxStatus>, Error>;
    /// Events from now on. On `Lagged`, call [`Runtime::list`].
    fn events(&self) -> broadcast::Receiver<Event>;
    /// Starts a further process inside a running container.
    async fn exec(&self, id: &str, exec: &ExecConfig) -> Result<ExecSession, Error>;
    /// Runs a process to its end and collects the first 16 KiB of each output stream.
    /// After `timeout` the process is killed and the answer is [`Error::Timeout`].
    async fn exec_sync(
        &self,
        id: &str,
        args: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error>;
    /// Joins the standard streams of a running container.
    async fn attach(&self, id: &str, attach: &AttachConfig) -> Result<AttachSession, Error>;
    async fn stats(&self, id: &str) -> Result<ContainerStats, Error>;
    /// What the container's writable layer occupies: looks at every file.
    async fn writable(&self, id: &str) -> Result<DiskUsage, Error>;
    /// Removes the writable layers of containers that have ended; their records and logs stay.
    async fn reclaim(&self) -> Result<(), Error>;
    /// Usage of the whole pod cgroup of a sandbox.
    async fn sandbox_stats(&self, id: &str) -> Result<ContainerStats, Error>;
    /// Starts a new log file now: the current one is renamed to `<log>.<timestamp>`.
    async fn rotate_log(&self, id: &str) -> Result<(), Error>;
    /// Sets the pod level limits of a running sandbox.
    async fn update_sandbox_resources(&self, id: &str, resources: &Resources) -> Result<(), Error>;
}

/// A running sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: String,
    /// The process that holds the namespaces.
    pub pid: i32,
    /// `/proc/<pid>/ns/net`; `None` with the host's network.
    pub netns: Option<PathBuf>,
}

/// A sandbox as [`Runtime::list`] reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxStatus {
    pub id: String,
    pub config: SandboxConfig,
    /// `Some` while it runs; `None`: its shim is gone, every container is exited.
    pub running: Option<Sandbox>,
    /// Unix time in nanoseconds.
    pub created_at: i64,
    pub containers: Vec<ContainerStatus>,
}

/// A container as [`Runtime::list`] reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStatus {
    pub id: String,
    pub config: ContainerConfig,
    pub state: ContainerState,
    pub created_at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum ContainerState {
    Created,
    #[serde(rename_all = "camelCase")]
    Running {
        pid: i32,
        started_at: i64,
    },
    Exited(Exit),
}

/// How a container ended. Times are Unix nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code; 128 + signal when killed by one; 128 when it never started; 255 unknown.
    pub code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    pub started_at: i64,
    pub finished_at: i64,
    /// Why it did not start, or what is unknown about it; else empty.
    pub message: String,
    /// `true` when the program was never executed.
    pub start_failed: bool,
}

/// What happened on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    ContainerStarted {
        sandbox: String,
        id: String,
        pid: i32,
    },
    ContainerExited {
        sandbox: String,
        id: String,
        exit: Exit,
    },
    /// The sandbox ended, on request or because its shim died; all its containers are exited.
    SandboxGone {
        sandbox: String,
    },
}

/// Usage of one container (or pod).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// Unix nanoseconds of the sample.
    pub at: i64,
    pub cpu_usage_ns: u64,
    pub memory_usage: u64,
    /// Usage less inactive page cache: what eviction looks at.
    pub working_set: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// `None`: no limit.
    pub memory_limit: Option<u64>,
    pub pids: u64,
}

/// What files occupy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub bytes: u64,
    pub inodes: u64,
}

impl DiskUsage {
    /// Of everything below a folder, a file with several names counted once, by and large. What
    /// vanishes meanwhile occupies nothing. Blocking.
    pub fn below(folder: &std::path::Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let mut all = Self::default();
        let mut waiting = vec![folder.to_owned()];
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let names = if meta.is_dir() { 1 } else { meta.nlink().max(1) };
                all.bytes += meta.blocks() * 512 / names;
                all.inodes += 1;
                if meta.is_dir() {
                    waiting.push(entry.path());
                }
            }
        }
        all
    }
    pub fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }
}
