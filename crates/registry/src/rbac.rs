//! `rbac.authorization.k8s.io/v1`: who may do what.
pub(crate) mod cluster_role;
pub(crate) mod cluster_role_binding;
pub(crate) mod role;
pub(crate) mod role_binding;
mod rules;
