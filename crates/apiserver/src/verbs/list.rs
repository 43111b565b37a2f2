//! `list`: a snapshot, filtered and paged; written from stored bytes.
use super::{object, read};
use crate::body::Body;
use crate::cache::{
    Map, Snapshot,
    item::{Filter, Item},
    slice,
};
use crate::negotiate::Form;
use crate::server::Context;
use crate::table::Row;
use crate::{codec, reply, tabular};
use api::{ApiError, FieldSelector, Gvk, LabelSelector};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Response, StatusCode};
use std::sync::Arc;
use store::{ReadAt, Revision};
use value::{Value, json};

/// One page of a list.
pub(crate) struct Listing {
    pub items: Vec<Arc<Item>>,
    pub revision: u64,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

pub(crate) async fn list(context: &Context) -> Result<Response<Body>, ApiError> {
    let wanted = context.wanted()?;
    let listing = page(context).await?;
    let metadata = metadata(&listing);
    let row = &context.row;
    let (gvk, items) = match wanted.form {
        Form::Object => {
            let items = listing.items.iter();
            let items = items.map(|item| object::list_item(row, wanted.encoding, item));
            (list_gvk(row), items.collect::<Result<Vec<_>, _>>()?)
        }
        Form::Metadata => {
            let gvk = tabular::partial_gvk(wanted.meta_version, false);
            let items = listing.items.iter().map(|item| {
                let partial = tabular::partial(&object::parse(&item.json), wanted.meta_version);
                codec::encode_item(&gvk, wanted.encoding, partial.to_string().into())
            });
            (tabular::partial_gvk(wanted.meta_version, true), items.collect::<Result<_, _>>()?)
        }
        Form::Table => {
            let include = tabular::Include::parse(context.query.get("includeObject"))?;
            let table = tabular::Tabular::new(row, wanted.meta_version, include);
            let objects =
                listing.items.iter().map(|item| codec::from_stored(row, object::parse(&item.json)));
            let rows: Vec<Value> = objects.map(|object| table.row(&object)).collect();
            let text = table.table(metadata, &rows, true).to_string();
            let gvk = tabular::table_gvk(wanted.meta_version);
            let bytes = codec::encode(&gvk, wanted.encoding, text.into())?;
            return Ok(reply::bytes(context.reply(StatusCode::OK), wanted, bytes));
        }
    };
    let body = codec::list_body(&gvk, wanted.encoding, &metadata, items)?;
    Ok(reply::finish(context.reply(StatusCode::OK), wanted.content_type(), body))
}

pub(crate) fn list_gvk(row: &crate::table::Row) -> Gvk {
    let gvk = &row.info().gvk;
    Gvk::new(&gvk.api_version(), &row.list_kind())
}

fn metadata(listing: &Listing) -> Value {
    let mut metadata = json!({ "resourceVersion": listing.revision.to_string() });
    if !listing.continue_token.is_empty() {
        metadata["continue"] = Value::from(listing.continue_token.clone());
    }
    if let Some(remaining) = listing.remaining {
        metadata["remainingItemCount"] = Value::from(remaining);
    }
    metadata
}

/// The selectors of a request, against the fields of the stored row.
pub(crate) fn filter(context: &Context) -> Result<Filter, ApiError> {
    let labels = LabelSelector::parse(context.query.get("labelSelector"))
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let mut fields = FieldSelector::parse(context.query.get("fieldSelector"))
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let cache = read::cache(context)?;
    let refuse = |path: String| {
        // Upstream's kinds without fields of their own say it in other words.
        ApiError::bad_request(match (&context.row, context.row.selectable_fields()) {
            (Row::Static(_), []) => format!(
                "{path:?} is not a known field selector: only \"metadata.name\", \
                 \"metadata.namespace\""
            ),
            _ => format!("field label not supported: {path}"),
        })
    };
    for term in &mut fields.terms {
        let stored = context.row.stored_field(&term.path).map(std::borrow::Cow::into_owned);
        term.path = stored.ok_or_else(|| refuse(term.path.clone()))?;
    }
    Filter::new(&cache.row, labels, &fields).map_err(refuse)
}

/// What the request lists.
pub(crate) async fn page(context: &Context) -> Result<Listing, ApiError> {
    let filter = filter(context)?;
    let limit = context.query.number("limit")?.unwrap_or_default().max(0);
    let limit = usize::try_from(limit).unwrap_or_default();
    let token = context.query.get("continue");
    let (snapshot, from) = if token.is_empty() {
        (first_snapshot(context).await?, None)
    } else {
        if !matches!(context.query.get("resourceVersion"), "" | "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let (snapshot, from) = continued(context, token).await?;
        (snapshot, Some(from))
    };
    let namespace = context.info.namespace.as_str();
    let mut rest = slice(&snapshot.map, namespace, from.as_deref());
    let mut items = Vec::new();
    let mut more = false;
    for item in rest.by_ref() {
        if limit > 0 && items.len() == limit {
            more = true;
            break;
        }
        if filter.matches(item) {
            items.push(Arc::clone(item));
        }
    }
    let mut listing = Listing {
        items,
        revision: snapshot.revision,
        continue_token: String::new(),
        remaining: None,
    };
    if more {
        // The one that ended the loop counts too.
        listing.remaining = filter.is_everything().then(|| rest.count() + 1);
        let last = listing.items.last().map_or("", |item| &item.key);
        let start = last.strip_prefix(namespace).unwrap_or(last).trim_start_matches('/');
        let start = if namespace.is_empty() { last } else { start };
        listing.continue_token = encode_token(snapshot.revision, &format!("{start}\0"));
        read::cache(context)?.keep(&snapshot);
    }
    Ok(listing)
}

async fn first_snapshot(context: &Context) -> Result<Snapshot, ApiError> {
    let cache = read::cache(context)?;
    let caches = &context.server.caches;
    let matching = context.query.get("resourceVersionMatch");
    let version = context.query.get("resourceVersion");
    match (matching, version) {
        ("", _) | ("NotOlderThan", _) if !(matching == "NotOlderThan" && version.is_empty()) => {
            read::freshness(context).await?;
            let progress = caches.progress();
            Ok(cache.snapshot(progress))
        }
        ("Exact", "") | ("NotOlderThan", "") => {
            Err(bad_match("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        }
        ("Exact", "0") => {
            Err(bad_match("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""))
        }
        ("Exact", text) => {
            let revision = read::revision(text)?;
            at(context, revision, gone_message).await
        }
        (other, _) => {
            let known = ["Exact", "NotOlderThan"];
            let error = api::FieldError::not_supported("resourceVersionMatch", other, &known);
            Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error]))
        }
    }
}

fn bad_match(why: &str) -> ApiError {
    let errors = [api::FieldError::forbidden("resourceVersionMatch", why)];
    ApiError::invalid("meta.k8s.io", "ListOptions", "", &errors)
}

fn gone_message(_: u64, _: &str) -> ApiError {
    ApiError::expired("The resourceVersion for the provided list is too old.")
}

/// The state at a revision: kept, current, or out of the store's history.
async fn at(
    context: &Context,
    revision: u64,
    gone: fn(u64, &str) -> ApiError,
) -> Result<Snapshot, ApiError> {
    let cache = read::cache(context)?;
    if let Some(kept) = cache.kept(revision) {
        return Ok(kept);
    }
    context.server.caches.reach(revision).await?;
    let prefix = crate::cache::feed::store_key(&cache.row, "");
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let store = context.server.caches.store();
    let page = match store.range(prefix.clone()..end, ReadAt::Exactly(Revision(revision)), 0).await
    {
        Ok(page) => page,
        Err(store::Error::Compacted { .. }) => return Err(gone(revision, "")),
        Err(error) => return Err(crate::cache::feed::store_error(error)),
    };
    let mut map = Map::new();
    for entry in &page.entries {
        let Some(key) = entry.key.strip_prefix(&prefix) else { continue };
        let value = object::parse(&entry.value);
        let key: Arc<str> = key.into();
        let item = Item::new(Arc::clone(&key), &entry.value, entry.modified.0, &cache.row, &value);
        map.insert(key, Arc::new(item));
    }
    let snapshot = Snapshot { map, revision };
    cache.keep(&snapshot);
    Ok(snapshot)
}

/// A token that says where the next page begins, as upstream's does.
fn encode_token(revision: u64, start: &str) -> String {
    let token = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": start });
    URL_SAFE_NO_PAD.encode(token.to_string())
}

async fn continued(context: &Context, token: &str) -> Result<(Snapshot, String), ApiError> {
    let invalid = || ApiError::bad_request("continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| invalid())?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let start = token["start"].as_str().filter(|start| !start.is_empty()).ok_or_else(invalid)?;
    if token["v"] != "meta.k8s.io/v1" {
        return Err(ApiError::bad_request(
            "continue key is not valid: server does not recognize \
                                          this encoded version",
        ));
    }
    let namespace = context.info.namespace.as_str();
    let from = if namespace.is_empty() { start.to_owned() } else { format!("{namespace}/{start}") };
    let snapshot = match token["rv"].as_i64() {
        // A token of an expired list: go on with what is there now.
        Some(-1) => {
            context.server.caches.catch_up().await?;
            read::cache(context)?.snapshot(context.server.caches.progress())
        }
        Some(revision) if revision > 0 => {
            let at = at(context, revision.unsigned_abs(), |_, _| ApiError::expired("")).await;
            at.map_err(
                |error| {
                    if error.reason == "Expired" { expired_token(start) } else { error }
                },
            )?
        }
        _ => return Err(invalid()),
    };
    Ok((snapshot, from))
}

fn expired_token(start: &str) -> ApiError {
    let token = json!({ "v": "meta.k8s.io/v1", "rv": -1, "start": start });
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this \
         response to retrieve the remainder of the results. Continuing with the provided token \
         results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    );
    error.list_continue = Some(URL_SAFE_NO_PAD.encode(token.to_string()));
    error
}
