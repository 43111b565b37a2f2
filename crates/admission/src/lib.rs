//! What is mended or refused between decoding a write and storing it. One file per plugin; the
//! order of [`ORDER`] has meaning, and is upstream's.
//!
//! Plugins are pure over [`Objects`]: they do not write. A mutating pass may run again for the same
//! request (an update that lost a race starts over), so `mutate` is idempotent.
mod plugins;

pub use plugins::pod_security::violations as pod_security_violations;

use api::{ApiError, Gvk, Objects, User, Value};
use authz::Authorizer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write, as admission sees it.
pub struct Request<'a> {
    pub operation: Operation,
    pub user: &'a User,
    pub kind: &'a Gvk,
    /// Of the resource; the group and version are the kind's.
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty where it is to be generated.
    pub name: &'a str,
    pub old: Option<&'a Value>,
    pub dry_run: bool,
}

impl Request<'_> {
    /// True for writes of the object itself to the core group's `resource`.
    fn is(&self, group: &str, resource: &str) -> bool {
        self.kind.group == group && self.resource == resource && self.subresource.is_empty()
    }
    fn creates(&self, group: &str, resource: &str) -> bool {
        self.operation == Operation::Create && self.is(group, resource)
    }
    fn forbidden(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::forbidden(&self.kind.group, self.resource, self.name, why)
    }
}

/// What plugins may look at.
pub struct World<'a> {
    pub objects: &'a dyn Objects,
    pub authorizer: &'a Authorizer,
}

/// One plugin. `object` is the new object (for `Delete` and `Connect` the old one or the options).
pub trait Plugin: Sync {
    fn name(&self) -> &'static str;
    fn mutate(&self, _: &World<'_>, _: &Request<'_>, _: &mut Value) -> Result<(), ApiError> {
        Ok(())
    }
    fn validate(&self, _: &World<'_>, _: &Request<'_>, _: &Value) -> Result<(), ApiError> {
        Ok(())
    }
}

/// Every plugin, in the order in which they run.
pub static ORDER: &[&dyn Plugin] = &[
    &plugins::namespace_lifecycle::NamespaceLifecycle,
    &plugins::limit_ranger::LimitRanger,
    &plugins::service_account::ServiceAccount,
    &plugins::node_restriction::NodeRestriction,
    &plugins::taint_nodes::TaintNodesByCondition,
    &plugins::pod_security::PodSecurity,
    &plugins::priority::Priority,
    &plugins::tolerations::DefaultTolerationSeconds,
    &plugins::storage::StorageObjectInUseProtection,
    &plugins::runtime_class::RuntimeClass,
    &plugins::certificates::Certificates,
    &plugins::storage::DefaultStorageClass,
    &plugins::ingress_class::DefaultIngressClass,
    &plugins::escalation::Escalation,
    &plugins::resource_quota::ResourceQuota,
];

/// Runs the mutating half of every plugin.
pub fn mutate(
    world: &World<'_>,
    request: &Request<'_>,
    object: &mut Value,
) -> Result<(), ApiError> {
    ORDER.iter().try_for_each(|plugin| plugin.mutate(world, request, object))
}

/// Runs the validating half of every plugin.
pub fn validate(world: &World<'_>, request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    ORDER.iter().try_for_each(|plugin| plugin.validate(world, request, object))
}

#[cfg(test)]
mod tests;
