use super::*;
use serde_json::{Value, json};

fn node() -> NodeOffer {
    let amount = |text: &str| text.parse::<Quantity>().unwrap();
    NodeOffer {
        name: "n1".into(),
        labels: BTreeMap::from([
            ("zone".to_owned(), "a".to_owned()),
            ("cores".to_owned(), "4".to_owned()),
        ]),
        allocatable: BTreeMap::from([
            ("cpu".to_owned(), amount("2")),
            ("pods".to_owned(), amount("3")),
            ("example.com/some".to_owned(), amount("1")),
        ]),
        no_execute: Vec::new(),
        conditions: BTreeSet::new(),
    }
}

fn pod(extra: Value) -> Pod {
    let mut spec = json!({"containers": [{"name": "a", "image": "i"}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
}

fn cpu(cpu: &str) -> Value {
    asks("cpu", cpu)
}

fn asks(resource: &str, amount: &str) -> Value {
    let requests = json!({ (resource): amount });
    json!({"containers": [{"name": "a", "image": "i", "resources": {"requests": requests}}]})
}

fn port(port: i32, ip: &str) -> Value {
    json!({"containers": [{"name": "a", "image": "i",
        "ports": [{"containerPort": 80, "hostPort": port, "hostIP": ip}]}]})
}

fn affinity(operator: &str, key: &str, values: &[&str]) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": key, "operator": operator, "values": values},
        ]}],
    }}}})
}

#[test]
fn pods_that_fit_and_pods_that_do_not() {
    let mut used = InUse::default();
    used.add(&pod(cpu("1500m")));
    used.add(&pod(port(8080, "")));
    for (spec, want) in [
        (json!({}), ""),
        (cpu("500m"), ""),
        (cpu("600m"), "OutOfcpu"),
        (asks("memory", "1"), "OutOfmemory"),
        (asks("example.com/some", "1"), ""),
        (asks("example.com/some", "2"), "OutOfexample.com/some"),
        (asks("example.com/none", "2"), ""),
        (port(8081, ""), ""),
        (port(8080, "127.0.0.1"), "NodePorts"),
        (json!({"nodeSelector": {"zone": "a"}}), ""),
        (json!({"nodeSelector": {"zone": "b"}}), "NodeAffinity"),
        (affinity("In", "zone", &["a", "b"]), ""),
        (affinity("NotIn", "zone", &["a"]), "NodeAffinity"),
        (affinity("Exists", "zone", &[]), ""),
        (affinity("DoesNotExist", "zone", &[]), "NodeAffinity"),
        (affinity("Gt", "cores", &["3"]), ""),
        (affinity("Lt", "cores", &["3"]), "NodeAffinity"),
        (json!({"os": {"name": "windows"}}), "PodOSNotSupported"),
        (json!({"nodeName": "n2"}), "NodeName"),
    ] {
        let reason = admit(&pod(spec.clone()), &node(), &used).err().map(|v| v.reason);
        assert_eq!(reason.unwrap_or_default(), want, "{spec}");
    }
}

#[test]
fn messages() {
    let mut used = InUse::default();
    used.add(&pod(cpu("1500m")));
    let verdict = admit(&pod(cpu("1")), &node(), &used).unwrap_err();
    assert_eq!(
        verdict.message,
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1500, \
         capacity: 2000"
    );
    used.add(&pod(json!({})));
    used.add(&pod(json!({})));
    let verdict = admit(&pod(json!({})), &node(), &used).unwrap_err();
    assert_eq!(verdict.reason, "OutOfpods");
}

#[test]
fn taints_that_evict_must_be_tolerated() {
    let mut node = node();
    node.no_execute.push(("k".into(), "v".into()));
    let toleration = |t: Value| pod(json!({"tolerations": [t]}));
    for (pod, fits) in [
        (pod(json!({})), false),
        (toleration(json!({"operator": "Exists"})), true),
        (toleration(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})), true),
        (toleration(json!({"key": "k", "value": "v"})), true),
        (toleration(json!({"key": "k", "value": "w"})), false),
        (toleration(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})), false),
    ] {
        assert_eq!(admit(&pod, &node, &InUse::default()).is_ok(), fits);
    }
}
