//! `binding`: puts a pod on a node, once.
use crate::body::Body;
use crate::codec::{self, FieldValidation};
use crate::server::Context;
use crate::verbs::{object, update};
use crate::{clock, meta, webhooks};
use api::{ApiError, FieldError, Gvk, Value};
use http::{Response, StatusCode};
use value::json;

const BINDING: Gvk = Gvk::fixed("", "v1", "Binding");

pub(crate) async fn run(context: &mut Context, bytes: &[u8]) -> Result<Response<Body>, ApiError> {
    let validation = FieldValidation::parse(context.query.get("fieldValidation"))?;
    let (binding, warnings) = codec::decode(bytes, &context.content_type, &BINDING, validation)?;
    context.warnings.extend(warnings);
    let binding = reviewed(context, binding).await?;
    bind(context, &binding).await
}

/// The old way: a `bindings` object with the pod's name.
pub(crate) async fn legacy(
    context: &mut Context,
    bytes: &[u8],
) -> Result<Response<Body>, ApiError> {
    let (binding, _) = codec::decode(
        bytes,
        &context.content_type,
        &BINDING,
        FieldValidation::parse(context.query.get("fieldValidation"))?,
    )?;
    let binding = reviewed(context, binding).await?;
    let name = meta::text(&binding, "name").to_owned();
    let mut pod = context.core("pods", &name)?;
    bind(&mut pod, &binding).await
}

async fn reviewed(context: &mut Context, mut binding: Value) -> Result<Value, ApiError> {
    let name = meta::text(&binding, "name").to_owned();
    webhooks::creates(context, &BINDING, &name, &mut binding).await?;
    Ok(binding)
}

async fn bind(context: &mut Context, binding: &Value) -> Result<Response<Body>, ApiError> {
    let name = context.info.name.clone();
    let have = meta::text(binding, "name");
    if !have.is_empty() && have != name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let target = &binding["target"];
    let node = target["name"].as_str().unwrap_or_default();
    let kind = target["kind"].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid("", "Binding", &name, &errors));
    }
    let mut pod = context.again();
    pod.info.subresource = "binding".into();
    let source = update::Source::Made(bound(&name, node, binding));
    update::change(&mut pod, &source).await?;
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    object::respond_value(context, StatusCode::CREATED, &status)
}

/// How a pod changes by being bound.
fn bound(name: &str, node: &str, binding: &Value) -> update::Make {
    let (name, node, binding) = (name.to_owned(), node.to_owned(), binding.clone());
    Box::new(move |old: &Value| {
        let conflict = |why: String| Err(ApiError::conflict("", "pods/binding", &name, why));
        let uid = meta::text(&binding, "uid");
        if !uid.is_empty() && uid != meta::text(old, "uid") {
            return conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::text(old, "uid")
            ));
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        let at = old["spec"]["nodeName"].as_str().unwrap_or_default();
        if !at.is_empty() {
            return conflict(format!("pod {name} is already assigned to node {at:?}"));
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = node.as_str().into();
        for kind in ["annotations", "labels"] {
            for (key, value) in binding["metadata"][kind].as_object().into_iter().flatten() {
                new["metadata"][kind][key] = value.clone();
            }
        }
        // The room that was made for it has served its purpose.
        if let Some(status) = new["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        scheduled(&mut new);
        Ok(new)
    })
}

fn scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": clock::now_text(),
        "observedGeneration": pod["metadata"]["generation"],
    });
    let mut condition = condition;
    if condition["observedGeneration"].is_null()
        && let Some(map) = condition.as_object_mut()
    {
        map.remove("observedGeneration");
    }
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    match list.iter_mut().find(|have| have["type"] == "PodScheduled") {
        Some(have) => *have = condition,
        None => list.push(condition),
    }
}
