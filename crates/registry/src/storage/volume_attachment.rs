//! `volumeattachments`: a volume is to be on a node.
use crate::at::{restore, set};
use crate::cells::{boolean, columns, text};
use crate::{At, Column, Info, Resource, Scope, Subresource, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct VolumeAttachments;

static INFO: Info = Info::new(
    Gvk::fixed("storage.k8s.io", "v1", "VolumeAttachment"),
    "volumeattachments",
    Scope::Cluster,
)
.subresources(const { &[Subresource::STATUS] })
.conditional_update()
.stored_only();

impl Resource for VolumeAttachments {
    fn info(&self) -> &Info {
        &INFO
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({ "attached": false }));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        let attacher = spec.get("attacher");
        attacher.named(|text| names::qualified(&text.to_lowercase()), &mut errors);
        let source = spec.get("source");
        let (inline, volume) = (source.has("inlineVolumeSpec"), source.has("persistentVolumeName"));
        match (inline, volume) {
            (true, true) => {
                let why = "must specify only one of inlineVolumeSpec and persistentVolumeName";
                errors.push(source.invalid(why));
            }
            (false, false) => {
                errors.push(
                    source
                        .required("must specify one of inlineVolumeSpec and persistentVolumeName"),
                );
            }
            _ => {}
        }
        let node = spec.get("nodeName");
        node.named(|text| names::subdomain(text, false), &mut errors);
        if old.is_some_and(|old| !crate::at::same(spec.value, &old["spec"])) {
            errors.push(spec.invalid("field is immutable"));
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("Attacher", "string", "The driver.")
            .cell(|o, _| text(o, "spec.attacher").into()),
        Column::new("PV", "string", "The volume.").cell(|o, _| text(
            o,
            "spec.source.persistentVolumeName"
        )
        .into()),
        Column::new("Node", "string", "The node.").cell(|o, _| text(o, "spec.nodeName").into()),
        Column::new("Attached", "boolean", "It is there.").cell(|o, _| boolean(
            o,
            "status.attached"
        )
        .into()),
        Column::AGE,
    ];
}
