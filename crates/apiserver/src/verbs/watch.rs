//! `watch`: what has happened since a revision, then what happens, until the client or its time
//! ends it.
use super::{list, object, read};
use crate::body::{self, Body};
use crate::cache::{
    Kind,
    item::Item,
    slice,
    watchers::{Delivery, Subscription, Wish},
};
use crate::negotiate::{Encoding, Form, Wanted};
use crate::request_info::Query;
use crate::server::Context;
use crate::table::Row;
use crate::{codec, reply, tabular, websocket};
use api::{ApiError, Value};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use value::json;

/// How long a watch lives that does not say: this and up to as much again, so that the watches of
/// a fleet do not all come back at once.
const MIN_SECONDS: u64 = 1800;
/// No watch lives longer.
const MAX_SECONDS: u64 = 24 * 3600;
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

pub(crate) async fn watch(
    context: Context,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let wanted = context.wanted()?;
    let watching = begin(&context, wanted).await?;
    let frames = stream::unfold(watching, |mut watching| async move {
        let frame = watching.next().await?;
        Some((frame, watching))
    });
    if websocket::is_asked_for(&request) {
        return websocket::stream(request, wanted, frames);
    }
    let builder = context.reply(StatusCode::OK);
    Ok(reply::finish(builder, wanted.watch_content_type(), body::stream(frames)))
}

/// What is sent first, then what comes.
struct Watching {
    row: Row,
    wanted: Wanted,
    query: Query,
    /// Sent before anything else.
    initial: VecDeque<Arc<Item>>,
    /// After the initial ones, if the client wants to know where they end.
    initial_end: Option<u64>,
    error: Option<ApiError>,
    subscription: Option<Subscription>,
    /// Made once, not for every event.
    ends: Pin<Box<Sleep>>,
    told_columns: bool,
}

async fn begin(context: &Context, wanted: Wanted) -> Result<Watching, ApiError> {
    let filter = list::filter(context)?;
    let cache = read::cache(context)?;
    let caches = &context.server.caches;
    let query = &context.query;
    let bookmarks = query.flag("allowWatchBookmarks");
    let namespace = context.info.namespace.as_str();
    let wish = Wish { filter, namespace: namespace.into(), bookmarks, peer: context.peer };
    let initial_events = query.flag("sendInitialEvents");
    check_options(query)?;
    let mut watching = Watching {
        row: context.row.clone(),
        wanted,
        query: query.clone(),
        initial: VecDeque::new(),
        initial_end: None,
        error: None,
        subscription: None,
        ends: Box::pin(tokio::time::sleep(life(query)?)),
        told_columns: false,
    };
    let version = query.get("resourceVersion");
    let from_now = initial_events || matches!(version, "" | "0");
    if from_now {
        read::freshness(context).await?;
        let filter = wish.filter.clone();
        let (snapshot, subscription) = cache.subscribe_now(caches.progress(), wish);
        if initial_events || !query.has("sendInitialEvents") {
            let items = slice(&snapshot.map, namespace, None);
            watching.initial = items.filter(|item| filter.matches(item)).cloned().collect();
        }
        watching.initial_end = (initial_events && bookmarks).then_some(snapshot.revision);
        watching.follow(context, subscription);
        return Ok(watching);
    }
    let after = read::revision(version)?;
    caches.reach(after).await?;
    match cache.subscribe(after, wish) {
        Ok(subscription) => watching.follow(context, subscription),
        Err(old) => {
            let message = format!("too old resource version: {after} ({})", old.floor);
            watching.error = Some(ApiError::expired(message));
        }
    }
    Ok(watching)
}

fn check_options(query: &Query) -> Result<(), ApiError> {
    let matching = query.get("resourceVersionMatch");
    let forbid = |field: &str, why: &str| {
        let errors = [api::FieldError::forbidden(field, why)];
        Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &errors))
    };
    if query.has("sendInitialEvents") {
        if matching != "NotOlderThan" {
            return forbid(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            );
        }
        return Ok(());
    }
    if !matching.is_empty() {
        return forbid(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless \
                      sendInitialEvents is provided",
        );
    }
    Ok(())
}

fn life(query: &Query) -> Result<Duration, ApiError> {
    let seconds = match query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => seconds.unsigned_abs().min(MAX_SECONDS),
        _ => MIN_SECONDS + rand::random_range(0..MIN_SECONDS),
    };
    Ok(Duration::from_secs(seconds))
}

impl Watching {
    /// A server that stops ends all subscriptions that there are by then.
    fn follow(&mut self, context: &Context, subscription: Subscription) {
        self.subscription = (!context.server.is_stopping()).then_some(subscription);
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(item) = self.initial.pop_front() {
            let json = item.json.clone();
            return Some(self.frame(Kind::Added.name(), json));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.bookmark(revision, true));
        }
        if let Some(error) = self.error.take() {
            return Some(self.error_frame(&error));
        }
        let subscription = self.subscription.as_mut()?;
        if self.ends.deadline() <= Instant::now() {
            return None;
        }
        let delivery = tokio::select! {
            biased;
            delivery = subscription.next() => delivery?,
            () = &mut self.ends => return None,
        };
        Some(match delivery {
            Delivery::Bookmark(revision) => self.bookmark(revision, false),
            Delivery::Event(event, kind) => {
                let shared = self.wanted.form == Form::Object && self.row.convert().is_none();
                let name = kind.name();
                match shared {
                    true => event.frame(self.wanted.encoding, kind, |json| self.frame(name, json)),
                    false => self.frame(name, event.object(kind)),
                }
            }
        })
    }

    /// The frame of stored bytes, in the wanted form.
    fn frame(&mut self, kind: &str, json: Bytes) -> Bytes {
        let object = match self.wanted.form {
            Form::Table => {
                // Only the first table of a watch tells the columns.
                let columns = !std::mem::replace(&mut self.told_columns, true);
                let include = tabular::Include::parse(self.query.get("includeObject"));
                let include = include.unwrap_or(tabular::Include::Metadata);
                let table = tabular::Tabular::new(&self.row, self.wanted.meta_version, include);
                let object = codec::from_stored(&self.row, object::parse(&json));
                let version = object["metadata"]["resourceVersion"].clone();
                let metadata = json!({ "resourceVersion": version });
                let value = table.table(metadata, &[table.row(&object)], columns);
                codec::encode(
                    &tabular::table_gvk(self.wanted.meta_version),
                    self.wanted.encoding,
                    value.to_string().into(),
                )
            }
            _ => object::encode(&self.row, self.wanted, json, &self.query),
        };
        match object {
            Ok(object) => codec::watch_frame(self.wanted.encoding, kind, &object),
            Err(error) => self.error_frame(&error),
        }
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let gvk = &self.row.info().gvk;
        let mut value = json!({
            "kind": gvk.kind, "apiVersion": gvk.api_version(),
            "metadata": { "resourceVersion": revision.to_string() },
        });
        if initial_end {
            value["metadata"]["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
        }
        let (gvk, value): (api::Gvk, Value) = match self.wanted.form {
            Form::Object => (gvk.clone(), value),
            Form::Metadata => (
                tabular::partial_gvk(self.wanted.meta_version, false),
                tabular::partial(&value, self.wanted.meta_version),
            ),
            Form::Table => {
                let include = tabular::Include::Metadata;
                let table = tabular::Tabular::new(&self.row, self.wanted.meta_version, include);
                let metadata = json!({ "resourceVersion": revision.to_string() });
                let rows: &[Value] =
                    &[json!({ "cells": [], "object": tabular::partial(&value, "v1") })];
                let rows = if initial_end { rows } else { &[] };
                (tabular::table_gvk(self.wanted.meta_version), table.table(metadata, rows, false))
            }
        };
        match codec::encode(&gvk, self.wanted.encoding, value.to_string().into()) {
            Ok(object) => codec::watch_frame(self.wanted.encoding, "BOOKMARK", &object),
            Err(error) => self.error_frame(&error),
        }
    }

    /// The last frame: a `Status`.
    fn error_frame(&mut self, error: &ApiError) -> Bytes {
        self.subscription = None;
        let status = error.to_status().to_string();
        let gvk = api::Gvk::fixed("", "v1", "Status");
        let encoding = self.wanted.encoding;
        match codec::encode(&gvk, encoding, status.clone().into()) {
            Ok(object) => codec::watch_frame(encoding, "ERROR", &object),
            Err(_) => codec::watch_frame(Encoding::Json, "ERROR", status.as_bytes()),
        }
    }
}
