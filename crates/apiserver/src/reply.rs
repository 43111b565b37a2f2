//! Responses.
use crate::body::{self, Body};
use crate::negotiate::Wanted;
use api::{ApiError, Value};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, response::Builder};

/// A `Status` for what went wrong.
pub(crate) fn error(error: &ApiError) -> Response<Body> {
    let mut builder = Response::builder().status(error.code);
    if let Some(seconds) = error.details.as_ref().and_then(|details| details.retry_after_seconds) {
        builder = builder.header(header::RETRY_AFTER, seconds);
    }
    let mut bytes = error.to_status().to_string();
    bytes.push('\n');
    finish(builder, "application/json", body::full(bytes))
}

pub(crate) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut bytes = value.to_string();
    bytes.push('\n');
    finish(Response::builder().status(status), "application/json", body::full(bytes))
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    finish(Response::builder().status(status), "text/plain; charset=utf-8", body::full(text))
}

pub(crate) fn bytes(builder: Builder, wanted: Wanted, bytes: Bytes) -> Response<Body> {
    finish(builder, wanted.content_type(), body::full(bytes))
}

pub(crate) fn finish(builder: Builder, content_type: &str, body: Body) -> Response<Body> {
    let made = builder
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CACHE_CONTROL, "no-cache, private")
        .body(body);
    made.unwrap_or_else(|_| {
        let mut plain = Response::new(body::empty());
        *plain.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        plain
    })
}

/// `Warning: 299 - "text"` for each.
pub(crate) fn with_warnings(mut builder: Builder, warnings: &[String]) -> Builder {
    const MAX_BYTES: usize = 256;
    for warning in warnings {
        let mut end = warning.len().min(MAX_BYTES);
        while !warning.is_char_boundary(end) {
            end -= 1;
        }
        let clean: String =
            warning[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            builder = builder.header(header::WARNING, value);
        }
    }
    builder
}
