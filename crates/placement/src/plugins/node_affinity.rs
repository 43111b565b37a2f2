//! Node selectors and node affinity.
use super::{mark, normalize};
use crate::{Cycle, NodeInfo, Plugin, Unfit};

pub(crate) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
    fn filters(&self, cycle: &Cycle<'_>) -> bool {
        cycle.pod.node_rule.required.is_some()
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        if cycle.pod.node_rule.matches(node) {
            return Ok(());
        }
        Err(Unfit::fixed("node(s) didn't match Pod's node affinity/selector"))
    }
    fn weight(&self) -> i64 {
        2
    }
    fn scores(&self, cycle: &Cycle<'_>) -> bool {
        !cycle.pod.node_rule.preferred.is_empty()
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) {
        mark(nodes, scores, |node| {
            let preferred = cycle.pod.node_rule.preferred.iter();
            preferred.filter(|(_, term)| term.matches(node)).map(|(weight, _)| weight).sum()
        });
        normalize(scores, false);
    }
}
