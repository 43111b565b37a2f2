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
mod refusal;
mod resources;
mod snapshot;
mod tally;
mod topology;

pub use cycle::{Decision, concerns, may_go, schedule};
pub use pod::{PodInfo, is_terminal};
pub use refusal::{Refusal, Unfit};
pub use resources::Resources;
pub use snapshot::{NodeInfo, Snapshot};

use cycle::Cycle;

/// A plugin's full mark for a node.
pub(crate) const FULL: i64 = 100;

/// One consideration. Filters refuse nodes, scores rank those that are left.
pub(crate) trait Plugin: Sync {
    /// Upstream's name; what a later change must touch to make a refused pod worth another try.
    fn name(&self) -> &'static str;
    /// Whether it may refuse a node in this decision.
    fn filters(&self, _: &Cycle<'_>) -> bool {
        false
    }
    fn filter(&self, _: &Cycle<'_>, _: &NodeInfo) -> Result<(), Unfit> {
        Ok(())
    }
    fn weight(&self) -> i64 {
        0
    }
    /// Whether it may tell nodes apart in this decision.
    fn scores(&self, _: &Cycle<'_>) -> bool {
        false
    }
    /// From 0 to [`FULL`] for each node. Called only if it [`Self::scores`].
    fn score(&self, _: &Cycle<'_>, _: &[&NodeInfo], _: &mut [i64]) {}
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
