//! `serviceaccounts/token`: a token bound to an account and, where asked, to a pod, node or secret.
use crate::body::Body;
use crate::codec::{self, FieldValidation};
use crate::server::Context;
use crate::verbs::object;
use crate::{clock, meta, webhooks};
use api::{ApiError, FieldError, Gvk, Objects, Value};
use authn::{Bound, TokenRequest};
use http::{Response, StatusCode};
use value::json;

const REQUEST: Gvk = Gvk::fixed("authentication.k8s.io", "v1", "TokenRequest");
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// No token lives longer, whatever is asked for.
const CAP_SECONDS: i64 = 365 * 24 * 3600;

pub(crate) async fn run(context: &mut Context, bytes: &[u8]) -> Result<Response<Body>, ApiError> {
    let validation = FieldValidation::parse(context.query.get("fieldValidation"))?;
    let (mut asked, warnings) = codec::decode(bytes, &context.content_type, &REQUEST, validation)?;
    context.warnings.extend(warnings);
    let caches = context.server.caches.clone();
    caches.catch_up().await?;
    let (namespace, name) = (context.info.namespace.clone(), context.info.name.clone());
    webhooks::creates(context, &REQUEST, &name, &mut asked).await?;
    let account =
        caches.get("", "serviceaccounts", &namespace, &name).ok_or_else(|| context.not_found())?;
    let spec = &asked["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let mut errors = Vec::new();
    let field = "spec.expirationSeconds";
    if seconds < MIN_SECONDS {
        errors.push(FieldError::invalid(
            field,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    } else if seconds > MAX_SECONDS {
        let why = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(field, seconds, why));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(&REQUEST.group, &REQUEST.kind, &name, &errors));
    }
    let seconds = seconds.min(CAP_SECONDS);
    let audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let config = &context.server.config;
    let audiences = if audiences.is_empty() { config.audiences.clone() } else { audiences };
    let bound = bound(context, &account, &spec["boundObjectRef"])?;
    let now = clock::now();
    let request = TokenRequest {
        namespace: namespace.clone(),
        account: name.clone(),
        account_uid: meta::text(&account, "uid").to_owned(),
        audiences: audiences.clone(),
        bound,
        issued: now,
        expires: now + seconds,
        id: meta::uid(),
    };
    let token =
        authn::issue(&config.pki.tokens, &config.issuer, &request).map_err(ApiError::internal)?;
    asked["metadata"]["name"] = name.into();
    asked["metadata"]["namespace"] = namespace.into();
    asked["metadata"]["creationTimestamp"] = clock::text(now).into();
    asked["spec"]["audiences"] = json!(audiences);
    asked["spec"]["expirationSeconds"] = seconds.into();
    asked["status"] = json!({ "token": token, "expirationTimestamp": clock::text(now + seconds) });
    object::respond_value(context, StatusCode::CREATED, &asked)
}

/// What the token shall die with; it must be there.
fn bound(context: &Context, account: &Value, reference: &Value) -> Result<Option<Bound>, ApiError> {
    if reference.is_null() {
        return Ok(None);
    }
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let caches = &context.server.caches;
    let namespace = context.info.namespace.as_str();
    let name = text("name");
    let (plural, place) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => ("pods", namespace),
        ("v1", "Secret") => ("secrets", namespace),
        ("v1", "Node") => ("nodes", ""),
        (version, kind) => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {namespace:?}/{:?} to object {version}, \
                 Kind={kind}",
                context.info.name
            )));
        }
    };
    let object =
        caches.get("", plural, place, name).ok_or_else(|| ApiError::not_found("", plural, name))?;
    let uid = meta::text(&object, "uid");
    let wanted = text("uid");
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The \
             object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", plural, name, why));
    }
    let mut node = None;
    if plural == "pods" {
        let of = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if of != meta::text(account, "name") {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different \
                 serviceaccount name.",
                context.info.name
            )));
        }
        if let Some(at) = object["spec"]["nodeName"].as_str().filter(|at| !at.is_empty()) {
            let uid =
                caches.get("", "nodes", "", at).map(|node| meta::text(&node, "uid").to_owned());
            node = uid.map(|uid| (at.to_owned(), uid));
        }
    }
    Ok(Some(Bound { kind: text("kind").into(), name: name.into(), uid: uid.into(), node }))
}
