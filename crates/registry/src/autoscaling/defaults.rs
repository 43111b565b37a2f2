//! What upstream fills in for an autoscaler.
use crate::at::{is_empty, map_mut, set, set_default, sub};
use api::Value;
use value::json;

pub(super) fn v2(object: &mut Value) {
    if map_mut(object, "spec").is_none() {
        return;
    }
    let Some(spec) = sub(object, "spec") else { return };
    set_default(spec, "minReplicas", 1);
    if is_empty(&spec["metrics"]) {
        let metric = json!([{ "type": "Resource", "resource": { "name": "cpu",
            "target": { "type": "Utilization", "averageUtilization": 80 } } }]);
        set(spec, "metrics", metric);
    }
    let Some(behavior) = sub(spec, "behavior") else { return };
    let percent = json!({ "type": "Percent", "value": 100, "periodSeconds": 15 });
    let pods = json!({ "type": "Pods", "value": 4, "periodSeconds": 15 });
    rules(behavior, "scaleUp", Some(0), json!([pods, percent]));
    rules(behavior, "scaleDown", None, json!([percent]));
}

fn rules(behavior: &mut Value, way: &str, window_seconds: Option<i64>, policies: Value) {
    if map_mut(behavior, way).is_none() {
        return;
    }
    let rules = &mut behavior[way];
    if let Some(seconds) = window_seconds {
        set_default(rules, "stabilizationWindowSeconds", seconds);
    }
    set_default(rules, "selectPolicy", "Max");
    set_default(rules, "policies", policies);
}
