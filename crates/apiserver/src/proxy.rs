//! `exec`, `attach`, `portforward`, `log` and `proxy`: the request goes on to a node, pod or
//! Service, and bytes go both ways. Upgrades (SPDY, WebSocket) are passed on as they are.
pub(crate) mod authorities;
pub(crate) mod dial;
mod links;
mod page;
pub(crate) mod target;

use crate::body::{self, Body};
use crate::server::{Context, Server};
use crate::{verbs, webhooks};
use admission::{Operation, World};
use api::ApiError;
use dial::{Broken, Outgoing};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use links::{Links, Page};
use page::{Mended, Packing};
use target::Target;

/// Of a node's refusal, which is a line.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;
const FORWARDED_FOR: &str = "x-forwarded-for";

pub(crate) async fn run(
    mut context: Context,
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
    connects(&mut context).await?;
    let target = target::find(&context, &request)?;
    let sub = context.info.subresource.as_str();
    if sub != "log" {
        let world = World {
            objects: context.server.caches.as_ref(),
            authorizer: &context.server.authorizer,
        };
        let name = context.info.name.as_str();
        let ask = verbs::create::admission_request(&context, Operation::Connect, name, None, false);
        admission::validate(&world, &ask, &api::Value::Null)?;
    }
    let upgraded = is_upgrade(request.headers());
    if !upgraded && let Some(redirect) = to_root(&context, &request) {
        return Ok(redirect);
    }
    let client_side = upgraded.then(|| hyper::upgrade::on(&mut request));
    let links = (sub == "proxy").then(|| links(&context, &request, &target));
    let forwarded = forward(request, &target, upgraded, &context, links.as_ref())?;
    let mut response = match exchange(&context.server, &target, forwarded).await {
        Ok(response) => response,
        Err(Broken::Api(error)) => return Err(error),
        Err(Broken::Unreachable(why)) => {
            return Err(unreachable(&context, &target, upgraded, &why));
        }
    };
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        if upgraded && status.as_u16() < 400 {
            let text = format!("invalid upgrade response: status code {}", status.as_u16());
            return Err(unknown(text));
        }
        strip_hop_headers(response.headers_mut(), false);
        if sub != "proxy" && !status.is_success() {
            return Err(refused_by_node(response).await);
        }
        return Ok(match links {
            Some(links) => mended(response, links),
            None => response.map(body::boxed),
        });
    }
    let Some(client_side) = client_side else {
        return Err(ApiError::internal("the node switched protocols unasked"));
    };
    Ok(joined(client_side, response))
}

/// Asks webhooks. What they would change of the request cannot be taken yet, and is refused.
async fn connects(context: &mut Context) -> Result<(), ApiError> {
    if context.info.subresource == "log" || !webhooks::any(&context.server) {
        return Ok(());
    }
    let (mut options, name) = (target::options(context), context.info.name.clone());
    let gvk = api::Gvk::new("v1", options["kind"].as_str().unwrap_or_default());
    let ask = webhooks::Ask::new(Operation::Connect, &gvk, &name, false);
    let asked = options.clone();
    webhooks::review(context, &ask, &mut options).await?;
    if options == asked {
        return Ok(());
    }
    let why =
        "an admission webhook changed the options of a connection, which is not supported yet";
    Err(ApiError::internal(why))
}

/// Both ways, until either side ends.
pub(crate) fn joined(
    client_side: hyper::upgrade::OnUpgrade,
    mut response: Response<Incoming>,
) -> Response<Body> {
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
    switched
}

/// Relative links of the target's first page need a slash at the end of its address.
fn to_root(context: &Context, request: &Request<Body>) -> Option<Response<Body>> {
    let path = context.info.path.as_str();
    let root = context.info.subresource == "proxy"
        && context.info.rest.is_empty()
        && !path.ends_with('/')
        && matches!(*request.method(), Method::GET | Method::HEAD);
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let redirect = Response::builder()
        .status(StatusCode::MOVED_PERMANENTLY)
        .header(header::LOCATION, format!("{path}/{query}"))
        .header(header::CACHE_CONTROL, "no-cache, private")
        .body(body::empty());
    redirect.ok().filter(|_| root)
}

fn links(context: &Context, request: &Request<Body>, target: &Target) -> Links {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let asked = header.or_else(|| Some(request.uri().authority()?.as_str()));
    Links {
        prefix: target::prefix(context).to_owned(),
        target: target.host_header.clone(),
        asked: asked.unwrap_or_default().to_owned(),
    }
}

/// The target's own answer, as one from behind the proxy.
fn mended(response: Response<Incoming>, links: Links) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    for name in ["credentials", "headers", "methods", "origin"] {
        parts.headers.remove(format!("access-control-allow-{name}"));
    }
    let text = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(location) = text(header::LOCATION).filter(|location| !location.is_empty()) {
        if let Some(Ok(value)) = links.mend(location).map(|location| location.parse()) {
            parts.headers.insert(header::LOCATION, value);
        }
        return Response::from_parts(parts, body::boxed(body));
    }
    let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    if kind.map(str::trim) != Some("text/html") || body.is_end_stream() {
        return Response::from_parts(parts, body::boxed(body));
    }
    let Some(packing) = Packing::of(&parts.headers) else {
        return Response::from_parts(parts, body::boxed(body));
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = Mended::new(body, Page::new(links), packing);
    Response::from_parts(parts, body.boxed_unsync())
}

/// What a node says in plain text, as the error that clients expect.
async fn refused_by_node(response: Response<Incoming>) -> ApiError {
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

pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
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
    links: Option<&Links>,
) -> Result<Request<Outgoing>, ApiError> {
    let (mut parts, body) = request.into_parts();
    let headers = &mut parts.headers;
    strip_hop_headers(headers, upgraded);
    for name in headers.keys().cloned().collect::<Vec<_>>() {
        if name.as_str().starts_with("impersonate-") {
            headers.remove(name);
        }
    }
    strip_bearer_protocol(headers);
    headers.remove(header::AUTHORIZATION);
    // What is behind a proxy sees which host its client asked for.
    let asked = links.map(|links| links.asked.as_str()).filter(|asked| !asked.is_empty());
    let host = asked.unwrap_or(&target.host_header).parse().map_err(ApiError::internal)?;
    headers.insert(header::HOST, host);
    if links.is_some()
        && let Ok(value) = context.info.path.parse()
    {
        headers.insert("x-forwarded-uri", value);
    }
    if let Some(peer) = context.peer {
        let before = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<String> =
            before.map(str::to_owned).chain([peer.ip().to_canonical().to_string()]).collect();
        let value = all.join(", ").parse().map_err(ApiError::internal)?;
        headers.insert(FORWARDED_FOR, value);
    }
    outgoing(Request::from_parts(parts, body), &target.path)
}

/// The same request, for another server's path.
pub(crate) fn outgoing(request: Request<Body>, path: &str) -> Result<Request<Outgoing>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut out = Request::builder()
        .method(parts.method)
        .uri(path)
        .body(body.map_err(std::io::Error::other).boxed_unsync())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    *out.headers_mut() = parts.headers;
    Ok(out)
}

/// What belongs to one connection only, whether the standard or the message itself says so.
pub(crate) fn strip_hop_headers(headers: &mut HeaderMap, keep_upgrade: bool) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "upgrade")
        .collect();
    let fixed = ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"];
    for name in named.iter().map(String::as_str).chain(fixed).chain(["te", "trailer"]) {
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

pub(crate) async fn exchange(
    server: &Server,
    target: &Target,
    request: Request<Outgoing>,
) -> Result<Response<Incoming>, Broken> {
    let link = dial::connect(server, target).await?;
    let fail = |error: hyper::Error| {
        let ended = error.is_incomplete_message() || error.is_closed();
        Broken::Unreachable(if ended { "EOF".to_owned() } else { error.to_string() })
    };
    let (mut sender, connection) = link.handshake().await.map_err(fail)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a node or pod broke");
        }
    });
    sender.send_request(request).await.map_err(fail)
}

fn unreachable(context: &Context, target: &Target, upgraded: bool, why: &str) -> ApiError {
    match context.info.subresource.as_str() {
        "proxy" if !upgraded => {
            ApiError::unavailable(format!("error trying to reach service: {why}"))
        }
        "log" => {
            let path = target.path.split('?').next().unwrap_or_default();
            unknown(format!("Get \"https://{}{path}\": {why}", target.host_header))
        }
        _ => unknown(format!("error dialing backend: {why}")),
    }
}

/// Upstream has no reason for these.
fn unknown(message: String) -> ApiError {
    let mut error = ApiError::internal("");
    error.reason = "".into();
    error.message = message;
    error
}
