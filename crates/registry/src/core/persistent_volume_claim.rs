//! `persistentvolumeclaims`: a request for storage.
use super::persistent_volume::{access_modes, phase, storage_class};
use super::pod::defaults::claim_spec;
use crate::at::{map_mut, restore, set, set_default, sub};
use crate::cells::{columns, text, text_or};
use crate::quantities::canonical_list;
use crate::{Column, Info, Resource, Scope, Subresource};
use api::{Gvk, Value};

pub(crate) struct PersistentVolumeClaims;

static INFO: Info = Info::new(
    Gvk::fixed("", "v1", "PersistentVolumeClaim"),
    "persistentvolumeclaims",
    Scope::Namespaced,
)
.short(&["pvc"])
.subresources(const { &[Subresource::STATUS] });

impl Resource for PersistentVolumeClaims {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() || map_mut(object, "status").is_none() {
            return;
        }
        if let Some(spec) = sub(object, "spec") {
            claim_spec(spec);
        }
        let Some(status) = sub(object, "status") else { return };
        set_default(status, "phase", "Pending");
        for list in ["capacity", "allocatedResources"] {
            if let Some(list) = status.get_mut(list) {
                canonical_list(list);
            }
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", serde_json::json!({ "phase": "Pending" }));
        if let Some(spec) = sub(new, "spec") {
            sync_sources(spec);
        }
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
        if let Some(spec) = sub(new, "spec") {
            sync_sources(spec);
        }
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["name"]
    }
    fn field<'a>(&self, object: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
        let path = if path == "name" { "metadata.name" } else { path };
        crate::object::field_text(object, path)
    }
    columns![
        Column::NAME,
        Column::new("Status", "string", "Pending, bound or lost.").cell(|o, _| phase(o).into()),
        Column::new("Volume", "string", "The volume that backs the claim.").cell(|o, _| text(
            o,
            "spec.volumeName"
        )
        .into()),
        Column::new("Capacity", "string", "The size of the volume.").cell(|o, _| {
            match text(o, "spec.volumeName").as_str() {
                "" => "".into(),
                _ => text_or(o, "status.capacity.storage", "0").into(),
            }
        }),
        Column::new("Access Modes", "string", "The ways the volume can be mounted.").cell(
            |o, _| match text(o, "spec.volumeName").as_str() {
                "" => "".into(),
                _ => access_modes(o, "status.accessModes").into(),
            },
        ),
        Column::new("StorageClass", "string", "StorageClass of the pvc")
            .cell(|o, _| storage_class(o).into()),
        Column::new("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc")
            .cell(|o, _| text_or(o, "spec.volumeAttributesClassName", "<unset>").into()),
        Column::AGE,
        Column::new("VolumeMode", "string", "A file system or a raw block device.")
            .wide()
            .cell(|o, _| text_or(o, "spec.volumeMode", "<unset>").into()),
    ];
}

/// `dataSource` and `dataSourceRef` say the same thing where they can.
fn sync_sources(spec: &mut Value) {
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => set(spec, "dataSourceRef", source),
        (None, Some(source)) => {
            let snapshot = source["apiGroup"] == "snapshot.storage.k8s.io"
                && source["kind"] == "VolumeSnapshot";
            let claim = crate::at::is_empty(&source["apiGroup"])
                && source["kind"] == "PersistentVolumeClaim";
            if source["namespace"].is_null() && (snapshot || claim) {
                set(spec, "dataSource", source);
            }
        }
        _ => {}
    }
}
