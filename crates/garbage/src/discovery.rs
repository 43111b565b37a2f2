//! Which kinds the API serves, and which of them can be collected.
use client::{Client, Error, Resource};
use controllers::garbage::GroupKind;
use http::Method;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Served {
    pub(crate) resource: Resource,
    pub(crate) namespaced: bool,
    /// It can be listed, watched and deleted, and deserves to be followed.
    pub(crate) collected: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) served: HashMap<GroupKind, Served>,
    /// Groups of which some version did not answer.
    pub(crate) unknown: HashSet<String>,
}

/// Kinds whose objects decide which kinds there are.
pub(crate) fn is_about_kinds(kind: &GroupKind) -> bool {
    matches!(
        (&*kind.group, &*kind.kind),
        ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("apiregistration.k8s.io", "APIService")
    )
}

/// In the preferred version of each group first, then in its others.
pub(crate) async fn discover(client: &Client) -> Result<Found, Error> {
    let mut found = Found::default();
    let core: ResourceList = client.json(Method::GET, "/api/v1", None).await?;
    found.add("", "v1", core);
    let groups: GroupList = client.json(Method::GET, "/apis", None).await?;
    for group in groups.groups {
        let mut versions: Vec<String> = Vec::new();
        versions.extend(group.preferred_version.map(|version| version.version));
        for version in group.versions {
            if !versions.contains(&version.version) {
                versions.push(version.version);
            }
        }
        for version in versions {
            let path = format!("/apis/{}/{version}", group.name);
            match client.json(Method::GET, &path, None).await {
                Ok(list) => found.add(&group.name, &version, list),
                Err(error) => {
                    tracing::debug!(group = group.name, %error, "a group cannot be discovered");
                    found.unknown.insert(group.name.clone());
                }
            }
        }
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, group: &str, version: &str, list: ResourceList) {
        for resource in list.resources {
            if resource.name.contains('/') {
                continue;
            }
            let can = |verb: &str| resource.verbs.iter().any(|has| has == verb);
            // Events own nothing, are owned by nothing, and are many.
            let events = resource.kind == "Event" && matches!(group, "" | "events.k8s.io");
            let served = Served {
                resource: Resource::new(group, version, &resource.name),
                namespaced: resource.namespaced,
                collected: can("list") && can("watch") && can("delete") && !events,
            };
            self.served.entry(GroupKind::new(group, &resource.kind)).or_insert(served);
        }
    }
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ResourceWire>,
}

#[derive(Deserialize)]
struct ResourceWire {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    #[serde(default)]
    versions: Vec<Version>,
    preferred_version: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}
