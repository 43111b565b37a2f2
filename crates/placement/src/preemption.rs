//! Making room: which pods of lower priority to evict, and from which node.
use crate::cycle::Cycle;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use std::sync::Arc;

/// The node where the least is lost, with the uids of the pods to evict.
pub(crate) fn find(
    snapshot: &mut Snapshot,
    pod: &PodInfo,
    candidates: &[usize],
) -> Option<(String, Vec<String>)> {
    if !pod.may_preempt {
        return None;
    }
    let mut best: Option<(Cost, usize, Vec<String>)> = None;
    for at in candidates {
        let Some(victims) = victims(snapshot, pod, *at) else { continue };
        let cost = Cost::of(&victims);
        if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
            best = Some((cost, *at, victims.iter().map(|pod| pod.uid.clone()).collect()));
        }
    }
    best.map(|(_, at, victims)| (snapshot.slots()[at].name.clone(), victims))
}

/// Compared field by field: the highest priority lost, their sum, how many, and the latest start.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    highest: i32,
    sum: i64,
    count: usize,
    /// Of the highest ones, the earliest start; later is better.
    started: std::cmp::Reverse<i64>,
}

impl Cost {
    fn of(victims: &[Arc<PodInfo>]) -> Self {
        let highest = victims.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
        let of_highest = victims.iter().filter(|pod| pod.priority == highest);
        Self {
            highest,
            sum: victims.iter().map(|pod| i64::from(pod.priority) + (1 << 31)).sum(),
            count: victims.len(),
            started: std::cmp::Reverse(of_highest.map(|pod| pod.started).min().unwrap_or(i64::MAX)),
        }
    }
}

/// The fewest pods of lower priority without which the pod fits, or `None` if it never does.
fn victims(snapshot: &mut Snapshot, pod: &PodInfo, at: usize) -> Option<Vec<Arc<PodInfo>>> {
    let node = &snapshot.slots()[at];
    let name = node.name.clone();
    let mut lower: Vec<Arc<PodInfo>> =
        node.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    // Tried in this order to stay: the most important and longest running first.
    lower.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.started.cmp(&b.started)));
    for victim in &lower {
        snapshot.remove(&victim.uid);
    }
    let fits = |snapshot: &mut Snapshot| {
        let cycle = Cycle::new(snapshot, pod);
        cycle.filter(&snapshot.slots()[at]).is_ok()
    };
    let possible = fits(snapshot);
    let mut chosen = Vec::new();
    for other in &lower {
        snapshot.place(other, &name);
        if possible && !fits(snapshot) {
            snapshot.remove(&other.uid);
            chosen.push(other.clone());
        }
    }
    for victim in &chosen {
        snapshot.place(victim, &name);
    }
    (possible && !chosen.is_empty()).then_some(chosen)
}
