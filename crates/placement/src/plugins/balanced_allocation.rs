//! Nodes whose CPU and memory fill up evenly rank higher.
use crate::{Cycle, FULL, NodeInfo, Plugin};

pub(crate) struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
    fn weight(&self) -> i64 {
        1
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
        let requests = &cycle.pod.requests;
        let share = |node: &NodeInfo, name: &str| {
            let all = node.allocatable.get(name);
            let used = node.requested.get(name) + requests.get(name);
            if all <= 0 { 1.0 } else { (used as f64 / all as f64).min(1.0) }
        };
        let even = |node: &&NodeInfo| {
            let apart = (share(node, "cpu") - share(node, "memory")).abs() / 2.0;
            ((1.0 - apart) * FULL as f64) as i64
        };
        nodes.iter().map(even).collect()
    }
}
