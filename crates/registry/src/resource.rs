//! `resource.k8s.io/v1`: devices.
pub(crate) mod device_class;
pub(crate) mod device_taint_rule;
mod devices;
pub(crate) mod resource_claim;
pub(crate) mod resource_claim_template;
pub(crate) mod resource_slice;
