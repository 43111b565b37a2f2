//! Requests and limits as quality of service, cgroup values and out-of-memory scores.
use crate::pods::{self, PodExt, Role};
use api::Quantity;
use api::k8s::api::core::v1::{Container, Pod, ResourceRequirements};
use std::collections::BTreeMap;

type Quantities = BTreeMap<String, api::k8s::apimachinery::pkg::api::resource::Quantity>;

/// One CPU in `cpu.shares`, and the bounds of that value.
const SHARES_PER_CPU: u64 = 1024;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// The period of CPU quotas, and the least quota, in microseconds.
pub const QUOTA_PERIOD: u64 = 100_000;
const MIN_QUOTA: i64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
    /// The folder of the pod's cgroup below `kubepods`.
    pub fn cgroup(self) -> &'static str {
        match self {
            Self::Guaranteed => "",
            Self::Burstable => "burstable/",
            Self::BestEffort => "besteffort/",
        }
    }
}

/// The amount of a resource in a list; nothing if it is absent or cannot be read.
pub fn amount(list: Option<&Quantities>, name: &str) -> Option<Quantity> {
    list?.get(name)?.0.parse().ok()
}

/// A request; a limit without a request counts as one.
pub fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    let resources = resources?;
    amount(resources.requests.as_ref(), name).or_else(|| limit(Some(resources), name))
}

pub fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    amount(resources?.limits.as_ref(), name).filter(|amount| !amount.is_zero())
}

pub fn qos(pod: &Pod) -> Qos {
    if let Some(known) = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        match known {
            "Guaranteed" => return Qos::Guaranteed,
            "Burstable" => return Qos::Burstable,
            "BestEffort" => return Qos::BestEffort,
            _ => {}
        }
    }
    let spec = pod.spec_ref();
    let of_pod = spec.resources.as_ref().filter(|resources| {
        resources.requests.as_ref().is_some_and(|list| !list.is_empty())
            || resources.limits.as_ref().is_some_and(|list| !list.is_empty())
    });
    let all = pod.init_containers().iter().chain(&spec.containers);
    let lists: Vec<Option<&ResourceRequirements>> = match of_pod {
        Some(of_pod) => vec![Some(of_pod)],
        None => all.map(|container| container.resources.as_ref()).collect(),
    };
    let positive = |found: Option<Quantity>| found.filter(|amount| amount.sign() > 0);
    let mut any = false;
    let mut guaranteed = true;
    for resources in lists {
        for name in ["cpu", "memory"] {
            let (asked, most) = (positive(request(resources, name)), limit(resources, name));
            any |= asked.is_some() || most.is_some();
            guaranteed &= most.is_some() && asked == most;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// cgroup values; `None`: not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_shares: u64,
    pub cpu_quota: Option<i64>,
    pub memory: Option<i64>,
}

pub fn shares(milli_cpu: i64) -> u64 {
    let milli = u64::try_from(milli_cpu).unwrap_or(0);
    (milli * SHARES_PER_CPU / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

pub fn quota(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(QUOTA_PERIOD as i64) / 1000).max(MIN_QUOTA)
}

/// The cgroup values of a container; limits of the pod hold where it has none of its own.
pub fn container_limits(resources: Option<&ResourceRequirements>, of_pod: &Limits) -> Limits {
    let cpu = request(resources, "cpu").map_or(0, |amount| amount.milli_value());
    let cpu_limit = limit(resources, "cpu");
    Limits {
        cpu_shares: shares(cpu),
        cpu_quota: cpu_limit.map(|most| quota(most.milli_value())),
        memory: limit(resources, "memory").map(|most| most.value()).or(of_pod.memory),
    }
}

/// The values of the whole pod's cgroup: limited only where every container is.
pub fn pod_limits(pod: &Pod) -> Limits {
    let totals = requests(pod);
    let of_pod = pod.spec_ref().resources.as_ref();
    let sum = |name: &str| -> Option<Quantity> {
        if let Some(most) = limit(of_pod, name) {
            return Some(most);
        }
        let all = pod.init_containers().iter().chain(&pod.spec_ref().containers);
        if all.into_iter().any(|container| limit(container.resources.as_ref(), name).is_none()) {
            return None;
        }
        Some(fold(pod, |container| limit(container.resources.as_ref(), name)))
    };
    let cpu = totals.get("cpu").map_or(0, Quantity::milli_value);
    Limits {
        cpu_shares: shares(cpu),
        cpu_quota: sum("cpu").map(|most| quota(most.milli_value())),
        memory: sum("memory").map(|most| most.value()),
    }
}

/// What the pod takes of its node: all containers that run together, or the largest init container
/// with the sidecars before it, whichever is more.
pub fn requests(pod: &Pod) -> BTreeMap<String, Quantity> {
    let spec = pod.spec_ref();
    let mut names: Vec<&String> = Vec::new();
    let all = pod.init_containers().iter().chain(&spec.containers);
    let lists = all.map(|c| c.resources.as_ref()).chain([spec.resources.as_ref()]).flatten();
    for resources in lists {
        names.extend(resources.requests.iter().flat_map(BTreeMap::keys));
        names.extend(resources.limits.iter().flat_map(BTreeMap::keys));
    }
    let mut totals = BTreeMap::new();
    for name in names {
        let of_pod = request(spec.resources.as_ref(), name);
        let total = of_pod
            .unwrap_or_else(|| fold(pod, |container| request(container.resources.as_ref(), name)));
        let total = match amount(spec.overhead.as_ref(), name) {
            Some(overhead) => total.plus(&overhead),
            None => total,
        };
        totals.insert(name.clone(), total);
    }
    totals
}

fn fold(pod: &Pod, of: impl Fn(&Container) -> Option<Quantity>) -> Quantity {
    let value = |container: &Container| of(container).unwrap_or(Quantity::ZERO);
    let mut sidecars = Quantity::ZERO;
    let mut largest = Quantity::ZERO;
    for container in pod.init_containers() {
        let step = if pods::init_role(container) == Role::Sidecar {
            sidecars = sidecars.plus(&value(container));
            sidecars
        } else {
            sidecars.plus(&value(container))
        };
        largest = largest.max(step);
    }
    let main = pod.spec_ref().containers.iter();
    let together = main.fold(sidecars, |sum, container| sum.plus(&value(container)));
    largest.max(together)
}

/// How willing the kernel shall be to kill the container: from -997 to 1000.
pub fn oom_score(pod: &Pod, container: &Container, node_memory: i64) -> i32 {
    if pod.spec_ref().priority.is_some_and(|priority| priority >= 2_000_000_000) {
        return -997;
    }
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let asked = request(container.resources.as_ref(), "memory");
            let asked = asked.map_or(0, |amount| amount.value());
            let part = 1000 * i128::from(asked) / i128::from(node_memory.max(1));
            (1000 - part).clamp(3, 999) as i32
        }
    }
}

#[cfg(test)]
mod tests;
