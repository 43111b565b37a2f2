//! `update` and `patch`: everything from the patch to the last check is inside the loop that
//! compares and swaps.
use super::{create, object, read};
use crate::body::Body;
use crate::cache::{canonical, feed, item::with_revision};
use crate::codec::{self, FieldValidation};
use crate::patching::{Ownership, Patch};
use crate::server::Context;
use crate::webhooks::{self, Ask};
use crate::{meta, subresource};
use admission::{Operation, World};
use api::{ApiError, FieldError, Value};
use bytes::Bytes;
use http::{Response, StatusCode};
use registry::meta::validate_meta_update;
use store::{Expect, Revision};

/// How often a lost race is run again before the client is told.
const ATTEMPTS: usize = 64;

/// Makes the new object from the old one.
pub(crate) type Make = Box<dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync>;

/// How the new object is made from the old one, both in the row's own version.
pub(crate) enum Source {
    Put(Value),
    /// By the server itself: the row's checks of what clients may change are left out.
    Made(Make),
    Patch(Patch, FieldValidation),
}

pub(crate) async fn run(context: &mut Context, bytes: &[u8]) -> Result<Response<Body>, ApiError> {
    context.wanted()?;
    let validation = FieldValidation::parse(context.query.get("fieldValidation"))?;
    let source = if context.info.verb == "patch" {
        let patch = Patch::parse(&context.content_type, bytes, &context.row)?;
        patch.check(context)?;
        Source::Patch(patch, validation)
    } else {
        let (value, warnings) =
            codec::decode(bytes, &context.content_type, &context.row, validation)?;
        context.warnings.extend(warnings);
        Source::Put(value)
    };
    let (status, json) = change(context, &source).await?;
    object::respond(context, status, json)
}

/// Where the loop stands: what the object is, and whether that was just read.
struct Current {
    value: Value,
    json: Bytes,
    revision: u64,
    fresh: bool,
    /// What is stored is not quite this.
    outdated: bool,
}

/// Changes the object that the path names, or makes it where the row and the source allow that.
pub(crate) async fn change(
    context: &mut Context,
    source: &Source,
) -> Result<(StatusCode, Bytes), ApiError> {
    // Webhooks are asked about what is, and not again because the cache was a little behind.
    let certain = webhooks::any(&context.server);
    let mut current = if certain { None } else { cached(context, false)? };
    if current.is_none() {
        context.server.caches.catch_up().await?;
        current = cached(context, true)?;
    }
    for _ in 0..ATTEMPTS {
        let Some(old) = current else { return make(context, source).await };
        let warned = context.warnings.len();
        match attempt(context, source, &old).await {
            Ok(Attempt::Done(json)) => return Ok((StatusCode::OK, json)),
            Ok(Attempt::Lost(found)) => {
                current = found.map(|entry| Current {
                    value: codec::from_stored(
                        &context.row,
                        with_revision_value(&entry.value, entry.modified.0),
                    ),
                    json: with_revision(&entry.value, entry.modified.0),
                    revision: entry.modified.0,
                    fresh: true,
                    outdated: false,
                });
                if current.is_none() {
                    return Err(context.not_found());
                }
            }
            Ok(Attempt::Unsure) => {
                context.server.caches.catch_up().await?;
                current = cached(context, true)?;
            }
            // What is wrong may be only that the cache was a little behind.
            Err(_) if !old.fresh => {
                context.server.caches.catch_up().await?;
                current = cached(context, true)?;
            }
            Err(error) => return Err(error),
        }
        context.warnings.truncate(warned);
    }
    Err(ApiError::stale(context.row.group(), context.row.plural(), &context.info.name))
}

fn with_revision_value(stored: &[u8], revision: u64) -> Value {
    object::parse(&with_revision(stored, revision))
}

fn cached(context: &Context, fresh: bool) -> Result<Option<Current>, ApiError> {
    let item = read::cache(context)?.get(&context.key());
    Ok(item.map(|item| Current {
        value: codec::from_stored(&context.row, item.value()),
        json: item.json.clone(),
        revision: item.revision,
        fresh,
        outdated: item.outdated,
    }))
}

/// The object is not there.
async fn make(context: &mut Context, source: &Source) -> Result<(StatusCode, Bytes), ApiError> {
    if !context.info.subresource.is_empty() {
        return Err(context.not_found());
    }
    let (mut value, applied) = match source {
        Source::Put(value) if context.row.info().create_on_update => (value.clone(), false),
        Source::Patch(patch, validation) if patch.is_apply() => {
            let made = patch.create(context)?;
            let (value, warnings) = codec::recheck(&made, &context.row, *validation)?;
            context.warnings.extend(warnings);
            (value, true)
        }
        _ => return Err(context.not_found()),
    };
    same_name(context, &mut value)?;
    Ok((StatusCode::CREATED, create::insert(context, value, applied).await?))
}

enum Attempt {
    Done(Bytes),
    /// Someone else was first; this is what is there now.
    Lost(Option<store::Entry>),
    /// Nothing would change, but the cache may have been behind.
    Unsure,
}

/// The new object as the client wants it, of the same name and life as the old one.
fn made(context: &mut Context, source: &Source, old: &Value) -> Result<Value, ApiError> {
    let mut new = match source {
        Source::Put(value) => value.clone(),
        Source::Made(make) => make(old)?,
        Source::Patch(patch, validation) => {
            let row = context.row.clone();
            let patched = patch.apply(context, &row, old)?;
            let (value, warnings) = codec::recheck(&patched, &row, *validation)?;
            context.warnings.extend(warnings);
            value
        }
    };
    same_name(context, &mut new)?;
    preconditions(context, &mut new, old)?;
    Ok(new)
}

async fn attempt(
    context: &mut Context,
    source: &Source,
    old: &Current,
) -> Result<Attempt, ApiError> {
    let dry_run = context.dry_run()?;
    let row = context.row.clone();
    let server = context.server.clone();
    let mut new = made(context, source, &old.value)?;
    let name = context.info.name.clone();
    let ask = Ask::new(Operation::Update, &row.info().gvk, &name, dry_run).about(&old.value);
    mend(context, &mut new, &old.value, dry_run)?;
    if webhooks::mutate(context, &ask, &mut new).await? {
        row.default(&mut new);
    }
    prepare(context, source, &mut new, &old.value);
    let mut errors = validate_meta_update(&new["metadata"], &old.value["metadata"], "metadata");
    let sub = context.info.subresource.clone();
    let lease = if sub.is_empty() {
        let lease =
            server.addresses.allocate(&row, &mut new, Some(&old.value), dry_run, &mut errors);
        errors.extend(row.validate(&new, Some(&old.value)));
        lease
    } else {
        errors.extend(row.validate_subresource(&sub, &new, &old.value));
        crate::allocate::Lease::default()
    };
    create::invalid(&row, &name, &errors)?;
    webhooks::validate(context, &ask, &new).await?;
    let _turn = server.turns.turn(context).await?;
    {
        let world = World { objects: server.caches.as_ref(), authorizer: &server.authorizer };
        let request =
            create::admission_request(context, Operation::Update, &name, Some(&old.value), dry_run);
        admission::validate(&world, &request, &new)?;
    }
    context.warnings.extend(row.warnings(&new, Some(&old.value)));
    let gone = is_done(&new);
    let stored = codec::to_stored(&row, new);
    let bytes = canonical(&stored);
    if dry_run {
        return Ok(Attempt::Done(with_revision(&bytes, old.revision)));
    }
    if with_revision(&bytes, old.revision) == old.json && !gone && !old.outdated {
        return Ok(if old.fresh { Attempt::Done(old.json.clone()) } else { Attempt::Unsure });
    }
    let key = feed::store_key(&row, &context.key());
    let caches = &server.caches;
    if gone {
        // The last finalizer went: so does the object, as it is now in the answer.
        return match caches.delete(&key, Revision(old.revision)).await {
            Ok(at) => Ok(Attempt::Done(with_revision(&bytes, at.0))),
            Err(store::Error::Unmet { found }) => Ok(Attempt::Lost(found.map(|entry| *entry))),
            Err(error) => Err(feed::store_error(error)),
        };
    }
    let expect = Expect::At(Revision(old.revision));
    match caches.put_object(&key, (bytes.clone(), stored), expect).await {
        Ok(entry) => {
            lease.commit();
            Ok(Attempt::Done(with_revision(&bytes, entry.modified.0)))
        }
        Err(store::Error::Unmet { found }) => Ok(Attempt::Lost(found.map(|entry| *entry))),
        Err(error) => Err(feed::store_error(error)),
    }
}

/// Marked for deletion, with nothing left to wait for.
fn is_done(object: &Value) -> bool {
    let metadata = &object["metadata"];
    if metadata["deletionTimestamp"].is_null() || !meta::finalizers(object).is_empty() {
        return false;
    }
    if object["kind"] == "Namespace" && object["apiVersion"] == "v1" {
        return object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    }
    metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
}

fn same_name(context: &Context, new: &mut Value) -> Result<(), ApiError> {
    let (name, namespace) = (&context.info.name, &context.info.namespace);
    let have = meta::text(new, "name").to_owned();
    if !have.is_empty() && have != *name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({have}) does not match the name on the URL ({name})"
        )));
    }
    let have = meta::text(new, "namespace").to_owned();
    if !have.is_empty() && have != *namespace && context.row.info().namespaced() {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({have}) does not match the namespace on the request \
             ({namespace})"
        )));
    }
    let metadata = meta::of(new);
    metadata.insert("name", name.as_str().into());
    if context.row.info().namespaced() {
        metadata.insert("namespace", namespace.as_str().into());
    }
    Ok(())
}

/// The new object is made from the old one, and is of the same life.
fn preconditions(context: &Context, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let row = &context.row;
    let (group, plural, name) = (row.group(), row.plural(), context.info.name.as_str());
    let (wanted, have) = (meta::text(new, "uid"), meta::text(old, "uid"));
    if !wanted.is_empty() && wanted != have {
        let why = format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {have}"
        );
        return Err(ApiError::conflict(group, plural, name, why));
    }
    let version = meta::text(new, "resourceVersion");
    if matches!(version, "" | "0") {
        if !row.info().unconditional_update && context.info.verb == "update" {
            let field = "metadata.resourceVersion";
            let errors = [FieldError::invalid(field, 0, "must be specified for an update")];
            return Err(ApiError::invalid(group, row.kind(), name, &errors));
        }
    } else if version != meta::text(old, "resourceVersion") {
        return Err(ApiError::stale(group, plural, name));
    }
    let old_meta = &old["metadata"];
    let metadata = meta::of(new);
    for key in [
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "generation",
    ] {
        match old_meta.get(key) {
            Some(value) => metadata.insert(key, value.clone()),
            None => metadata.remove(key),
        };
    }
    metadata.remove("selfLink");
    Ok(())
}

/// Defaults and mutating admission.
fn mend(context: &Context, new: &mut Value, old: &Value, dry_run: bool) -> Result<(), ApiError> {
    let row = &context.row;
    let server = &context.server;
    let sub = context.info.subresource.as_str();
    if let (Some(map), false) = (new.as_object_mut(), sub.is_empty()) {
        subresource::keep_rest(sub, map, old);
    }
    row.default(new);
    {
        let world = World { objects: server.caches.as_ref(), authorizer: &server.authorizer };
        let name = context.info.name.as_str();
        let request =
            create::admission_request(context, Operation::Update, name, Some(old), dry_run);
        admission::mutate(&world, &request, new)?;
    }
    row.default(new);
    Ok(())
}

/// The row's own preparation, generation and owners.
fn prepare(context: &Context, source: &Source, new: &mut Value, old: &Value) {
    let row = &context.row;
    let sub = context.info.subresource.as_str();
    let has_status = row.info().subresources.iter().any(|sub| sub.name == "status");
    if sub.is_empty() {
        if let (Some(map), true) = (new.as_object_mut(), has_status) {
            match old.get("status") {
                Some(status) => map.insert("status", status.clone()),
                None => map.remove("status"),
            };
        }
        row.prepare_update(new, old);
    } else {
        row.prepare_subresource(sub, new, old);
    }
    // That a pod is put on a node is no change of what is wanted of it, and nobody owns it.
    if sub == "binding" {
        return;
    }
    if row.info().generation && !meta::same_desire(new, old, has_status) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
        meta::of(new).insert("generation", generation.into());
    }
    let patch = match source {
        Source::Patch(patch, _) => Some(patch),
        _ => None,
    };
    Ownership::of(context).updated(new, old, row.ty(), patch);
}
