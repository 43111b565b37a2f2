use super::*;
use crate::facts::{Run, Sandbox, Step};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: Value, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 3},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

fn running(facts: &mut Facts, name: &str) {
    facts.container(name).run = Some(Run {
        id: "abc".into(),
        sandbox: 1,
        image: "img".into(),
        image_id: "sha256:1".into(),
        started: Some(at(20)),
        hooked: true,
        hook_failed: false,
        exit: None,
        kill_at: None,
        noted: false,
        user: Some((0, 0, vec![0])),
    });
}

fn check(pod: &Pod, facts: &Facts, want: Expect) {
    let node = NodeFacts { host_ips: vec!["192.0.2.1".into()], runtime: "kybern".into() };
    let status = status(pod, facts, &node, at(100));
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .map(|c| {
            let reason = c.reason.clone().unwrap_or_default();
            let since = c.last_transition_time.as_ref().map_or(0, |t| t.0.as_second());
            let message = c.message.clone().unwrap_or_default();
            format!("{}={}@{since} {reason} {message}", c.type_, c.status).trim_end().to_owned()
        })
        .collect();
    want.assert_eq(&conditions.join("\n"));
}

#[test]
fn the_whole_status_of_a_running_pod() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "img"}]}), json!({}));
    let mut facts = Facts::new(at(10));
    facts.sandbox = Sandbox { attempt: 1, state: SandboxState::Ready };
    facts.volumes = Step::Done;
    facts.pod_ips = vec!["10.0.0.9".into()];
    running(&mut facts, "a");
    let node = NodeFacts { host_ips: vec!["192.0.2.1".into()], runtime: "kybern".into() };
    let mut value = serde_json::to_value(status(&pod, &facts, &node, at(100))).unwrap();
    value.as_object_mut().unwrap().remove("conditions");
    expect![[r#"
        {
          "containerStatuses": [
            {
              "containerID": "kybern://abc",
              "image": "img",
              "imageID": "sha256:1",
              "lastState": {},
              "name": "a",
              "ready": true,
              "restartCount": 0,
              "started": true,
              "state": {
                "running": {
                  "startedAt": "1970-01-01T00:00:20Z"
                }
              },
              "user": {
                "linux": {
                  "gid": 0,
                  "supplementalGroups": [
                    0
                  ],
                  "uid": 0
                }
              }
            }
          ],
          "hostIP": "192.0.2.1",
          "hostIPs": [
            {
              "ip": "192.0.2.1"
            }
          ],
          "observedGeneration": 3,
          "phase": "Running",
          "podIP": "10.0.0.9",
          "podIPs": [
            {
              "ip": "10.0.0.9"
            }
          ],
          "qosClass": "BestEffort",
          "startTime": "1970-01-01T00:00:10Z"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn conditions_tell_what_is_missing() {
    let scheduled = json!({"type": "PodScheduled", "status": "True"});
    let status = json!({"conditions": [scheduled, {
        "type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:30Z",
    }, {"type": "example.com/gate", "status": "False"}]});
    let spec = json!({
        "initContainers": [{"name": "i", "image": "img"}],
        "containers": [{"name": "a", "image": "img"}],
        "readinessGates": [{"conditionType": "example.com/gate"}, {"conditionType": "x/y"}],
    });
    let pod = pod(spec, status);
    let mut facts = Facts::new(at(10));
    check(
        &pod,
        &facts,
        expect![[r#"
            PodReadyToStartContainers=False@100
            Initialized=False@100 ContainersNotInitialized containers with incomplete status: [i]
            Ready=False@30 ContainersNotReady containers with unready status: [a]
            ContainersReady=False@100 ContainersNotReady containers with unready status: [a]
            PodScheduled=True@0
            example.com/gate=False@0"#]],
    );
    facts.sandbox = Sandbox { attempt: 1, state: SandboxState::Ready };
    running(&mut facts, "a");
    check(
        &pod,
        &facts,
        expect![[r#"
            PodReadyToStartContainers=True@100
            Initialized=True@100
            Ready=False@30 ReadinessGatesNotReady the status of pod readiness gate "example.com/gate" is not "True", but False, corresponding condition of pod readiness gate "x/y" does not exist.
            ContainersReady=True@100
            PodScheduled=True@0
            example.com/gate=False@0"#]],
    );
}

#[test]
fn a_completed_pod_says_so_and_keeps_its_address() {
    let status = json!({"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]});
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "img"}]});
    let pod = pod(spec, status);
    let mut facts = Facts::new(at(10));
    facts.sandbox = Sandbox { attempt: 1, state: SandboxState::Gone };
    running(&mut facts, "a");
    let exit = Exit {
        container_id: "abc".into(),
        code: 0,
        signal: None,
        reason: exit_reason(0, false, false).into(),
        message: Some("bye".into()),
        started: Some(at(20)),
        finished: at(40),
    };
    facts.container("a").run.as_mut().unwrap().exit = Some(exit);
    check(
        &pod,
        &facts,
        expect![[r#"
            PodReadyToStartContainers=False@100
            Initialized=True@100 PodCompleted
            Ready=False@100 PodCompleted
            ContainersReady=False@100 PodCompleted
            PodScheduled=True@100"#]],
    );
    let node = NodeFacts::default();
    let status = super::status(&pod, &facts, &node, at(100));
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    let terminated =
        status.container_statuses.unwrap().remove(0).state.unwrap().terminated.unwrap();
    assert_eq!(terminated.reason.as_deref(), Some("Completed"));
    assert_eq!(terminated.message.as_deref(), Some("bye"));
}

#[test]
fn reasons_of_exits() {
    for (code, oom, unstarted, want) in [
        (0, false, false, "Completed"),
        (1, false, false, "Error"),
        (137, true, false, "OOMKilled"),
        (128, false, true, "StartError"),
    ] {
        assert_eq!(exit_reason(code, oom, unstarted), want);
    }
}
