//! A host port is taken by one pod of a node.
use crate::{Cycle, NodeInfo, Plugin, Unfit};

pub(crate) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }
    fn filters(&self, cycle: &Cycle<'_>) -> bool {
        !cycle.pod.ports.is_empty()
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        let taken = |port| node.ports.iter().any(|(other, _)| other.conflicts(port));
        if cycle.pod.ports.iter().any(taken) {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Unfit::resolvable(reason));
        }
        Ok(())
    }
}
