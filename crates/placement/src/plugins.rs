//! The plugins, one file each.
pub(crate) mod balanced_allocation;
pub(crate) mod image_locality;
pub(crate) mod inter_pod_affinity;
pub(crate) mod node_affinity;
pub(crate) mod node_name;
pub(crate) mod node_ports;
pub(crate) mod node_resources_fit;
pub(crate) mod node_unschedulable;
pub(crate) mod pod_topology_spread;
pub(crate) mod taint_toleration;

use crate::{FULL, NodeInfo};
use api::k8s::api::core::v1::{Taint, Toleration};

/// Stretches scores to 0..=[`FULL`]; with `reverse`, less is better.
pub(crate) fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores.iter_mut() {
        let share = if most == 0 { 0 } else { *score * FULL / most };
        *score = if reverse { FULL - share } else { share };
    }
}

/// Marks each node.
pub(crate) fn mark(nodes: &[&NodeInfo], scores: &mut [i64], of: impl Fn(&NodeInfo) -> i64) {
    for (score, node) in scores.iter_mut().zip(nodes) {
        *score = of(node);
    }
}

/// Whether any of the tolerations covers the taint.
pub(crate) fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let tainted = taint.value.as_deref().unwrap_or_default();
        let numbers = || Some((tainted.parse::<i64>().ok()?, value.parse::<i64>().ok()?));
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && match toleration.operator.as_deref().unwrap_or("Equal") {
                "" | "Equal" => !key.is_empty() && value == tainted,
                "Exists" => true,
                "Lt" => numbers().is_some_and(|(tainted, bound)| tainted < bound),
                "Gt" => numbers().is_some_and(|(tainted, bound)| tainted > bound),
                _ => false,
            }
    })
}
