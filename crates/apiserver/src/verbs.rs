//! The verbs, the same for every row.
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod object;
pub(crate) mod read;
pub(crate) mod update;
pub(crate) mod watch;

use crate::body::{self, Body, ReadError};
use crate::negotiate::{Offer, Wanted, negotiate};
use crate::server::Context;
use crate::subresource;
use api::ApiError;
use bytes::Bytes;
use http::{Request, Response};
use registry::Verbs;

/// Answers a request for a resource that the caller may make.
pub(crate) async fn run(
    context: Context,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    if !context.info.subresource.is_empty() {
        return subresource::run(context, request).await;
    }
    let row = context.row.clone();
    let needs = match context.info.verb {
        "get" => Verbs::GET,
        "list" => Verbs::LIST,
        "watch" => Verbs::WATCH,
        "create" => Verbs::CREATE,
        "update" => Verbs::UPDATE,
        "patch" => Verbs::PATCH,
        "delete" => Verbs::DELETE,
        "deletecollection" => Verbs::DELETE_COLLECTION,
        _ => return Err(not_allowed()),
    };
    if !row.info().verbs.has(needs) {
        return Err(if row.origin().is_some() { no_more(&row) } else { not_allowed() });
    }
    let virtual_answer = subresource::virtual_row(&context, request).await?;
    let request = match virtual_answer {
        subresource::Virtual::Answered(response) => return Ok(response),
        subresource::Virtual::Stored(request) => request,
    };
    match context.info.verb {
        "get" => read::get(&context).await,
        "list" => list::list(&context).await,
        "watch" => watch::watch(context, request).await,
        "create" => {
            let mut context = context;
            let bytes = read_body(request).await?;
            create::create(&mut context, &bytes).await
        }
        "update" | "patch" => {
            let mut context = context;
            let bytes = read_body(request).await?;
            update::run(&mut context, &bytes).await
        }
        "delete" => {
            let mut context = context;
            delete::delete(&mut context, &read_body(request).await?).await
        }
        _ => {
            let mut context = context;
            delete::delete_collection(&mut context, &read_body(request).await?).await
        }
    }
}

pub(crate) fn not_allowed() -> ApiError {
    ApiError::method_not_allowed("the server does not allow this method on the requested resource")
}

/// A custom resource lacks a verb only while it goes.
fn no_more(row: &crate::table::Row) -> ApiError {
    ApiError::method_not_allowed(format!(
        "create not allowed while custom resource definition is terminating is not supported on \
         resources of kind \"{}.{}\"",
        row.plural(),
        row.group()
    ))
}

pub(crate) async fn read_body(request: Request<Body>) -> Result<Bytes, ApiError> {
    body::read(request.into_body()).await.map_err(|error| match error {
        ReadError::TooLarge => ApiError::too_large(format!(
            "Request entity too large: limit is {}",
            body::MAX_REQUEST_BYTES
        )),
        ReadError::Late => {
            ApiError::timeout("Timeout: request did not complete within the allotted timeout", 0)
        }
        ReadError::Broken => ApiError::bad_request("the request's body ended early"),
    })
}

impl Context {
    /// What the client wants back of an object or list of this row.
    pub(crate) fn wanted(&self) -> Result<Wanted, ApiError> {
        let offer = Offer {
            protobuf: self.row.ty().is_some_and(|ty| !ty.graph().is_custom()),
            // Nothing frames the events of a YAML watch.
            yaml: self.info.verb != "watch",
            forms: true,
        };
        negotiate(&self.accept, offer)
    }
    /// `namespace/name` of what the path names.
    pub(crate) fn key(&self) -> String {
        crate::cache::feed::object_key(&self.info.namespace, &self.info.name)
    }
}
