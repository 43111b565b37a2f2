//! What a pod asks for must be free; nodes with more left rank higher.
use super::mark;
use crate::{Cycle, FULL, NodeInfo, Plugin, Unfit};
use std::borrow::Cow;

pub(crate) struct NodeResourcesFit;

/// Amounts: wanted, taken, there.
type Amounts = (i64, i64, i64);

fn lacks((wanted, taken, there): Amounts) -> bool {
    wanted > 0 && wanted > there - taken
}

/// What every node has, by the reason for which it does not do.
fn basic(cycle: &Cycle<'_>, node: &NodeInfo) -> [(Amounts, &'static str); 4] {
    let (wanted, taken, there) = (&cycle.pod.requests, &node.requested, &node.allocatable);
    let pods = node.pods.len() as i64;
    [
        ((1, pods, there.pods), "Too many pods"),
        ((wanted.milli_cpu, taken.milli_cpu, there.milli_cpu), "Insufficient cpu"),
        ((wanted.memory, taken.memory, there.memory), "Insufficient memory"),
        (
            (wanted.ephemeral_storage, taken.ephemeral_storage, there.ephemeral_storage),
            "Insufficient ephemeral-storage",
        ),
    ]
}

fn others<'a>(
    cycle: &'a Cycle<'_>,
    node: &'a NodeInfo,
) -> impl Iterator<Item = (Amounts, &'a str)> {
    let wanted = cycle.pod.requests.others().iter();
    wanted.map(|(name, wanted)| {
        ((*wanted, node.requested.get(name), node.allocatable.get(name)), &**name)
    })
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
    fn filters(&self, _: &Cycle<'_>) -> bool {
        true
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        let basic = basic(cycle, node);
        let lacking = basic.iter().any(|(amounts, _)| lacks(*amounts));
        if !lacking && !others(cycle, node).any(|(amounts, _)| lacks(amounts)) {
            return Ok(());
        }
        let basic = basic.into_iter().map(|(amounts, reason)| (amounts, Cow::Borrowed(reason)));
        let others = others(cycle, node)
            .map(|(amounts, name)| (amounts, Cow::Owned(format!("Insufficient {name}"))));
        let mut resolvable = true;
        let mut reasons = basic.chain(others).filter(|(amounts, _)| lacks(*amounts)).map(
            |((wanted, _, there), reason)| {
                // More than the whole node has: no eviction helps.
                resolvable &= wanted <= there;
                reason
            },
        );
        let (reason, more) = (reasons.next().unwrap_or_default(), reasons.collect());
        Err(Unfit { reason, more, resolvable })
    }
    fn weight(&self) -> i64 {
        1
    }
    fn scores(&self, _: &Cycle<'_>) -> bool {
        true
    }
    /// The mean free share of CPU and memory with the pod there.
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let free = |used: i64, all: i64| {
            if all <= 0 || used > all { 0 } else { (all - used) * FULL / all }
        };
        let ranked = cycle.pod.ranked;
        mark(nodes, scores, |node| {
            let cpu = free(node.ranked.0 + ranked.0, node.allocatable.milli_cpu);
            let memory = free(node.ranked.1 + ranked.1, node.allocatable.memory);
            (cpu + memory) / 2
        });
    }
}
