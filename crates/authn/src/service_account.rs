//! Service-account tokens, bound to their account and, where told, to a pod, node or secret.
use crate::{Authenticated, Error, Tokens, same_secret};
use api::{Objects, User};
use value::{Value, json};

/// An account or pod being deleted keeps its tokens for this long, to end its work in peace.
const DELETION_LEEWAY_SECONDS: i64 = 60;

/// What a token is bound to besides its account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    /// `Pod`, `Node`, `Secret`, or nothing.
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// The pod's node, name and uid.
    pub node: Option<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRequest {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    pub audiences: Vec<String>,
    pub bound: Option<Bound>,
    pub issued: i64,
    pub expires: i64,
    /// Unique for each token.
    pub id: String,
}

/// The claims of a new token.
pub fn issuer_claims(issuer: &str, request: &TokenRequest) -> Value {
    let mut about = json!({
        "namespace": request.namespace,
        "serviceaccount": { "name": request.account, "uid": request.account_uid },
    });
    if let Some(bound) = &request.bound {
        about[bound.kind.to_lowercase()] = json!({ "name": bound.name, "uid": bound.uid });
        if let Some((name, uid)) = &bound.node {
            about["node"] = json!({ "name": name, "uid": uid });
        }
    }
    json!({
        "iss": issuer, "aud": request.audiences, "jti": request.id,
        "sub": format!("system:serviceaccount:{}:{}", request.namespace, request.account),
        "iat": request.issued, "nbf": request.issued, "exp": request.expires,
        "kubernetes.io": about,
    })
}

/// Signs a token.
pub fn issue(
    key: &pki::TokenKey,
    issuer: &str,
    request: &TokenRequest,
) -> Result<String, pki::Error> {
    key.sign(&issuer_claims(issuer, request))
}

pub(crate) fn authenticate(
    tokens: &Tokens<'_>,
    token: &str,
    wanted: &[String],
) -> Result<Authenticated, Error> {
    let claims = tokens.key.verify(token, tokens.now).map_err(Error::Token)?;
    if claims["iss"] != tokens.issuer {
        return Err(Error::Unknown);
    }
    let audiences: Vec<String> = match &claims["aud"] {
        Value::String(one) => vec![one.to_string()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let shared: Vec<String> =
        wanted.iter().filter(|want| audiences.contains(want)).cloned().collect();
    if shared.is_empty() {
        return Err(Error::Refused("the token is not for this audience".to_owned()));
    }
    let user = owner(tokens, &claims)?;
    Ok(Authenticated { user, audiences: shared })
}

fn owner(tokens: &Tokens<'_>, claims: &Value) -> Result<User, Error> {
    let about = &claims["kubernetes.io"];
    let namespace = api::access::text(about, "/namespace");
    let account = api::access::text(about, "/serviceaccount/name");
    let uid = api::access::text(about, "/serviceaccount/uid");
    alive(tokens, "serviceaccounts", "service account", namespace, account, uid)?;
    let mut user = User::new(
        format!("system:serviceaccount:{namespace}:{account}"),
        &["system:serviceaccounts"],
    );
    user.groups.push(format!("system:serviceaccounts:{namespace}"));
    user.uid = uid.to_owned();
    let mut note = |key: &str, value: String| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    if let Some(id) = claims["jti"].as_str() {
        note("credential-id", format!("JTI={id}"));
    }
    for (claim, plural) in [("pod", "pods"), ("secret", "secrets"), ("node", "nodes")] {
        let bound = &about[claim];
        if bound.is_null() {
            continue;
        }
        let (name, uid) = (api::access::text(bound, "/name"), api::access::text(bound, "/uid"));
        let place = if claim == "node" { "" } else { namespace };
        // A pod's token only mentions its node; it lives as long as the pod.
        if claim != "node" || about["pod"].is_null() {
            alive(tokens, plural, claim, place, name, uid)?;
        }
        if claim != "secret" {
            note(&format!("{claim}-name"), name.to_owned());
            note(&format!("{claim}-uid"), uid.to_owned());
        }
    }
    Ok(user)
}

/// The object is there, is the same one, and is not long deleted.
fn alive(
    tokens: &Tokens<'_>,
    plural: &str,
    what: &str,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), Error> {
    let objects: &dyn Objects = tokens.objects;
    let refuse = |why: &str| Err(Error::Refused(format!("the token's {what} {why}")));
    let Some(object) = objects.get("", plural, namespace, name) else {
        return refuse("is not there any more");
    };
    if !same_secret(api::access::text(&object, "/metadata/uid").as_bytes(), uid.as_bytes()) {
        return refuse("has been replaced");
    }
    let deleted = object["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(|time| time.parse::<api::k8s::jiff::Timestamp>().ok());
    if deleted.is_some_and(|time| time.as_second() + DELETION_LEEWAY_SECONDS < tokens.now) {
        return refuse("has been deleted");
    }
    Ok(())
}
