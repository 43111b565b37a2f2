//! Reading a pod's spec: its containers by role and the values that apply where none are given.
use api::k8s::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use jiff::Timestamp;
use std::sync::LazyLock;

/// The part that a container plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Init,
    /// An init container that keeps running (`restartPolicy: Always`).
    Sidecar,
    Main,
    Ephemeral,
}

/// Whether a container that has ended runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

pub trait PodExt {
    fn spec_ref(&self) -> &PodSpec;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn uid(&self) -> &str;
    fn restart_policy(&self) -> RestartPolicy;
    fn init_containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    /// When the pod is to be gone, if it is being deleted.
    fn deletion(&self) -> Option<Timestamp>;
    fn grace_seconds(&self) -> i64;
    fn phase(&self) -> &str;
    fn is_terminal(&self) -> bool;
    /// As messages name a pod: `name_namespace(uid)`.
    fn written(&self) -> String;
    fn host_network(&self) -> bool;
    fn annotation(&self, name: &str) -> Option<&str>;
}

static NO_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);

impl PodExt for Pod {
    fn spec_ref(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&NO_SPEC)
    }
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }
    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::parse(self.spec_ref().restart_policy.as_deref())
    }
    fn init_containers(&self) -> &[Container] {
        self.spec_ref().init_containers.as_deref().unwrap_or_default()
    }
    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        self.spec_ref().ephemeral_containers.as_deref().unwrap_or_default()
    }
    fn deletion(&self) -> Option<Timestamp> {
        self.metadata.deletion_timestamp.as_ref().map(|time| time.0)
    }
    fn grace_seconds(&self) -> i64 {
        let asked = self.metadata.deletion_grace_period_seconds;
        asked.or(self.spec_ref().termination_grace_period_seconds).unwrap_or(30).max(0)
    }
    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
    }
    fn is_terminal(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }
    fn written(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }
    fn host_network(&self) -> bool {
        self.spec_ref().host_network == Some(true)
    }
    fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }
    fn again(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// The role of an init container.
pub fn init_role(container: &Container) -> Role {
    match container.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    }
}

/// Whether a container that ended with `code` is to run again.
pub fn restarts(pod: &Pod, container: &Container, role: Role, code: i32) -> bool {
    match role {
        Role::Sidecar => return true,
        Role::Ephemeral => return false,
        Role::Init if code == 0 => return false,
        Role::Init | Role::Main => {}
    }
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let matched = rules.iter().any(|rule| {
        let Some(codes) = rule.exit_codes.as_ref().filter(|_| rule.action == "Restart") else {
            return false;
        };
        let named = codes.values.as_ref().is_some_and(|values| values.contains(&code));
        match codes.operator.as_str() {
            "In" => named,
            "NotIn" => !named,
            _ => false,
        }
    });
    if matched {
        return true;
    }
    match container.restart_policy.as_deref() {
        own @ Some(_) => RestartPolicy::parse(own).again(code),
        None => pod.restart_policy().again(code),
    }
}

/// An ephemeral container in the shape of any other.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        name: e.name,
        image: e.image,
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image_pull_policy: e.image_pull_policy,
        resources: e.resources,
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
        ..Container::default()
    }
}

/// The container of that name, whatever its role.
pub fn find(pod: &Pod, name: &str) -> Option<(Role, Container)> {
    let main = pod.spec_ref().containers.iter().find(|c| c.name == name);
    if let Some(container) = main {
        return Some((Role::Main, container.clone()));
    }
    if let Some(container) = pod.init_containers().iter().find(|c| c.name == name) {
        return Some((init_role(container), container.clone()));
    }
    let ephemeral = pod.ephemeral_containers().iter().find(|c| c.name == name)?;
    Some((Role::Ephemeral, as_container(ephemeral)))
}
