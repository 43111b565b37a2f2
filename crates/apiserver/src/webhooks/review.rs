//! `AdmissionReview`, as webhooks are sent it and answer it.
use super::call::Trouble;
use super::{Ask, Match, Phase, rules};
use crate::server::Context;
use crate::subresource::review::user_info;
use admission::Operation;
use api::{ApiError, Value};
use base64::Engine;
use http::StatusCode;
use value::json;

const GROUP: &str = "admission.k8s.io";
/// Of one webhook; each is shortened to upstream's bound too.
const WARNINGS_MAX: usize = 16;
const WARNING_MAX_CHARS: usize = 256;

/// What a webhook that lets the request pass has to say.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
}

/// The version of the review that the webhook and this server know.
pub(super) fn version(hook: &Value) -> Option<&'static str> {
    let versions = hook["admissionReviewVersions"].as_array()?.iter().filter_map(Value::as_str);
    let mut known = versions.filter_map(|version| match version {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    });
    known.next()
}

pub(super) fn request(
    context: &Context,
    ask: &Ask<'_>,
    matched: &Match,
    object: &Value,
    (version, uid): (&str, &str),
) -> Value {
    let kind =
        |gvk: &api::Gvk| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let resource = |row: &crate::table::Row| {
        let gvk = &row.info().gvk;
        json!({"group": gvk.group, "version": gvk.version, "resource": row.plural()})
    };
    let old = ask.old.map_or(Value::Null, |old| matched.shown(context, old));
    let mut request = json!({
        "uid": uid,
        "kind": kind(matched.gvk(ask)), "resource": resource(&matched.row),
        "requestKind": kind(ask.gvk), "requestResource": resource(&context.row),
        "operation": rules::operation_name(ask.operation),
        "userInfo": user_info(&context.user),
        "object": object, "oldObject": old,
        "dryRun": ask.dry_run, "options": options(context, ask),
    });
    let info = &context.info;
    let namespace = match context.row.group().is_empty() && context.row.plural() == "namespaces" {
        true => ask.name,
        false => info.namespace.as_str(),
    };
    for (key, text) in [
        ("name", ask.name),
        ("namespace", namespace),
        ("subResource", info.subresource.as_str()),
        ("requestSubResource", info.subresource.as_str()),
    ] {
        if !text.is_empty() {
            request[key] = text.into();
        }
    }
    json!({"kind": "AdmissionReview", "apiVersion": format!("{GROUP}/{version}"), "request": request})
}

fn options(context: &Context, ask: &Ask<'_>) -> Value {
    let patches = context.info.verb == "patch";
    let kind = match ask.operation {
        Operation::Create => "CreateOptions",
        Operation::Update if patches => "PatchOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => return ask.options.cloned().unwrap_or_default(),
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
    let query = &context.query;
    for key in ["fieldManager", "fieldValidation"] {
        if query.has(key) {
            options[key] = query.get(key).into();
        }
    }
    if ask.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    if patches && query.flag("force") {
        options["force"] = true.into();
    }
    options
}

/// What the webhook says, if it says it as it should.
pub(super) fn reply(
    review: &Value,
    name: &str,
    phase: Phase,
    (version, uid): (&str, &str),
) -> Result<Reply, Trouble> {
    let fail = |why: String| Err(Trouble::Failed(why));
    let response = &review["response"];
    if !response.is_object() {
        return fail("webhook response was absent".to_owned());
    }
    let strict = version == "v1";
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if strict {
        let found = text(&response["uid"]);
        if found != uid {
            return fail(format!("expected response.uid={uid:?}, got {found:?}"));
        }
        let (api, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
        if api != format!("{GROUP}/{version}") || kind != "AdmissionReview" {
            return fail(format!(
                "expected webhook response of {GROUP}/{version}, Kind=AdmissionReview, got \
                 {api}, Kind={kind}"
            ));
        }
    }
    let patch = text(&response["patch"]);
    let kind = response["patchType"].as_str();
    let mutating = phase == Phase::Mutating;
    match (patch.is_empty(), kind) {
        (false, _) if strict && !mutating => {
            return fail("validating webhook may not return response.patch".to_owned());
        }
        (_, Some(_)) if strict && !mutating => {
            return fail("validating webhook may not return response.patchType".to_owned());
        }
        (false, None) if strict => {
            return fail("webhook returned response.patch but not response.patchType".to_owned());
        }
        (true, Some(_)) if strict => {
            return fail("webhook returned response.patchType but not response.patch".to_owned());
        }
        (false, Some(kind)) if kind != "JSONPatch" => {
            return fail(format!("webhook returned invalid response.patchType of {kind:?}"));
        }
        _ => {}
    }
    let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let shorten = |text: &str| text.chars().take(WARNING_MAX_CHARS).collect();
    let warnings = warnings.take(WARNINGS_MAX).map(shorten).collect();
    if response["allowed"] != true {
        return Err(Trouble::Denied(denied(name, &response["status"])));
    }
    let mut reply = Reply { patch: None, warnings };
    if mutating && !patch.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(patch);
        let patch = bytes.map_err(|error| error.to_string()).and_then(|bytes| {
            serde_json::from_slice(&bytes).map_err(|error: serde_json::Error| error.to_string())
        });
        reply.patch = Some(patch.map_err(Trouble::Failed)?);
    }
    Ok(reply)
}

/// The webhook's own status, as far as it is one.
fn denied(name: &str, status: &Value) -> ApiError {
    let text = |key: &str| status[key].as_str().filter(|text| !text.is_empty());
    let by = format!("admission webhook {name:?} denied the request");
    let message = match text("message").or_else(|| text("reason")) {
        Some(why) => format!("{by}: {why}"),
        None => format!("{by} without explanation"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    let mut error = ApiError::bad_request(message);
    error.code = code.filter(|code| code.as_u16() >= 400).unwrap_or(StatusCode::BAD_REQUEST);
    error.reason = text("reason").unwrap_or_default().to_owned().into();
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(response: Value, phase: Phase) -> Result<Reply, Trouble> {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
        });
        reply(&review, "a.b.c", phase, ("v1", "1"))
    }

    #[test]
    fn an_answer_that_is_none_is_a_failure() {
        for (response, phase, want) in [
            (json!(null), Phase::Mutating, "webhook response was absent"),
            (json!({"uid": "2"}), Phase::Mutating, "expected response.uid=\"1\", got \"2\""),
            (
                json!({"uid": "1", "allowed": true, "patch": "W10="}),
                Phase::Mutating,
                "webhook returned response.patch but not response.patchType",
            ),
            (
                json!({"uid": "1", "allowed": true, "patch": "W10=", "patchType": "Merge"}),
                Phase::Mutating,
                "webhook returned invalid response.patchType of \"Merge\"",
            ),
            (
                json!({"uid": "1", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}),
                Phase::Validating,
                "validating webhook may not return response.patch",
            ),
        ] {
            match told(response, phase) {
                Err(Trouble::Failed(why)) => assert_eq!(why, want),
                other => panic!("{other:?} where {want} was to come"),
            }
        }
        let patched =
            json!({"uid": "1", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"});
        assert_eq!(told(patched, Phase::Mutating).unwrap().patch, Some(json!([])));
    }

    #[test]
    fn a_denial_says_who_and_why() {
        for (status, code, message) in [
            (
                json!(null),
                400,
                "admission webhook \"a.b.c\" denied the request without explanation",
            ),
            (
                json!({"code": 403, "message": "no", "reason": "Forbidden"}),
                403,
                "admission webhook \"a.b.c\" denied the request: no",
            ),
            (
                json!({"code": 200, "reason": "r"}),
                400,
                "admission webhook \"a.b.c\" denied the request: r",
            ),
        ] {
            let denied =
                told(json!({"uid": "1", "allowed": false, "status": status}), Phase::Validating);
            let Err(Trouble::Denied(error)) = denied else { panic!("{denied:?}") };
            assert_eq!((error.code.as_u16(), error.message.as_str()), (code, message));
        }
    }
}
