//! One decision: filter, rank, choose, or say why not.
use crate::plugins::{inter_pod_affinity, pod_topology_spread};
use crate::pod::PodInfo;
use crate::preemption;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::{PLUGINS, Unfit};
use std::collections::BTreeMap;

/// Where a pod goes, or why it cannot go anywhere yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Place { node: String },
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As in the event and the condition.
    pub message: String,
    /// The plugins that refused a node: a change that concerns none of them helps nothing.
    pub plugins: Vec<&'static str>,
    /// Evicting these pods (by uid) would make room on that node.
    pub preempt: Option<(String, Vec<String>)>,
}

/// What the plugins share within one decision.
pub(crate) struct Cycle<'a> {
    pub(crate) pod: &'a PodInfo,
    pub(crate) nodes: usize,
    pub(crate) spread: pod_topology_spread::State,
    pub(crate) affinity: inter_pod_affinity::State,
    /// On how many nodes each of the pod's images is.
    pub(crate) image_spread: Vec<usize>,
}

/// Of this many nodes or fewer, all are looked at; of more, a share that shrinks to a twentieth.
const ALWAYS_NODES: usize = 100;

/// Decides for one pod. The snapshot changes only in what it counts and whose turn it is.
pub fn schedule(snapshot: &mut Snapshot, pod: &PodInfo) -> Decision {
    if snapshot.is_empty() {
        let message = "no nodes available to schedule pods".to_owned();
        return Decision::Refused(Refusal { message, plugins: Vec::new(), preempt: None });
    }
    let cycle = Cycle::new(snapshot, pod);
    let mut refusals = Refusals::default();
    let fit = cycle.fitting(snapshot, &mut refusals);
    snapshot.turn = snapshot.turn.wrapping_add(1);
    if fit.is_empty() {
        return Decision::Refused(refusals.into_refusal(snapshot, &cycle));
    }
    // A node that room was made on for this pod comes first.
    let nominated =
        fit.iter().find(|at| pod.nominated.as_ref() == Some(&snapshot.slots()[**at].name));
    let chosen = match nominated {
        Some(at) => *at,
        None => cycle.best(snapshot, &fit),
    };
    Decision::Place { node: snapshot.slots()[chosen].name.clone() }
}

impl<'a> Cycle<'a> {
    pub(crate) fn new(snapshot: &mut Snapshot, pod: &'a PodInfo) -> Self {
        let spread = pod_topology_spread::State::new(snapshot, pod);
        let affinity = inter_pod_affinity::State::new(snapshot, pod);
        let has = |image: &String| {
            snapshot.nodes().filter(|node| node.images.contains_key(&full_name(image))).count()
        };
        // Without images of any size there is nothing to rank.
        let image_spread = pod.images.iter().map(has).collect();
        Self { pod, nodes: snapshot.len(), spread, affinity, image_spread }
    }

    pub(crate) fn filter(&self, node: &NodeInfo) -> Result<(), (&'static str, Unfit)> {
        PLUGINS.iter().try_for_each(|plugin| {
            plugin.filter(self, node).map_err(|unfit| (plugin.name(), unfit))
        })
    }

    /// Indexes of nodes that do; enough of them, not always all.
    fn fitting(&self, snapshot: &Snapshot, refusals: &mut Refusals) -> Vec<usize> {
        let enough = enough(snapshot.len());
        let mut fit = Vec::new();
        if let Some(names) = self.pod.node_rule.named() {
            // A pod of a daemon set names its node: look nowhere else.
            let mut named: Vec<&NodeInfo> =
                names.iter().filter_map(|name| snapshot.node(name)).collect();
            named.sort_by_key(|node| node.index);
            named.dedup_by_key(|node| node.index);
            for node in named {
                match self.filter(node) {
                    Ok(()) => fit.push(node.index),
                    Err((plugin, unfit)) => refusals.add(node.index, plugin, unfit),
                }
            }
            if fit.is_empty() {
                let elsewhere = snapshot.nodes().filter(|n| !names.contains(&n.name.as_str()));
                for node in elsewhere {
                    if let Err((plugin, unfit)) = self.filter(node) {
                        refusals.add(node.index, plugin, unfit);
                    }
                }
            }
            return fit;
        }
        let slots = snapshot.slots();
        let start = snapshot.turn.wrapping_mul(enough) % slots.len().max(1);
        for node in slots[start..].iter().chain(&slots[..start]).filter(|node| node.exists) {
            match self.filter(node) {
                Ok(()) => fit.push(node.index),
                Err((plugin, unfit)) => refusals.add(node.index, plugin, unfit),
            }
            if fit.len() >= enough {
                break;
            }
        }
        fit
    }

    fn best(&self, snapshot: &Snapshot, fit: &[usize]) -> usize {
        if let [only] = fit {
            return *only;
        }
        let nodes: Vec<&NodeInfo> = fit.iter().map(|at| &snapshot.slots()[*at]).collect();
        let mut totals = vec![0i64; nodes.len()];
        for plugin in PLUGINS.iter().filter(|plugin| plugin.weight() != 0) {
            let scores = plugin.score(self, &nodes);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += plugin.weight() * score;
            }
        }
        let most = totals.iter().copied().max().unwrap_or(0);
        let equal: Vec<usize> = (0..fit.len()).filter(|at| totals[*at] == most).collect();
        fit[equal[snapshot.turn % equal.len()]]
    }
}

fn enough(nodes: usize) -> usize {
    if nodes <= ALWAYS_NODES {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ALWAYS_NODES)
}

/// Images are known by their full names.
pub(crate) fn full_name(image: &str) -> String {
    let tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if tagged { image.to_owned() } else { format!("{image}:latest") }
}

/// Why each node was refused.
#[derive(Debug, Default)]
struct Refusals {
    by_node: Vec<(usize, Unfit)>,
    plugins: Vec<&'static str>,
}

impl Refusals {
    fn add(&mut self, node: usize, plugin: &'static str, unfit: Unfit) {
        if !self.plugins.contains(&plugin) {
            self.plugins.push(plugin);
        }
        self.by_node.push((node, unfit));
    }

    fn into_refusal(self, snapshot: &mut Snapshot, cycle: &Cycle<'_>) -> Refusal {
        let all = snapshot.len();
        let reasons = self.by_node.iter().flat_map(|(_, unfit)| unfit.reasons.iter());
        let filtered = histogram(reasons.map(String::as_str));
        let mut message = format!("0/{all} nodes are available: {filtered}.");
        let candidates: Vec<usize> =
            self.by_node.iter().filter(|(_, unfit)| unfit.resolvable).map(|(at, _)| *at).collect();
        let hopeless = self.by_node.len() - candidates.len();
        let preempt = preemption::find(snapshot, cycle.pod, &candidates);
        let why: &str = match (&preempt, cycle.pod.may_preempt) {
            (Some(_), _) => "",
            (None, false) => "not eligible due to preemptionPolicy=Never.",
            (None, true) => {
                let none = "No preemption victims found for incoming pod";
                let useless = "Preemption is not helpful for scheduling";
                let told = std::iter::repeat_n(none, candidates.len())
                    .chain(std::iter::repeat_n(useless, hopeless));
                message +=
                    &format!(" preemption: 0/{all} nodes are available: {}.", histogram(told));
                ""
            }
        };
        if !why.is_empty() {
            message += &format!(" preemption: {why}");
        }
        Refusal { message, plugins: self.plugins, preempt }
    }
}

/// `1 Insufficient cpu, 2 node(s) were unschedulable`, in the order of the text.
fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    parts.sort();
    parts.join(", ")
}
