//! Tables of pods: what is filled in, and what is shown.
use super::*;
use crate::Resource;
use value::json;

fn defaulted(mut pod: Value) -> Value {
    Pods.default(&mut pod);
    pod
}

#[test]
fn defaults() {
    let pod = defaulted(json!({ "spec": {
        "serviceAccount": "me",
        "volumes": [{ "name": "a" }, { "name": "b", "secret": { "secretName": "s" } },
            { "name": "c", "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } }],
        "containers": [{
            "name": "c", "image": "registry:5000/nginx",
            "resources": { "limits": { "cpu": "1000m", "memory": "1024Mi" } },
            "ports": [{ "containerPort": 80 }],
            "env": [{ "name": "N", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
            "livenessProbe": { "httpGet": { "port": 80 }, "periodSeconds": 0 },
        }],
    } }));
    assert_eq!(
        pod["spec"],
        json!({
            "serviceAccount": "me", "serviceAccountName": "me", "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always", "securityContext": {}, "terminationGracePeriodSeconds": 30,
            "schedulerName": "default-scheduler", "enableServiceLinks": true,
            "volumes": [{ "name": "a", "emptyDir": {} },
                { "name": "b", "secret": { "secretName": "s", "defaultMode": 420 } },
                { "name": "c", "projected": { "defaultMode": 420, "sources": [
                    { "serviceAccountToken": { "path": "t", "expirationSeconds": 3600 } }] } }],
            "containers": [{
                "name": "c", "image": "registry:5000/nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "resources": { "limits": { "cpu": "1", "memory": "1Gi" },
                    "requests": { "cpu": "1", "memory": "1Gi" } },
                "ports": [{ "containerPort": 80, "protocol": "TCP" }],
                "env": [{ "name": "N", "valueFrom": {
                    "fieldRef": { "fieldPath": "metadata.name", "apiVersion": "v1" } } }],
                "livenessProbe": { "httpGet": { "port": 80, "path": "/", "scheme": "HTTP" },
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                    "failureThreshold": 3 },
            }],
        })
    );
    assert_eq!(defaulted(pod.clone()), pod);
}

#[test]
fn pull_policies() {
    for (image, want) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("host:80/nginx", "Always"),
        ("nginx@sha256:abc", "IfNotPresent"),
        ("nginx:latest@sha256:abc", "Always"),
    ] {
        assert_eq!(defaults::pull_policy(image), want, "{image}");
    }
}

#[test]
fn quality_of_service() {
    let pod = |resources: Value| json!({ "spec": { "containers": [{ "resources": resources }] } });
    for (resources, want) in [
        (json!({}), "BestEffort"),
        (json!({ "requests": { "cpu": "1" } }), "Burstable"),
        (json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "1" } }), "Burstable"),
        (
            json!({ "limits": { "cpu": "1", "memory": "1Gi" },
                "requests": { "cpu": "1000m", "memory": "1024Mi" } }),
            "Guaranteed",
        ),
        (
            json!({ "limits": { "cpu": "1", "memory": "1Gi" },
                "requests": { "cpu": "1", "memory": "1Mi" } }),
            "Burstable",
        ),
        (json!({ "requests": { "ephemeral-storage": "1Gi" } }), "BestEffort"),
    ] {
        assert_eq!(prepare::qos_class(&pod(resources.clone())), want, "{resources}");
    }
}

#[test]
fn created() {
    let mut pod = json!({ "metadata": { "labels": { "app": "web" } }, "spec": {
        "schedulingGates": [{ "name": "a" }],
        "topologySpreadConstraints": [{ "matchLabelKeys": ["app", "none"], "labelSelector": {} }],
        "containers": [{ "name": "c" }] } });
    Pods.prepare_create(&mut pod);
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
    assert_eq!(
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"],
        json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["web"] }] })
    );
}

#[test]
fn deletions() {
    let running = json!({ "spec": { "nodeName": "n", "terminationGracePeriodSeconds": 30 } });
    let mut finished = running.clone();
    finished["status"] = json!({ "phase": "Succeeded" });
    let unbound = json!({ "spec": { "terminationGracePeriodSeconds": 30 } });
    let graceful = |grace_seconds| Deletion::Graceful { grace_seconds };
    for (pod, asked, want) in [
        (&running, None, graceful(30)),
        (&running, Some(5), graceful(5)),
        (&running, Some(-1), graceful(1)),
        (&running, Some(0), Deletion::Now),
        (&finished, Some(5), Deletion::Now),
        (&unbound, None, Deletion::Now),
    ] {
        assert_eq!(Pods.deletion(pod, asked), want);
    }
}

#[test]
fn resize_keeps_only_resources() {
    let old = json!({ "spec": { "containers": [{ "name": "c", "image": "a" }] } });
    let mut new = json!({ "spec": { "containers": [
        { "name": "c", "image": "b", "resources": { "requests": { "cpu": "1" } } }] } });
    Pods.prepare_subresource("resize", &mut new, &old);
    assert_eq!(
        new["spec"]["containers"],
        json!([{ "name": "c", "image": "a", "resources": { "requests": { "cpu": "1" } } }])
    );
}

fn row(pod: &Value) -> Vec<String> {
    let cells = Pods.columns()[1..4].iter().map(|column| (column.cell)(pod, 1_000_000));
    cells.map(|cell| cell.as_str().unwrap().to_owned()).collect()
}

#[test]
fn statuses() {
    let spec = json!({ "containers": [{ "name": "a" }, { "name": "b" }],
        "initContainers": [{ "name": "i" }, { "name": "s", "restartPolicy": "Always" }] });
    let pod = |status: Value| json!({ "metadata": {}, "spec": spec, "status": status });
    for (status, want) in [
        (json!({ "phase": "Pending" }), ["0/3", "Pending", "0"]),
        (
            json!({ "phase": "Pending", "initContainerStatuses": [
                { "name": "i", "state": { "waiting": { "reason": "PodInitializing" } } }] }),
            ["0/3", "Init:0/2", "0"],
        ),
        (
            json!({ "phase": "Pending", "initContainerStatuses": [
                { "name": "i", "restartCount": 2, "state": { "terminated": { "exitCode": 3 } } }] }),
            ["0/3", "Init:ExitCode:3", "2"],
        ),
        (
            json!({ "phase": "Running", "initContainerStatuses": [
                { "name": "i", "state": { "terminated": { "exitCode": 0 } } },
                { "name": "s", "started": true, "ready": true, "state": { "running": {} } }],
                "containerStatuses": [
                { "name": "a", "ready": true, "state": { "running": {} }, "restartCount": 3,
                  "lastState": { "terminated": { "finishedAt": "1970-01-12T13:45:40Z" } } },
                { "name": "b", "state": { "waiting": { "reason": "CrashLoopBackOff" } } }] }),
            ["2/3", "CrashLoopBackOff", "3 (60s ago)"],
        ),
        (
            json!({ "phase": "Succeeded", "containerStatuses": [
                { "name": "a", "state": { "terminated": { "reason": "Completed", "exitCode": 0 } } },
                { "name": "b", "state": { "terminated": { "reason": "Error", "exitCode": 1 } } }] }),
            ["0/3", "Error", "0"],
        ),
    ] {
        assert_eq!(row(&pod(status.clone())), want, "{status}");
    }
    let mut gone = pod(json!({ "phase": "Running" }));
    gone["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(row(&gone)[1], "Terminating");
}
