//! `horizontalpodautoscalers` of version 1: one metric, the CPU.
use crate::at::{set_default, sub};
use crate::cells::{columns, find, int, text, text_or};
use crate::{At, Column, Convert, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct HorizontalPodAutoscalersV1;

static INFO: Info = Info::new(
    Gvk::fixed("autoscaling", "v1", "HorizontalPodAutoscaler"),
    "horizontalpodautoscalers",
    Scope::Namespaced,
)
.short(&["hpa"])
.categories(&["all"])
.subresources(const { &[Subresource::STATUS] })
.with_generation()
.stored_as("autoscaling", "horizontalpodautoscalers")
.stored_only();

impl Convert for HorizontalPodAutoscalersV1 {
    fn to_stored(&self, value: Value) -> Value {
        super::convert::to_v2(value)
    }
    fn to_own(&self, value: Value) -> Value {
        super::convert::to_v1(value)
    }
}

impl Resource for HorizontalPodAutoscalersV1 {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(spec) = sub(object, "spec") {
            set_default(spec, "minReplicas", 1);
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        crate::at::set(new, "status", value::json!({ "currentReplicas": 0, "desiredReplicas": 0 }));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        crate::at::restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        crate::at::restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let stored = super::convert::to_v2(new.clone());
        let mut errors =
            super::horizontal_pod_autoscaler::HorizontalPodAutoscalers.validate(&stored, old);
        let percent = At::root(new).get("spec.targetCPUUtilizationPercentage");
        if percent.int().is_some_and(|percent| percent < 1) {
            errors.retain(|error| !error.field.contains("averageUtilization"));
            errors.push(percent.invalid("must be greater than 0"));
        }
        errors
    }
    fn convert(&self) -> Option<&dyn Convert> {
        Some(self)
    }
    columns![
        Column::NAME,
        Column::new("Reference", "string", "What is scaled.").cell(|o, _| {
            let target = find(o, "spec.scaleTargetRef");
            format!("{}/{}", text(target, "kind"), text(target, "name")).into()
        }),
        Column::new("Targets", "string", "What is measured, and what it should be.").cell(
            |o, _| {
                let stored = super::convert::to_v2(o.clone());
                (super::horizontal_pod_autoscaler::COLUMNS[2].cell)(&stored, 0)
            }
        ),
        Column::new("MinPods", "string", "The least number of replicas.").cell(|o, _| text_or(
            o,
            "spec.minReplicas",
            "<unset>"
        )
        .into()),
        Column::new("MaxPods", "string", "The greatest number of replicas.").cell(|o, _| int(
            o,
            "spec.maxReplicas"
        )
        .into()),
        Column::new("Replicas", "string", "How many replicas there are.").cell(|o, _| int(
            o,
            "status.currentReplicas"
        )
        .into()),
        Column::AGE,
    ];
}
