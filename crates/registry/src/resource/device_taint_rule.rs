//! `devicetaintrules`: keeps pods away from devices.
use crate::at::{restore, set};
use crate::cells::{columns, find, since, text};
use crate::{At, Column, Info, Resource, Scope, Subresource, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct DeviceTaintRules;

static INFO: Info = Info::new(
    Gvk::fixed("resource.k8s.io", "v1", "DeviceTaintRule"),
    "devicetaintrules",
    Scope::Cluster,
)
.subresources(const { &[Subresource::STATUS] })
.with_generation()
.stored_only();

impl Resource for DeviceTaintRules {
    fn info(&self) -> &Info {
        &INFO
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (taint, mut errors) = (At::root(new).get("spec.taint"), FieldErrors::new());
        taint.get("key").named(names::qualified, &mut errors);
        taint.get("value").each(names::label_value(taint.get("value").text()), &mut errors);
        let effects = ["NoExecute", "NoSchedule", "None"];
        taint.get("effect").one_of(&effects, true, &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new("Key", "string", "The taint's key.")
            .cell(|o, _| text(o, "spec.taint.key").into()),
        Column::new("Value", "string", "The taint's value.").cell(|o, _| text(
            o,
            "spec.taint.value"
        )
        .into()),
        Column::new("Effect", "string", "The taint's effect.").cell(|o, _| text(
            o,
            "spec.taint.effect"
        )
        .into()),
        Column::new("TimeAdded", "string", "When the taint was added.").cell(|o, now| {
            match find(o, "spec.taint.timeAdded") {
                Value::Null => "".into(),
                _ => since(o, "spec.taint.timeAdded", now).into(),
            }
        }),
        Column::AGE,
    ];
}
