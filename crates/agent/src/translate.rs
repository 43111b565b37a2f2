//! From a pod to what the runtime is told.
//!
//! Pure but for [`mounts`], which makes folders for sub-paths. Everything that cannot be done here
//! is an error with the words of the pod's event.
pub mod env;
pub mod mounts;
pub mod security;

use crate::config::AgentConfig;
use crate::hosts;
use crate::seams::Image;
use api::k8s::api::core::v1::{Container, Pod, ResourceRequirements};
use podlife::resources::{self, Limits};
use podlife::{PodExt, expand};
use runtime::{Resources, SandboxConfig};
use std::collections::BTreeMap;

/// The pod's cgroup.
pub fn cgroup(config: &AgentConfig, pod: &Pod) -> String {
    let class = resources::qos(pod).cgroup();
    format!("{}/kubepods/{class}pod{}", config.cgroup, pod.uid())
}

/// The sandbox for the pod's `attempt`.
pub fn sandbox(config: &AgentConfig, pod: &Pod, attempt: u32) -> Result<SandboxConfig, String> {
    let spec = pod.spec_ref();
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    Ok(SandboxConfig {
        namespace: pod.namespace().to_owned(),
        name: pod.name().to_owned(),
        uid: pod.uid().to_owned(),
        attempt,
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        hostname: hosts::kernel_host_name(pod, &config.cluster_domain)?,
        host_network: pod.host_network(),
        host_ipc: spec.host_ipc == Some(true),
        host_pid: spec.host_pid == Some(true),
        share_pid: spec.share_process_namespace == Some(true),
        sysctls: sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
        cgroup: cgroup(config, pod),
        shim_cgroup: format!("{}/shims", config.cgroup),
        resources: Some(pod_resources(pod)),
        shm_bytes: 0,
    })
}

fn limits_of(limits: &Limits, hugepages: BTreeMap<String, u64>) -> Resources {
    Resources {
        cpu_shares: Some(limits.cpu_shares),
        cpu_quota: Some(limits.cpu_quota.unwrap_or(-1)),
        cpu_period: Some(resources::QUOTA_PERIOD),
        memory_bytes: Some(limits.memory.unwrap_or(-1)),
        hugepages,
        ..Resources::default()
    }
}

/// The limits of the pod as a whole.
pub fn pod_resources(pod: &Pod) -> Resources {
    limits_of(&resources::pod_limits(pod), BTreeMap::new())
}

/// Limits under which the containers of both pods fit.
pub fn larger(a: &Pod, b: &Pod) -> Resources {
    let (a, b) = (resources::pod_limits(a), resources::pod_limits(b));
    let limits = Limits {
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_quota: a.cpu_quota.zip(b.cpu_quota).map(|(a, b)| a.max(b)),
        memory: a.memory.zip(b.memory).map(|(a, b)| a.max(b)),
    };
    limits_of(&limits, BTreeMap::new())
}

/// A container's limits.
pub fn container_resources(pod: &Pod, own: Option<&ResourceRequirements>) -> Resources {
    let of_pod = resources::pod_limits(pod);
    let of_pod = match pod.spec_ref().resources {
        Some(_) => of_pod,
        None => Limits::default(),
    };
    let limits = own.and_then(|own| own.limits.as_ref());
    let hugepages = limits.into_iter().flatten().filter_map(|(name, amount)| {
        let size = name.strip_prefix("hugepages-")?.parse::<api::Quantity>().ok()?.value();
        let bytes = amount.0.parse::<api::Quantity>().ok()?.value();
        let name = match size {
            n if n >= 1 << 30 => format!("{}GB", n >> 30),
            n if n >= 1 << 20 => format!("{}MB", n >> 20),
            n => format!("{}KB", n >> 10),
        };
        Some((name, u64::try_from(bytes).ok()?))
    });
    limits_of(&resources::container_limits(own, &of_pod), hugepages.collect())
}

/// The whole command line.
pub fn command_line(
    container: &Container,
    image: &Image,
    env: &BTreeMap<String, String>,
) -> Vec<String> {
    let expanded = |words: &[String]| -> Vec<String> {
        words.iter().map(|word| expand::expand(word, env)).collect()
    };
    let command = container.command.as_deref().unwrap_or_default();
    let args = container.args.as_deref().unwrap_or_default();
    match (command.is_empty(), args.is_empty()) {
        (false, _) => [expanded(command), expanded(args)].concat(),
        (true, false) => [image.entrypoint.clone(), expanded(args)].concat(),
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    }
}

/// The signal that asks a container to end: the pod's, the image's, or SIGTERM.
pub fn stop_signal(container: &Container, image: &Image) -> i32 {
    let own = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    own.and_then(signal_number)
        .or_else(|| signal_number(&image.stop_signal))
        .unwrap_or(nix::libc::SIGTERM)
}

fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    if let Some(above) = name.strip_prefix("SIGRTMIN") {
        let above = above.strip_prefix('+').unwrap_or(above);
        return if above.is_empty() { Some(34) } else { above.parse::<i32>().ok().map(|n| 34 + n) };
    }
    if let Some(below) = name.strip_prefix("SIGRTMAX") {
        let below = below.strip_prefix('-').unwrap_or(below);
        return if below.is_empty() { Some(64) } else { below.parse::<i32>().ok().map(|n| 64 - n) };
    }
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests;
