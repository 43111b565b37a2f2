//! `persistentvolumes`: storage that a claim can be bound to.
use crate::at::{map_mut, restore, set, set_default, sub};
use crate::cells::{columns, find, text, text_or};
use crate::quantities::canonical_list;
use crate::{At, Column, Info, Resource, Scope, Subresource, names, quantities};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct PersistentVolumes;

static INFO: Info =
    Info::new(Gvk::fixed("", "v1", "PersistentVolume"), "persistentvolumes", Scope::Cluster)
        .short(&["pv"])
        .subresources(const { &[Subresource::STATUS] })
        .stored_only();

impl Resource for PersistentVolumes {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() || map_mut(object, "status").is_none() {
            return;
        }
        set_default(&mut object["status"], "phase", "Pending");
        let Some(spec) = sub(object, "spec") else { return };
        set_default(spec, "persistentVolumeReclaimPolicy", "Retain");
        set_default(spec, "volumeMode", "Filesystem");
        if let Some(capacity) = spec.get_mut("capacity") {
            canonical_list(capacity);
        }
        super::pod::defaults::volume_source(spec);
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({ "phase": "Pending" }));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        validate_spec(&spec, &mut errors);
        if let Some(old) = old {
            validate_update(&spec, &At::root(old).get("spec"), &mut errors);
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
        Column::new("Capacity", "string", "The volume's size.").cell(|o, _| text_or(
            o,
            "spec.capacity.storage",
            "0"
        )
        .into()),
        Column::new("Access Modes", "string", "The ways the volume can be mounted.")
            .cell(|o, _| access_modes(o, "spec.accessModes").into()),
        Column::new("Reclaim Policy", "string", "What becomes of a released volume.")
            .cell(|o, _| text(o, "spec.persistentVolumeReclaimPolicy").into()),
        Column::new("Status", "string", "Available, bound to a claim, or released by one.")
            .cell(|o, _| phase(o).into()),
        Column::new("Claim", "string", "The claim that the volume is bound to.").cell(|o, _| {
            match find(o, "spec.claimRef") {
                Value::Null => "".into(),
                claim => format!("{}/{}", text(claim, "namespace"), text(claim, "name")).into(),
            }
        }),
        Column::new("StorageClass", "string", "StorageClass of the pv")
            .cell(|o, _| storage_class(o).into()),
        Column::new("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv")
            .cell(|o, _| text_or(o, "spec.volumeAttributesClassName", "<unset>").into()),
        Column::new("Reason", "string", "Why the volume is in such a state.").cell(|o, _| text(
            o,
            "status.reason"
        )
        .into()),
        Column::AGE,
        Column::new("VolumeMode", "string", "A file system or a raw block device.")
            .wide()
            .cell(|o, _| text_or(o, "spec.volumeMode", "<unset>").into()),
    ];
}

/// `RWO,ROX`, each once, in upstream's order.
pub(crate) fn access_modes(object: &Value, path: &str) -> String {
    let modes = At::root(object).get(path);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let there = short.into_iter().filter(|(mode, _)| modes.texts().any(|have| have == *mode));
    there.map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

/// The phase, or that the object is going away.
pub(crate) fn phase(object: &Value) -> String {
    match find(object, "metadata.deletionTimestamp") {
        Value::Null => text(object, "status.phase"),
        _ => "Terminating".to_owned(),
    }
}

/// The annotation of old wins over the field.
pub(crate) fn storage_class(object: &Value) -> String {
    let annotations = At::root(object).get("metadata.annotations");
    match annotations.value.get("volume.beta.kubernetes.io/storage-class") {
        Some(name) => name.as_str().unwrap_or_default().to_owned(),
        None => text(object, "spec.storageClassName"),
    }
}

/// Fields of the spec that are no source of storage.
const COMMON: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn validate_spec(spec: &At, errors: &mut FieldErrors) {
    let modes = spec.get("accessModes");
    modes.must("", errors);
    super::persistent_volume_claim::validate_access_modes(&modes, errors);
    let capacity = spec.get("capacity");
    capacity.must("", errors);
    if !capacity.has("storage") || capacity.len() > 1 {
        errors.push(capacity.not_supported(&["storage"]));
    }
    for (_, amount) in capacity.entries() {
        if quantities::parse(amount.value).is_none_or(|amount| amount.sign() <= 0) {
            errors.push(amount.invalid("must be greater than zero"));
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    spec.get("persistentVolumeReclaimPolicy").one_of(&policies, false, errors);
    let affinity = spec.get("nodeAffinity");
    if affinity.is_set()
        && affinity.get("required").must("must specify required node constraints", errors)
    {
        super::pod::validate::node_selector(&affinity.get("required"), errors);
    }
    let (host, local) = (spec.get("hostPath"), spec.get("local"));
    if host.is_set() {
        super::pod::validate::volume::host_path(&host, errors);
    }
    if local.is_set() {
        if host.is_set() {
            errors.push(local.forbidden("may not specify more than 1 volume type"));
        }
        local.get("path").must("", errors);
        if !affinity.has("required") {
            let why = "Local volume requires node affinity";
            errors.push(affinity.required(why));
        }
    }
    let found = host.is_set() || local.is_set();
    if !super::pod::validate::volume::plain_sources(spec, found, errors) {
        errors.push(spec.required("must specify a volume type"));
    }
    let class = spec.get("storageClassName");
    if !class.is_empty() {
        class.each(names::subdomain(class.text(), false), errors);
    }
    spec.get("volumeMode").one_of(&["Block", "Filesystem"], false, errors);
}

/// The storage itself stays; so does the way it is shown to pods.
fn validate_update(now: &At, was: &At, errors: &mut FieldErrors) {
    let source = |spec: &At| {
        let entries = spec.entries().filter(|(name, _)| !COMMON.contains(name));
        Value::Object(entries.map(|(name, at)| (name.to_owned(), at.value.clone())).collect())
    };
    if !crate::at::same(&source(now), &source(was)) {
        let why = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
    }
    let mode = At::new(now.get("volumeMode").value, "volumeMode");
    mode.immutable(was.get("volumeMode").value, errors);
}
