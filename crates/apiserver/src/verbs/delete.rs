//! `delete` and `deletecollection`: at once, with grace, or when the last finalizer goes.
use super::{create, list, object, read};
use crate::body::Body;
use crate::cache::{canonical, feed, item::with_revision};
use crate::codec;
use crate::server::Context;
use crate::webhooks::{self, Ask};
use crate::{clock, meta};
use admission::{Operation, World};
use api::{ApiError, Gvk, Value};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::{Response, StatusCode};
use registry::Deletion;
use store::{Expect, Revision};
use value::json;

const ATTEMPTS: usize = 64;
/// Objects of a collection that are deleted at a time.
const AT_ONCE: usize = 64;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `DeleteOptions`, from the body or the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    grace_seconds: Option<i64>,
    uid: Option<String>,
    resource_version: Option<String>,
    propagation: Option<String>,
}

impl Options {
    fn value(&self, dry_run: bool) -> Value {
        let mut value = json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
        if let Some(seconds) = self.grace_seconds {
            value["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = &self.propagation {
            value["propagationPolicy"] = policy.as_str().into();
        }
        for (key, wanted) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(wanted) = wanted {
                value["preconditions"][key] = wanted.as_str().into();
            }
        }
        if dry_run {
            value["dryRun"] = json!(["All"]);
        }
        value
    }
}

/// What became of the object.
enum Outcome {
    Gone(Value),
    Marked(Bytes),
}

pub(crate) async fn delete(
    context: &mut Context,
    bytes: &[u8],
) -> Result<Response<Body>, ApiError> {
    let (options, dry_run) = options(context, bytes)?;
    warn(context, &options);
    match remove(context, &options, dry_run).await? {
        Outcome::Marked(json) => object::respond(context, StatusCode::OK, json),
        Outcome::Gone(value) if returns_object(context) => {
            let bytes = canonical(&codec::to_stored(&context.row, value.clone()));
            let revision = meta::text(&value, "resourceVersion").parse().unwrap_or_default();
            object::respond(context, StatusCode::OK, with_revision(&bytes, revision))
        }
        Outcome::Gone(value) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": {
                    "name": context.info.name, "group": context.row.group(),
                    "kind": context.row.plural(), "uid": meta::text(&value, "uid"),
                },
            });
            let mut status = status;
            if context.row.group().is_empty()
                && let Some(details) = status["details"].as_object_mut()
            {
                details.remove("group");
            }
            object::respond_value(context, StatusCode::OK, &status)
        }
    }
}

/// What becomes of what the object owns may be a surprise.
fn warn(context: &mut Context, options: &Options) {
    if options.propagation.is_none() {
        let warning = context.row.deletion_warning().map(str::to_owned);
        context.warnings.extend(warning);
    }
}

/// The kinds whose deletion answers with the object, as upstream's do.
fn returns_object(context: &Context) -> bool {
    context.row.group().is_empty()
        && matches!(
            context.row.plural(),
            "pods"
                | "services"
                | "serviceaccounts"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
        )
}

pub(crate) async fn delete_collection(
    context: &mut Context,
    bytes: &[u8],
) -> Result<Response<Body>, ApiError> {
    let (options, dry_run) = options(context, bytes)?;
    warn(context, &options);
    let listing = list::page(context).await?;
    let mut warnings = Vec::new();
    // Writers share the store's fsync: together they are done much sooner than one by one.
    for some in listing.items.chunks(AT_ONCE) {
        let removals = some.iter().map(|item| {
            let mut one = context.at(item.namespace(), item.name());
            one.info.verb = "delete";
            let options = &options;
            let removal: BoxFuture<'_, _> = Box::pin(async move {
                let removed = remove(&mut one, options, dry_run).await;
                removed.map(|_| one.warnings)
            });
            removal
        });
        for result in join_all(removals.collect::<Vec<_>>()).await {
            match result {
                Ok(more) => warnings.extend(more),
                Err(error) if error.reason == "NotFound" => {}
                Err(error) => return Err(error),
            }
        }
    }
    context.warnings.append(&mut warnings);
    let context = &*context;
    let items: Vec<Value> =
        listing.items.iter().map(|item| codec::from_stored(&context.row, item.value())).collect();
    let gvk = list::list_gvk(&context.row);
    let value = json!({
        "kind": gvk.kind, "apiVersion": gvk.api_version(),
        "metadata": { "resourceVersion": listing.revision.to_string() }, "items": items,
    });
    object::respond_value(context, StatusCode::OK, &value)
}

fn options(context: &Context, bytes: &[u8]) -> Result<(Options, bool), ApiError> {
    let query = &context.query;
    let mut options = Options {
        grace_seconds: query.number("gracePeriodSeconds")?,
        propagation: query.has("propagationPolicy").then(|| query.get("propagationPolicy").into()),
        ..Options::default()
    };
    let mut dry_run = context.dry_run()?;
    if query.flag("orphanDependents") {
        options.propagation = Some("Orphan".into());
    }
    if !bytes.is_empty() {
        let body = decode_options(context, bytes)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        options.grace_seconds = body["gracePeriodSeconds"].as_i64().or(options.grace_seconds);
        options.propagation = text(&body["propagationPolicy"]).or(options.propagation);
        match body["orphanDependents"].as_bool() {
            Some(true) => options.propagation = Some("Orphan".into()),
            Some(false) => options.propagation = Some("Background".into()),
            None => {}
        }
        options.uid = text(&body["preconditions"]["uid"]);
        options.resource_version = text(&body["preconditions"]["resourceVersion"]);
        dry_run |= body["dryRun"].as_array().is_some_and(|list| !list.is_empty());
    }
    let known = ["Orphan", "Background", "Foreground"];
    if let Some(policy) = options.propagation.as_deref().filter(|policy| !known.contains(policy)) {
        let field = "propagationPolicy";
        let errors = [api::FieldError::not_supported(
            field,
            policy,
            &["Background", "Foreground", "Orphan", "nil"],
        )];
        return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
    }
    Ok((options, dry_run))
}

/// `DeleteOptions` comes as `v1`, or as the group's own version.
fn decode_options(context: &Context, bytes: &[u8]) -> Result<Value, ApiError> {
    if codec::media(&context.content_type) == "application/vnd.kubernetes.protobuf" {
        let (found, value) = schema::decode_proto(schema::builtin(), bytes)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        if found.kind != "DeleteOptions" {
            return Err(ApiError::bad_request("the body of the request is no DeleteOptions"));
        }
        return Ok(value);
    }
    let body: Value = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(format!("DeleteOptions: {error}")))?;
    let kind = body["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "DeleteOptions") {
        return Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a DeleteOptions",
            body["apiVersion"].as_str().unwrap_or_default()
        )));
    }
    let gvk = Gvk::fixed("", "v1", "DeleteOptions");
    let mut body = body;
    body["apiVersion"] = "v1".into();
    body["kind"] = "DeleteOptions".into();
    Ok(codec::recheck(&body, &gvk, codec::FieldValidation::Ignore)?.0)
}

async fn remove(
    context: &mut Context,
    options: &Options,
    dry_run: bool,
) -> Result<Outcome, ApiError> {
    let row = &context.row.clone();
    let server = &context.server.clone();
    let name = &context.info.name.clone();
    let cache = read::cache(context)?;
    let key = context.key();
    let path = feed::store_key(row, &key);
    // Webhooks are asked about what is.
    let mut fresh = webhooks::any(server);
    if fresh {
        server.caches.catch_up().await?;
    }
    let mut found = cache.get(&key).map(|item| (item.value(), item.revision));
    for _ in 0..ATTEMPTS {
        let Some((stored, revision)) = found.take() else {
            if fresh {
                return Err(context.not_found());
            }
            server.caches.catch_up().await?;
            fresh = true;
            found = cache.get(&key).map(|item| (item.value(), item.revision));
            continue;
        };
        let old = codec::from_stored(row, stored);
        if let Err(error) = judge(context, name, options, &old, dry_run) {
            if fresh {
                return Err(error);
            }
            continue;
        }
        reviewed(context, options, &old, dry_run).await?;
        let next = plan(context, options, &old);
        let caches = &server.caches;
        let lost = match next {
            Next::Keep => {
                let bytes = canonical(&codec::to_stored(row, old));
                return Ok(Outcome::Marked(with_revision(&bytes, revision)));
            }
            Next::Remove if dry_run => return Ok(Outcome::Gone(old)),
            Next::Mark(new) if dry_run => {
                let bytes = canonical(&codec::to_stored(row, new));
                return Ok(Outcome::Marked(with_revision(&bytes, revision)));
            }
            Next::Remove => match caches.delete(&path, Revision(revision)).await {
                Ok(_) => return Ok(Outcome::Gone(old)),
                Err(error) => error,
            },
            Next::Mark(new) => {
                let bytes = canonical(&codec::to_stored(row, new));
                match caches.put(&path, bytes.clone(), Expect::At(Revision(revision))).await {
                    Ok(entry) => {
                        return Ok(Outcome::Marked(with_revision(&bytes, entry.modified.0)));
                    }
                    Err(error) => error,
                }
            }
        };
        match lost {
            store::Error::Unmet { found: Some(entry) } => {
                let json = with_revision(&entry.value, entry.modified.0);
                found = Some((object::parse(&json), entry.modified.0));
                fresh = true;
            }
            store::Error::Unmet { found: None } => return Err(context.not_found()),
            error => return Err(feed::store_error(error)),
        }
    }
    Err(ApiError::stale(row.group(), row.plural(), name))
}

/// Preconditions and admission.
fn judge(
    context: &Context,
    name: &str,
    options: &Options,
    old: &Value,
    dry_run: bool,
) -> Result<(), ApiError> {
    let row = &context.row;
    let differs = |wanted: &Option<String>, key: &str, what: &str| {
        let wanted = wanted.as_deref()?;
        let have = meta::text(old, key);
        (wanted != have).then(|| {
            format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {have}")
        })
    };
    let wrong = differs(&options.uid, "uid", "UID")
        .or_else(|| differs(&options.resource_version, "resourceVersion", "ResourceVersion"));
    if let Some(why) = wrong {
        return Err(ApiError::conflict(row.group(), row.plural(), name, why));
    }
    let server = &context.server;
    let world = World { objects: server.caches.as_ref(), authorizer: &server.authorizer };
    let request = create::admission_request(context, Operation::Delete, name, Some(old), dry_run);
    admission::validate(&world, &request, old)
}

async fn reviewed(
    context: &mut Context,
    options: &Options,
    old: &Value,
    dry_run: bool,
) -> Result<(), ApiError> {
    if !webhooks::any(&context.server) {
        return Ok(());
    }
    let (row, name) = (context.row.clone(), context.info.name.clone());
    let options = options.value(dry_run);
    let ask = Ask::new(Operation::Delete, &row.info().gvk, &name, dry_run).about(old);
    let ask = Ask { options: Some(&options), ..ask };
    webhooks::mutate(context, &ask, &mut Value::Null).await?;
    webhooks::validate(context, &ask, &Value::Null).await
}

enum Next {
    /// It is on its way already.
    Keep,
    Remove,
    Mark(Value),
}

fn plan(context: &Context, options: &Options, old: &Value) -> Next {
    let row = &context.row;
    let deleting = !old["metadata"]["deletionTimestamp"].is_null();
    let grace = match row.deletion(old, options.grace_seconds) {
        Deletion::Now => 0,
        Deletion::Graceful { grace_seconds } => grace_seconds.max(0),
    };
    let mut new = old.clone();
    if !deleting {
        row.prepare_delete(&mut new, &clock::now_text());
    }
    let before = meta::finalizers(&new);
    let by_default = row.info().orphans && !deleting && !before.iter().any(|f| f == FOREGROUND);
    let policy = options.propagation.as_deref().or(by_default.then_some("Orphan"));
    let finalizers = propagate(&before, policy);
    let is_namespace = row.group().is_empty() && row.plural() == "namespaces";
    let held = !finalizers.is_empty()
        || is_namespace && old["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    meta::set_finalizers(&mut new, &finalizers);
    if deleting {
        let left = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        let asked = options.grace_seconds.is_some();
        if !held && (grace == 0 && (asked || left == 0)) {
            return Next::Remove;
        }
        let shorter = asked && grace < left;
        if shorter {
            mark(&mut new, old, grace, left);
        }
        return if shorter || finalizers != before { Next::Mark(new) } else { Next::Keep };
    }
    if !held && grace == 0 {
        return Next::Remove;
    }
    mark(&mut new, old, grace, 0);
    if is_namespace && let Some(map) = new.as_object_mut() {
        map.entry("status").or_insert_with(|| json!({}))["phase"] = "Terminating".into();
    }
    Next::Mark(new)
}

/// `left` is the grace that an earlier deletion gave: the time counts from then.
fn mark(new: &mut Value, old: &Value, grace: i64, left: i64) {
    let from = match old["metadata"]["deletionTimestamp"].as_str().and_then(clock::parse) {
        Some(end) => end - left,
        None => clock::now(),
    };
    let first = old["metadata"]["deletionTimestamp"].is_null();
    let generation = old["metadata"]["generation"].as_i64().filter(|g| *g > 0 && first);
    let metadata = meta::of(new);
    metadata.insert("deletionTimestamp", clock::text(from + grace).into());
    metadata.insert("deletionGracePeriodSeconds", grace.into());
    if let Some(generation) = generation {
        metadata.insert("generation", (generation + 1).into());
    }
}

/// The finalizers that make the garbage collector do what was asked for.
fn propagate(before: &[String], policy: Option<&str>) -> Vec<String> {
    let Some(policy) = policy else { return before.to_vec() };
    let mut list: Vec<String> =
        before.iter().filter(|name| *name != ORPHAN && *name != FOREGROUND).cloned().collect();
    match policy {
        "Orphan" => list.push(ORPHAN.to_owned()),
        "Foreground" => list.push(FOREGROUND.to_owned()),
        _ => {}
    }
    list
}
