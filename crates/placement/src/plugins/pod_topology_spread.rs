//! Pods spread over zones, nodes, or whatever label; by constraint, or by default over a set's
//! nodes.
use crate::cycle;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::tally::{DEFAULTS, Domains, Subject, Tallies};
use crate::{Cycle, FULL, NodeInfo, Plugin, Unfit};

pub(crate) struct PodTopologySpread;

/// One constraint with the pods counted.
#[derive(Debug)]
struct Counted<'a> {
    key: &'a str,
    max_skew: i64,
    domains: Domains<'a>,
    least: i64,
    /// 1 if the pod itself counts.
    own: i64,
}

#[derive(Debug, Default)]
pub(crate) struct State<'a> {
    hard: Vec<Counted<'a>>,
    soft: Vec<Counted<'a>>,
}

/// The numbers of the tallies of a pod's constraints.
pub(crate) fn ask(tallies: &mut Tallies, snapshot: &Snapshot, pod: &PodInfo) -> Vec<usize> {
    let constraints = pod.spread.iter();
    constraints
        .map(|spread| {
            let subject = Subject::Staying(spread.scope.clone());
            tallies.ask(&snapshot.namespaces, snapshot.slots(), &spread.over, &subject)
        })
        .collect()
}

impl<'a> State<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, pod: &'a PodInfo, asked: &'a cycle::Asked) -> Self {
        let mut state = Self::default();
        for (spread, at) in pod.spread.iter().zip(&asked.spread) {
            let domains = snapshot.tallies.asked(*at);
            let few = spread.min_domains.is_some_and(|wanted| (domains.len() as i64) < wanted);
            let list = if spread.hard { &mut state.hard } else { &mut state.soft };
            list.push(Counted {
                key: &spread.over.key,
                max_skew: spread.max_skew,
                domains,
                least: if few || !spread.hard { 0 } else { domains.least() },
                own: i64::from(spread.own),
            });
        }
        // The pods of one owner stand for those that its services and sets select.
        if let Some(owner) = pod.owner.as_ref().filter(|_| pod.spread.is_empty()) {
            let owned = snapshot.tallies.owned(owner, asked.none());
            let counted = DEFAULTS.iter().zip(owned);
            state.soft.extend(counted.map(|((key, max_skew), domains)| Counted {
                key,
                max_skew: *max_skew,
                domains,
                least: 0,
                own: 1,
            }));
        }
        state
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }
    fn filters(&self, cycle: &Cycle<'_>) -> bool {
        !cycle.spread.hard.is_empty()
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        for constraint in &cycle.spread.hard {
            let there = constraint.domains.at(node);
            if there.is_none() && !node.labels.contains_key(constraint.key) {
                return Err(Unfit::fixed(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            }
            let skew = there.unwrap_or(0) + constraint.own - constraint.least;
            if skew > constraint.max_skew {
                let reason = "node(s) didn't match pod topology spread constraints";
                return Err(Unfit::resolvable(reason));
            }
        }
        Ok(())
    }
    fn weight(&self) -> i64 {
        2
    }
    fn scores(&self, cycle: &Cycle<'_>) -> bool {
        !cycle.spread.soft.is_empty()
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) {
        // A node without the label of an explicit constraint ranks last; by default it is no
        // matter.
        let explicit = !cycle.pod.spread.is_empty();
        // The more domains there are, the more each one weighs.
        let soft = cycle.spread.soft.iter();
        let weighed: Vec<(&Counted<'_>, f64)> =
            soft.map(|counted| (counted, ((counted.domains.len() + 2) as f64).ln())).collect();
        super::mark(nodes, scores, |node| {
            let mut sum = 0.0;
            for (constraint, weight) in &weighed {
                match constraint.domains.at(node) {
                    Some(there) => {
                        sum += there as f64 * weight + (constraint.max_skew - 1) as f64;
                    }
                    None if explicit => return -1,
                    None => {}
                }
            }
            sum.round() as i64
        });
        let known = || scores.iter().copied().filter(|sum| *sum >= 0);
        let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                sum if sum < 0 => 0,
                _ if most == 0 => FULL,
                sum => FULL * (most + least - sum) / most,
            };
        }
    }
}
