//! How many objects of a kind a namespace holds, for kinds that no controller knows by type.
//!
//! No API serves it: whoever follows every kind's metadata tells of it.
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::k8s::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};

/// Named `pies.example.com`. The one without a namespace says that the kind is counted at all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub metadata: ObjectMeta,
    pub count: usize,
}

impl Tally {
    pub fn new(group: &str, plural: &str, namespace: &str, count: usize) -> Self {
        let name = match group {
            "" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        };
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
            ..ObjectMeta::default()
        };
        Self { metadata, count }
    }
    /// Those kinds are counted by what they are.
    pub fn is_wanted(group: &str, plural: &str) -> bool {
        !crate::resource_quota::is_known(group, plural)
    }
}

impl Resource for Tally {
    const API_VERSION: &'static str = "";
    const GROUP: &'static str = "";
    const KIND: &'static str = "Tally";
    const VERSION: &'static str = "";
    const URL_PATH_SEGMENT: &'static str = "";
    type Scope = NamespaceResourceScope;
}

impl Metadata for Tally {
    type Ty = ObjectMeta;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
