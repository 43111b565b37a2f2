//! May they: `system:masters`, the node authorizer, RBAC.
//!
//! Policy is kept in indexes that follow the watch caches ([`Authorizer::changed`]), so a decision
//! looks at the caller's own bindings and nothing else. Knows no HTTP and no clock.
pub mod bootstrap;
pub mod escalation;
pub mod node;
pub mod rbac;

use api::{Attributes, User, Value};

/// The stored kinds that decisions depend on: group and plural.
pub const WATCHED: &[(&str, &str)] = &[
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
    ("certificates.k8s.io", "podcertificaterequests"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    /// Nobody allowed it; the reason may be empty.
    NoOpinion(String),
}

impl Decision {
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

#[derive(Default)]
pub struct Authorizer {
    pub rbac: rbac::Rbac,
    pub nodes: node::Graph,
}

impl Authorizer {
    pub fn authorize(&self, user: &User, wanted: &Attributes) -> Decision {
        if user.in_group(User::MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        if let Some(node) = user.node_name() {
            match self.nodes.authorize(node, wanted) {
                Decision::NoOpinion(reason) => reasons.push(reason),
                allowed @ Decision::Allow(_) => return allowed,
            }
        }
        match self.rbac.authorize(user, wanted) {
            Decision::NoOpinion(reason) => reasons.push(reason),
            allowed @ Decision::Allow(_) => return allowed,
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::NoOpinion(reasons.join(", "))
    }

    /// An object of one of the [`WATCHED`] kinds is now `new`, or gone.
    pub fn changed(&self, plural: &str, namespace: &str, name: &str, new: Option<&Value>) {
        match plural {
            "pods" => self.nodes.pod_changed(namespace, name, new),
            "persistentvolumes" => self.nodes.volume_changed(name, new),
            "volumeattachments" => self.nodes.attachment_changed(name, new),
            "podcertificaterequests" => self.nodes.request_changed(namespace, name, new),
            _ => self.rbac.changed(plural, namespace, name, new),
        }
    }
}

/// The sentence that ends a refusal: `User "x" cannot list resource "pods" in API group "" ...`.
pub fn refusal(user: &User, wanted: &Attributes, reason: &str) -> String {
    let mut text = if wanted.is_resource() {
        let resource = match wanted.subresource.as_str() {
            "" => wanted.resource.clone(),
            subresource => format!("{}/{subresource}", wanted.resource),
        };
        let place = match wanted.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
            user.name, wanted.verb, wanted.group
        )
    } else {
        format!("User {:?} cannot {} path {:?}", user.name, wanted.verb, wanted.path)
    };
    if !reason.is_empty() {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

#[cfg(test)]
mod tests;
