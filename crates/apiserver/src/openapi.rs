//! `/openapi/v3` and `/openapi/v2`.
use crate::body::Body;
use crate::server::Server;
use api::ApiError;
use http::{Request, Response};

pub(crate) fn answer(
    _server: &Server,
    _request: &Request<Body>,
    _rest: &[&str],
) -> Result<Response<Body>, ApiError> {
    Err(ApiError::no_such_path())
}
