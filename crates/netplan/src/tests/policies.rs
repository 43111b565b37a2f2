//! Traffic policies and the conditions of endpoints.
use super::*;

/// Who serves whom: by policy, the node and the condition of the endpoints.
#[test]
fn policies_and_conditions() {
    const READY: &str = r#"{"ready": true, "serving": true, "terminating": false}"#;
    const DRAINING: &str = r#"{"ready": false, "serving": true, "terminating": true}"#;
    const GONE: &str = r#"{"ready": false, "serving": false, "terminating": true}"#;
    // `publishNotReadyAddresses` makes an endpoint ready whatever else it is.
    const ANYWAY: &str = r#"{"ready": true, "serving": false, "terminating": true}"#;
    const UNREADY: &str = r#"{"ready": false, "serving": false, "terminating": false}"#;
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]);
    let cluster = json!({"type": "NodePort", "ports": ports});
    let external = json!({"type": "NodePort", "ports": ports, "externalTrafficPolicy": "Local"});
    let internal = json!({"type": "NodePort", "ports": ports, "internalTrafficPolicy": "Local"});
    // The endpoints here (5) and there (6); who answers on the ClusterIP, and from outside.
    for (spec, here, there, inside, outside) in [
        (&cluster, READY, READY, "5,6", "5,6"),
        (&cluster, DRAINING, READY, "6", "6"),
        (&cluster, DRAINING, UNREADY, "5", "5"),
        (&cluster, ANYWAY, GONE, "5", "5"),
        (&cluster, GONE, UNREADY, "refused", "refused"),
        (&external, READY, READY, "5,6", "5"),
        (&external, DRAINING, READY, "6", "5"),
        (&external, GONE, READY, "6", "dropped"),
        (&external, GONE, DRAINING, "6", "dropped"),
        (&external, GONE, GONE, "refused", "refused"),
        (&internal, READY, READY, "5", "5,6"),
        (&internal, DRAINING, READY, "5", "6"),
        (&internal, UNREADY, READY, "dropped", "6"),
        (&internal, UNREADY, GONE, "refused", "refused"),
    ] {
        let conditions =
            |text: &str| json!({"conditions": serde_json::from_str::<Json>(text).unwrap()});
        let endpoints =
            [endpoint(5, "here", conditions(here)), endpoint(6, "there", conditions(there))];
        let mut state = state();
        state.upsert_service(&web(spec.clone()));
        state.upsert_slice(&slice("web-1", &endpoints));
        let text = own(&state);
        let case = format!("{spec} here {here} there {there}:\n{text}");
        assert_eq!(served(&text, "10.96.0.9 . tcp . 80 : "), inside, "inside, {case}");
        assert_eq!(served(&text, "tcp . 30080 : "), outside, "outside, {case}");
    }
}

/// Where what is looked up ends, in a plan's text.
fn served(plan: &str, element: &str) -> String {
    let after = |start: &str| plan.lines().find_map(|line| line.trim().strip_prefix(start));
    let Some(mut verdict) = after(element) else { return "refused".to_owned() };
    while let Some(chain) = verdict.split("goto ").nth(1) {
        if chain == "refuse" {
            return "refused".to_owned();
        }
        let (_, rest) = plan.split_once(&format!("chain {chain} {{\n")).unwrap();
        // Of an external chain the last rule is for those outside.
        verdict = rest.split_once("\n}").unwrap().0.lines().last().unwrap();
    }
    if verdict.trim() == "drop" {
        return "dropped".to_owned();
    }
    let ends: Vec<&str> =
        verdict.split("10.244.0.").skip(1).map(|rest| rest.split(':').next().unwrap()).collect();
    ends.join(",")
}

#[test]
fn only_ready_endpoints_of_the_node_pass_its_health_check() {
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999,
    });
    let draining = json!({"conditions": {"ready": false, "serving": true, "terminating": true}});
    let mut state = state();
    state.upsert_service(&web(spec));
    state.upsert_slice(&slice(
        "web-1",
        &[
            endpoint(5, "here", json!({})),
            endpoint(6, "there", json!({})),
            endpoint(7, "here", draining),
        ],
    ));
    // An address in two slices is one endpoint.
    state.upsert_slice(&slice("web-2", &[endpoint(5, "here", json!({}))]));
    let checks = state.health_checks();
    assert_eq!(checks.keys().copied().collect::<Vec<_>>(), [30999]);
    assert_eq!(checks[&30999].local_endpoints, 1);
    state.upsert_service(&web(json!({"type": "LoadBalancer", "healthCheckNodePort": 30999})));
    assert!(state.health_checks().is_empty());
}
