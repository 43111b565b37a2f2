use super::*;
use api::Value;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::sync::Arc;
use value::json;

struct World(Vec<(&'static str, Value)>);

impl Objects for World {
    fn get(&self, _: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let found = self.0.iter().find(|(have, object)| {
            *have == plural
                && object["metadata"]["name"] == name
                && object["metadata"]["namespace"].as_str().unwrap_or_default() == namespace
        });
        found.map(|(_, object)| Arc::new(object.clone()))
    }
    fn list(&self, _: &str, _: &str, _: Option<&str>) -> Vec<Arc<Value>> {
        Vec::new()
    }
}

fn world() -> World {
    let b64 = |text: &str| STANDARD.encode(text);
    World(vec![
        ("serviceaccounts", json!({ "metadata": { "namespace": "a", "name": "sa", "uid": "u1" } })),
        ("pods", json!({ "metadata": { "namespace": "a", "name": "p", "uid": "u2" } })),
        (
            "secrets",
            json!({
                "metadata": { "namespace": "kube-system", "name": "bootstrap-token-abcdef" },
                "type": "bootstrap.kubernetes.io/token",
                "data": {
                    "token-id": b64("abcdef"), "token-secret": b64("0123456789abcdef"),
                    "usage-bootstrap-authentication": b64("true"),
                    "expiration": b64("1970-01-01T01:00:00Z"),
                    "auth-extra-groups": b64("system:bootstrappers:nodes,evil"),
                },
            }),
        ),
    ])
}

#[test]
fn bound_tokens_die_with_what_they_are_bound_to() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki::Pki::load_or_create(dir.path()).unwrap();
    let request = TokenRequest {
        namespace: "a".into(),
        account: "sa".into(),
        account_uid: "u1".into(),
        audiences: vec!["api".into()],
        bound: Some(Bound {
            kind: "Pod".into(),
            name: "p".into(),
            uid: "u2".into(),
            node: Some(("n".into(), "u3".into())),
        }),
        issued: 100,
        expires: 1000,
        id: "id".into(),
    };
    let token = issue(&pki.tokens, "iss", &request).unwrap();
    let mut world = world();
    let audiences = ["api".to_owned()];
    let judge = |world: &World, wanted: &[String]| {
        let objects = world;
        Tokens { key: &pki.tokens, issuer: "iss", audiences: &audiences, objects, now: 500 }
            .authenticate(&token, wanted)
    };
    let user = judge(&world, &[]).unwrap().user;
    assert_eq!(user.name, "system:serviceaccount:a:sa");
    assert_eq!(
        user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n"]);
    assert!(judge(&world, &["vault".to_owned()]).is_err());
    world.0[1].1["metadata"]["uid"] = json!("other");
    assert_eq!(
        judge(&world, &[]),
        Err(Error::Refused("the token's pod has been replaced".to_owned()))
    );
}

#[test]
fn bootstrap_tokens() {
    let world = world();
    let judge = |token: &str, now| bootstrap::authenticate(&world, token, now);
    let user = judge("abcdef.0123456789abcdef", 60).unwrap();
    assert_eq!(user.name, "system:bootstrap:abcdef");
    assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:nodes"]);
    assert!(judge("abcdef.0123456789abcdee", 60).is_err());
    assert!(judge("abcdef.0123456789abcdef", 4000).is_err());
    assert_eq!(judge("x.y", 60), Err(Error::Unknown));
}

#[test]
fn impersonation_needs_rights_for_each_part() {
    let asked = Impersonation {
        user: "jane".into(),
        groups: vec!["dev".into()],
        ..Impersonation::default()
    };
    let (user, needed) = impersonate(&asked).unwrap();
    assert_eq!(user.groups, ["dev", "system:authenticated"]);
    let named: Vec<_> = needed.iter().map(|n| (n.resource.as_str(), n.name.as_str())).collect();
    assert_eq!(named, [("users", "jane"), ("groups", "dev")]);
    assert!(
        impersonate(&Impersonation { groups: vec!["x".into()], ..Default::default() }).is_err()
    );
}
