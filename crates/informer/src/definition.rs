//! Deletes the objects of a custom resource whose definition is being deleted, and lets that go.
//!
//! They go through the API as anybody's would, in the version that they are stored in, which is
//! served to the end whatever else is.
use api::Key;
use client::{Client, DeleteParams, Error, ListParams, Patch, Resource};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const PAGE_LIMIT: u32 = 500;

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    namespace: String,
}

/// Returns the definition as it was last written; an error while something is left.
pub(crate) async fn empty(
    client: &Client,
    definitions: &Resource,
    key: &Key,
    uid: &str,
) -> Result<Value, Error> {
    let crd = client.get_value(definitions, key).await?;
    let metadata = &crd["metadata"];
    let mut finalizers = metadata["finalizers"].as_array().cloned().unwrap_or_default();
    let waits = finalizers.iter().any(|name| name == FINALIZER);
    if metadata["uid"] != uid || metadata["deletionTimestamp"].is_null() || !waits {
        return Ok(crd);
    }
    if let Some(objects) = served(&crd) {
        clear(client, &objects).await?;
        if !namespaces(client, &objects).await?.is_empty() {
            let name = &key.name;
            return Err(Error::Request(format!("objects of {name} are not gone yet")));
        }
    }
    finalizers.retain(|name| name != FINALIZER);
    let patch = json!({ "metadata": {
        "uid": uid, "resourceVersion": metadata["resourceVersion"], "finalizers": finalizers,
    } });
    client.patch_value(definitions, key, &Patch::Merge(patch), None).await
}

/// The stored version, if any was ever served.
fn served(crd: &Value) -> Option<Resource> {
    let conditions = crd["status"]["conditions"].as_array()?;
    let established = |c: &Value| c["type"] == "Established" && c["status"] == "True";
    conditions.iter().find(|condition| established(condition))?;
    let versions = crd["spec"]["versions"].as_array()?;
    let stored = versions.iter().find(|version| version["storage"] == true)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Resource::new(
        &text(&crd["spec"]["group"])?,
        &text(&stored["name"])?,
        &text(&crd["spec"]["names"]["plural"])?,
    ))
}

/// Where there are any objects; the empty one is that of those without.
async fn namespaces(client: &Client, objects: &Resource) -> Result<BTreeSet<String>, Error> {
    let mut page =
        ListParams { limit: Some(PAGE_LIMIT), metadata_only: true, ..Default::default() };
    let mut found = BTreeSet::new();
    loop {
        let list = client.list_as::<Item>(objects, None, &page).await?;
        found.extend(list.items.into_iter().map(|item| item.metadata.namespace));
        if list.continue_token.is_empty() {
            return Ok(found);
        }
        page.continue_token = list.continue_token;
    }
}

async fn clear(client: &Client, objects: &Resource) -> Result<(), Error> {
    for namespace in namespaces(client, objects).await? {
        let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let (all, now) = (ListParams::default(), DeleteParams::default());
        client.delete_collection(objects, namespace, &all, &now).await?;
    }
    Ok(())
}
