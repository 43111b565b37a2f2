//! Who asks, for what, and how policy code looks at the objects of the cluster.
use crate::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An authenticated caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub const ALL_AUTHENTICATED: &'static str = "system:authenticated";
    pub const ANONYMOUS: &'static str = "system:anonymous";
    pub const UNAUTHENTICATED: &'static str = "system:unauthenticated";
    pub const MASTERS: &'static str = "system:masters";

    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { name: name.into(), groups, ..Self::default() }
    }
    pub fn anonymous() -> Self {
        Self::new(Self::ANONYMOUS, &[Self::UNAUTHENTICATED])
    }
    /// A part of the control plane: `system:masters` is above every policy.
    pub fn master(name: impl Into<String>) -> Self {
        Self::new(name, &[Self::MASTERS, Self::ALL_AUTHENTICATED])
    }
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|have| have == group)
    }
    /// The node that this caller is, by the names that kubelets' certificates have.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:")?;
        self.in_group("system:nodes").then_some(name)
    }
    /// Namespace and name, if the caller is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
}

/// What is asked for, as authorization sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pub verb: String,
    pub group: String,
    pub version: String,
    /// Empty for a path that is no resource.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
    /// Selectors of a list or watch, `path=value` terms; a node may list its own pods only.
    pub field_selector: Option<crate::FieldSelector>,
}

impl Attributes {
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }
}

/// Objects as they are now, by group and plural of the stored kind. A read is a look into memory.
pub trait Objects: Send + Sync {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All, or those of one namespace.
    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>>;
}

/// `object["a"]["b"]` as text, empty if it is not there.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
