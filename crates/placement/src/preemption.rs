//! Making room: which pods of lower priority to evict, and from which node.
use crate::cycle::{Asked, enough, filter_beside};
use crate::pod::PodInfo;
use crate::refusal::{Histogram, Refusals};
use crate::snapshot::Snapshot;
use std::borrow::Cow;
use std::sync::Arc;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NO_HELP: &str = "Preemption is not helpful for scheduling";

/// What came of the search for room.
pub(crate) enum Outcome {
    /// The node where the least is lost, with the uids of the pods to evict.
    Found { node: String, victims: Vec<String> },
    /// The pod may not evict others, or not now.
    NotEligible(&'static str),
    /// Why evicting pods helps on no node.
    Useless(Histogram),
}

pub(crate) fn find(
    snapshot: &mut Snapshot,
    pod: &PodInfo,
    asked: &Asked,
    refusals: &Refusals,
) -> Outcome {
    if !pod.may_preempt {
        return Outcome::NotEligible("preemptionPolicy=Never");
    }
    if room_is_coming(snapshot, pod, &refusals.candidates) {
        return Outcome::NotEligible("a terminating pod on the nominated node");
    }
    let (mut best, mut found): (Option<(Cost, usize, Vec<String>)>, usize) = (None, 0);
    let mut told = Histogram::default();
    told.add(Cow::Borrowed(NO_HELP), refusals.hopeless);
    let start = snapshot.turn % refusals.candidates.len().max(1);
    let (before, after) = refusals.candidates.split_at(start);
    for at in after.iter().chain(before) {
        match victims(snapshot, pod, asked, *at) {
            Ok(victims) => {
                found += 1;
                let cost = Cost::of(&victims);
                if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
                    best = Some((cost, *at, victims.iter().map(|pod| pod.uid.clone()).collect()));
                }
            }
            Err(reasons) => reasons.into_iter().for_each(|reason| told.add(reason, 1)),
        }
        // Of many nodes, the best of a share is good enough.
        if found >= enough(snapshot.len()) {
            break;
        }
    }
    match best {
        Some((_, at, victims)) => {
            Outcome::Found { node: snapshot.slots()[at].name.clone(), victims }
        }
        None => Outcome::Useless(told),
    }
}

/// Pods are on their way out of the node that room is made on for the pod, and that can help it.
fn room_is_coming(snapshot: &Snapshot, pod: &PodInfo, candidates: &[usize]) -> bool {
    let name = snapshot.nominated(&pod.uid).or(pod.nominated.as_deref());
    let Some(node) = name.and_then(|name| snapshot.node(name)) else { return false };
    let lower = node.pods.values().filter(|other| other.priority < pod.priority);
    let mut going =
        lower.filter(|other| other.preempted || snapshot.is_victim_of(&pod.uid, &other.uid));
    candidates.contains(&node.index) && going.next().is_some()
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

/// The fewest pods of lower priority without which the pod fits, or why it does not even so.
fn victims(
    snapshot: &mut Snapshot,
    pod: &PodInfo,
    asked: &Asked,
    at: usize,
) -> Result<Vec<Arc<PodInfo>>, Vec<Cow<'static, str>>> {
    let pods = snapshot.slots()[at].pods.values();
    let mut lower: Vec<Arc<PodInfo>> =
        pods.filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return Err(vec![Cow::Borrowed(NO_VICTIMS)]);
    }
    // Tried in this order to stay: the most important and longest running first.
    lower.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.started.cmp(&b.started)));
    for victim in &lower {
        snapshot.take(&victim.uid);
    }
    let possible = filter_beside(snapshot, pod, asked, at);
    let mut chosen = Vec::new();
    for other in &lower {
        snapshot.put(other, at);
        if possible.is_ok() && filter_beside(snapshot, pod, asked, at).is_err() {
            snapshot.take(&other.uid);
            chosen.push(other.clone());
        }
    }
    for victim in &chosen {
        snapshot.put(victim, at);
    }
    match possible {
        Err((_, unfit)) => Err(unfit.reasons().collect()),
        Ok(()) if chosen.is_empty() => Err(vec![Cow::Borrowed(NO_VICTIMS)]),
        Ok(()) => Ok(chosen),
    }
}
