//! The plugins, one file each.
pub(crate) mod certificates;
pub(crate) mod escalation;
pub(crate) mod ingress_class;
pub(crate) mod limit_ranger;
pub(crate) mod namespace_lifecycle;
pub(crate) mod node_restriction;
pub(crate) mod pod_security;
pub(crate) mod priority;
pub(crate) mod resource_quota;
pub(crate) mod runtime_class;
pub(crate) mod service_account;
pub(crate) mod storage;
pub(crate) mod taint_nodes;
pub(crate) mod tolerations;
