//! Where a pod goes: `(snapshot, pod) -> decision`. Pure.
//!
//! The [`Snapshot`] is kept up to date one change at a time; what a decision needs of the pods that
//! are placed already is counted in [`tally`]s as they come and go, so that its cost depends on the
//! number of nodes and not on the number of pods. One file per plugin, one line in [`PLUGINS`].
mod affinity;
mod cycle;
mod plugins;
mod pod;
mod preemption;
mod resources;
mod snapshot;
mod tally;

pub use cycle::{Decision, Refusal, schedule};
pub use pod::{PodInfo, is_terminal};
pub use resources::Resources;
pub use snapshot::{NodeInfo, Snapshot};

use cycle::Cycle;

/// A plugin's full mark for a node.
pub(crate) const FULL: i64 = 100;

/// Why a node does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// As counted in the message: `node(s) were unschedulable`.
    pub reasons: Vec<String>,
    /// Removing other pods from the node could help.
    pub resolvable: bool,
}

impl Unfit {
    fn fixed(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], resolvable: false }
    }
    fn resolvable(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], resolvable: true }
    }
}

/// One consideration. Filters refuse nodes, scores rank those that are left.
pub(crate) trait Plugin: Sync {
    /// Upstream's name; what a later change must touch to make a refused pod worth another try.
    fn name(&self) -> &'static str;
    fn filter(&self, _: &Cycle<'_>, _: &NodeInfo) -> Result<(), Unfit> {
        Ok(())
    }
    fn weight(&self) -> i64 {
        0
    }
    /// From 0 to [`FULL`] for each node. Called only if the weight is not 0.
    fn score(&self, _: &Cycle<'_>, _: &[&NodeInfo]) -> Vec<i64> {
        Vec::new()
    }
}

/// In the order of filtering; the first that refuses names the reason.
pub(crate) static PLUGINS: &[&dyn Plugin] = &[
    &plugins::node_unschedulable::NodeUnschedulable,
    &plugins::node_name::NodeName,
    &plugins::taint_toleration::TaintToleration,
    &plugins::node_affinity::NodeAffinity,
    &plugins::node_ports::NodePorts,
    &plugins::node_resources_fit::NodeResourcesFit,
    &plugins::balanced_allocation::BalancedAllocation,
    &plugins::pod_topology_spread::PodTopologySpread,
    &plugins::inter_pod_affinity::InterPodAffinity,
    &plugins::image_locality::ImageLocality,
];

#[cfg(test)]
mod tests;
