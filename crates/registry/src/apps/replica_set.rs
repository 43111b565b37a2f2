//! `replicasets`: a number of equal pods.
use super::{keep_spec, keep_status};
use crate::at::{map_mut, set, set_default};
use crate::cells::{columns, int, selector_or_none, template_columns};
use crate::core::pod::defaults;
use crate::workload;
use crate::{At, Column, Info, Resource, ScalePaths, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct ReplicaSets;

static INFO: Info =
    Info::new(Gvk::fixed("apps", "v1", "ReplicaSet"), "replicasets", Scope::Namespaced)
        .short(&["rs"])
        .categories(&["all"])
        .subresources(const { &[Subresource::SCALE, Subresource::STATUS] })
        .with_generation();

const PODS: [Column; 2] = template_columns!("spec.template.spec");

impl Resource for ReplicaSets {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        defaults::template(object);
        if map_mut(object, "spec").is_some() {
            set_default(&mut object["spec"], "replicas", 1);
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", json!({ "replicas": 0 }));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep_status(new, old);
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        keep_spec(new, old);
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        workload::non_negative(&spec, &["replicas", "minReadySeconds"], &mut errors);
        workload::selector(&spec, "deployment", &mut errors);
        workload::matches(&spec, &mut errors);
        workload::lasting_template(&spec, "ReplicaSet", &mut errors);
        if let Some(old) = old {
            spec.get("selector").immutable(&old["spec"]["selector"], &mut errors);
        }
        errors
    }
    fn validate_subresource(&self, _name: &str, new: &Value, old: &Value) -> FieldErrors {
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        workload::status(new, old, "replicas", &parts)
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["status.replicas"]
    }
    fn scale(&self) -> Option<ScalePaths> {
        Some(super::deployment::SCALE)
    }
    columns![
        Column::NAME,
        Column::new("Desired", "integer", "How many replicas there should be.").cell(|o, _| int(
            o,
            "spec.replicas"
        )
        .into()),
        Column::new("Current", "integer", "How many replicas there are.").cell(|o, _| int(
            o,
            "status.replicas"
        )
        .into()),
        Column::new("Ready", "integer", "How many replicas are ready.").cell(|o, _| int(
            o,
            "status.readyReplicas"
        )
        .into()),
        Column::AGE,
        PODS[0],
        PODS[1],
        Column::new("Selector", "string", "Labels of the pods that count.")
            .wide()
            .cell(|o, _| selector_or_none(o, "spec.selector").into()),
    ];
}
