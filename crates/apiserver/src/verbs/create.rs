//! `create`: decode, default, admit, allocate, prepare, validate, admit again, put.
use super::object;
use crate::body::Body;
use crate::cache::{canonical, feed, item::with_revision};
use crate::codec::{self, FieldValidation};
use crate::patching::Ownership;
use crate::server::Context;
use crate::webhooks::{self, Ask};
use crate::{meta, subresource};
use admission::{Operation, World};
use api::{ApiError, FieldError, Value};
use bytes::Bytes;
use http::{Response, StatusCode};
use registry::{Verbs, meta::validate_meta};
use store::Expect;

/// A generated name that is taken is tried again this often.
const NAME_ATTEMPTS: usize = 8;

pub(crate) async fn create(
    context: &mut Context,
    bytes: &[u8],
) -> Result<Response<Body>, ApiError> {
    context.wanted()?;
    let validation = FieldValidation::parse(context.query.get("fieldValidation"))?;
    let (value, warnings) = codec::decode(bytes, &context.content_type, &context.row, validation)?;
    context.warnings.extend(warnings);
    let json = insert(context, value, false).await?;
    object::respond(context, StatusCode::CREATED, json)
}

/// Stores a new object, given in the row's own version; its bytes with the resource version.
pub(crate) async fn insert(
    context: &mut Context,
    value: Value,
    applied: bool,
) -> Result<Bytes, ApiError> {
    let dry_run = context.dry_run()?;
    context.server.caches.own_writes().await?;
    let mut value = value;
    place(context, &mut value)?;
    if !matches!(meta::text(&value, "resourceVersion"), "" | "0") {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let generate = meta::text(&value, "generateName").to_owned();
    let generated = meta::text(&value, "name").is_empty() && !generate.is_empty();
    if !generated {
        return insert_named(context, value, applied, dry_run).await;
    }
    for attempt in 1.. {
        let mut attempted = value.clone();
        meta::of(&mut attempted).insert("name", meta::generate_name(&generate).into());
        match insert_named(context, attempted, applied, dry_run).await {
            Err(error) if error.reason == "AlreadyExists" && attempt < NAME_ATTEMPTS => {}
            result => return result,
        }
    }
    Err(ApiError::internal("no name could be generated"))
}

/// Namespace and name agree with the path.
fn place(context: &Context, value: &mut Value) -> Result<(), ApiError> {
    let namespaced = context.row.info().namespaced();
    let wanted = context.info.namespace.as_str();
    let have = meta::text(value, "namespace").to_owned();
    if namespaced {
        if wanted.is_empty() {
            return Err(ApiError::bad_request("namespace is required"));
        }
        if !have.is_empty() && have != wanted {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the \
                 request",
            ));
        }
        meta::of(value).insert("namespace", wanted.into());
    }
    Ok(())
}

async fn insert_named(
    context: &mut Context,
    mut value: Value,
    applied: bool,
    dry_run: bool,
) -> Result<Bytes, ApiError> {
    let row = context.row.clone();
    let info = row.info();
    let server = context.server.clone();
    let world = World { objects: server.caches.as_ref(), authorizer: &server.authorizer };
    meta::fill_new(&mut value, info.generation);
    row.default(&mut value);
    let name = meta::text(&value, "name").to_owned();
    {
        let request = admission_request(context, Operation::Create, &name, None, dry_run);
        admission::mutate(&world, &request, &mut value)?;
    }
    row.default(&mut value);
    let ask = Ask::new(Operation::Create, &info.gvk, &name, dry_run);
    if webhooks::mutate(context, &ask, &mut value).await? {
        row.default(&mut value);
    }
    let has_status = info.subresources.iter().any(|subresource| subresource.name == "status");
    if has_status && let Some(map) = value.as_object_mut() {
        map.remove("status");
    }
    row.prepare_create(&mut value);
    subresource::stamp_requester(context, &mut value);
    Ownership::of(context).created(&mut value, row.ty(), applied);
    let mut errors = validate_meta(
        &value["metadata"],
        info.namespaced(),
        &|name, prefix| row.validate_name(name, prefix),
        "metadata",
    );
    // The row sees a complete object only: what is allocated comes before.
    let lease = server.addresses.allocate(&row, &mut value, None, dry_run, &mut errors);
    errors.extend(row.validate(&value, None));
    invalid(&row, &name, &errors)?;
    webhooks::validate(context, &ask, &value).await?;
    let _turn = server.turns.turn(context).await?;
    {
        let request = admission_request(context, Operation::Create, &name, None, dry_run);
        admission::validate(&world, &request, &value)?;
    }
    context.warnings.extend(row.warnings(&value, None));
    let stored = codec::to_stored(&row, value);
    let bytes = canonical(&stored);
    if dry_run {
        let (namespace, name) = (&context.info.namespace, &name);
        let (group, plural) = info.storage();
        let cache = server.caches.of(group, plural).ok_or_else(ApiError::no_such_path)?;
        if cache.get(&feed::object_key(namespace, name)).is_some() {
            return Err(ApiError::already_exists(row.group(), row.plural(), name));
        }
        return Ok(bytes);
    }
    still_taken(context, &row)?;
    let key = feed::store_key(&row, &feed::object_key(&context.info.namespace, &name));
    match server.caches.put_object(&key, (bytes.clone(), stored), Expect::Absent).await {
        Ok(entry) => {
            lease.commit();
            Ok(with_revision(&bytes, entry.modified.0))
        }
        Err(store::Error::Unmet { .. }) => {
            Err(ApiError::already_exists(row.group(), row.plural(), &name))
        }
        Err(error) => Err(feed::store_error(error)),
    }
}

/// A definition that has gone meanwhile would never hear of an object that comes after it.
fn still_taken(context: &Context, row: &crate::table::Row) -> Result<(), ApiError> {
    if row.origin().is_none() {
        return Ok(());
    }
    let gvk = &row.info().gvk;
    let table = context.server.table();
    match table.find(&gvk.group, &gvk.version, row.plural()) {
        Some(now) if now.info().verbs.has(Verbs::CREATE) => Ok(()),
        Some(_) => Err(super::no_more(row)),
        None => Err(ApiError::no_such_path()),
    }
}

pub(crate) fn invalid(
    row: &crate::table::Row,
    name: &str,
    errors: &[FieldError],
) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(row.group(), row.kind(), name, errors))
}

pub(crate) fn admission_request<'a>(
    context: &'a Context,
    operation: Operation,
    name: &'a str,
    old: Option<&'a Value>,
    dry_run: bool,
) -> admission::Request<'a> {
    let info = context.row.info();
    admission::Request {
        operation,
        user: &context.user,
        kind: &info.gvk,
        resource: &info.plural,
        subresource: &context.info.subresource,
        namespace: &context.info.namespace,
        name,
        old,
        dry_run,
    }
}
