//! `get`.
use super::object;
use crate::body::Body;
use crate::cache::Cache;
use crate::server::Context;
use api::ApiError;
use http::{Response, StatusCode};
use std::num::{IntErrorKind, ParseIntError};
use std::sync::Arc;

pub(crate) async fn get(context: &Context) -> Result<Response<Body>, ApiError> {
    context.wanted()?;
    freshness(context).await?;
    let item = cache(context)?.get(&context.key()).ok_or_else(|| context.not_found())?;
    object::respond(context, StatusCode::OK, item.json.clone())
}

/// Waits for what the request's `resourceVersion` asks: the latest, any, or at least that one.
pub(crate) async fn freshness(context: &Context) -> Result<(), ApiError> {
    match context.query.get("resourceVersion") {
        "" => context.server.caches.catch_up().await,
        "0" => Ok(()),
        text => context.server.caches.reach(revision(text)?).await,
    }
}

pub(crate) fn revision(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|error: ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let why = format!("strconv.ParseUint: parsing {text:?}: {why}");
        let error = api::FieldError::invalid("resourceVersion", text, why);
        ApiError::bad_request(format!("invalid resource version: {error}"))
    })
}

pub(crate) fn cache(context: &Context) -> Result<Arc<Cache>, ApiError> {
    let (group, plural) = context.row.info().storage();
    context.server.caches.of(group, plural).ok_or_else(ApiError::no_such_path)
}
