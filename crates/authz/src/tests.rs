use super::*;
use crate::escalation::uncovered;
use crate::rbac::Rule;
use value::json;

fn want(verb: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        verb: verb.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::default()
    }
}

#[test]
fn roles_hold_where_they_are_bound() {
    let authorizer = Authorizer::default();
    let reader = json!({ "rules": [
        { "verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/status"] },
        { "verbs": ["get"], "nonResourceURLs": ["/logs/*"] },
    ]});
    let binding = json!({
        "roleRef": { "kind": "ClusterRole", "name": "reader" },
        "subjects": [{ "kind": "User", "name": "jane" },
                     { "kind": "ServiceAccount", "name": "sa", "namespace": "b" }],
    });
    authorizer.changed("rolebindings", "a", "bind", Some(&binding));
    let jane = User::new("jane", &[]);
    let list = want("list", "pods", "a", "");
    let before = authorizer.authorize(&jane, &list);
    assert_eq!(before.reason(), "RBAC: clusterrole.rbac.authorization.k8s.io \"reader\" not found");
    authorizer.changed("clusterroles", "", "reader", Some(&reader));
    assert!(authorizer.authorize(&jane, &list).allowed());
    assert!(authorizer.authorize(&User::new("system:serviceaccount:b:sa", &[]), &list).allowed());
    for refused in [
        want("list", "pods", "b", ""),
        want("list", "pods", "", ""),
        want("delete", "pods", "a", "x"),
        want("get", "pods/log", "a", "x"),
        want("get", "secrets", "a", "x"),
    ] {
        assert!(!authorizer.authorize(&jane, &refused).allowed(), "{refused:?}");
    }
    assert!(authorizer.authorize(&jane, &want("get", "nodes/status", "a", "")).allowed());
    let path = Attributes { verb: "get".into(), path: "/logs/x".into(), ..Attributes::default() };
    assert!(!authorizer.authorize(&jane, &path).allowed());
    authorizer.changed("clusterrolebindings", "", "all", Some(&binding));
    assert!(authorizer.authorize(&jane, &path).allowed());
    authorizer.changed("clusterrolebindings", "", "all", None);
    assert!(!authorizer.authorize(&jane, &path).allowed());
    let refused = want("list", "pods", "default", "");
    assert_eq!(
        refusal(&jane, &refused, ""),
        "User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
}

#[test]
fn a_node_reads_what_its_pods_need() {
    let authorizer = Authorizer::default();
    let node = User::new("system:node:n1", &["system:nodes"]);
    let secret = want("get", "secrets", "a", "s");
    assert!(!authorizer.authorize(&node, &secret).allowed());
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": {
            "nodeName": "n1", "serviceAccountName": "sa",
            "volumes": [{ "name": "v", "secret": { "secretName": "s" } },
                        { "name": "c", "persistentVolumeClaim": { "claimName": "claim" } }],
        },
    });
    authorizer.changed("pods", "a", "p", Some(&pod));
    assert!(authorizer.authorize(&node, &secret).allowed());
    assert!(
        authorizer.authorize(&node, &want("create", "serviceaccounts/token", "a", "sa")).allowed()
    );
    assert!(!authorizer.authorize(&node, &want("get", "secrets", "b", "s")).allowed());
    assert!(!authorizer.authorize(&node, &want("update", "secrets", "a", "s")).allowed());
    let volume = json!({ "spec": {
        "claimRef": { "namespace": "a", "name": "claim" },
        "csi": { "nodeStageSecretRef": { "namespace": "k", "name": "stage" } },
    }});
    authorizer.changed("persistentvolumes", "", "pv", Some(&volume));
    assert!(authorizer.authorize(&node, &want("get", "persistentvolumes", "", "pv")).allowed());
    assert!(authorizer.authorize(&node, &want("get", "secrets", "k", "stage")).allowed());
    assert!(authorizer.authorize(&node, &want("get", "nodes", "", "n1")).allowed());
    assert!(!authorizer.authorize(&node, &want("get", "nodes", "", "n2")).allowed());
    assert!(!authorizer.authorize(&node, &want("list", "pods", "", "")).allowed());
    authorizer.changed("pods", "a", "p", None);
    assert!(!authorizer.authorize(&node, &secret).allowed());
    assert!(!authorizer.authorize(&node, &want("get", "secrets", "k", "stage")).allowed());
}

#[test]
fn rights_not_held_are_named() {
    let rule = |verbs: &[&str], resources: &[&str]| {
        Rule::from_json(&json!({ "verbs": verbs, "apiGroups": [""], "resources": resources }))
    };
    let held = [rule(&["get"], &["pods"]), rule(&["*"], &["*/log"])];
    assert!(uncovered(&held, &[rule(&["get"], &["pods", "pods/log"])]).is_empty());
    let missing = uncovered(&held, &[rule(&["get", "list", "watch"], &["pods"])]);
    let user = User::new("u", &["g"]);
    assert_eq!(
        escalation::refusal(&user, &missing),
        "user \"u\" (groups=[\"g\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}"
    );
}
