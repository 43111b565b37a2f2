//! `deployments`: replica sets, one after another.
use super::{keep_spec, keep_status};
use crate::at::{map_mut, set, set_default, sub};
use crate::cells::{columns, int, selector, template_columns};
use crate::core::pod::defaults;
use crate::workload;
use crate::{At, Column, Info, Resource, ScalePaths, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct Deployments;

static INFO: Info =
    Info::new(Gvk::fixed("apps", "v1", "Deployment"), "deployments", Scope::Namespaced)
        .short(&["deploy"])
        .categories(&["all"])
        .subresources(const { &[Subresource::SCALE, Subresource::STATUS] })
        .with_generation();

const PODS: [Column; 2] = template_columns!("spec.template.spec");

impl Resource for Deployments {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        defaults::template(object);
        if map_mut(object, "spec").is_none() {
            return;
        }
        let Some(spec) = sub(object, "spec") else { return };
        set_default(spec, "replicas", 1);
        set_default(spec, "revisionHistoryLimit", 10);
        set_default(spec, "progressDeadlineSeconds", 600);
        if map_mut(spec, "strategy").is_none() {
            return;
        }
        let strategy = &mut spec["strategy"];
        set_default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" && map_mut(strategy, "rollingUpdate").is_some() {
            set_default(&mut strategy["rollingUpdate"], "maxUnavailable", "25%");
            set_default(&mut strategy["rollingUpdate"], "maxSurge", "25%");
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep_status(new, old);
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        keep_spec(new, old);
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        workload::non_negative(&spec, &["replicas"], &mut errors);
        workload::selector(&spec, "deployment", &mut errors);
        workload::matches(&spec, &mut errors);
        workload::lasting_template(&spec, "ReplicaSet", &mut errors);
        validate_strategy(&spec.get("strategy"), &mut errors);
        workload::non_negative(&spec, &["minReadySeconds", "revisionHistoryLimit"], &mut errors);
        let deadline = spec.get("progressDeadlineSeconds");
        deadline.non_negative(&mut errors);
        if deadline.int().is_some_and(|value| value <= spec.get("minReadySeconds").number()) {
            errors.push(deadline.invalid("must be greater than minReadySeconds"));
        }
        if let Some(old) = old {
            spec.get("selector").immutable(&old["spec"]["selector"], &mut errors);
        }
        errors
    }
    fn validate_subresource(&self, _name: &str, new: &Value, old: &Value) -> FieldErrors {
        let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
        workload::status(new, old, "replicas", &parts)
    }
    fn scale(&self) -> Option<ScalePaths> {
        Some(SCALE)
    }
    columns![
        Column::NAME,
        Column::new("Ready", "string", "Number of the pod with ready state").cell(|o, _| {
            format!("{}/{}", int(o, "status.readyReplicas"), int(o, "spec.replicas")).into()
        }),
        Column::new("Up-to-date", "string", "Number of pods of today's template.")
            .cell(|o, _| int(o, "status.updatedReplicas").into()),
        Column::new("Available", "string", "Number of available pods.").cell(|o, _| int(
            o,
            "status.availableReplicas"
        )
        .into()),
        Column::AGE,
        PODS[0],
        PODS[1],
        Column::new("Selector", "string", "Labels of the pods that count.").wide().cell(|o, _| {
            selector(o, "spec.selector").unwrap_or_else(|| "<invalid>".to_owned()).into()
        }),
    ];
}

fn validate_strategy(strategy: &At, errors: &mut FieldErrors) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" if rolling.is_set() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(rolling.forbidden(why));
        }
        "RollingUpdate" => workload::rolling(&rolling, errors),
        "Recreate" => {}
        _ => errors.push(strategy.not_supported(&["Recreate", "RollingUpdate"])),
    }
}

/// Where all of `apps/v1` keep their scale.
pub(super) const SCALE: ScalePaths = ScalePaths {
    replicas: std::borrow::Cow::Borrowed("/spec/replicas"),
    status_replicas: std::borrow::Cow::Borrowed("/status/replicas"),
    selector: std::borrow::Cow::Borrowed("/spec/selector"),
};
