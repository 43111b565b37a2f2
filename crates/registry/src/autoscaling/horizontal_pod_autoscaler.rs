//! `horizontalpodautoscalers`: sets the scale of a workload by its load. Kept in this version.
use crate::at::{restore, set};
use crate::cells::{find, int, text, text_or};
use crate::{At, Column, Info, Resource, Scope, Subresource, names};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct HorizontalPodAutoscalers;

static INFO: Info = Info::new(
    Gvk::fixed("autoscaling", "v2", "HorizontalPodAutoscaler"),
    "horizontalpodautoscalers",
    Scope::Namespaced,
)
.short(&["hpa"])
.categories(&["all"])
.subresources(const { &[Subresource::STATUS] })
.with_generation()
.stored_only();

impl Resource for HorizontalPodAutoscalers {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        super::defaults::v2(object);
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({ "desiredReplicas": 0, "currentMetrics": null }));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        validate_spec(&At::root(new).get("spec"))
    }
    fn columns(&self) -> &[Column] {
        COLUMNS
    }
}

/// Those of the stored form.
pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::new("Reference", "string", "What is scaled.").cell(|o, _| {
        let target = find(o, "spec.scaleTargetRef");
        format!("{}/{}", text(target, "kind"), text(target, "name")).into()
    }),
    Column::new("Targets", "string", "What is measured, and what it should be.")
        .cell(|o, _| targets(o).into()),
    Column::new("MinPods", "string", "The least number of replicas.")
        .cell(|o, _| text_or(o, "spec.minReplicas", "<unset>").into()),
    Column::new("MaxPods", "string", "The greatest number of replicas.")
        .cell(|o, _| int(o, "spec.maxReplicas").into()),
    Column::new("Replicas", "string", "How many replicas there are.")
        .cell(|o, _| int(o, "status.currentReplicas").into()),
    Column::AGE,
];

fn validate_spec(spec: &At) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let wants_idle = spec
        .get("metrics")
        .items()
        .any(|metric| matches!(metric.get("type").text(), "Object" | "External"));
    let least = i64::from(!wants_idle);
    if min.int().is_some_and(|value| value < least) {
        errors.push(min.invalid(format!("must be greater than or equal to {least}")));
    }
    if max.number() < 1 {
        let why = "must be greater than 0";
        errors.push(FieldError::invalid(max.path.clone(), max.number(), why));
    }
    if min.int().is_some_and(|min| max.number() < min) {
        errors.push(max.invalid("must be greater than or equal to `minReplicas`"));
    }
    let target = spec.get("scaleTargetRef");
    for field in ["kind", "name"] {
        let text = target.get(field);
        text.named(|text| names::path_segment(text, false), &mut errors);
    }
    for metric in spec.get("metrics").items() {
        validate_metric(&metric, &mut errors);
    }
    errors
}

fn validate_metric(metric: &At, errors: &mut FieldErrors) {
    let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = metric.get("type");
    if !kind.must("must specify a metric source type", errors) {
        return;
    }
    if !kinds.contains(&kind.text()) {
        errors.push(kind.not_supported(&kinds));
        return;
    }
    let field = match kind.text() {
        "ContainerResource" => "containerResource",
        "External" => "external",
        "Object" => "object",
        "Pods" => "pods",
        _ => "resource",
    };
    let source = metric.get(field);
    if !source.is_set() {
        let why = "must populate information for the given metric source";
        errors.push(source.required(why));
        return;
    }
    let named = match field {
        "resource" | "containerResource" => source.get("name"),
        _ => source.get("metric.name"),
    };
    named.must("must specify a metric name", errors);
    if field == "containerResource" {
        source.get("container").must("must specify a container", errors);
    }
    let target = source.get("target");
    if !target.must("must specify a metric target", errors) {
        return;
    }
    target.get("type").must("must specify a metric target type", errors);
    let types = ["Utilization", "Value", "AverageValue"];
    if !target.get("type").is_empty() && !types.contains(&target.get("type").text()) {
        errors
            .push(target.get("type").invalid("must be either Utilization, Value, or AverageValue"));
    }
    let utilization = target.get("averageUtilization");
    if utilization.int().is_some_and(|value| value < 1) {
        errors.push(utilization.invalid("must be greater than 0"));
    }
}

fn targets(autoscaler: &Value) -> String {
    let current = At::root(autoscaler).get("status.currentMetrics");
    let all: Vec<String> = At::root(autoscaler)
        .get("spec.metrics")
        .items()
        .enumerate()
        .map(|(i, metric)| {
            let now = current.value.get(i).unwrap_or(&Value::Null);
            target(metric.value, now)
        })
        .collect();
    match all.len() {
        0 => "<none>".to_owned(),
        1 | 2 => all.join(", "),
        len => format!("{} + {} more...", all[..2].join(", "), len - 2),
    }
}

fn target(metric: &Value, now: &Value) -> String {
    let (field, by_name) = match metric["type"].as_str() {
        Some("Resource") => ("resource", true),
        Some("ContainerResource") => ("containerResource", true),
        Some("Pods") => ("pods", false),
        Some("Object") => ("object", false),
        Some("External") => ("external", false),
        _ => return "<unknown type>".to_owned(),
    };
    let (want, have) = (&metric[field]["target"], &now[field]["current"]);
    let amount = |from: &Value, name: &str, empty: &str| text_or(from, name, empty);
    let name = text(&metric[field], "name");
    let average = !want["averageValue"].is_null();
    if by_name && !average {
        let percent = |from: &Value, empty: &str| match from["averageUtilization"].as_i64() {
            Some(value) => format!("{value}%"),
            None => empty.to_owned(),
        };
        return format!("{name}: {}/{}", percent(have, "<unknown>"), percent(want, "<auto>"));
    }
    let key = if average { "averageValue" } else { "value" };
    let pair = format!("{}/{}", amount(have, key, "<unknown>"), amount(want, key, "0"));
    match (by_name, average && field != "pods") {
        (true, _) => format!("{name}: {pair}"),
        (false, true) => format!("{pair} (avg)"),
        (false, false) => pair,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn shown() {
        let mut hpa = json!({ "spec": { "maxReplicas": 2 } });
        HorizontalPodAutoscalers.default(&mut hpa);
        assert_eq!(targets(&hpa), "cpu: <unknown>/80%");
        hpa["status"] = json!({ "currentMetrics": [
            { "resource": { "current": { "averageUtilization": 12 } } }] });
        assert_eq!(targets(&hpa), "cpu: 12%/80%");
    }
}
