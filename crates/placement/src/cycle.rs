//! One decision: filter, rank, choose, or say why not.
use crate::affinity::Scope;
use crate::plugins::{inter_pod_affinity, pod_topology_spread};
use crate::pod::PodInfo;
use crate::preemption;
use crate::refusal::Refusals;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::topology::Counts;
use crate::{PLUGINS, Refusal, Unfit};

/// Where a pod goes, or why it cannot go anywhere yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Place { node: String },
    Refused(Refusal),
}

/// The tallies that a pod's decision needs, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) spread: Vec<usize>,
    pub(crate) affinity: inter_pod_affinity::Asked,
    none: Counts,
}

/// What the plugins share within one decision.
pub(crate) struct Cycle<'a> {
    pub(crate) pod: &'a PodInfo,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) spread: pod_topology_spread::State<'a>,
    pub(crate) affinity: inter_pod_affinity::State<'a>,
    /// Which of the plugins have something to refuse; a bit for each.
    filters: u32,
}

/// What a plugin says of a node that does not do.
pub(crate) type Told = (&'static str, Unfit);

/// Of this many nodes or fewer, all are looked at; of more, a share that shrinks to a twentieth.
const ALWAYS_NODES: usize = 100;

/// Decides for one pod. The snapshot changes only in what it counts and whose turn it is.
pub fn schedule(snapshot: &mut Snapshot, pod: &PodInfo) -> Decision {
    if snapshot.is_empty() {
        let message = "no nodes available to schedule pods".to_owned();
        return Decision::Refused(Refusal { message, ..Refusal::default() });
    }
    let asked = Asked::of(snapshot, pod);
    let reserved = Reserved::of(snapshot, pod, &asked);
    let cycle = Cycle::new(snapshot, pod, &asked);
    let search = Search { cycle: &cycle, reserved: &reserved };
    // A node that room was made on for this pod comes first.
    let nominated = snapshot.nominated(&pod.uid).or(pod.nominated.as_deref());
    let nominated = nominated.and_then(|name| snapshot.node(name));
    if let Some(node) = nominated.filter(|node| search.filter(node).is_ok()) {
        return Decision::Place { node: node.name.clone() };
    }
    let mut refusals = Refusals::default();
    let fit = search.fitting(&mut refusals);
    let chosen = cycle.best(&fit).map(|node| node.name.clone());
    let seen = fit.len() + refusals.len();
    snapshot.turn = snapshot.turn.wrapping_add(1);
    snapshot.start = (snapshot.start + seen) % snapshot.slots().len();
    match chosen {
        Some(node) => Decision::Place { node },
        None => {
            let outcome = preemption::find(snapshot, pod, &asked, &refusals);
            Decision::Refused(refusals.into_refusal(snapshot.len(), outcome))
        }
    }
}

/// Whether a pod could go to a node as things are, or could make room there.
pub fn may_go(snapshot: &mut Snapshot, pod: &PodInfo, node: &str) -> bool {
    let asked = Asked::of(snapshot, pod);
    let Some(node) = snapshot.node(node) else { return false };
    let at = node.index;
    let lower = pod.may_preempt && node.pods.values().any(|other| other.priority < pod.priority);
    match filter_beside(snapshot, pod, &asked, at) {
        Ok(()) => true,
        Err((_, unfit)) => lower && unfit.resolvable,
    }
}

/// Whether one of the pods has a term about the other, so that what becomes of one may matter to
/// the other.
pub fn concerns(snapshot: &Snapshot, pod: &PodInfo, other: &PodInfo) -> bool {
    let all = &snapshot.namespaces;
    let about = |scope: &Scope, whom: &PodInfo| scope.matches(all, &whom.namespace, &whom.labels);
    let own = pod.affinity.iter().chain(&pod.anti_affinity).map(|term| &term.scope);
    own.chain(pod.spread.iter().map(|spread| &spread.scope)).any(|scope| about(scope, other))
        || other.anti_affinity.iter().any(|term| about(&term.scope, pod))
}

/// Whether the pod fits on a node, both beside the pods that room is made for there and without
/// them, as they may be what it wants to be near.
pub(crate) fn filter_beside(
    snapshot: &mut Snapshot,
    pod: &PodInfo,
    asked: &Asked,
    at: usize,
) -> Result<(), Told> {
    let name = snapshot.slots()[at].name.clone();
    let ahead = snapshot.ahead_of(pod, &name);
    if !ahead.is_empty() {
        ahead.iter().for_each(|other| snapshot.put(other, at));
        let told = Cycle::new(snapshot, pod, asked).filter(&snapshot.slots()[at]);
        for other in &ahead {
            snapshot.take(&other.uid);
        }
        told?;
    }
    Cycle::new(snapshot, pod, asked).filter(&snapshot.slots()[at])
}

impl Asked {
    /// Has all tallies made that the pod needs.
    pub(crate) fn of(snapshot: &mut Snapshot, pod: &PodInfo) -> Self {
        let mut tallies = std::mem::take(&mut snapshot.tallies);
        tallies.trim();
        let asked = Self {
            spread: pod_topology_spread::ask(&mut tallies, snapshot, pod),
            affinity: inter_pod_affinity::ask(&mut tallies, snapshot, pod),
            none: Counts::default(),
        };
        snapshot.tallies = tallies;
        asked
    }
    pub(crate) fn none(&self) -> &Counts {
        &self.none
    }
}

/// What is said of the nodes where room is made for others.
struct Reserved(Vec<(usize, Result<(), Told>)>);

impl Reserved {
    fn of(snapshot: &mut Snapshot, pod: &PodInfo, asked: &Asked) -> Self {
        let nodes = snapshot.reserved_from(pod);
        Self(nodes.into_iter().map(|at| (at, filter_beside(snapshot, pod, asked, at))).collect())
    }
    fn told(&self, node: &NodeInfo) -> Option<&Result<(), Told>> {
        self.0.binary_search_by_key(&node.index, |(at, _)| *at).ok().map(|at| &self.0[at].1)
    }
}

struct Search<'a> {
    cycle: &'a Cycle<'a>,
    reserved: &'a Reserved,
}

impl<'a> Search<'a> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Told> {
        match self.reserved.told(node) {
            Some(told) => told.clone(),
            None => self.cycle.filter(node),
        }
    }

    fn look(&self, node: &'a NodeInfo, fit: &mut Vec<&'a NodeInfo>, refusals: &mut Refusals) {
        match self.filter(node) {
            Ok(()) => fit.push(node),
            Err((plugin, unfit)) => refusals.add(node.index, plugin, unfit),
        }
    }

    /// Nodes that do; enough of them, not always all.
    fn fitting(&self, refusals: &mut Refusals) -> Vec<&'a NodeInfo> {
        let (snapshot, mut fit) = (self.cycle.snapshot, Vec::new());
        if let Some(names) = self.cycle.pod.node_rule.named() {
            // A pod of a daemon set names its node: look nowhere else.
            let mut named: Vec<&NodeInfo> =
                names.iter().filter_map(|name| snapshot.node(name)).collect();
            named.sort_by_key(|node| node.index);
            named.dedup_by_key(|node| node.index);
            for node in named {
                self.look(node, &mut fit, refusals);
            }
            if fit.is_empty() {
                let elsewhere = snapshot.nodes().filter(|n| !names.contains(&n.name.as_str()));
                for node in elsewhere {
                    self.look(node, &mut fit, refusals);
                }
            }
            return fit;
        }
        let enough = enough(snapshot.len());
        let (before, after) = snapshot.slots().split_at(snapshot.start);
        for node in after.iter().chain(before).filter(|node| node.exists) {
            self.look(node, &mut fit, refusals);
            if fit.len() >= enough {
                break;
            }
        }
        fit
    }
}

impl<'a> Cycle<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, pod: &'a PodInfo, asked: &'a Asked) -> Self {
        let spread = pod_topology_spread::State::new(snapshot, pod, asked);
        let affinity = inter_pod_affinity::State::new(snapshot, pod, &asked.affinity);
        let mut cycle = Self { pod, snapshot, spread, affinity, filters: 0 };
        for (at, plugin) in PLUGINS.iter().enumerate() {
            cycle.filters |= u32::from(plugin.filters(&cycle)) << at;
        }
        cycle
    }

    pub(crate) fn filter(&self, node: &NodeInfo) -> Result<(), Told> {
        let mut left = self.filters;
        while left != 0 {
            let plugin = PLUGINS[left.trailing_zeros() as usize];
            plugin.filter(self, node).map_err(|unfit| (plugin.name(), unfit))?;
            left &= left - 1;
        }
        Ok(())
    }

    /// The best of the nodes; equal ones take turns.
    fn best(&self, fit: &[&'a NodeInfo]) -> Option<&'a NodeInfo> {
        if fit.len() <= 1 {
            return fit.first().copied();
        }
        let (mut totals, mut scores) = (vec![0i64; fit.len()], vec![0i64; fit.len()]);
        for plugin in PLUGINS.iter().filter(|plugin| plugin.scores(self)) {
            plugin.score(self, fit, &mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += plugin.weight() * score;
            }
        }
        let most = totals.iter().copied().max().unwrap_or(0);
        let equal = totals.iter().filter(|total| **total == most).count();
        let mut best = fit.iter().zip(&totals).filter(|(_, total)| **total == most);
        best.nth(self.snapshot.turn % equal.max(1)).map(|(node, _)| *node)
    }
}

pub(crate) fn enough(nodes: usize) -> usize {
    if nodes <= ALWAYS_NODES {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ALWAYS_NODES)
}
