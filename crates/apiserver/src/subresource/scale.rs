//! `scale`: an object's replicas, seen as an autoscaling/v1 Scale.
use crate::body::Body;
use crate::codec::{self, FieldValidation};
use crate::meta;
use crate::patching::Patch;
use crate::server::Context;
use crate::verbs::{object, read, update};
use crate::webhooks::{self, Ask};
use admission::Operation;
use api::{ApiError, FieldError, Gvk, LabelSelector, Value};
use http::{Response, StatusCode};
use value::json;

static SCALE: Gvk = Gvk::fixed("autoscaling", "v1", "Scale");
/// A patch that loses a race is run again this often.
const ATTEMPTS: usize = 16;

pub(crate) async fn run(context: &mut Context, bytes: &[u8]) -> Result<Response<Body>, ApiError> {
    if context.info.verb == "get" {
        read::freshness(context).await?;
        let scale = current(context)?;
        return object::respond_value(context, StatusCode::OK, &scale);
    }
    let validation = FieldValidation::parse(context.query.get("fieldValidation"))?;
    let patch = match context.info.verb {
        "patch" => Some(Patch::parse(&context.content_type, bytes, &SCALE)?),
        _ => None,
    };
    let mut attempt = 0;
    loop {
        context.server.caches.catch_up().await?;
        let old = current(context)?;
        let (mut new, warnings) = match &patch {
            Some(patch) => {
                codec::recheck(&patch.apply(context, &SCALE, &old)?, &SCALE, validation)?
            }
            None => codec::decode(bytes, &context.content_type, &SCALE, validation)?,
        };
        context.warnings = warnings;
        let name = context.info.name.clone();
        let ask = Ask::new(Operation::Update, &SCALE, &name, context.dry_run()?).about(&old);
        context.reviewed = false;
        webhooks::review(context, &ask, &mut new).await?;
        match write(context, &new).await {
            Err(error) if error.reason == "Conflict" && patch.is_some() && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
            Ok(json) => {
                let written = codec::from_stored(&context.row, object::parse(&json));
                let scale = make(context, &written)?;
                return object::respond_value(context, StatusCode::OK, &scale);
            }
        }
    }
}

fn current(context: &Context) -> Result<Value, ApiError> {
    let item = read::cache(context)?.get(&context.key()).ok_or_else(|| context.not_found())?;
    make(context, &codec::from_stored(&context.row, item.value()))
}

fn make(context: &Context, object: &Value) -> Result<Value, ApiError> {
    let paths = context.row.scale().ok_or_else(ApiError::no_such_path)?;
    if context.row.origin().is_some() && object.pointer(&paths.replicas).is_none() {
        let path = paths.replicas.replace('/', ".");
        return Err(ApiError::internal(format!("the spec replicas field {path:?} does not exist")));
    }
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or_default();
    let metadata = &object["metadata"];
    let mut scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": { "replicas": number(&paths.replicas) },
        "status": { "replicas": number(&paths.status_replicas) },
    });
    let selector = Some(&paths.selector).filter(|path| !path.is_empty());
    let selector = selector_text(selector.and_then(|path| object.pointer(path)));
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

/// A selector object, a plain map of labels, or a text, as text.
fn selector_text(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return String::new() };
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        let spec = value::from_value(selector).ok();
        return LabelSelector::from_spec(spec.as_ref())
            .map(|selector| selector.to_string())
            .unwrap_or_default();
    }
    let pairs = selector.as_object().into_iter().flatten();
    let pairs = pairs.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    pairs.collect::<Vec<_>>().join(",")
}

async fn write(context: &Context, scale: &Value) -> Result<bytes::Bytes, ApiError> {
    let name = meta::text(scale, "name");
    if !name.is_empty() && name != context.info.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            context.info.name
        )));
    }
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    if replicas < 0 {
        let errors =
            [FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0")];
        return Err(ApiError::invalid("autoscaling", "Scale", &context.info.name, &errors));
    }
    let paths = context.row.scale().ok_or_else(ApiError::no_such_path)?;
    let mut patch = Value::from(replicas);
    for part in paths.replicas.trim_start_matches('/').rsplit('/') {
        patch = json!({ (part): patch });
    }
    let version = meta::text(scale, "resourceVersion");
    if !matches!(version, "" | "0") {
        patch["metadata"] = json!({ "resourceVersion": version });
    }
    let uid = meta::text(scale, "uid");
    if !uid.is_empty() {
        patch["metadata"]["uid"] = uid.into();
    }
    let mut target = context.again();
    target.info.subresource.clear();
    target.info.verb = "patch";
    let source = update::Source::Patch(Patch::Merge(patch), FieldValidation::Ignore);
    Ok(update::change(&mut target, &source).await?.1)
}
