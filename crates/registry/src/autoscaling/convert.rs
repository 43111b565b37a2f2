//! Between `v1`, which knows one metric, and `v2`. What `v1` has no field for is kept in
//! annotations, as upstream does.
use crate::at::{is_empty, map_mut, remove, set, sub};
use api::Value;
use value::{Map, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Kind of a metric, its field, and its old names for target and current value, average value and
/// average utilization.
struct Shape {
    kind: &'static str,
    field: &'static str,
    target: [&'static str; 3],
    current: [&'static str; 3],
}

const SHAPES: &[Shape] = &[
    Shape {
        kind: "Resource",
        field: "resource",
        target: ["", "targetAverageValue", "targetAverageUtilization"],
        current: ["", "currentAverageValue", "currentAverageUtilization"],
    },
    Shape {
        kind: "ContainerResource",
        field: "containerResource",
        target: ["", "targetAverageValue", "targetAverageUtilization"],
        current: ["", "currentAverageValue", "currentAverageUtilization"],
    },
    Shape {
        kind: "Pods",
        field: "pods",
        target: ["", "targetAverageValue", ""],
        current: ["", "currentAverageValue", ""],
    },
    Shape {
        kind: "Object",
        field: "object",
        target: ["targetValue", "averageValue", ""],
        current: ["currentValue", "averageValue", ""],
    },
    Shape {
        kind: "External",
        field: "external",
        target: ["targetValue", "targetAverageValue", ""],
        current: ["currentValue", "currentAverageValue", ""],
    },
];

const VALUES: [&str; 3] = ["value", "averageValue", "averageUtilization"];
const TYPES: [&str; 3] = ["Value", "AverageValue", "Utilization"];

fn shape(metric: &Value) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| metric["type"] == shape.kind)
}

/// A `v2` metric in the old form.
fn to_old(metric: &Value, part: &str) -> Value {
    let mut metric = metric.clone();
    let Some(shape) = shape(&metric) else { return metric };
    let names = if part == "target" { shape.target } else { shape.current };
    let Some(source) = sub(&mut metric, shape.field) else { return metric };
    let amounts = source[part].clone();
    remove(source, part);
    for (new, old) in VALUES.iter().zip(names) {
        if let (Some(value), false) = (amounts.get(new), old.is_empty()) {
            set(source, old, value.clone());
        }
    }
    if let Some(named) = source.get("metric").cloned() {
        remove(source, "metric");
        set(source, "metricName", named["name"].clone());
        let selector = if shape.kind == "External" { "metricSelector" } else { "selector" };
        if let Some(value) = named.get("selector") {
            set(source, selector, value.clone());
        }
    }
    if let Some(target) = source.get("describedObject").cloned() {
        remove(source, "describedObject");
        set(source, "target", target);
    }
    metric
}

/// A metric in the old form as `v2` has it.
fn to_new(metric: &Value, part: &str) -> Value {
    let mut metric = metric.clone();
    let Some(shape) = shape(&metric) else { return metric };
    let names = if part == "target" { shape.target } else { shape.current };
    let Some(source) = sub(&mut metric, shape.field) else { return metric };
    if let Some(target) = source.get("target").filter(|_| shape.kind == "Object").cloned() {
        remove(source, "target");
        set(source, "describedObject", target);
    }
    let mut amounts = Map::new();
    for (i, (new, old)) in VALUES.iter().zip(names).enumerate() {
        if let (Some(value), false) = (source.get(old).cloned(), old.is_empty()) {
            remove(source, old);
            amounts.insert((*new).to_owned(), value);
            if part == "target" {
                amounts.insert("type".to_owned(), TYPES[i].into());
            }
        }
    }
    set(source, part, amounts);
    if let Some(name) = source.get("metricName").cloned() {
        remove(source, "metricName");
        let mut named = json!({ "name": name });
        for field in ["selector", "metricSelector"] {
            if let Some(selector) = source.get(field).cloned() {
                remove(source, field);
                set(&mut named, "selector", selector);
            }
        }
        set(source, "metric", named);
    }
    metric
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn take_annotation(object: &mut Value, name: &str) -> Option<Value> {
    let annotations = sub(sub(object, "metadata")?, "annotations")?.as_object_mut()?;
    let text = annotations.remove(name)?;
    if annotations.is_empty() {
        remove(&mut object["metadata"], "annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn annotate(object: &mut Value, name: &str, value: &Value) {
    if is_empty(value) || map_mut(object, "metadata").is_none() {
        return;
    }
    if let Some(annotations) = map_mut(&mut object["metadata"], "annotations") {
        annotations.insert(name.to_owned(), value.to_string().into());
    }
}

/// `v1` to `v2`.
pub(super) fn to_v2(mut object: Value) -> Value {
    set(&mut object, "apiVersion", "autoscaling/v2");
    let list = |value: Option<Value>| match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let metrics = list(take_annotation(&mut object, METRICS));
    let current = list(take_annotation(&mut object, CURRENT));
    let conditions = list(take_annotation(&mut object, CONDITIONS));
    let behavior = take_annotation(&mut object, BEHAVIOR);
    if let Some(spec) = sub(&mut object, "spec") {
        let mut all: Vec<Value> = metrics.iter().map(|metric| to_new(metric, "target")).collect();
        if let Some(percent) = spec.get("targetCPUUtilizationPercentage").cloned() {
            remove(spec, "targetCPUUtilizationPercentage");
            let cpu = json!({ "type": "Resource", "resource": { "name": "cpu",
                "target": { "type": "Utilization", "averageUtilization": percent } } });
            all.insert(0, cpu);
        }
        if !all.is_empty() {
            set(spec, "metrics", all);
        }
        if let Some(behavior) = behavior {
            set(spec, "behavior", behavior);
        }
    }
    if let Some(status) = sub(&mut object, "status") {
        let mut all: Vec<Value> = current.iter().map(|metric| to_new(metric, "current")).collect();
        if let Some(percent) = status.get("currentCPUUtilizationPercentage").cloned() {
            remove(status, "currentCPUUtilizationPercentage");
            if !all.iter().any(is_cpu) {
                let cpu = json!({ "type": "Resource", "resource": { "name": "cpu",
                    "current": { "averageUtilization": percent, "averageValue": "0" } } });
                all.insert(0, cpu);
            }
        }
        for (field, items) in [("currentMetrics", all), ("conditions", conditions)] {
            if !items.is_empty() {
                set(status, field, items);
            }
        }
    }
    object
}

/// `v2` to `v1`.
pub(super) fn to_v1(mut object: Value) -> Value {
    set(&mut object, "apiVersion", "autoscaling/v1");
    let take = |part: Option<&mut Value>, field: &str| -> Value {
        let Some(part) = part else { return Value::Null };
        let value = part.get(field).cloned().unwrap_or_default();
        remove(part, field);
        value
    };
    let metrics = take(sub(&mut object, "spec"), "metrics");
    let behavior = take(sub(&mut object, "spec"), "behavior");
    let current = take(sub(&mut object, "status"), "currentMetrics");
    let conditions = take(sub(&mut object, "status"), "conditions");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let percent = |metric: &Value, part: &str| {
        metric["resource"][part].get("averageUtilization").cloned().filter(|_| is_cpu(metric))
    };
    let mut others = list(&metrics);
    if let Some(at) = others.iter().position(|metric| percent(metric, "target").is_some()) {
        let cpu = others.remove(at);
        if let (Some(spec), Some(value)) = (sub(&mut object, "spec"), percent(&cpu, "target")) {
            set(spec, "targetCPUUtilizationPercentage", value);
        }
    }
    let currents = list(&current);
    if let Some(value) = currents.iter().find_map(|metric| percent(metric, "current"))
        && let Some(status) = sub(&mut object, "status")
    {
        set(status, "currentCPUUtilizationPercentage", value);
    }
    let old = |items: &[Value], part: &str| {
        Value::Array(items.iter().map(|metric| to_old(metric, part)).collect())
    };
    annotate(&mut object, METRICS, &old(&others, "target"));
    annotate(&mut object, CURRENT, &old(&currents, "current"));
    annotate(&mut object, CONDITIONS, &conditions);
    annotate(&mut object, BEHAVIOR, &behavior);
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let v2 = json!({ "apiVersion": "autoscaling/v2", "metadata": { "name": "a" }, "spec": {
            "maxReplicas": 3,
            "behavior": { "scaleUp": { "selectPolicy": "Max" } },
            "metrics": [
                { "type": "Resource", "resource": { "name": "cpu",
                    "target": { "type": "Utilization", "averageUtilization": 50 } } },
                { "type": "Pods", "pods": { "metric": { "name": "m" },
                    "target": { "type": "AverageValue", "averageValue": "10" } } },
                { "type": "External", "external": { "metric": { "name": "q", "selector": {} },
                    "target": { "type": "Value", "value": "1" } } },
                { "type": "Object", "object": { "metric": { "name": "o" },
                    "describedObject": { "kind": "Service", "name": "s" },
                    "target": { "type": "Value", "value": "1" } } }] },
            "status": { "conditions": [{ "type": "AbleToScale" }] } });
        let v1 = to_v1(v2.clone());
        assert_eq!(v1["spec"], json!({ "maxReplicas": 3, "targetCPUUtilizationPercentage": 50 }));
        assert!(v1["metadata"]["annotations"][METRICS].as_str().unwrap().contains("metricName"));
        assert_eq!(to_v2(v1), v2);
    }

    #[test]
    fn a_plain_old_one() {
        let v1 = json!({ "apiVersion": "autoscaling/v1", "metadata": {},
            "spec": { "maxReplicas": 3, "targetCPUUtilizationPercentage": 60 } });
        let v2 = to_v2(v1.clone());
        assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
        assert_eq!(to_v1(v2), v1);
    }
}
