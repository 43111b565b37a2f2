use super::*;
use api::Gvk;
use value::json;

const THEN: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:01:00Z";

fn ty(object: &Value) -> Option<TypeRef<'static>> {
    let version = object["apiVersion"].as_str().unwrap();
    let gvk = Gvk::new(version, object["kind"].as_str().unwrap());
    Some(schema::builtin().type_of(&gvk).expect("the kind is built in"))
}

fn by<'a>(name: &'a str, object: &'a Value) -> Manager<'a> {
    let api_version = object["apiVersion"].as_str().unwrap();
    Manager { name, api_version, subresource: "", time: THEN }
}

fn applied(live: Option<&Value>, config: &Value, name: &str) -> Result<Value, ApplyError> {
    apply(live, config, ty(config), &by(name, config), false, &Set::default())
}

fn forced(live: &Value, config: &Value, name: &str) -> Value {
    apply(Some(live), config, ty(config), &by(name, config), true, &Set::default()).unwrap()
}

fn updated(old: Option<&Value>, mut new: Value, name: &str) -> Value {
    let template = new.clone();
    let manager = by(name, &template);
    let ty = ty(&new);
    track_update(old, &mut new, ty, &manager, &Set::default());
    new
}

fn fields(object: &Value, manager: &str) -> Value {
    let entry = managed::raw(object).iter().find(|entry| entry["manager"] == manager);
    entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn managers(object: &Value) -> Vec<(String, String)> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    managed::raw(object).iter().map(|e| (text(e, "manager"), text(e, "operation"))).collect()
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"},
        "data": data})
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}

fn template(containers: Value) -> Value {
    json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": containers}})
}

fn message(result: Result<Value, ApplyError>) -> String {
    result.unwrap_err().to_string()
}

/// As a cluster shows it after `kubectl create deployment`.
#[test]
fn a_created_deployment_is_tracked_as_upstream_does() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "3",
            "generation": 1, "creationTimestamp": THEN, "labels": {"app": "d"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "d"}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {
                "containers": [{"name": "nginx", "image": "nginx", "resources": {},
                    "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                "schedulerName": "default-scheduler", "securityContext": {},
                "terminationGracePeriodSeconds": 30}}},
        "status": {}});
    let object = updated(None, object, "kubectl-create");
    assert_eq!(managers(&object), [("kubectl-create".to_owned(), "Update".to_owned())]);
    assert_eq!(
        fields(&object, "kubectl-create"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {},
                "f:selector": {},
                "f:strategy": {"f:rollingUpdate":
                        {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
                    "f:type": {}},
                "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
                    "f:containers": {"k:{\"name\":\"nginx\"}": {".": {}, "f:image": {},
                        "f:imagePullPolicy": {}, "f:name": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                            {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                        "f:resources": {}, "f:terminationMessagePath": {},
                        "f:terminationMessagePolicy": {}}},
                    "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {},
                    "f:securityContext": {}, "f:terminationGracePeriodSeconds": {}}}
            }
        })
    );
}

/// The first example of the documentation.
#[test]
fn an_applied_config_map_is_owned_by_its_applier() {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "test-cm", "namespace": "default", "labels": {"test-label": "test"}},
        "data": {"key": "some value"}});
    let object = applied(None, &config, "kubectl").unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "time": THEN,
            "fieldsType": "FieldsV1", "fieldsV1": {
                "f:metadata": {"f:labels": {"f:test-label": {}}}, "f:data": {"f:key": {}}}}])
    );
    assert_eq!(object["data"], config["data"]);
}

#[test]
fn what_another_owns_is_a_conflict_until_forced() {
    let one = applied(None, &config_map(json!({"a": "1", "b": "1"})), "one").unwrap();
    // The same value is shared.
    let both = applied(Some(&one), &config_map(json!({"a": "1"})), "two").unwrap();
    assert_eq!(fields(&both, "one"), json!({"f:data": {"f:a": {}, "f:b": {}}}));
    assert_eq!(fields(&both, "two"), json!({"f:data": {"f:a": {}}}));
    let config = config_map(json!({"a": "2"}));
    let error = applied(Some(&both), &config, "two");
    assert_eq!(
        message(error.clone()),
        "Apply failed with 1 conflict: conflict with \"one\": .data.a"
    );
    let Err(ApplyError::Conflicts(Conflicts(conflicts))) = error else { panic!("{error:?}") };
    assert_eq!(conflicts[0].message(), "conflict with \"one\"");
    assert_eq!(conflicts[0].path, ".data.a");
    let object = forced(&both, &config, "two");
    assert_eq!(object["data"], json!({"a": "2", "b": "1"}));
    assert_eq!(fields(&object, "one"), json!({"f:data": {"f:b": {}}}));
    assert_eq!(fields(&object, "two"), json!({"f:data": {"f:a": {}}}));
}

#[test]
fn conflicts_are_told_as_upstream_does() {
    let spec = |replicas: u32| {
        json!({"replicas": replicas, "selector": {"matchLabels": {"app": "d"}},
            "template": template(json!([{"name": "c", "image": "i:1"}]))})
    };
    let live = updated(None, deployment(spec(1)), "kubectl-client-side-apply");
    let config = deployment(json!({"replicas": 2}));
    assert_eq!(
        message(applied(Some(&live), &config, "kubectl")),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: \
         .spec.replicas"
    );
    let config = deployment(json!({"replicas": 2,
        "template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}));
    assert_eq!(
        message(applied(Some(&live), &config, "x")),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" \
         using apps/v1:\n\
         - .spec.replicas\n\
         - .spec.template.spec.containers[name=\"c\"].image"
    );
}

#[test]
fn what_the_applier_lets_go_of_goes_unless_another_has_it() {
    let one = applied(None, &config_map(json!({"a": "1", "b": "1", "c": "1"})), "one").unwrap();
    let two = applied(Some(&one), &config_map(json!({"b": "1"})), "two").unwrap();
    let object = applied(Some(&two), &config_map(json!({"c": "1"})), "one").unwrap();
    assert_eq!(object["data"], json!({"b": "1", "c": "1"}));
    assert_eq!(fields(&object, "one"), json!({"f:data": {"f:c": {}}}));
    assert_eq!(fields(&object, "two"), json!({"f:data": {"f:b": {}}}));
    // What an update set is not the applier's to remove.
    let mut new = object.clone();
    new["data"]["c"] = json!("2");
    let new = updated(Some(&object), new, "editor");
    assert_eq!(fields(&new, "one"), Value::Null);
    let last = applied(Some(&new), &config_map(json!({})), "one").unwrap();
    assert_eq!(last["data"], json!({"b": "1", "c": "2"}));
}

/// The documentation's hand-over of `replicas` to an autoscaler.
#[test]
fn ownership_is_handed_over() {
    let config = deployment(json!({"replicas": 3, "selector": {"matchLabels": {"app": "d"}},
        "template": template(json!([{"name": "c", "image": "i"}]))}));
    let live = applied(None, &config, "kubectl").unwrap();
    let hand = deployment(json!({"replicas": 3}));
    let live = applied(Some(&live), &hand, "handover-to-hpa").unwrap();
    let mut without = config.clone();
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let live = applied(Some(&live), &without, "kubectl").unwrap();
    assert_eq!(live["spec"]["replicas"], 3);
    assert!(fields(&live, "kubectl")["f:spec"].get("f:replicas").is_none());
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(5);
    let scaled = updated(Some(&live), scaled, "hpa");
    assert_eq!(fields(&scaled, "hpa"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields(&scaled, "handover-to-hpa"), Value::Null);
    assert_eq!(applied(Some(&scaled), &without, "kubectl").unwrap()["spec"]["replicas"], 5);
}

#[test]
fn a_dropped_list_element_goes_with_its_defaults() {
    let containers = json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]);
    let config = deployment(json!({"template": template(containers)}));
    let mut live = applied(None, &config, "kubectl").unwrap();
    for container in live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap() {
        container["terminationMessagePath"] = json!("/dev/termination-log");
    }
    live["spec"]["strategy"] = json!({"type": "RollingUpdate"});
    let config = deployment(json!({"template": template(json!([{"name": "b", "image": "i"}]))}));
    let object = applied(Some(&live), &config, "kubectl").unwrap();
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"],
        json!([{"name": "b", "image": "i", "terminationMessagePath": "/dev/termination-log"}])
    );
    assert_eq!(object["spec"]["strategy"], json!({"type": "RollingUpdate"}), "nobody's stays");
}

#[test]
fn a_dropped_struct_goes_with_its_defaults() {
    let config = deployment(json!({"strategy": {"rollingUpdate": {"maxSurge": 1}}}));
    let mut live = applied(None, &config, "kubectl").unwrap();
    live["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = json!("25%");
    let config = deployment(json!({"strategy": {"type": "Recreate"}}));
    let object = applied(Some(&live), &config, "kubectl").unwrap();
    assert_eq!(object["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn elements_are_told_apart_by_keys_and_their_defaults() {
    let port = |port: Value| {
        deployment(json!({"template": template(json!([{"name": "c", "ports": [port]}]))}))
    };
    let live = port(json!({"containerPort": 80, "protocol": "TCP", "name": "web"}));
    let live = updated(None, live, "creator");
    let object = applied(Some(&live), &port(json!({"containerPort": 80})), "kubectl").unwrap();
    let containers = &object["spec"]["template"]["spec"]["containers"];
    assert_eq!(
        containers[0]["ports"],
        json!([{"containerPort": 80, "protocol": "TCP", "name": "web"}])
    );
    assert_eq!(
        fields(&object, "kubectl")["f:spec"]["f:template"]["f:spec"]["f:containers"],
        json!({"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:ports":
            {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}})
    );
}

#[test]
fn lists_keep_the_appliers_order_around_what_others_have() {
    let containers = |names: &[&str]| {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        deployment(json!({"template": template(json!(containers))}))
    };
    for (live, config, expected) in [
        (&["a", "b"][..], &["c"][..], &["a", "b", "c"][..]),
        (&["a", "b"], &["c", "a"], &["c", "a", "b"]),
        (&["x", "a"], &["a"], &["x", "a"]),
        (&["a", "x", "b"], &["b", "a"], &["x", "b", "a"]),
        (&["a", "b", "c"], &["c", "b", "a"], &["c", "b", "a"]),
        (&[], &["b", "a"], &["b", "a"]),
    ] {
        let live = updated(None, containers(live), "creator");
        let object = applied(Some(&live), &containers(config), "kubectl").unwrap();
        let found = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        let found: Vec<&str> = found.iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn sets_and_atomic_values_are_owned_by_value_and_as_a_whole() {
    let pod = |finalizers: Value, args: Value| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "finalizers": finalizers},
            "spec": {"containers": [{"name": "c", "args": args}]}})
    };
    let live = updated(None, pod(json!(["x/a"]), json!(["1"])), "creator");
    let config = pod(json!(["x/b"]), json!(["1"]));
    let object = applied(Some(&live), &config, "kubectl").unwrap();
    assert_eq!(object["metadata"]["finalizers"], json!(["x/a", "x/b"]));
    assert_eq!(
        fields(&object, "kubectl")["f:metadata"],
        json!({"f:finalizers": {"v:\"x/b\"": {}}})
    );
    let error = applied(Some(&object), &pod(json!(["x/b"]), json!(["1", "2"])), "kubectl");
    assert_eq!(
        message(error),
        "Apply failed with 1 conflict: conflict with \"creator\" using v1: \
         .spec.containers[name=\"c\"].args"
    );
}

#[test]
fn an_apply_that_changes_nothing_changes_nothing() {
    let config = config_map(json!({"a": "1"}));
    let live = applied(None, &config, "one").unwrap();
    let manager = Manager { time: LATER, ..by("one", &config) };
    let again = apply(Some(&live), &config, ty(&config), &manager, false, &Set::default());
    assert_eq!(again, Ok(live));
}

#[test]
fn an_update_notes_what_it_changed_and_nothing_else() {
    let old = updated(None, config_map(json!({"a": "1", "b": "1"})), "one");
    let mut new = old.clone();
    new["data"] = json!({"a": "2", "c": "1"});
    let manager = Manager { time: LATER, ..by("two", &old) };
    track_update(Some(&old), &mut new, ty(&old), &manager, &Set::default());
    assert_eq!(fields(&new, "one"), json!({"f:data": {}}));
    assert_eq!(fields(&new, "two"), json!({"f:data": {"f:a": {}, "f:c": {}}}));
    // A write without change leaves everything, its time too.
    let mut same = new.clone();
    let manager = Manager { time: "2026-01-01T00:02:00Z", ..manager };
    track_update(Some(&new), &mut same, ty(&old), &manager, &Set::default());
    assert_eq!(same, new);
}

#[test]
fn a_writer_may_send_none_all_or_reset_managed_fields() {
    let old = updated(None, config_map(json!({"a": "1"})), "one");
    // None: they are kept.
    let new = updated(Some(&old), config_map(json!({"a": "1"})), "two");
    assert_eq!(new["metadata"]["managedFields"], old["metadata"]["managedFields"]);
    // One empty entry: they are forgotten.
    let mut reset = old.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(managers(&updated(Some(&old), reset, "two")), []);
    // What cannot be read counts as none.
    let mut bad = old.clone();
    bad["metadata"]["managedFields"] = json!([{"operation": "Steal"}]);
    assert_eq!(updated(Some(&old), bad, "two"), old);
    // What is sent stands.
    let mut renamed = old.clone();
    renamed["metadata"]["managedFields"][0]["manager"] = json!("three");
    assert_eq!(updated(Some(&old), renamed.clone(), "two"), renamed);
}

#[test]
fn a_subresource_has_an_entry_of_its_own() {
    let old = updated(None, deployment(json!({"replicas": 1})), "one");
    let mut new = old.clone();
    new["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    new["spec"]["replicas"] = json!(7);
    let manager = Manager { subresource: "status", ..by("controller", &old) };
    track_update(Some(&old), &mut new, ty(&old), &manager, &Set::of(&[&["spec"]]));
    let entry = &managed::raw(&new)[0];
    assert_eq!(entry["subresource"], "status");
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {".": {}, "f:replicas": {}, "f:conditions":
        {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:type": {}, "f:status": {}}}}})
    );
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n"}, "status": {"replicas": 2}});
    let manager = Manager { subresource: "status", ..by("other", &old) };
    let error = apply(Some(&new), &config, ty(&old), &manager, false, &Set::of(&[&["spec"]]));
    assert_eq!(
        message(error),
        "Apply failed with 1 conflict: conflict with \"controller\" with subresource \"status\" \
         using apps/v1: .status.replicas"
    );
}

#[test]
fn fields_that_the_endpoint_ignores_are_nobodys() {
    let mut config = deployment(json!({"replicas": 1}));
    config["status"] = json!({"replicas": 4});
    let ignored = Set::of(&[&["status"]]);
    let object = apply(None, &config, ty(&config), &by("one", &config), false, &ignored).unwrap();
    assert_eq!(fields(&object, "one"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn what_was_never_tracked_is_owned_by_those_before() {
    let live = config_map(json!({"a": "1"}));
    let error = applied(Some(&live), &config_map(json!({"a": "2"})), "one");
    assert_eq!(
        message(error),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
    let object = applied(Some(&live), &config_map(json!({"b": "2"})), "one").unwrap();
    assert_eq!(
        managers(&object),
        [
            ("one".to_owned(), "Apply".to_owned()),
            ("before-first-apply".to_owned(), "Update".to_owned())
        ]
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_from_the_client() {
    let mut live = config_map(json!({"a": "1", "b": "1"}));
    let last = config_map(json!({"a": "1", "b": "0"}));
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last.to_string()});
    let live = updated(None, live, "kubectl-client-side-apply");
    let config = config_map(json!({"a": "2"}));
    assert!(applied(Some(&live), &config, "other").is_err());
    let object = applied(Some(&live), &config, "kubectl").unwrap();
    assert_eq!(object["data"], json!({"a": "2", "b": "1"}));
    // The annotation follows.
    assert_eq!(last_applied(&object), Some(&*format!("{config}\n")));
    // What differs from what was applied then is still in the way.
    assert_eq!(
        message(applied(Some(&live), &config_map(json!({"a": "2", "b": "2"})), "kubectl")),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: \
         .data.b"
    );
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let twice = json!([{"name": "a"}, {"name": "a"}]);
    let config = deployment(json!({"template": template(twice)}));
    assert_eq!(
        message(applied(None, &config, "kubectl")),
        "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): \
         .spec.template.spec.containers: duplicate entries for key [name=\"a\"]"
    );
    let config = deployment(json!({"template": template(json!([{"image": "i"}]))}));
    assert_eq!(
        message(applied(None, &config, "kubectl")),
        "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): \
         .spec.template.spec.containers: element 0: associative list with keys has an element that \
         omits key field \"name\" (and doesn't have default value)"
    );
    let mut config = config_map(json!({}));
    config["metadata"]["managedFields"] = json!([{"manager": "m"}]);
    assert_eq!(message(applied(None, &config, "kubectl")), "metadata.managedFields must be nil");
}

#[test]
fn null_takes_a_field_away_and_owns_that() {
    let live = updated(None, deployment(json!({"replicas": 2, "paused": true})), "one");
    let config = deployment(json!({"paused": null}));
    let object = forced(&live, &config, "two");
    assert_eq!(object["spec"], json!({"replicas": 2}));
    assert_eq!(fields(&object, "two"), json!({"f:spec": {"f:paused": {}}}));
    assert!(fields(&object, "one")["f:spec"].get("f:paused").is_none());
}

#[test]
fn only_so_many_updaters_are_told_apart() {
    let mut object = updated(None, config_map(json!({"k": "0"})), "m00");
    for index in 1..15 {
        let mut new = object.clone();
        new["data"][format!("k{index:02}")] = json!("1");
        let name = format!("m{index:02}");
        let time = format!("2026-01-01T00:00:{index:02}Z");
        let manager = Manager { time: &time, ..by(&name, &object) };
        track_update(Some(&object), &mut new, ty(&object), &manager, &Set::default());
        object = new;
    }
    let names: Vec<String> = managers(&object).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    assert_eq!(names[0], "ancient-changes");
    assert_eq!(names[9], "m14");
    let kept = &fields(&object, "ancient-changes")["f:data"];
    assert!(kept.get("f:k").is_some() && kept.get("f:k05").is_some(), "{kept}");
}

#[test]
fn what_a_new_object_owns_is_what_comparing_it_finds() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "creationTimestamp": THEN,
            "labels": {"a": "b"}, "annotations": {}, "finalizers": ["x/y", "z"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1"}]},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": ""}],
            "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80,
                "protocol": "TCP"}], "resources": {"limits": {"cpu": "1"}, "requests": {}}}],
            "nodeSelector": null, "tolerations": [{"key": "k"}], "restartPolicy": "Always"},
        "status": {"phase": "Pending"}});
    let untyped = json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x"},
        "spec": {"a": [1, {"b": null}], "c": {}, "d": {"e": 1.0}}, "text": ""});
    let empty = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    for (object, ty) in [
        (&pod, ty(&pod)),
        (&pod, None),
        (&untyped, None),
        (&empty, ty(&empty)),
        (&config_map(json!({"k": "v"})), ty(&empty)),
    ] {
        for ignored in [Set::default(), Set::of(&[&["status"]]), Set::of(&[&["spec", "a"]])] {
            let mut compared = typed::compare(&nothing(ty), object, ty);
            compared.ignore(&ignored);
            let mut set = compared.into_changed();
            set.take_out(stripped());
            let long = (!set.is_empty()).then(|| set.encode());
            let without = [&ignored, stripped()].map(Some);
            assert_eq!(typed::written(Some(&nothing(ty)), object, ty, without), long);
        }
    }
}
