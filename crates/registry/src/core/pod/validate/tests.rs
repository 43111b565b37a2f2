//! Tables of bad pods, and of changes that are refused.
use crate::Resource;
use crate::core::pod::Pods;
use api::Value;
use value::json;

fn pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({ "metadata": { "name": "p", "namespace": "n" },
        "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    change(&mut pod["spec"]);
    Pods.default(&mut pod);
    pod
}

fn texts(new: &Value, old: Option<&Value>) -> Vec<String> {
    Pods.validate(new, old).iter().map(ToString::to_string).collect()
}

/// Each sets one field of the spec, or of its container where the path begins with `c.`.
fn with(path: &str, value: Value) -> Value {
    pod(|spec| match path.strip_prefix("c.") {
        Some(field) => spec["containers"][0][field] = value,
        None => spec[path] = value,
    })
}

#[test]
fn a_good_pod() {
    assert_eq!(texts(&pod(|_| {}), None), [""; 0]);
    let full = json!({
        "volumes": [{ "name": "v", "configMap": { "name": "m" } },
            { "name": "t", "projected": { "sources": [
                { "serviceAccountToken": { "path": "token" } },
                { "configMap": { "name": "ca", "items": [{ "key": "k", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [{ "path": "namespace",
                    "fieldRef": { "fieldPath": "metadata.namespace" } }] } }] } }],
        "initContainers": [{ "name": "side", "image": "i", "restartPolicy": "Always",
            "startupProbe": { "tcpSocket": { "port": 80 } } }],
        "tolerations": [{ "operator": "Exists" },
            { "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }],
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchFields": [
                { "key": "metadata.name", "operator": "In", "values": ["n"] }] }] } } },
        "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "z",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {} }],
        "containers": [{ "name": "c", "image": "i",
            "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
            "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }],
            "resources": { "limits": { "cpu": "1", "example.com/gpu": "2" } },
            "livenessProbe": { "exec": { "command": ["x"] } },
            "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } },
            "securityContext": { "capabilities": { "drop": ["ALL"] }, "runAsUser": 0,
                "seccompProfile": { "type": "RuntimeDefault" } } }],
    });
    assert_eq!(texts(&pod(|spec| *spec = full), None), [""; 0]);
}

#[test]
fn bad_fields() {
    for (path, value, want) in [
        ("containers", json!([]), "spec.containers: Required value"),
        ("c.image", json!(""), "spec.containers[0].image: Required value"),
        (
            "c.image",
            json!(" i"),
            "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing \
             whitespace",
        ),
        (
            "restartPolicy",
            json!("Sometimes"),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
             \"OnFailure\", \"Never\"",
        ),
        (
            "c.volumeMounts",
            json!([{ "name": "none", "mountPath": "/x" }]),
            "spec.containers[0].volumeMounts[0].name: Not found: \"none\"",
        ),
        (
            "c.ports",
            json!([{ "containerPort": 70000 }]),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 \
             and 65535, inclusive",
        ),
        (
            "c.resources",
            json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "2" } }),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or \
             equal to cpu limit of 1",
        ),
        (
            "c.resources",
            json!({ "requests": { "pie": "2" } }),
            "spec.containers[0].resources.requests[pie]: Invalid value: \"pie\": must be a \
             standard resource for containers",
        ),
        (
            "c.env",
            json!([{ "name": "A", "value": "x", "valueFrom": { "fieldRef": {
                "fieldPath": "metadata.name" } } }]),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when \
             `value` is not empty",
        ),
        (
            "c.env",
            json!([{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "metadata.x" } } }]),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \
             \"metadata.x\": error converting fieldPath: field label not supported: metadata.x",
        ),
        (
            "c.livenessProbe",
            json!({}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            "c.securityContext",
            json!({ "privileged": true, "allowPrivilegeEscalation": false }),
            "spec.containers[0].securityContext: Invalid value: \
             {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set \
             `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            "volumes",
            json!([{ "name": "a", "emptyDir": {}, "hostPath": { "path": "/" } }]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            "tolerations",
            json!([{ "value": "x" }]),
            "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when \
             `key` is empty, which means \"match all values and all keys\"",
        ),
        (
            "dnsPolicy",
            json!("None"),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            "activeDeadlineSeconds",
            json!(0),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, \
             inclusive",
        ),
        (
            "initContainers",
            json!([{ "name": "c", "image": "i" }]),
            "spec.initContainers[0].name: Duplicate value: \"c\"",
        ),
        (
            "ephemeralContainers",
            json!([{ "name": "e", "image": "i" }]),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
    ] {
        assert_eq!(texts(&with(path, value.clone()), None), [want], "{path} {value}");
    }
}

#[test]
fn changes() {
    let old = pod(|_| {});
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("other");
    new["spec"]["tolerations"] = json!([{ "operator": "Exists" }]);
    assert_eq!(texts(&new, Some(&old)), [""; 0]);
    new["spec"]["hostname"] = json!("h");
    assert_eq!(
        texts(&new, Some(&old)),
        ["spec: Forbidden: pod updates may not change fields other than \
          `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
          `spec.tolerations` (only additions to existing tolerations),\
          `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously \
          negative)\n- hostname: null\n+ hostname: \"h\"\n"]
    );
    let gone = with("tolerations", json!([{ "operator": "Exists" }]));
    assert_eq!(
        texts(&old, Some(&gone)),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its \
          tolerationSeconds"]
    );
    let gated = with("schedulingGates", json!([{ "name": "g" }]));
    assert_eq!(texts(&old, Some(&gated)), [""; 0]);
    assert_eq!(
        texts(&gated, Some(&old)),
        ["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new \
          scheduling gate 'g'"]
    );
}

#[test]
fn subresources() {
    let old = pod(|_| {});
    let check = |name: &str, new: &Value, old: &Value| -> Vec<String> {
        let errors = Pods.validate_subresource(name, new, old);
        errors.iter().map(ToString::to_string).collect()
    };
    let mut debug = old.clone();
    debug["spec"]["ephemeralContainers"] = json!([{ "name": "d", "image": "i" }]);
    Pods.default(&mut debug);
    assert_eq!(check("ephemeralcontainers", &debug, &old), [""; 0]);
    assert_eq!(
        check("ephemeralcontainers", &old, &debug),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be \
          removed\n"]
    );
    let sized = with("c.resources", json!({ "requests": { "cpu": "1" } }));
    let more = with("c.resources", json!({ "requests": { "cpu": "2" } }));
    assert_eq!(check("resize", &more, &sized), [""; 0]);
    assert_eq!(
        check("resize", &sized, &old),
        ["spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing"]
    );
    let ended = |state: Value| {
        let mut pod = with("restartPolicy", json!("Never"));
        pod["status"] = json!({ "containerStatuses": [{ "name": "c", "state": state }] });
        pod
    };
    let was = ended(json!({ "terminated": { "exitCode": 1 } }));
    assert_eq!(
        check("status", &ended(json!({ "running": {} })), &was),
        [
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated \
          state"
        ]
    );
}

#[test]
fn certificates_of_pods_live_an_hour_to_three_months() {
    for (seconds, want) in [
        (3599, "if provided, maxExpirationSeconds must be >= 3600"),
        (3600, ""),
        (7_862_400, ""),
        (7_862_401, "if provided, maxExpirationSeconds must be <= 7862400"),
    ] {
        let source = json!({
            "signerName": "example.com/signer", "keyType": "ED25519",
            "credentialBundlePath": "bundle.pem", "maxExpirationSeconds": seconds,
        });
        let volume =
            json!({ "name": "v", "projected": { "sources": [{ "podCertificate": source }] } });
        let found = texts(&pod(|spec| spec["volumes"] = json!([volume])), None);
        let found: Vec<&String> = found.iter().filter(|text| text.contains("Seconds")).collect();
        assert_eq!(found.len(), usize::from(!want.is_empty()), "{found:?}");
        assert!(found.iter().all(|text| text.ends_with(want)), "{found:?}");
    }
}
