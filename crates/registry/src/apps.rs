//! `apps/v1`: the workloads.
pub(crate) mod controller_revision;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod replica_set;
pub(crate) mod stateful_set;

use crate::at::restore;
use api::Value;

/// The status is the controller's.
fn keep_status(new: &mut Value, old: &Value) {
    restore(new, old, "status");
}

/// A write of the status leaves the rest.
fn keep_spec(new: &mut Value, old: &Value) {
    restore(new, old, "spec");
}
