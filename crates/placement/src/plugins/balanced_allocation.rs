//! Nodes whose CPU and memory fill up evenly rank higher.
use super::mark;
use crate::{Cycle, FULL, NodeInfo, Plugin};

pub(crate) struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
    fn weight(&self) -> i64 {
        1
    }
    fn scores(&self, _: &Cycle<'_>) -> bool {
        true
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let requests = &cycle.pod.requests;
        let share = |used: i64, all: i64| {
            if all <= 0 { 1.0 } else { (used as f64 / all as f64).min(1.0) }
        };
        mark(nodes, scores, |node| {
            let (used, all) = (&node.requested, &node.allocatable);
            let cpu = share(used.milli_cpu + requests.milli_cpu, all.milli_cpu);
            let memory = share(used.memory + requests.memory, all.memory);
            ((1.0 - (cpu - memory).abs() / 2.0) * FULL as f64) as i64
        });
    }
}
