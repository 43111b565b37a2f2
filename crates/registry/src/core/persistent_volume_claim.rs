//! `persistentvolumeclaims`: a request for storage.
use super::persistent_volume::{access_modes, phase, storage_class};
use super::pod::defaults;
use crate::at::{map_mut, restore, set, set_default, sub};
use crate::cells::{columns, text, text_or};
use crate::quantities::canonical_list;
use crate::{At, Column, Info, Resource, Scope, Subresource, names, quantities, selectors};
use api::{FieldError, FieldErrors, Gvk, Quantity, Value};

pub(crate) struct PersistentVolumeClaims;

static INFO: Info = Info::new(
    Gvk::fixed("", "v1", "PersistentVolumeClaim"),
    "persistentvolumeclaims",
    Scope::Namespaced,
)
.short(&["pvc"])
.subresources(const { &[Subresource::STATUS] })
.stored_only();

impl Resource for PersistentVolumeClaims {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() || map_mut(object, "status").is_none() {
            return;
        }
        if let Some(spec) = sub(object, "spec") {
            defaults::claim_spec(spec);
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
        set(new, "status", value::json!({ "phase": "Pending" }));
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
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        claim_spec(&spec, &mut errors);
        if let Some(old) = old {
            validate_update(&spec, old, &mut errors);
        }
        errors
    }
    fn validate_subresource(&self, _name: &str, new: &Value, _old: &Value) -> FieldErrors {
        let (status, mut errors) = (At::root(new).get("status"), FieldErrors::new());
        for (_, amount) in status.get("capacity").entries() {
            if quantities::parse(amount.value).is_none_or(|amount| amount.sign() < 0) {
                errors.push(amount.invalid("must be greater than or equal to 0"));
            }
        }
        errors
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

/// Modes that are known, and the one that admits no other.
pub(crate) fn validate_access_modes(modes: &At, errors: &mut FieldErrors) {
    const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in modes.texts().filter(|mode| !MODES.contains(mode)) {
        errors.push(FieldError::not_supported(modes.path.clone(), mode, MODES));
    }
    let alone = modes.texts().any(|mode| mode == "ReadWriteOncePod");
    if alone && modes.texts().any(|mode| mode != "ReadWriteOncePod" && MODES.contains(&mode)) {
        errors.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// The spec of a claim, also in the templates of pods and stateful sets.
pub(crate) fn claim_spec(spec: &At, errors: &mut FieldErrors) {
    let modes = spec.get("accessModes");
    modes.must("at least 1 access mode is required", errors);
    selectors::validate(&spec.get("selector"), errors);
    validate_access_modes(&modes, errors);
    let storage = spec.get("resources.requests").value.get("storage");
    let path = spec.get("resources").key("storage").path;
    match storage.map(|amount| (amount, quantities::parse(amount))) {
        None => errors.push(FieldError::required(path, "")),
        Some((_, Some(amount))) if amount.sign() > 0 => {}
        Some((shown, _)) => {
            let why = "must be greater than zero";
            errors.push(FieldError::invalid(path, shown.clone(), why));
        }
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let class = spec.get(field);
        if !class.is_empty() {
            class.each(names::subdomain(class.text(), false), errors);
        }
    }
    spec.get("volumeMode").one_of(&["Block", "Filesystem"], false, errors);
    for field in ["dataSource", "dataSourceRef"] {
        let source = spec.get(field);
        if !source.is_set() {
            continue;
        }
        for part in ["name", "kind"] {
            source.get(part).must("", errors);
        }
        let (group, kind) = (source.get("apiGroup"), source.get("kind").text());
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(source.path.clone(), kind, why));
        }
        if !group.is_empty() {
            group.each(names::subdomain(group.text(), false), errors);
        }
    }
}

/// A claim only gets its volume, a class where it had none, and more room.
fn validate_update(spec: &At, old: &Value, errors: &mut FieldErrors) {
    let was = At::root(old).get("spec");
    let bound = text(old, "status.phase") == "Bound";
    let mut kept = spec.value.clone();
    if was.get("volumeName").is_empty() {
        restore(&mut kept, was.value, "volumeName");
    }
    if !was.has("storageClassName") {
        restore(&mut kept, was.value, "storageClassName");
    }
    if bound {
        restore(&mut kept, was.value, "volumeAttributesClassName");
        let before = was.get("resources.requests").value.get("storage").cloned();
        let requests = sub(&mut kept, "resources").and_then(|r| r.get_mut("requests"));
        if let (Some(requests), Some(before)) = (requests, before) {
            set(requests, "storage", before);
        }
    }
    let amount = |at: &At| quantities::parse(at.get("resources.requests").key("storage").value);
    let (now, before) = (amount(spec), amount(&was));
    let granted = quantities::parse(crate::cells::find(old, "status.capacity.storage"));
    if now < before && now <= Some(granted.unwrap_or(Quantity::ZERO)) {
        let why = "field can not be less than status.capacity";
        errors.push(spec.get("resources.requests.storage").forbidden(why));
    }
    if !crate::at::same(&kept, was.value) {
        errors.push(spec.forbidden(
            "spec is immutable after creation except resources.requests and \
             volumeAttributesClassName for bound claims",
        ));
    }
    spec.get("volumeMode").immutable(was.get("volumeMode").value, errors);
}
