use super::*;
use api::Gvk;
use std::{path::PathBuf, process::Command};
use value::json;

fn patched(document: Value, patch: Value) -> Result<Value, PatchError> {
    let version = document["apiVersion"].as_str().unwrap();
    let gvk = Gvk::new(version, document["kind"].as_str().unwrap());
    strategic(&document, &patch, schema::builtin().type_of(&gvk).unwrap())
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

fn meta(metadata: Value) -> Value {
    let mut pod = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    merge_in(&mut pod["metadata"], metadata);
    pod
}

fn merge_in(into: &mut Value, from: Value) {
    into.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

/// Documents and patches whose outcome kubectl itself is asked for below.
#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<(Value, Value, Value)> {
    let two = || json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]);
    vec![
        // An element is merged by its key, a new one comes first in the patch's order.
        (
            pod(json!({"containers": two()})),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
            pod(json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]})),
        ),
        (
            pod(json!({"containers": two()})),
            json!({"spec": {"containers": [{"name": "c", "image": "3"}]}}),
            pod(json!({"containers": [{"name": "c", "image": "3"},
                {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]})),
        ),
        (
            pod(json!({"containers": two()})),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            pod(json!({"containers": [{"name": "b", "image": "1"}]})),
        ),
        (
            pod(json!({"containers": two()})),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z", "image": "9"}]}}),
            pod(json!({"containers": [{"name": "z", "image": "9"}]})),
        ),
        (
            pod(json!({"containers": two()})),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            pod(json!({"containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]})),
        ),
        (
            pod(json!({"containers": two()})),
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "c", "image": "3"}]}}),
            pod(json!({"containers": [{"name": "c", "image": "3"}, {"name": "a", "image": "1"},
                {"name": "b", "image": "1"}]})),
        ),
        // A field of an element goes away by null.
        (
            pod(json!({"containers": [{"name": "a", "image": "1", "workingDir": "/x"}]})),
            json!({"spec": {"containers": [{"name": "a", "workingDir": null}]}}),
            pod(json!({"containers": [{"name": "a", "image": "1"}]})),
        ),
        // Lists in lists: env by name, ports by containerPort.
        (
            pod(json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}],
                "ports": [{"containerPort": 80}]}]})),
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}],
                "ports": [{"containerPort": 81}], "args": ["v"]}]}}),
            pod(json!({"containers": [{"name": "a", "args": ["v"],
                "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}],
                "ports": [{"containerPort": 81}, {"containerPort": 80}]}]})),
        ),
        // An atomic list is replaced.
        (
            pod(json!({"containers": [{"name": "a", "args": ["x", "y"]}]})),
            json!({"spec": {"containers": [{"name": "a", "args": ["z"]}]}}),
            pod(json!({"containers": [{"name": "a", "args": ["z"]}]})),
        ),
        // Maps merge; null takes a key away; directives replace or empty a map.
        (
            meta(json!({"labels": {"a": "1", "b": "2"}})),
            json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
            meta(json!({"labels": {"b": "2", "c": "3"}})),
        ),
        (
            meta(json!({"labels": {"a": "1", "b": "2"}})),
            json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
            meta(json!({"labels": {"c": "3"}})),
        ),
        // Primitives merge as a set.
        (
            meta(json!({"finalizers": ["x/a", "x/b"]})),
            json!({"metadata": {"finalizers": ["x/c", "x/a"]}}),
            meta(json!({"finalizers": ["x/c", "x/a", "x/b"]})),
        ),
        (
            meta(json!({"finalizers": ["x/a", "x/b", "x/c"]})),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/b"]}}),
            meta(json!({"finalizers": ["x/a", "x/c"]})),
        ),
        (
            meta(json!({"finalizers": ["x/a", "x/b", "x/c"]})),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/b"],
                "$setElementOrder/finalizers": ["x/c", "x/d", "x/a"], "finalizers": ["x/d"]}}),
            meta(json!({"finalizers": ["x/c", "x/d", "x/a"]})),
        ),
        // A union keeps what the patch names.
        (
            deployment(json!({"strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1}}, "replicas": 1})),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            deployment(json!({"strategy": {"type": "Recreate"}, "replicas": 1})),
        ),
        (
            pod(json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": two()})),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"],
                "hostPath": {"path": "/x"}, "emptyDir": null}]}}),
            pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
                    "containers": two()})),
        ),
        // What is new is taken without nulls.
        (
            pod(json!({"containers": two()})),
            json!({"spec": {"securityContext": {"runAsUser": 1, "runAsGroup": null}}}),
            pod(json!({"securityContext": {"runAsUser": 1}, "containers": two()})),
        ),
        // What only the server has keeps its place between those that the patch orders.
        (
            pod(
                json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}, {"name": "t"}]}),
            ),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
                "containers": [{"name": "b", "image": "2"}]}}),
            pod(json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b", "image": "2"},
                {"name": "t"}]})),
        ),
        (
            pod(json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]})),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "b", "image": "2"}]}}),
            pod(json!({"containers": [{"name": "s"}, {"name": "b", "image": "2"}, {"name": "a"}]})),
        ),
    ]
}

#[test]
fn patches_merge_as_documented() {
    for (document, patch, expected) in cases() {
        assert_eq!(patched(document, patch.clone()), Ok(expected), "{patch}");
    }
}

/// The same table through kubectl, which has the reference implementation built in.
#[test]
fn kubectl_comes_to_the_same() {
    let Some(kubectl) = find_kubectl() else {
        eprintln!("skipped: kubectl is not installed");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for (document, patch, _) in cases() {
        let file = dir.path().join("document.json");
        std::fs::write(&file, document.to_string()).unwrap();
        let output = Command::new(&kubectl)
            .args(["patch", "--local", "--type=strategic", "-o", "json", "-f"])
            .arg(&file)
            .args(["-p", &patch.to_string()])
            .env("KUBECONFIG", dir.path().join("none"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        let ours = patched(document, patch.clone()).unwrap();
        // kubectl decodes the document into its types: compare what both say.
        for (part, ours) in ours.as_object().unwrap() {
            assert!(covers(&theirs[part], ours), "{patch}\nours {ours}\ntheirs {}", theirs[part]);
        }
        assert!(covers(&strip(&ours), &strip(&theirs)), "{patch}\nours {ours}\ntheirs {theirs}");
    }
}

/// Without what kubectl adds for types: empty and null members.
fn strip(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| (name.clone(), strip(value)))
                .filter(|(_, value)| {
                    !value.is_null() && value.as_object().is_none_or(|value| !value.is_empty())
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(strip).collect()),
        other => other.clone(),
    }
}

fn covers(big: &Value, small: &Value) -> bool {
    match (big, small) {
        (Value::Object(big), Value::Object(small)) => {
            small.iter().all(|(name, small)| big.get(name).is_some_and(|big| covers(big, small)))
        }
        (Value::Array(big), Value::Array(small)) => {
            big.len() == small.len() && big.iter().zip(small).all(|(big, small)| covers(big, small))
        }
        (big, small) => big == small,
    }
}

fn find_kubectl() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    places.push(PathBuf::from("/opt/kctl/bin"));
    places.into_iter().map(|place| place.join("kubectl")).find(|path| path.exists())
}

#[test]
fn bad_patches_are_told() {
    let document = || pod(json!({"containers": [{"name": "a"}]}));
    for (patch, expected) in [
        (json!([]), "a strategic merge patch is an object"),
        (json!({"spec": {"$patch": "grow"}}), "unknown patch type: grow in map: {}"),
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "map: {\"image\":\"x\"} does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "delete"}]}}),
            "map: {\"$patch\":\"delete\"} does not contain declared merge key: name",
        ),
        (json!({"spec": {"containers": ["x"]}}), "list element types are not identical"),
        (
            json!({"spec": {"containers": [{"name": "a", "$patch": "merge"}]}}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"spec": {"$retainKeys": ["a"], "b": 1}}),
            "patch content doesn't match retainKeys list",
        ),
        (json!({"spec": {"$retainKeys": 1}}), "invalid patch format of retainKeys"),
        (
            json!({"spec": {"$setElementOrder/containers": 1}}),
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}),
            "invalid patch format of primitive list",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}],
            "containers": [{"name": "a"}]}}),
            "The order in patch list:\n[{\"name\":\"a\"}]\n doesn't match $setElementOrder list:\n\
             [{\"name\":\"b\"}]\n",
        ),
    ] {
        let error = patched(document(), patch).unwrap_err();
        assert_eq!(error, PatchError::Malformed(expected.to_owned()));
    }
}
