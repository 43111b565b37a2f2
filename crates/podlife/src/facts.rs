//! What is known of a pod on its node, beside its spec.
use crate::backoff::Backoff;
use api::k8s::api::core::v1::ResourceRequirements;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Everything the machine needs to know. Kept in memory; rebuilt from the runtime's list and the
/// pod's last status after a restart of the agent.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When this node accepted the pod: `status.startTime`.
    pub started: Timestamp,
    pub sandbox: Sandbox,
    pub volumes: Step,
    /// By name: containers of all roles.
    pub containers: BTreeMap<String, ContainerFacts>,
    /// The pod must end, or never begin.
    pub verdict: Option<Verdict>,
    pub pod_ips: Vec<String>,
    /// Everything on the node is undone and the final status is known.
    pub removal_sent: bool,
}

impl Facts {
    pub fn new(started: Timestamp) -> Self {
        Self {
            started,
            sandbox: Sandbox::default(),
            volumes: Step::Todo,
            containers: BTreeMap::new(),
            verdict: None,
            pod_ips: Vec::new(),
            removal_sent: false,
        }
    }
    pub fn container(&mut self, name: &str) -> &mut ContainerFacts {
        self.containers.entry(name.to_owned()).or_default()
    }
}

/// Why a pod ends although nobody deleted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
    /// The pod was refused before anything of it ran.
    pub rejected: bool,
    /// What it has to end in, if not what its spec says.
    pub grace_seconds: Option<i64>,
}

/// Something that is done once and undone at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Todo,
    Busy,
    Done,
    Failed { message: String, retry_at: Timestamp },
    Undoing,
    Undone,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The number of the newest sandbox, from 1; zero before the first.
    pub attempt: u32,
    pub state: SandboxState,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SandboxState {
    #[default]
    Absent,
    Starting,
    Ready,
    Failed {
        message: String,
        retry_at: Timestamp,
    },
    Stopping,
    /// It ended, by itself or on request.
    Gone,
}

#[derive(Debug, Clone, Default)]
pub struct ContainerFacts {
    pub op: Option<Op>,
    /// The newest attempt that got as far as a container.
    pub run: Option<Run>,
    /// How the attempt before the newest one ended.
    pub last: Option<Exit>,
    pub restarts: u32,
    /// Why the newest attempt did not get as far as a container.
    pub error: Option<StartError>,
    pub restart_backoff: Backoff,
    pub pull_backoff: Backoff,
    pub probes: Probes,
    /// New limits hold only after a restart (`resizePolicy`).
    pub restart_to_resize: bool,
    /// What the cgroup is set to, once it is known.
    pub resources: Option<ResourceRequirements>,
}

/// What the shell is doing for a container right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Pulling,
    Starting,
}

/// One container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub id: String,
    /// The sandbox it belongs to.
    pub sandbox: u32,
    /// The image as the spec named it when the container was made.
    pub image: String,
    pub image_id: String,
    pub started: Option<Timestamp>,
    /// The post-start hook has succeeded, or there is none.
    pub hooked: bool,
    /// The post-start hook failed: the container must go.
    pub hook_failed: bool,
    pub exit: Option<Exit>,
    /// It has been told to stop, and is killed at this time.
    pub kill_at: Option<Timestamp>,
    /// The event about its back-off has been written.
    pub noted: bool,
    pub user: Option<(i64, i64, Vec<i64>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub container_id: String,
    pub code: i32,
    pub signal: Option<i32>,
    pub reason: String,
    pub message: Option<String>,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
}

/// A container could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    pub reason: String,
    pub message: String,
    pub at: Timestamp,
    pub retry_at: Timestamp,
    /// The event about its back-off has been written.
    pub noted: bool,
}

impl StartError {
    /// Errors of an image: they are shown as such, and soon after as a back-off.
    pub fn is_pull(&self) -> bool {
        matches!(self.reason.as_str(), "ErrImagePull" | "RegistryUnavailable")
    }
}

/// What probes say; `None` as long as they say nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probes {
    pub startup: Option<bool>,
    pub liveness: Option<bool>,
    pub readiness: Option<bool>,
}
