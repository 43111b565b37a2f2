//! `replicationcontrollers`: the ancestor of replica sets.
use crate::at::{is_empty, map_mut, restore, set, set_default, sub};
use crate::cells::{columns, int, labels, template_columns};
use crate::workload;
use crate::{At, Column, Info, Resource, ScalePaths, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ReplicationControllers;

static INFO: Info = Info::new(
    Gvk::fixed("", "v1", "ReplicationController"),
    "replicationcontrollers",
    Scope::Namespaced,
)
.short(&["rc"])
.categories(&["all"])
.subresources(const { &[Subresource::SCALE, Subresource::STATUS] })
.with_generation()
.orphaning();

const PODS: [Column; 2] = template_columns!("spec.template.spec");

impl Resource for ReplicationControllers {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() {
            return;
        }
        let template_labels = object["spec"]["template"]["metadata"]["labels"].clone();
        if !template_labels.is_null() {
            if is_empty(&object["spec"]["selector"]) {
                set(&mut object["spec"], "selector", template_labels.clone());
            }
            if is_empty(&object["metadata"]["labels"])
                && let Some(meta) = sub(object, "metadata")
            {
                set(meta, "labels", template_labels);
            }
        }
        set_default(&mut object["spec"], "replicas", 1);
        super::pod::defaults::template(object);
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({ "replicas": 0 }));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        workload::non_negative(&spec, &["minReadySeconds"], &mut errors);
        let selector = spec.get("selector");
        selector.must("", &mut errors);
        workload::non_negative(&spec, &["replicas"], &mut errors);
        if spec.get("template").must("", &mut errors) {
            let labels = spec.get("template.metadata.labels");
            let differs = |(key, value): (&str, At)| labels.value.get(key) != Some(value.value);
            if selector.entries().any(differs) {
                errors.push(labels.invalid("`selector` does not match template `labels`"));
            }
            workload::lasting_template(&spec, "ReplicationController", &mut errors);
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
        Some(ScalePaths {
            replicas: "/spec/replicas".into(),
            status_replicas: "/status/replicas".into(),
            selector: "/spec/selector".into(),
        })
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
            .cell(|o, _| labels(o, "spec.selector").into()),
    ];
}
