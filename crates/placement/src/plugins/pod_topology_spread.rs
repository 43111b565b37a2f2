//! Pods spread over zones, nodes, or whatever label; by constraint, or by default over a set's
//! nodes.
use crate::affinity::Scope;
use crate::pod::{PodInfo, Spread};
use crate::snapshot::Snapshot;
use crate::tally::Counts;
use crate::{Cycle, FULL, NodeInfo, Plugin, Unfit};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) struct PodTopologySpread;

/// The default constraints, for the pods of one set: label and skew, both soft.
const DEFAULTS: [(&str, i64); 2] =
    [("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5)];

/// One constraint with the pods counted by the value of its label.
#[derive(Debug)]
struct Counted {
    key: String,
    max_skew: i64,
    hard: bool,
    by_value: HashMap<String, i64>,
    least: i64,
    /// 1 if the pod itself counts.
    own: i64,
}

#[derive(Debug, Default)]
pub(crate) struct State(Vec<Counted>);

impl State {
    pub(crate) fn new(snapshot: &mut Snapshot, pod: &PodInfo) -> Self {
        if pod.spread.is_empty() {
            return Self(defaults(snapshot, pod));
        }
        Self(pod.spread.iter().map(|spread| explicit(snapshot, pod, spread)).collect())
    }
}

fn explicit(snapshot: &mut Snapshot, pod: &PodInfo, spread: &Spread) -> Counted {
    let scope = Arc::new(Scope {
        namespaces: vec![pod.namespace.clone()],
        namespace_selector: None,
        selector: (*spread.selector).clone(),
    });
    let mut tallies = std::mem::take(&mut snapshot.tallies);
    let counts = tallies.scope(&snapshot.namespaces, snapshot.slots(), &scope);
    let eligible = |node: &NodeInfo| {
        (!spread.honor_affinity || pod.node_rule.matches(node))
            && (!spread.honor_taints
                || node.taints.iter().all(|taint| {
                    taint.effect == "PreferNoSchedule" || super::tolerated(&pod.tolerations, taint)
                }))
            && pod.spread.iter().all(|other| node.labels.contains_key(&other.key))
    };
    let by_value = by_value(snapshot, &spread.key, counts, eligible);
    snapshot.tallies = tallies;
    let few = spread.min_domains.is_some_and(|wanted| (by_value.len() as i64) < wanted);
    Counted {
        key: spread.key.clone(),
        max_skew: spread.max_skew,
        hard: spread.hard,
        least: if few { 0 } else { by_value.values().copied().min().unwrap_or(0) },
        by_value,
        own: i64::from(spread.selector.matches(&pod.labels)),
    }
}

/// The pods of one owner stand for those that its services and sets select.
fn defaults(snapshot: &Snapshot, pod: &PodInfo) -> Vec<Counted> {
    let Some(owner) = &pod.owner else { return Vec::new() };
    let none = Counts::new();
    let counts = snapshot.tallies.owner(owner).unwrap_or(&none);
    DEFAULTS
        .iter()
        .map(|(key, max_skew)| Counted {
            key: (*key).to_owned(),
            max_skew: *max_skew,
            hard: false,
            // Hosts are looked up one by one: no need to add them up.
            by_value: by_value(snapshot, key, counts, |node| counts.contains_key(&node.index)),
            least: 0,
            own: 1,
        })
        .collect()
}

fn by_value(
    snapshot: &Snapshot,
    key: &str,
    counts: &Counts,
    eligible: impl Fn(&NodeInfo) -> bool,
) -> HashMap<String, i64> {
    let mut sums: HashMap<String, i64> = HashMap::new();
    for node in snapshot.nodes().filter(|node| eligible(node)) {
        let Some(value) = node.labels.get(key) else { continue };
        let n = counts.get(&node.index).copied().unwrap_or(0);
        match sums.get_mut(value) {
            Some(sum) => *sum += n,
            None => {
                sums.insert(value.clone(), n);
            }
        }
    }
    sums
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        for constraint in cycle.spread.0.iter().filter(|constraint| constraint.hard) {
            let Some(value) = node.labels.get(&constraint.key) else {
                return Err(Unfit::fixed(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let there = constraint.by_value.get(value).copied().unwrap_or(0);
            if there + constraint.own - constraint.least > constraint.max_skew {
                let reason = "node(s) didn't match pod topology spread constraints";
                return Err(Unfit::resolvable(reason));
            }
        }
        Ok(())
    }
    fn weight(&self) -> i64 {
        2
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
        let soft: Vec<&Counted> = cycle.spread.0.iter().filter(|c| !c.hard).collect();
        if soft.is_empty() {
            return vec![0; nodes.len()];
        }
        // A node without the label of an explicit constraint ranks last; by default it is no
        // matter.
        let explicit = !cycle.pod.spread.is_empty();
        let mut sums: Vec<Option<f64>> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let mut sum = Some(0.0);
            for constraint in &soft {
                match node.labels.get(&constraint.key) {
                    Some(value) => {
                        let there = constraint.by_value.get(value).copied().unwrap_or(0) as f64;
                        // The more values there are, the more each one weighs.
                        let weight = ((constraint.by_value.len() + 2) as f64).ln();
                        let slack = (constraint.max_skew - 1) as f64;
                        sum = sum.map(|sum| sum + there * weight + slack);
                    }
                    None if explicit => sum = None,
                    None => {}
                }
            }
            sums.push(sum);
        }
        let known = || sums.iter().flatten().copied();
        let (least, most) =
            (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
        let share = |sum: f64| {
            if most <= 0.0 { FULL } else { (FULL as f64 * (most + least - sum) / most) as i64 }
        };
        sums.iter().map(|sum| sum.map_or(0, share)).collect()
    }
}
