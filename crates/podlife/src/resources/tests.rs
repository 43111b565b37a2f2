use super::*;
use serde_json::{Value, json};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
}

fn container(resources: Value) -> Value {
    json!({"name": "a", "image": "i", "resources": resources})
}

#[test]
fn classes_of_service() {
    let both = json!({"cpu": "1", "memory": "1Gi"});
    for (resources, want) in [
        (json!({}), Qos::BestEffort),
        (json!({"requests": {"cpu": "0"}}), Qos::BestEffort),
        (json!({"requests": {"cpu": "1"}}), Qos::Burstable),
        (json!({"limits": {"memory": "1Gi"}}), Qos::Burstable),
        (json!({"limits": both}), Qos::Guaranteed),
        (json!({"limits": both, "requests": both}), Qos::Guaranteed),
        (json!({"limits": both, "requests": {"cpu": "1", "memory": "1G"}}), Qos::Burstable),
    ] {
        let found = qos(&pod(json!({"containers": [container(resources.clone())]})));
        assert_eq!(found, want, "{resources}");
    }
    let mixed = json!({"containers": [container(json!({"limits": both})), container(json!({}))]});
    assert_eq!(qos(&pod(mixed)), Qos::Burstable);
}

#[test]
fn cgroup_values() {
    for (milli, want) in [(0, 2), (1, 2), (100, 102), (1000, 1024), (1_000_000, 262_144)] {
        assert_eq!(shares(milli), want);
    }
    assert_eq!((quota(1), quota(100), quota(1500)), (1000, 10_000, 150_000));
    let limited = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    let pod = pod(json!({"containers": [container(limited.clone()), container(limited)]}));
    let want = Limits { cpu_shares: 1024, cpu_quota: Some(100_000), memory: Some(128 << 20) };
    assert_eq!(pod_limits(&pod), want);
    let own = container_limits(pod.spec_ref().containers[0].resources.as_ref(), &want);
    assert_eq!(own, Limits { cpu_shares: 512, cpu_quota: Some(50_000), memory: Some(64 << 20) });
    let open = super::tests::pod(json!({"containers": [container(json!({}))]}));
    assert_eq!(pod_limits(&open), Limits { cpu_shares: 2, cpu_quota: None, memory: None });
}

#[test]
fn init_containers_and_sidecars_in_the_sum() {
    let with = |name: &str, cpu: &str, policy: Option<&str>| {
        json!({"name": name, "image": "i", "restartPolicy": policy,
            "resources": {"requests": {"cpu": cpu}}})
    };
    for (init, main, want) in [
        (vec![with("i", "3", None)], "1", 3000),
        (vec![with("s", "1", Some("Always"))], "1", 2000),
        (vec![with("s", "1", Some("Always")), with("i", "3", None)], "1", 4000),
        (vec![with("i", "3", None), with("s", "1", Some("Always"))], "1", 3000),
    ] {
        let pod = pod(json!({
            "initContainers": init, "containers": [with("a", main, None)],
            "overhead": {"cpu": "0"},
        }));
        assert_eq!(requests(&pod)["cpu"].milli_value(), want);
    }
}

#[test]
fn out_of_memory_scores() {
    let score = |resources: Value, priority: i32| {
        let pod = pod(json!({"priority": priority, "containers": [container(resources)]}));
        oom_score(&pod, &pod.spec_ref().containers[0], 8 << 30)
    };
    let both = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(score(json!({}), 0), 1000);
    assert_eq!(score(json!({"limits": both}), 0), -997);
    assert_eq!(score(json!({"requests": {"memory": "4Gi"}}), 0), 500);
    assert_eq!(score(json!({"requests": {"memory": "64Gi"}}), 0), 3);
    assert_eq!(score(json!({}), 2_000_001_000), -997);
}
