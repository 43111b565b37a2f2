//! `daemonsets`: a pod on each node.
use super::{keep_spec, keep_status};
use crate::at::{map_mut, set, set_default, sub};
use crate::cells::{columns, int, labels, selector_or_none, template_columns};
use crate::core::pod::defaults;
use crate::{At, Column, Info, Resource, Scope, Subresource};
use crate::{ints, workload};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct DaemonSets;

static INFO: Info =
    Info::new(Gvk::fixed("apps", "v1", "DaemonSet"), "daemonsets", Scope::Namespaced)
        .short(&["ds"])
        .categories(&["all"])
        .subresources(const { &[Subresource::STATUS] })
        .with_generation();

const PODS: [Column; 2] = template_columns!("spec.template.spec");

impl Resource for DaemonSets {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        defaults::template(object);
        if map_mut(object, "spec").is_none() {
            return;
        }
        let Some(spec) = sub(object, "spec") else { return };
        set_default(spec, "revisionHistoryLimit", 10);
        if map_mut(spec, "updateStrategy").is_none() {
            return;
        }
        let strategy = &mut spec["updateStrategy"];
        set_default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" && map_mut(strategy, "rollingUpdate").is_some() {
            set_default(&mut strategy["rollingUpdate"], "maxUnavailable", 1);
            set_default(&mut strategy["rollingUpdate"], "maxSurge", 0);
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        let status = json!({ "currentNumberScheduled": 0, "desiredNumberScheduled": 0,
            "numberMisscheduled": 0, "numberReady": 0 });
        set(new, "status", status);
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep_status(new, old);
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        keep_spec(new, old);
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        workload::selector(&spec, "daemonset", &mut errors);
        workload::matches(&spec, &mut errors);
        workload::lasting_template(&spec, "DaemonSet", &mut errors);
        workload::non_negative(&spec, &["minReadySeconds"], &mut errors);
        validate_strategy(&spec.get("updateStrategy"), &mut errors);
        workload::non_negative(&spec, &["revisionHistoryLimit"], &mut errors);
        if let Some(old) = old {
            spec.get("selector").immutable(&old["spec"]["selector"], &mut errors);
        }
        errors
    }
    fn validate_subresource(&self, _name: &str, new: &Value, old: &Value) -> FieldErrors {
        let parts = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
        ];
        workload::status(new, old, "desiredNumberScheduled", &parts)
    }
    columns![
        Column::NAME,
        Column::new("Desired", "integer", "How many nodes should run the pod.").cell(|o, _| int(
            o,
            "status.desiredNumberScheduled"
        )
        .into()),
        Column::new("Current", "integer", "How many nodes have the pod.").cell(|o, _| int(
            o,
            "status.currentNumberScheduled"
        )
        .into()),
        Column::new("Ready", "integer", "How many nodes have a ready pod.").cell(|o, _| int(
            o,
            "status.numberReady"
        )
        .into()),
        Column::new("Up-to-date", "integer", "How many nodes have the pod of today's template.")
            .cell(|o, _| int(o, "status.updatedNumberScheduled").into()),
        Column::new("Available", "integer", "How many nodes have an available pod.")
            .cell(|o, _| int(o, "status.numberAvailable").into()),
        Column::new("Node Selector", "string", "Labels of the nodes that get a pod.")
            .cell(|o, _| labels(o, "spec.template.spec.nodeSelector").into()),
        Column::AGE,
        PODS[0],
        PODS[1],
        Column::new("Selector", "string", "Labels of the pods that count.")
            .wide()
            .cell(|o, _| selector_or_none(o, "spec.selector").into()),
    ];
}

fn validate_strategy(strategy: &At, errors: &mut FieldErrors) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => errors.push(rolling.required("")),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            for number in [&unavailable, &surge] {
                workload::int_or_percent(number, errors);
                ints::at_most_all(number, errors);
            }
            match (ints::is_zero(&unavailable), ints::is_zero(&surge)) {
                (false, false) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    errors.push(surge.invalid(why));
                }
                (true, true) => {
                    errors.push(unavailable.required("cannot be 0 when maxSurge is 0"));
                }
                _ => {}
            }
        }
        _ => errors.push(strategy.not_supported(&["RollingUpdate", "OnDelete"])),
    }
}
