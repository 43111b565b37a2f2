//! `customresourcedefinitions`: kinds that are made at run time.
use crate::at::{items_mut, map_mut, restore, set, set_default, sub};
use crate::cells::{columns, text};
use crate::{Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct CustomResourceDefinitions;

static INFO: Info = Info::new(
    Gvk::fixed("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    "customresourcedefinitions",
    Scope::Cluster,
)
.short(&["crd", "crds"])
.categories(&["api-extensions"])
.subresources(const { &[Subresource::STATUS] })
.conditional_update()
.with_generation();

/// Holds a definition until its objects are gone.
const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

impl Resource for CustomResourceDefinitions {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() {
            return;
        }
        let kind = text(object, "spec.names.kind");
        let Some(spec) = sub(object, "spec") else { return };
        if !kind.is_empty()
            && let Some(names) = sub(spec, "names")
        {
            set_default(names, "singular", kind.to_lowercase());
            set_default(names, "listKind", format!("{kind}List"));
        }
        set_default(spec, "conversion", json!({ "strategy": "None" }));
        let client = sub(spec, "conversion")
            .and_then(|conversion| sub(conversion, "webhook"))
            .and_then(|webhook| sub(webhook, "clientConfig"));
        if let Some(service) = client.and_then(|client| sub(client, "service")) {
            set_default(service, "port", 443);
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(
            new,
            "status",
            json!({ "conditions": [], "acceptedNames": { "kind": "", "plural": "" } }),
        );
        store_version(new);
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
        store_version(new);
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        super::validate::definition(new, old)
    }
    fn validate_subresource(&self, _name: &str, new: &Value, _old: &Value) -> FieldErrors {
        super::validate::stored_versions(new)
    }
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        match old {
            Some(old) if old["spec"] == new["spec"] => Vec::new(),
            _ => super::unenforced::warnings(new),
        }
    }
    /// Its objects go first.
    fn prepare_delete(&self, object: &mut Value, now: &str) {
        let Some(metadata) = map_mut(object, "metadata") else { return };
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut()
            && !list.iter().any(|name| name == CLEANUP_FINALIZER)
        {
            list.push(CLEANUP_FINALIZER.into());
        }
        let Some(status) = map_mut(object, "status") else { return };
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        let Some(list) = conditions.as_array_mut() else { return };
        if !list.iter().any(|condition| condition["type"] == "Terminating") {
            list.push(json!({
                "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
                "message": "CustomResourceDefinition marked for deletion; CustomResource deletion \
                            will begin soon",
                "lastTransitionTime": now,
            }));
        }
    }
    columns![
        Column::NAME,
        Column {
            name: "Created At",
            kind: "date",
            format: "",
            description: "When this object was created.",
            priority: 0,
            cell: |o, _| o["metadata"]["creationTimestamp"].clone(),
        },
    ];
}

/// The version that objects are now stored in is among those that they may be stored in.
fn store_version(crd: &mut Value) {
    let stored = sub(crd, "spec").and_then(|spec| {
        items_mut(spec, "versions")
            .find(|version| version["storage"] == true)
            .and_then(|version| version["name"].as_str().map(str::to_owned))
    });
    let (Some(name), Some(status)) = (stored, map_mut(crd, "status")) else { return };
    let list = status.entry("storedVersions").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|version| *version == name.as_str())
    {
        list.push(name.into());
    }
}
