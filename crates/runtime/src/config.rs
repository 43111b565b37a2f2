//! What a sandbox and a container are to be: plain data, written to disk as JSON so that a later
//! process adopts what an earlier one started.
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A pod's sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SandboxConfig {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub attempt: u32,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// At most 64 bytes; empty: left as it is. Ignored with the host's network.
    pub hostname: String,
    pub host_network: bool,
    pub host_ipc: bool,
    pub host_pid: bool,
    /// All containers of the pod share one process namespace.
    pub share_pid: bool,
    pub sysctls: BTreeMap<String, String>,
    /// The pod's cgroup, as a path from the root of every hierarchy, such as
    /// `/kybern-ab12/node1/kubepods/burstable/pod<uid>`. Made if absent, removed by `stop_sandbox`.
    pub cgroup: String,
    /// The cgroup in which the shim itself lives: outside of the agent's own, so that stopping the
    /// agent's service does not end it. Empty: stays in the caller's.
    pub shim_cgroup: String,
    /// Pod level limits; `None`: none.
    pub resources: Option<Resources>,
    /// Size of the pod's `/dev/shm`; 0: 64 MiB.
    pub shm_bytes: u64,
}

/// A container of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerConfig {
    pub name: String,
    pub attempt: u32,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// The image as the pod names it, and its id; kept for status only.
    pub image: String,
    pub image_id: String,
    /// Unpacked image layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// The whole command line, entry point included.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Empty: `/`. Made if absent.
    pub cwd: String,
    pub user: User,
    /// In addition to the runtime's own (/proc, /dev, /sys, /dev/shm ...).
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub security: Security,
    pub resources: Resources,
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    /// CRI log file; its folder is made if absent. `None`: output goes to attached clients only.
    pub log_path: Option<PathBuf>,
    pub log: LogPolicy,
    pub tty: bool,
    pub stdin: bool,
    /// Standard input ends when the first client attached to it leaves.
    pub stdin_once: bool,
    /// Sent by [`stop`](crate::Runtime::signal_container) users; kept for adoption. 0: SIGTERM.
    pub stop_signal: i32,
    /// Id of the running container whose process namespace this one shares.
    pub pids_of: Option<String>,
}

/// Numbers only; [`crate::user::resolve`] finds them for names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    pub kind: MountKind,
    /// Absolute path inside the container.
    pub destination: String,
    /// `Bind`: what to bind.
    pub source: PathBuf,
    /// `Bind`: a path below `source`; may not lead out of it, not even by links.
    pub sub_path: Option<PathBuf>,
    pub readonly: bool,
    /// Also everything mounted below `source` is read-only; an error where that is impossible.
    pub recursive_readonly: bool,
    pub propagation: Propagation,
    /// `Tmpfs`: size in bytes, 0 without limit; and the mode of its root, 0: 01777.
    pub size_bytes: u64,
    pub mode: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountKind {
    /// Recursive bind mount of a file or folder.
    #[default]
    Bind,
    Tmpfs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    pub host_path: PathBuf,
    pub container_path: String,
    /// Of `rwm`.
    pub permissions: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Security {
    /// All capabilities and devices, nothing masked, no seccomp filter.
    pub privileged: bool,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub readonly_rootfs: bool,
    pub seccomp: Seccomp,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
}

/// Changes to the default set; names with or without `CAP_`, or `ALL`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    pub add: Vec<String>,
    pub drop: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Seccomp {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// Absolute path of a profile in the OCI/Docker JSON format.
    Localhost(PathBuf),
}

/// cgroup limits. `None`: not set, or left as it is in an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// cgroup v1 `cpu.shares` (2..262144); turned into a weight on v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; -1: no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds; `None`: 100000.
    pub cpu_period: Option<u64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Bytes; -1: no limit. No swap beyond it.
    pub memory_bytes: Option<i64>,
    /// -1: no limit.
    pub pids: Option<i64>,
    /// Page size as the kernel names it (`2MB`) to bytes.
    pub hugepages: BTreeMap<String, u64>,
}

impl Resources {
    /// Takes over what `other` sets.
    pub(crate) fn merge(&mut self, other: &Resources) {
        fn take<T: Clone>(mine: &mut Option<T>, theirs: &Option<T>) {
            if theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
        take(&mut self.cpu_shares, &other.cpu_shares);
        take(&mut self.cpu_quota, &other.cpu_quota);
        take(&mut self.cpu_period, &other.cpu_period);
        take(&mut self.cpuset_cpus, &other.cpuset_cpus);
        take(&mut self.cpuset_mems, &other.cpuset_mems);
        take(&mut self.memory_bytes, &other.memory_bytes);
        take(&mut self.pids, &other.pids);
        self.hugepages.extend(other.hugepages.clone());
    }
}

impl From<&Resources> for sys::cgroup::Limits {
    fn from(r: &Resources) -> Self {
        sys::cgroup::Limits {
            cpu_shares: r.cpu_shares,
            cpu_quota: r.cpu_quota,
            cpu_period: r.cpu_period,
            cpuset_cpus: r.cpuset_cpus.clone(),
            cpuset_mems: r.cpuset_mems.clone(),
            memory_bytes: r.memory_bytes,
            pids: r.pids,
            hugepages: r.hugepages.clone(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rlimit {
    /// Such as `RLIMIT_NOFILE`.
    pub kind: String,
    pub soft: u64,
    pub hard: u64,
}

/// When the shim starts a new log file by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogPolicy {
    /// 0: never.
    pub max_bytes: u64,
    /// Files in all, the current one included; at least 2.
    pub max_files: u32,
}

impl Default for LogPolicy {
    fn default() -> Self {
        LogPolicy { max_bytes: 10 << 20, max_files: 5 }
    }
}
