//! A node that runs short of something: when that is, what it says of itself, which pods it takes
//! no more and which one has to go.
//!
//! Thresholds are upstream's hard ones: a level below its threshold is acted upon at once. The
//! signal `allocatableMemory.available` is missing on purpose: pods may use all of the machine, so
//! it says nothing that `memory.available` does not.
mod rank;

use crate::admit::tolerates_taint;
use crate::pods::PodExt;
use crate::resources::{Qos, qos};
use api::Quantity;
use api::k8s::api::core::v1::Pod;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

pub use rank::{ContainerUsage, PodUsage, message, rank};

/// The reason of pods that are evicted, or refused for the node's state.
pub const REASON: &str = "Evicted";
/// What an evicted pod has to end in.
pub const GRACE_SECONDS: i64 = 1;
/// A condition holds for at least this long after its cause was last seen.
pub const TRANSITION: SignedDuration = SignedDuration::from_mins(5);
/// Upstream's defaults, as its configuration writes them, but for disks: a developer's machine
/// often has less than a tenth of its disk left and is fine, so that distributions made for it take
/// a twentieth.
pub const DEFAULT_HARD: &str = "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,\
                                imagefs.available<5%,imagefs.inodesFree<5%";
/// From this priority on a pod is one that the cluster cannot be without.
const SYSTEM_CRITICAL: i32 = 2_000_000_000;
const MEMORY_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// What is watched. The order is that in which shortages are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

/// A node's condition that says that it runs short, in the order in which messages name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    Memory,
    Disk,
    Pid,
}

/// Each signal with its name, the condition that it brings about, and the resource that is short.
const SIGNALS: &[(Signal, &str, Condition, &str)] = &[
    (Signal::MemoryAvailable, "memory.available", Condition::Memory, "memory"),
    (Signal::NodefsAvailable, "nodefs.available", Condition::Disk, "ephemeral-storage"),
    (Signal::NodefsInodesFree, "nodefs.inodesFree", Condition::Disk, "inodes"),
    (Signal::ImagefsAvailable, "imagefs.available", Condition::Disk, "ephemeral-storage"),
    (Signal::ImagefsInodesFree, "imagefs.inodesFree", Condition::Disk, "inodes"),
    (Signal::PidAvailable, "pid.available", Condition::Pid, "pids"),
];

impl Signal {
    fn row(self) -> &'static (Signal, &'static str, Condition, &'static str) {
        &SIGNALS[self as usize]
    }
    pub fn name(self) -> &'static str {
        self.row().1
    }
    pub fn condition(self) -> Condition {
        self.row().2
    }
    pub fn resource(self) -> &'static str {
        self.row().3
    }
    /// An amount of what the signal counts, written as upstream writes it.
    fn quantity(self, amount: i64) -> Quantity {
        match self.resource() {
            "inodes" | "pids" => Quantity::from_units(amount),
            _ => Quantity::from_bytes(amount),
        }
    }
}

impl Condition {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// A hard threshold: less than this is too little.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub least: Least,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Least {
    Amount(Quantity),
    /// Of the capacity.
    Percent(f64),
}

impl std::fmt::Display for Least {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Amount(amount) => write!(f, "{amount}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Threshold {
    /// Below how much of this capacity it is met.
    pub fn quantity(&self, capacity: i64) -> Quantity {
        match self.least {
            Least::Amount(amount) => amount,
            // As upstream: in binary units whatever is counted, with the fraction cut off.
            Least::Percent(percent) => {
                Quantity::from_bytes((capacity as f64 * percent / 100.0) as i64)
            }
        }
    }
}

/// Reads thresholds as the kubelet's `--eviction-hard` has them: `memory.available<100Mi,…`.
///
/// # Errors
/// One line: which of them is wrong, and how.
pub fn parse(text: &str) -> Result<Vec<Threshold>, String> {
    let mut all: Vec<Threshold> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) =
            part.split_once('<').ok_or_else(|| format!("{part:?}: give signal<quantity"))?;
        let known = SIGNALS.iter().find(|row| row.1 == name);
        let signal = known.ok_or_else(|| format!("unsupported eviction signal {name}"))?.0;
        let least = match value.strip_suffix('%') {
            Some(number) => {
                let percent = number.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
                Least::Percent(percent.ok_or_else(|| format!("{part:?}: no percentage"))?)
            }
            None => {
                let amount = value.parse::<Quantity>().map_err(|e| format!("{part:?}: {e}"))?;
                if amount.sign() < 0 {
                    return Err(format!("{part:?}: must not be negative"));
                }
                Least::Amount(amount)
            }
        };
        if all.iter().any(|other| other.signal == signal) {
            return Err(format!("duplicate eviction threshold {name}"));
        }
        all.push(Threshold { signal, least });
    }
    // 0 and 0% turn a signal off.
    all.retain(|threshold| threshold.quantity(i64::MAX).sign() > 0);
    all.sort_by_key(|threshold| threshold.signal);
    Ok(all)
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    pub available: i64,
    pub capacity: i64,
}

/// Signals that cannot be read are absent.
pub type Levels = BTreeMap<Signal, Level>;

/// A threshold that the node is below.
#[derive(Debug, Clone, PartialEq)]
pub struct Met {
    pub signal: Signal,
    pub threshold: Quantity,
    pub available: Quantity,
}

/// The thresholds that the levels are below, the first to be dealt with first.
pub fn met(thresholds: &[Threshold], levels: &Levels) -> Vec<Met> {
    let found = thresholds.iter().filter_map(|threshold| {
        let level = levels.get(&threshold.signal)?;
        let least = threshold.quantity(level.capacity);
        let available = threshold.signal.quantity(level.available);
        (available < least).then_some(Met { signal: threshold.signal, threshold: least, available })
    });
    found.collect()
}

/// The node's conditions over time.
#[derive(Debug, Clone, Default)]
pub struct Pressure {
    /// When the cause of each was there last.
    seen: BTreeMap<Condition, Timestamp>,
}

impl Pressure {
    /// Takes note of what the node is short of now.
    pub fn observe(&mut self, met: &[Met], now: Timestamp) {
        self.seen.retain(|_, at| now.duration_since(*at) < TRANSITION);
        self.seen.extend(met.iter().map(|met| (met.signal.condition(), now)));
    }
    /// The conditions that hold as of the last observation.
    pub fn conditions(&self) -> BTreeSet<Condition> {
        self.seen.keys().copied().collect()
    }
}

/// Whether the pod is never evicted, and always taken.
pub fn is_critical(pod: &Pod) -> bool {
    let from_file = pod.annotation("kubernetes.io/config.source").is_some_and(|s| s != "api");
    from_file
        || pod.annotation("kubernetes.io/config.mirror").is_some()
        || pod.spec_ref().priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL)
}

/// Why a node in these conditions does not take the pod.
pub fn refuses(pod: &Pod, conditions: &BTreeSet<Condition>) -> Option<String> {
    if conditions.is_empty() || is_critical(pod) {
        return None;
    }
    let only_memory = conditions.iter().all(|condition| *condition == Condition::Memory);
    let tolerated = || {
        let tolerations = pod.spec_ref().tolerations.iter().flatten();
        tolerations.into_iter().any(|t| tolerates_taint(t, MEMORY_TAINT, "", "NoSchedule"))
    };
    if only_memory && (qos(pod) != Qos::BestEffort || tolerated()) {
        return None;
    }
    let names: Vec<&str> = conditions.iter().map(|condition| condition.name()).collect();
    Some(format!("The node had condition: [{}]. ", names.join(" ")))
}

#[cfg(test)]
mod tests;
