//! Empties a namespace that is being deleted, whatever kinds of object it holds.
//!
//! Pods go first, and all of them must be gone before anything else is deleted: what they use is
//! there until they have ended.
use api::Key;
use api::k8s::api::core::v1::Namespace;
use client::{Client, DeleteParams, Error, ListParams, Patch, Propagation, Resource};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

const FINALIZER: &str = "kubernetes";
/// Objects of one kind that are named in a page while what is left is counted.
const PAGE_LIMIT: u32 = 500;

#[derive(Default)]
struct Left {
    by_resource: BTreeMap<String, usize>,
    by_finalizer: BTreeMap<String, usize>,
    troubles: Vec<String>,
    undiscovered: Vec<String>,
}

/// Returns the namespace as it was last written; an error while something is left.
pub(crate) async fn empty(client: &Client, name: &str, uid: &str) -> Result<Value, Error> {
    let key = Key::new("", name);
    let namespaces = Resource::of::<Namespace>();
    let object = client.get_value(&namespaces, &key).await?;
    let finalizers = object["spec"]["finalizers"].as_array();
    let waits = finalizers.is_some_and(|list| list.iter().any(|f| f == FINALIZER));
    let is_same = object["metadata"]["uid"] == uid;
    if !is_same || object["metadata"]["deletionTimestamp"].is_null() || !waits {
        return Ok(object);
    }
    let mut left = Left::default();
    let (pods, rest) = discover(client, &mut left).await?;
    for kind in pods {
        clear(client, name, &kind, &mut left).await;
    }
    if left.by_resource.is_empty() {
        for kind in rest {
            clear(client, name, &kind, &mut left).await;
        }
    }
    if left.is_nothing() {
        return let_go(client, &key, object).await;
    }
    left.report(client, &key, &object).await?;
    Err(Error::Request(format!("namespace {name} is not empty yet: {}", left.what_remains())))
}

async fn let_go(client: &Client, key: &Key, mut object: Value) -> Result<Value, Error> {
    if let Some(finalizers) = object["spec"]["finalizers"].as_array_mut() {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    let namespaces = Resource::of::<Namespace>();
    client.replace_value(&namespaces, key, Some("finalize"), &object).await
}

struct Kind {
    resource: Resource,
    deletes_collections: bool,
}

#[derive(Deserialize)]
struct ResourceList {
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// All kinds of object that a namespace can hold: pods, and the others.
async fn discover(client: &Client, left: &mut Left) -> Result<(Vec<Kind>, Vec<Kind>), Error> {
    let groups: Value = client.json(http::Method::GET, "/apis", None).await?;
    let mut served = vec![(String::new(), "v1".to_owned())];
    for group in groups["groups"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // A kind need not be in the preferred version of its group.
        let versions = group["versions"].as_array().into_iter().flatten();
        served.extend(versions.map(|version| (text(&group["name"]), text(&version["version"]))));
    }
    let (mut pods, mut rest) = (Vec::new(), Vec::new());
    let mut known = HashSet::new();
    for (group, version) in served {
        let path = match group.as_str() {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        let list: ResourceList = match client.json(http::Method::GET, &path, None).await {
            Ok(list) => list,
            Err(error) => {
                left.undiscovered.push(format!("{group}/{version}: {error}"));
                continue;
            }
        };
        for found in list.resources {
            let can = |verb: &str| found.verbs.iter().any(|v| v == verb);
            if !found.namespaced || found.name.contains('/') || !can("delete") || !can("list") {
                continue;
            }
            if !known.insert((group.clone(), found.name.clone())) {
                continue;
            }
            let resource = Resource::new(&group, &version, &found.name);
            let kind = Kind { resource, deletes_collections: can("deletecollection") };
            let is_pods = group.is_empty() && found.name == "pods";
            if is_pods { pods.push(kind) } else { rest.push(kind) }
        }
    }
    Ok((pods, rest))
}

async fn clear(client: &Client, namespace: &str, kind: &Kind, left: &mut Left) {
    if let Err(error) = try_clear(client, namespace, kind, left).await
        && !error.is_not_found()
    {
        left.troubles.push(error.to_string());
    }
}

#[derive(Deserialize)]
struct Item {
    metadata: api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta,
}

async fn try_clear(
    client: &Client,
    namespace: &str,
    kind: &Kind,
    left: &mut Left,
) -> Result<(), Error> {
    let mut page =
        ListParams { limit: Some(PAGE_LIMIT), metadata_only: true, ..Default::default() };
    let resource = &kind.resource;
    let before = client.list_as::<Item>(resource, Some(namespace), &page).await?;
    if before.items.is_empty() {
        return Ok(());
    }
    let background = DeleteParams::default().propagation(Propagation::Background);
    if kind.deletes_collections {
        let all = ListParams::default();
        client.delete_collection(resource, Some(namespace), &all, &background).await?;
    } else {
        for item in before.items {
            let key = Key::new(namespace, item.metadata.name.unwrap_or_default());
            match client.delete_value(resource, &key, &background).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    loop {
        let rest = client.list_as::<Item>(resource, Some(namespace), &page).await?;
        for item in &rest.items {
            let name = match &*resource.group {
                "" => format!("{}.", resource.plural),
                group => format!("{}.{group}", resource.plural),
            };
            *left.by_resource.entry(name).or_default() += 1;
            for finalizer in item.metadata.finalizers.iter().flatten() {
                *left.by_finalizer.entry(finalizer.clone()).or_default() += 1;
            }
        }
        if rest.continue_token.is_empty() {
            return Ok(());
        }
        page.continue_token = rest.continue_token;
    }
}

impl Left {
    fn is_nothing(&self) -> bool {
        self.by_resource.is_empty() && self.troubles.is_empty() && self.undiscovered.is_empty()
    }
    fn what_remains(&self) -> String {
        let counts = self.by_resource.iter();
        let counts = counts.map(|(name, n)| format!("{name} has {n} resource instances"));
        counts.chain(self.troubles.iter().cloned()).collect::<Vec<_>>().join(", ")
    }
    /// Says in the namespace's conditions what it waits for.
    async fn report(&self, client: &Client, key: &Key, object: &Value) -> Result<(), Error> {
        let mut new = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        for (kind, is_true, reason, message) in self.conditions() {
            let status = if is_true { "True" } else { "False" };
            let before = new.iter().position(|condition| condition["type"] == kind);
            let mut since = json!(now());
            if let Some(at) = before {
                let old = new.remove(at);
                if old["status"] == status {
                    since = old["lastTransitionTime"].clone();
                }
            }
            new.push(json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": since,
            }));
        }
        let sorted = |list: &[Value]| {
            let mut texts: Vec<String> = list.iter().map(ToString::to_string).collect();
            texts.sort();
            texts
        };
        let old = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if sorted(&old) == sorted(&new) {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "uid": object["metadata"]["uid"] }, "status": { "conditions": new },
        });
        let namespaces = Resource::of::<Namespace>();
        client.patch_value(&namespaces, key, &Patch::Merge(patch), Some("status")).await?;
        Ok(())
    }
    fn conditions(&self) -> Vec<(&'static str, bool, &'static str, String)> {
        let join = |texts: Vec<String>| texts.join(", ");
        let discovery = if self.undiscovered.is_empty() {
            (false, "ResourcesDiscovered", "All resources successfully discovered".to_owned())
        } else {
            let list = join(self.undiscovered.clone());
            (true, "DiscoveryFailed", format!("Discovery failed for some groups: {list}"))
        };
        let content = if self.troubles.is_empty() {
            let text = "All content successfully deleted, may be waiting on finalization";
            (false, "ContentDeleted", text.to_owned())
        } else {
            let list = join(self.troubles.clone());
            (true, "ContentDeletionFailed", format!("Failed to delete all resource types: {list}"))
        };
        let remaining = if self.by_resource.is_empty() {
            (false, "ContentRemoved", "All content successfully removed".to_owned())
        } else {
            let counts = self.by_resource.iter();
            let list =
                join(counts.map(|(r, n)| format!("{r} has {n} resource instances")).collect());
            (true, "SomeResourcesRemain", format!("Some resources are remaining: {list}"))
        };
        let finalizers = if self.by_finalizer.is_empty() {
            let text = "All content-preserving finalizers finished";
            (false, "ContentHasNoFinalizers", text.to_owned())
        } else {
            let counts = self.by_finalizer.iter();
            let list =
                join(counts.map(|(f, n)| format!("{f} in {n} resource instances")).collect());
            let text = format!("Some content in the namespace has finalizers remaining: {list}");
            (true, "SomeFinalizersRemain", text)
        };
        let parsed = "All legacy kube types successfully parsed".to_owned();
        let parsing = (false, "ParsedGroupVersions", parsed);
        [
            ("NamespaceDeletionDiscoveryFailure", discovery),
            ("NamespaceDeletionGroupVersionParsingFailure", parsing),
            ("NamespaceDeletionContentFailure", content),
            ("NamespaceContentRemaining", remaining),
            ("NamespaceFinalizersRemaining", finalizers),
        ]
        .into_iter()
        .map(|(kind, (is_true, reason, message))| (kind, is_true, reason, message))
        .collect()
    }
}

fn now() -> String {
    reconcile::Now::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
