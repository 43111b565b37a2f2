//! Taints keep pods away that do not tolerate them; some only if there is a better place.
use super::{mark, normalize, tolerated};
use crate::{Cycle, NodeInfo, Plugin, Unfit};
use api::k8s::api::core::v1::Toleration;

pub(crate) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
    fn filters(&self, _: &Cycle<'_>) -> bool {
        true
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        let hard = |effect: &str| matches!(effect, "NoSchedule" | "NoExecute");
        let mut taints = node.taints.iter().filter(|taint| hard(&taint.effect));
        match taints.all(|taint| tolerated(&cycle.pod.tolerations, taint)) {
            true => Ok(()),
            false => Err(Unfit::fixed("node(s) had untolerated taint(s)")),
        }
    }
    fn weight(&self) -> i64 {
        3
    }
    fn scores(&self, cycle: &Cycle<'_>) -> bool {
        cycle.snapshot.any_shunned()
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let soft: Vec<Toleration> = cycle
            .pod
            .tolerations
            .iter()
            .filter(|t| matches!(t.effect.as_deref(), None | Some("" | "PreferNoSchedule")))
            .cloned()
            .collect();
        mark(nodes, scores, |node| {
            let taints = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
            taints.filter(|taint| !tolerated(&soft, taint)).count() as i64
        });
        normalize(scores, true);
    }
}
