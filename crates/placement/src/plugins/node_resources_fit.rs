//! What a pod asks for must be free; nodes with more left rank higher.
use crate::{Cycle, FULL, NodeInfo, Plugin, Unfit};

pub(crate) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        let mut reasons = Vec::new();
        let mut resolvable = true;
        if node.pods.len() as i64 + 1 > node.allocatable.get("pods") {
            reasons.push("Too many pods".to_owned());
        }
        for (name, wanted) in cycle.pod.requests.iter() {
            let there = node.allocatable.get(name);
            if wanted > there - node.requested.get(name) {
                reasons.push(format!("Insufficient {name}"));
                // More than the whole node has: no eviction helps.
                resolvable &= wanted <= there;
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(Unfit { reasons, resolvable }) }
    }
    fn weight(&self) -> i64 {
        1
    }
    /// The mean free share of CPU and memory with the pod there.
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
        let free = |used: i64, all: i64| {
            if all <= 0 || used > all { 0 } else { (all - used) * FULL / all }
        };
        let both = |node: &&NodeInfo| {
            let cpu = free(node.ranked.0 + cycle.pod.ranked.0, node.allocatable.get("cpu"));
            let memory = free(node.ranked.1 + cycle.pod.ranked.1, node.allocatable.get("memory"));
            (cpu + memory) / 2
        };
        nodes.iter().map(both).collect()
    }
}
