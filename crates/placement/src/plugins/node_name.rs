//! A pod that names its node goes there or nowhere.
use crate::{Cycle, NodeInfo, Plugin, Unfit};

pub(crate) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }
    fn filters(&self, cycle: &Cycle<'_>) -> bool {
        cycle.pod.node.is_some()
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        match &cycle.pod.node {
            Some(wanted) if *wanted != node.name => {
                Err(Unfit::fixed("node(s) didn't match the requested node name"))
            }
            _ => Ok(()),
        }
    }
}
