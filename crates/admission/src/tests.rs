use super::*;
use std::sync::Arc;
use value::json;

struct Fake(Vec<(&'static str, Value)>);

impl Objects for Fake {
    fn get(&self, _group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.list("", plural, (!namespace.is_empty()).then_some(namespace))
            .into_iter()
            .find(|object| object["metadata"]["name"] == name)
    }
    fn list(&self, _group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let here = |object: &Value| {
            namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
        };
        let found = self.0.iter().filter(|(kind, object)| *kind == plural && here(object));
        found.map(|(_, object)| Arc::new(object.clone())).collect()
    }
}

fn fake(mut more: Vec<(&'static str, Value)>) -> Fake {
    more.push((
        "namespaces",
        json!({"metadata": {"name": "ns", "labels": {}}, "status": {"phase": "Active"}}),
    ));
    more.push(("serviceaccounts", json!({"metadata": {"name": "default", "namespace": "ns"}})));
    Fake(more)
}

fn create(objects: &Fake, resource: &str, kind: &str, object: &mut Value) -> Result<(), ApiError> {
    create_as(&User::new("jane", &[]), objects, resource, kind, object)
}

fn create_as(
    user: &User,
    objects: &Fake,
    resource: &str,
    kind: &str,
    object: &mut Value,
) -> Result<(), ApiError> {
    let kind = Gvk::new("v1", kind);
    let authorizer = Authorizer::default();
    let world = World { objects, authorizer: &authorizer };
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let request = Request {
        operation: Operation::Create,
        user,
        kind: &kind,
        resource,
        subresource: "",
        namespace: "ns",
        name: &name,
        old: None,
        dry_run: false,
    };
    mutate(&world, &request, object)?;
    let once = object.clone();
    mutate(&world, &request, object)?;
    assert_eq!(once, *object, "a second pass changes nothing");
    validate(&world, &request, object)
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn a_plain_pod_gets_what_it_needs() {
    let mut pod = pod();
    create(&fake(vec![]), "pods", "Pod", &mut pod).unwrap();
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);
}

#[test]
fn namespaces_must_be_there_and_alive() {
    let objects = Fake(vec![]);
    let error =
        create(&objects, "configmaps", "ConfigMap", &mut json!({"metadata": {"name": "x"}}));
    assert_eq!(error.unwrap_err().message, "namespaces \"ns\" not found");
    let ending = Fake(vec![(
        "namespaces",
        json!({"metadata": {"name": "ns"}, "status": {"phase": "Terminating"}}),
    )]);
    let error = create(&ending, "configmaps", "ConfigMap", &mut json!({"metadata": {"name": "x"}}));
    assert_eq!(
        error.unwrap_err().message,
        "configmaps \"x\" is forbidden: unable to create new content in namespace ns because it is \
         being terminated"
    );
}

#[test]
fn limit_ranges_fill_and_bound() {
    let range = json!({"metadata": {"name": "r", "namespace": "ns"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"},
         "max": {"cpu": "1"}}]}});
    let objects = fake(vec![("limitranges", range)]);
    let mut plain = pod();
    create(&objects, "pods", "Pod", &mut plain).unwrap();
    let resources = &plain["spec"]["containers"][0]["resources"];
    assert_eq!(resources, &json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}));
    let mut big = pod();
    big["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let error = create(&objects, "pods", "Pod", &mut big).unwrap_err();
    assert_eq!(
        error.message,
        "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[test]
fn quotas_hold() {
    let quota = json!({"metadata": {"name": "q", "namespace": "ns"},
                       "spec": {"hard": {"configmaps": "1"}}});
    let there = json!({"metadata": {"name": "a", "namespace": "ns"}});
    let objects = fake(vec![("resourcequotas", quota), ("configmaps", there)]);
    let error =
        create(&objects, "configmaps", "ConfigMap", &mut json!({"metadata": {"name": "b"}}));
    assert_eq!(
        error.unwrap_err().message,
        "configmaps \"b\" is forbidden: exceeded quota: q, requested: configmaps=1, used: \
         configmaps=1, limited: configmaps=1"
    );
}

#[test]
fn pod_security_levels() {
    let bare = pod();
    assert!(plugins::pod_security::violations("baseline", &bare).is_empty());
    assert_eq!(plugins::pod_security::violations("restricted", &bare).len(), 4);
    let mut host = pod();
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(
        plugins::pod_security::violations("baseline", &host),
        ["host namespaces (hostNetwork=true)"]
    );
}

#[test]
fn nodes_write_only_mirror_pods() {
    let node = User::new("system:node:n1", &["system:nodes"]);
    let mut plain = pod();
    plain["spec"]["nodeName"] = json!("n1");
    let error = create_as(&node, &fake(vec![]), "pods", "Pod", &mut plain).unwrap_err();
    assert!(error.message.contains("can only create mirror pods"), "{}", error.message);
    let mut mirror = pod();
    mirror["spec"]["nodeName"] = json!("n1");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    create_as(&node, &fake(vec![]), "pods", "Pod", &mut mirror).unwrap();
}
