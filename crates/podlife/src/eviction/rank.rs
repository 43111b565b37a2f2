//! Which pod has to go first, and what is said of it.
use super::{Met, Signal};
use crate::pods::PodExt;
use crate::resources;
use api::Quantity;
use api::k8s::api::core::v1::Pod;
use std::borrow::Borrow;
use std::cmp::Reverse;
use std::fmt::Write;

/// What a pod uses, as measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Working set, in bytes.
    pub memory: i64,
    pub processes: i64,
    /// Of writable layers, logs and local volumes.
    pub disk: i64,
    pub inodes: i64,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    pub name: String,
    pub memory: i64,
    /// Writable layer and logs.
    pub disk: i64,
}

impl PodUsage {
    fn of(&self, resource: &str) -> i64 {
        match resource {
            "memory" => self.memory,
            "ephemeral-storage" => self.disk,
            "inodes" => self.inodes,
            _ => self.processes,
        }
    }
}

/// Puts the pod that is to be evicted first at the front: one that could not be measured, then by
/// use beyond its request, priority, and how much it uses beyond its request. Processes are not
/// requested: there, priority and use decide.
pub fn rank<P: Borrow<Pod>>(resource: &str, pods: &mut [(P, Option<PodUsage>)]) {
    pods.sort_by_cached_key(|(pod, usage)| {
        let pod: &Pod = pod.borrow();
        let asked = resources::requests(pod).get(resource).map_or(0, Quantity::value);
        let beyond = usage.as_ref().map(|usage| usage.of(resource).saturating_sub(asked));
        let exceeds = resource != "pids" && beyond.is_some_and(|beyond| beyond > 0);
        let priority = pod.spec_ref().priority.unwrap_or_default();
        (beyond.is_some(), Reverse(exceeds), priority, Reverse(beyond))
    });
}

/// Why the pod is evicted, in upstream's words, with its trailing blank.
pub fn message(signal: Signal, met: &[Met], pod: &Pod, usage: Option<&PodUsage>) -> String {
    let resource = signal.resource();
    let mut out = format!("The node was low on resource: {resource}. ");
    if let Some(met) = met.iter().find(|met| met.signal.resource() == resource) {
        let _ =
            write!(out, "Threshold quantity: {}, available: {}. ", met.threshold, met.available);
    }
    let Some(usage) = usage else { return out };
    let mut told = |what: &str, name: &str, used: i64, asked: Quantity| {
        let used = Quantity::from_bytes(used);
        let _ = write!(
            out,
            "{what} {name} was using {used}, request is {asked}, has larger consumption of \
             {resource}. "
        );
    };
    let of_pod = pod.spec_ref().resources.as_ref().and_then(|r| r.requests.as_ref());
    if resource == "memory"
        && let Some(asked) = resources::amount(of_pod, resource)
    {
        told("Pod", pod.name(), usage.memory, asked);
    }
    for container in pod.spec_ref().containers.iter().chain(pod.init_containers()) {
        let Some(used) = usage.containers.iter().find(|used| used.name == container.name) else {
            continue;
        };
        let used = match resource {
            "memory" => used.memory,
            "ephemeral-storage" => used.disk,
            _ => continue,
        };
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let asked = resources::amount(requests, resource).unwrap_or(Quantity::ZERO);
        if used > asked.value() {
            told("Container", &container.name, used, asked);
        }
    }
    out
}
