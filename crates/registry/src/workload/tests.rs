//! Tables of workloads.
use crate::{RESOURCES, Resource};
use api::Value;
use value::Value as Json;
use value::json;

fn row(plural: &str) -> &'static dyn Resource {
    *RESOURCES.iter().find(|row| row.info().plural == plural).unwrap()
}

fn made(plural: &str, change: impl FnOnce(&mut Json)) -> Value {
    let mut object = json!({ "metadata": { "name": "a", "namespace": "n" }, "spec": {
        "selector": { "matchLabels": { "app": "a" } },
        "template": { "metadata": { "labels": { "app": "a" } },
            "spec": { "containers": [{ "name": "c", "image": "i" }] } } } });
    if plural == "replicationcontrollers" {
        object["spec"]["selector"] = json!({ "app": "a" });
    }
    change(&mut object["spec"]);
    row(plural).default(&mut object);
    object
}

fn texts(plural: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    row(plural).validate(new, old).iter().map(ToString::to_string).collect()
}

const ALL: [&str; 5] =
    ["deployments", "replicasets", "daemonsets", "statefulsets", "replicationcontrollers"];

#[test]
fn good_ones() {
    for plural in ALL {
        let object = made(plural, |_| {});
        assert_eq!(texts(plural, &object, None), [""; 0], "{plural}");
        assert_eq!(texts(plural, &object, Some(&object)), [""; 0], "{plural}");
    }
}

#[test]
fn selectors() {
    for plural in &ALL[..4] {
        let other = made(plural, |spec| spec["selector"]["matchLabels"]["app"] = json!("b"));
        let want = "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does \
                    not match template `labels`";
        assert_eq!(texts(plural, &other, None), [want], "{plural}");
        let none = made(plural, |spec| spec["selector"] = Json::Null);
        assert_eq!(texts(plural, &none, None), ["spec.selector: Required value"], "{plural}");
    }
    let old = made("deployments", |_| {});
    let new = made("deployments", |spec| {
        spec["selector"]["matchLabels"]["x"] = json!("y");
        spec["template"]["metadata"]["labels"]["x"] = json!("y");
    });
    assert_eq!(
        texts("deployments", &new, Some(&old)),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\",\"x\":\"y\"}}: field is \
          immutable"]
    );
}

#[test]
fn strategies() {
    let zero = json!({ "rollingUpdate": { "maxUnavailable": 0, "maxSurge": "0%" } });
    for (plural, field, value, want) in [
        (
            "deployments",
            "strategy",
            zero.clone(),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when \
             `maxSurge` is 0",
        ),
        (
            "deployments",
            "strategy",
            json!({ "type": "Recreate", "rollingUpdate": { "maxSurge": 1 } }),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is \
             'Recreate'",
        ),
        (
            "daemonsets",
            "updateStrategy",
            zero,
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when \
             maxSurge is 0",
        ),
        (
            "statefulsets",
            "updateStrategy",
            json!({ "type": "OnDelete", "rollingUpdate": { "partition": 1 } }),
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for \
             updateStrategy 'RollingUpdate'",
        ),
        (
            "deployments",
            "replicas",
            json!(-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "deployments",
            "progressDeadlineSeconds",
            json!(0),
            "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
        ),
    ] {
        let object = made(plural, |spec| spec[field] = value);
        assert_eq!(texts(plural, &object, None), [want], "{plural}");
    }
}

#[test]
fn stateful_sets_hardly_change() {
    let old = made("statefulsets", |_| {});
    let scaled = made("statefulsets", |spec| spec["replicas"] = json!(5));
    assert_eq!(texts("statefulsets", &scaled, Some(&old)), [""; 0]);
    let renamed = made("statefulsets", |spec| spec["serviceName"] = json!("other"));
    assert_eq!(
        texts("statefulsets", &renamed, Some(&old)),
        ["spec.serviceName: Invalid value: \"other\": field is immutable"]
    );
}

#[test]
fn templates() {
    for plural in ALL {
        let once = made(plural, |spec| spec["template"]["spec"]["restartPolicy"] = json!("Never"));
        assert_eq!(
            texts(plural, &once, None),
            ["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \
              \"Always\""],
            "{plural}"
        );
        let empty = made(plural, |spec| spec["template"]["spec"]["containers"] = json!([]));
        let want = "spec.template.spec.containers: Required value";
        assert_eq!(texts(plural, &empty, None), [want], "{plural}");
    }
}
