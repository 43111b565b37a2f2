//! `eviction`: deletes a pod if its disruption budgets allow that.
use crate::body::Body;
use crate::codec::{self, FieldValidation};
use crate::patching::Patch;
use crate::server::Context;
use crate::verbs::{delete, object, update};
use crate::{clock, meta, webhooks};
use api::{ApiError, Gvk, LabelSelector, Objects, Value};
use http::{Response, StatusCode};
use std::sync::Arc;
use value::json;

const EVICTION: Gvk = Gvk::fixed("policy", "v1", "Eviction");

pub(crate) async fn run(context: &mut Context, bytes: &[u8]) -> Result<Response<Body>, ApiError> {
    let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
    // `policy/v1beta1` is the same, and old clients still send it.
    let (mut eviction, _) = if body["apiVersion"] == "policy/v1beta1" {
        let mut body = body;
        body["apiVersion"] = "policy/v1".into();
        codec::recheck(&body, &EVICTION, FieldValidation::Ignore)?
    } else {
        let validation = FieldValidation::parse(context.query.get("fieldValidation"))?;
        codec::decode(bytes, &context.content_type, &EVICTION, validation)?
    };
    let name = context.info.name.clone();
    let have = meta::text(&eviction, "name");
    if !have.is_empty() && have != name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    webhooks::creates(context, &EVICTION, &name, &mut eviction).await?;
    let caches = &context.server.caches;
    caches.catch_up().await?;
    let namespace = context.info.namespace.clone();
    let pod = caches.get("", "pods", &namespace, &name).ok_or_else(|| context.not_found())?;
    let mut options = eviction["deleteOptions"].clone();
    if !options.is_object() {
        options = json!({});
    }
    options["kind"] = "DeleteOptions".into();
    options["apiVersion"] = "v1".into();
    let dry_run =
        options["dryRun"].as_array().is_some_and(|list| !list.is_empty()) || context.dry_run()?;
    if !ignores_budgets(&pod) {
        spend(context, &pod, dry_run).await?;
    }
    if !dry_run {
        mark(context, &mut options).await?;
    }
    let mut deletion = context.again();
    deletion.info.subresource.clear();
    deletion.info.verb = "delete";
    deletion.content_type = "application/json".into();
    delete::delete(&mut deletion, options.to_string().as_bytes()).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    object::respond_value(context, StatusCode::CREATED, &status)
}

/// Says in the pod's status why it ends: whoever made it may not count that as its failure.
async fn mark(context: &Context, options: &mut Value) -> Result<(), ApiError> {
    let mut pod = context.again();
    pod.info.subresource = "status".into();
    let wanted = options["preconditions"].clone();
    let name = context.info.name.clone();
    let make = move |old: &Value| {
        for (key, what, whose) in [
            ("uid", "UID", "UID in object meta"),
            ("resourceVersion", "ResourceVersion", "ResourceVersion in object meta"),
        ] {
            let have = meta::text(old, key);
            if let Some(wanted) = wanted[key].as_str().filter(|wanted| *wanted != have) {
                let why = format!(
                    "Precondition failed: {what} in precondition: {wanted}, {whose}: {have}"
                );
                return Err(ApiError::conflict("", "pods", &name, why));
            }
        }
        let mut new = old.clone();
        let conditions = &mut new["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        let list = conditions.as_array_mut().into_iter().flatten();
        let found = list.into_iter().find(|condition| condition["type"] == "DisruptionTarget");
        let since = found.as_ref().filter(|found| found["status"] == "True");
        let since =
            since.map_or_else(|| clock::now_text().into(), |f| f["lastTransitionTime"].clone());
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": since,
            "observedGeneration": old["metadata"]["generation"],
        });
        match found {
            Some(found) => *found = condition,
            None => conditions.as_array_mut().into_iter().for_each(|l| l.push(condition.clone())),
        }
        Ok(new)
    };
    let (_, json) = update::change(&mut pod, &update::Source::Made(Box::new(make))).await?;
    if options["preconditions"]["resourceVersion"].is_string() {
        let marked = object::parse(&json);
        options["preconditions"]["resourceVersion"] = marked["metadata"]["resourceVersion"].clone();
    }
    Ok(())
}

/// A pod that is done, not begun, or on its way out is nobody's loss.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
        || !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Takes one disruption from the pod's budget, or refuses.
async fn spend(context: &Context, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
    let Some(budget) = budget_of(context, pod)? else { return Ok(()) };
    let status = &budget["status"];
    let number = |key: &str| status[key].as_i64().unwrap_or_default();
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    let (healthy, desired) = (number("currentHealthy"), number("desiredHealthy"));
    if !is_ready(pod) && (always || (healthy >= desired && desired > 0)) {
        return Ok(());
    }
    let name = meta::text(&budget, "name");
    let blocked = "Cannot evict pod as it would violate the pod's disruption budget.";
    let refuse = |why: String, retry: Option<u32>| {
        let error = ApiError::too_many_requests(blocked, 0);
        let mut error = error.with_cause("DisruptionBudget", why, "");
        error.details.get_or_insert_default().retry_after_seconds = retry;
        Err(error)
    };
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or_default()
    {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return refuse(why, Some(10));
    }
    if number("disruptionsAllowed") <= 0 {
        let why = format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        );
        return refuse(why, None);
    }
    if dry_run {
        return Ok(());
    }
    take_one(context, &budget).await
}

/// The one budget that the pod is under.
fn budget_of(context: &Context, pod: &Value) -> Result<Option<Arc<Value>>, ApiError> {
    let namespace = &context.info.namespace;
    let labels = |key: &str| pod["metadata"]["labels"][key].as_str();
    let mut budgets = context.server.caches.list("policy", "poddisruptionbudgets", Some(namespace));
    budgets.retain(|budget| {
        let spec = value::from_value(&budget["spec"]["selector"]).ok();
        LabelSelector::from_spec(spec.as_ref()).is_ok_and(|selector| selector.matches_with(labels))
    });
    if budgets.len() > 1 {
        return Err(ApiError::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
             not support.",
        ));
    }
    Ok(budgets.pop())
}

async fn take_one(context: &Context, budget: &Value) -> Result<(), ApiError> {
    let mut target = context.at(&context.info.namespace, meta::text(budget, "name"));
    let table = context.server.table();
    let row = table.any_version("policy", "poddisruptionbudgets");
    target.row = row.cloned().ok_or_else(ApiError::no_such_path)?;
    target.info.subresource = "status".into();
    target.info.verb = "patch";
    let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or_default();
    let patch = json!({
        "metadata": { "resourceVersion": meta::text(budget, "resourceVersion") },
        "status": {
            "disruptionsAllowed": allowed - 1,
            "disruptedPods": { (context.info.name.as_str()): clock::now_text() },
        },
    });
    let source = update::Source::Patch(Patch::Merge(patch), FieldValidation::Ignore);
    match update::change(&mut target, &source).await {
        Ok(_) => Ok(()),
        Err(error) if error.reason == "Conflict" => {
            Err(ApiError::too_many_requests("Too many concurrent evictions; please retry", 1))
        }
        Err(error) => Err(error),
    }
}
