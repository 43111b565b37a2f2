//! `exec`, `attach`, `portforward`, `log` and `proxy`: the request goes on to a node, pod or
//! Service, and bytes go both ways. Upgrades (SPDY, WebSocket) are passed on as they are.
mod dial;
mod target;

use crate::body::{self, Body};
use crate::server::Context;
use crate::verbs;
use admission::{Operation, World};
use api::ApiError;
use dial::{Link, Outgoing};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use target::Target;

/// Of a node's refusal, which is a line.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;

pub(crate) async fn run(
    context: Context,
    mut request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let sub = context.info.subresource.as_str();
    let allowed = match sub {
        "log" => matches!(*request.method(), Method::GET),
        "proxy" => true,
        _ => matches!(*request.method(), Method::GET | Method::POST),
    };
    if !allowed {
        return Err(verbs::not_allowed());
    }
    context.server.caches.catch_up().await?;
    if sub == "log" && target::has_no_log(&context)? {
        return Ok(crate::reply::text(StatusCode::OK, ""));
    }
    may_create(&context)?;
    let target = target::find(&context, &request)?;
    if sub != "log" {
        let world = World {
            objects: context.server.caches.as_ref(),
            authorizer: &context.server.authorizer,
        };
        let name = context.info.name.as_str();
        let ask = verbs::create::admission_request(&context, Operation::Connect, name, None, false);
        admission::validate(&world, &ask, &api::Value::Null)?;
    }
    let link = dial::connect(&context.server, &target).await?;
    let upgraded = is_upgrade(request.headers());
    let client_side = upgraded.then(|| hyper::upgrade::on(&mut request));
    let forwarded = forward(request, &target, upgraded, &context)?;
    let mut response = send(link, forwarded, &target).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_headers(response.headers_mut(), false);
        if sub != "proxy" && !response.status().is_success() {
            return Err(refused_by_node(response).await);
        }
        if let (Some(prefix), true) = (&target.public_prefix, sub == "proxy") {
            mend_location(response.headers_mut(), prefix);
        }
        return Ok(response.map(body::boxed));
    }
    let Some(client_side) = client_side else {
        return Err(ApiError::internal("the node switched protocols unasked"));
    };
    let node_side = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let (client, node) = match tokio::join!(client_side, node_side) {
            (Ok(client), Ok(node)) => (client, node),
            _ => return tracing::debug!("a stream's connection ended before it was upgraded"),
        };
        let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut node).await {
            tracing::debug!(%error, "a stream between client and node broke");
        }
    });
    let (parts, _) = response.into_parts();
    let mut switched = Response::new(body::empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = parts.headers;
    Ok(switched)
}

/// What a node says in plain text, as the error that clients expect.
async fn refused_by_node(response: Response<hyper::body::Incoming>) -> ApiError {
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), REFUSAL_MAX_BYTES);
    let text = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    match status {
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        StatusCode::NOT_FOUND => {
            let mut error = ApiError::no_such_path();
            error.message = format!("the server could not find the requested resource ({text})");
            error
        }
        StatusCode::FORBIDDEN => ApiError::forbidden("", "", "", text),
        _ => ApiError::internal(text),
    }
}

/// Running something in a pod takes the right to create, whichever method the client uses for it.
fn may_create(context: &Context) -> Result<(), ApiError> {
    let info = &context.info;
    let streams = matches!(info.subresource.as_str(), "exec" | "attach" | "portforward");
    if !streams || info.verb == "create" {
        return Ok(());
    }
    let mut wanted = info.attributes(&context.query);
    wanted.verb = "create".to_owned();
    let decision = context.server.authorizer.authorize(&context.user, &wanted);
    if decision.allowed() {
        return Ok(());
    }
    let why = authz::refusal(&context.user, &wanted, decision.reason());
    Err(ApiError::forbidden(&info.group, &info.resource, &info.name, why))
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers.get_all(header::CONNECTION).iter().any(|value| {
            let value = value.to_str().unwrap_or_default();
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case("upgrade"))
        })
}

fn forward(
    request: Request<Body>,
    target: &Target,
    upgraded: bool,
    context: &Context,
) -> Result<Request<Outgoing>, ApiError> {
    let (mut parts, body) = request.into_parts();
    strip_hop_headers(&mut parts.headers, upgraded);
    for name in parts.headers.keys().cloned().collect::<Vec<_>>() {
        if name.as_str().starts_with("impersonate-") {
            parts.headers.remove(name);
        }
    }
    strip_bearer_protocol(&mut parts.headers);
    parts.headers.remove(header::AUTHORIZATION);
    let host = target.host_header.parse().map_err(ApiError::internal)?;
    parts.headers.insert(header::HOST, host);
    if context.info.subresource == "proxy"
        && let Some(prefix) = &target.public_prefix
        && let Ok(value) = prefix.parse()
    {
        parts.headers.insert("x-forwarded-uri", value);
    }
    let mut out = Request::builder()
        .method(parts.method)
        .uri(&target.path)
        .body(body.map_err(std::io::Error::other).boxed_unsync())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    *out.headers_mut() = parts.headers;
    Ok(out)
}

/// What belongs to one connection only.
fn strip_hop_headers(headers: &mut HeaderMap, keep_upgrade: bool) {
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer"] {
        headers.remove(name);
    }
    headers.remove(header::TRANSFER_ENCODING);
    if !keep_upgrade {
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
}

/// A token that came as a WebSocket protocol is for this server only.
fn strip_bearer_protocol(headers: &mut HeaderMap) {
    const NAME: &str = "sec-websocket-protocol";
    let Some(offered) = headers.get(NAME).and_then(|value| value.to_str().ok()) else { return };
    let kept: Vec<&str> = offered
        .split(',')
        .map(str::trim)
        .filter(|protocol| !protocol.starts_with("base64url.bearer.authorization.k8s.io."))
        .collect();
    match kept.join(", ").parse() {
        Ok(value) if !kept.is_empty() => {
            headers.insert(NAME, value);
        }
        _ => {
            headers.remove(NAME);
        }
    }
}

/// A redirect to a path of the target stays behind the proxy.
fn mend_location(headers: &mut HeaderMap, prefix: &str) {
    let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else {
        return;
    };
    if location.starts_with('/')
        && !location.starts_with("//")
        && let Ok(value) = format!("{}{location}", prefix.trim_end_matches('/')).parse()
    {
        headers.insert(header::LOCATION, value);
    }
}

async fn send(
    link: Link,
    request: Request<Outgoing>,
    target: &Target,
) -> Result<Response<hyper::body::Incoming>, ApiError> {
    let fail = |error: hyper::Error| unreachable(target, &error);
    let (mut sender, connection) = link.handshake().await.map_err(fail)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a node or pod broke");
        }
    });
    sender.send_request(request).await.map_err(fail)
}

fn unreachable(target: &Target, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::unavailable(format!("error trying to reach {}: {error}", target.what))
}
