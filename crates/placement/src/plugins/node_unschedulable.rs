//! A cordoned node takes only pods that tolerate it.
use super::tolerated;
use crate::{Cycle, NodeInfo, Plugin, Unfit};
use api::k8s::api::core::v1::Taint;

pub(crate) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }
    fn filters(&self, _: &Cycle<'_>) -> bool {
        true
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        if !node.unschedulable {
            return Ok(());
        }
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if tolerated(&cycle.pod.tolerations, &taint) {
            return Ok(());
        }
        Err(Unfit::fixed("node(s) were unschedulable"))
    }
}
