//! Tables of services: defaults, updates, and what is refused.
use super::*;

fn written(mut new: Value, old: Option<&Value>) -> Value {
    Services.default(&mut new);
    match old {
        Some(old) => Services.prepare_update(&mut new, old),
        None => Services.prepare_create(&mut new),
    }
    new
}

fn texts(new: &Value, old: Option<&Value>) -> Vec<String> {
    Services.validate(new, old).iter().map(ToString::to_string).collect()
}

#[test]
fn defaults() {
    let service = written(json!({ "spec": { "ports": [{ "port": 80 }] } }), None);
    assert_eq!(
        service,
        json!({ "status": { "loadBalancer": {} }, "spec": {
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80 }] } })
    );
    assert_eq!(texts(&service, None), [""; 0]);
    let mut again = service.clone();
    Services.default(&mut again);
    assert_eq!(again, service);
    let headless = written(json!({ "spec": { "clusterIP": "None" } }), None);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "RequireDualStack");
    let outside =
        written(json!({ "spec": { "type": "LoadBalancer", "ports": [{ "port": 1 }] } }), None);
    assert_eq!(outside["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(outside["spec"]["allocateLoadBalancerNodePorts"], true);
}

#[test]
fn updates() {
    let old = written(
        json!({ "spec": { "type": "NodePort", "clusterIP": "10.96.0.5",
            "ports": [{ "port": 80, "nodePort": 30001 }] } }),
        None,
    );
    // What was given out is kept by a client that does not know of it.
    let spec = json!({ "spec": { "type": "NodePort", "ports": [{ "port": 80 }] } });
    let kept = written(spec, Some(&old));
    assert_eq!(kept["spec"]["clusterIPs"], json!(["10.96.0.5"]));
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], 30001);
    assert_eq!(texts(&kept, Some(&old)), [""; 0]);
    // A change of type clears the ports.
    let mut inside = old.clone();
    inside["spec"]["type"] = json!("ClusterIP");
    let inside = written(inside, Some(&old));
    assert!(inside["spec"]["ports"][0]["nodePort"].is_null());
    assert!(inside["spec"]["externalTrafficPolicy"].is_null());
    assert_eq!(texts(&inside, Some(&old)), [""; 0]);
    // The address does not change.
    let mut moved = old.clone();
    moved["spec"]["clusterIP"] = json!("10.96.0.6");
    let moved = written(moved, Some(&old));
    assert_eq!(
        texts(&moved, Some(&old)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.6\"]: may not change once set"]
    );
    let name = json!({ "spec": { "type": "ExternalName", "externalName": "a.b" } });
    let name = written(name, Some(&old));
    assert_eq!(texts(&name, Some(&old)), [""; 0]);
}

#[test]
fn refused() {
    for (spec, want) in [
        (json!({}), vec!["spec.ports: Required value"]),
        (json!({ "type": "ExternalName" }), vec!["spec.externalName: Required value"]),
        (
            json!({ "ports": [{ "port": 0 }] }),
            vec![
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({ "ports": [{ "port": 1 }, { "port": 1, "name": "a" }] }),
            vec![
                "spec.ports[0].name: Required value",
                "spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
            ],
        ),
        (
            json!({ "ports": [{ "port": 1, "nodePort": 30000 }] }),
            vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            json!({ "ports": [{ "port": 1 }], "type": "Pie" }),
            vec![
                "spec.type: Unsupported value: \"Pie\": supported values: \"ClusterIP\", \
                 \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                "spec.internalTrafficPolicy: Required value",
            ],
        ),
    ] {
        let service = written(json!({ "spec": spec }), None);
        assert_eq!(texts(&service, None), want, "{spec}");
    }
}

#[test]
fn shown() {
    let service = json!({ "spec": { "type": "LoadBalancer", "externalIPs": ["1.2.3.4"],
        "ports": [{ "port": 80, "protocol": "TCP", "nodePort": 30000 }, { "port": 53, "protocol": "UDP" }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "5.6.7.8" }] } } });
    assert_eq!(external_ip(&service), "5.6.7.8,1.2.3.4");
    assert_eq!(ports(&service), "80:30000/TCP,53/UDP");
    assert_eq!(external_ip(&json!({ "spec": { "type": "LoadBalancer" } })), "<pending>");
}

#[test]
fn an_annotation_that_nothing_acts_on_is_told() {
    let of = |mode: &str| {
        let annotations = json!({ "service.kubernetes.io/topology-mode": mode });
        Services.warnings(&json!({ "metadata": { "annotations": annotations } }), None)
    };
    assert_eq!(of("Auto").len(), 1);
    assert!(of("Disabled").is_empty());
}
