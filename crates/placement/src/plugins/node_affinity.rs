//! Node selectors and node affinity.
use super::normalize;
use crate::{Cycle, NodeInfo, Plugin, Unfit};

pub(crate) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
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
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
        let preferred = &cycle.pod.node_rule.preferred;
        let sum = |node: &&NodeInfo| {
            let matching = preferred.iter().filter(|(_, term)| term.matches(node));
            matching.map(|(weight, _)| weight).sum()
        };
        let mut scores: Vec<i64> = nodes.iter().map(sum).collect();
        normalize(&mut scores, false);
        scores
    }
}
