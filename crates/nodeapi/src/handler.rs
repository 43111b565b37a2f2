//! From a request to its answer.
use crate::path::{Asked, query};
use crate::{Caller, LogOptions, Named, Node, Refusal, forward, logs, sessions};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use streaming::upgrade::Transport;

pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;
type Pairs = [(String, String)];

/// For a command started by `/run`, which has no other end.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) async fn handle(
    request: Request<Incoming>,
    certificate: Option<Caller>,
    node: Arc<dyn Node>,
) -> Response<Body> {
    match answer(request, certificate, &node).await {
        Ok(response) => response,
        Err(refusal) => text(refusal.status, refusal.message),
    }
}

pub(crate) fn text(status: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(message.into()));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn empty(response: Response<()>) -> Response<Body> {
    response.map(|()| full(Bytes::new()))
}

async fn answer(
    mut request: Request<Incoming>,
    certificate: Option<Caller>,
    node: &Arc<dyn Node>,
) -> Result<Response<Body>, Refusal> {
    let path = request.uri().path().to_owned();
    let asked = Asked::parse(&path).ok_or_else(|| Refusal::not_found("404 page not found"))?;
    let caller = match certificate {
        Some(caller) => caller,
        None => by_token(&request, node).await?,
    };
    let pairs = query(request.uri().query().unwrap_or_default());
    permit(&caller, &request, &asked, &path, node).await?;
    match asked {
        Asked::Health => Ok(text(StatusCode::OK, "ok")),
        Asked::Logs(named) => {
            let options = LogOptions::from_query(&pairs)?;
            let target = node.log(&named, options.previous).await?;
            match streaming::upgrade::requested(request.headers()) {
                Some(Transport::WebSocket) => logs::respond_web(&mut request, target, options),
                _ => logs::respond(target, options),
            }
        }
        Asked::Exec(named) => {
            let id = node.running(&named).await?;
            sessions::exec(&mut request, node.runtime(), id, &pairs)
        }
        Asked::Attach(named) => {
            let id = node.attachable(&named).await?;
            sessions::attach(&mut request, node.runtime(), id, &pairs)
        }
        Asked::Run(named) => run(node, &named, &pairs).await,
        Asked::Forward(named) => {
            let netns = node.netns(&named).await?;
            forward::forward(&mut request, netns, &pairs)
        }
        Asked::Document => {
            let (kind, body) = node
                .document(&path, &pairs)
                .await
                .ok_or_else(|| Refusal::not_found("404 page not found"))?;
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
            Ok(response)
        }
    }
}

async fn by_token<B>(request: &Request<B>, node: &Arc<dyn Node>) -> Result<Caller, Refusal> {
    let unauthorized = || Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized");
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        header.and_then(|header| header.strip_prefix("Bearer ")).ok_or_else(unauthorized)?;
    node.authenticate(token.trim()).await.ok_or_else(unauthorized)
}

async fn permit<B>(
    caller: &Caller,
    request: &Request<B>,
    asked: &Asked,
    path: &str,
    node: &Arc<dyn Node>,
) -> Result<(), Refusal> {
    if caller.is_control_plane() {
        return Ok(());
    }
    let verb = match *request.method() {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let subresource = asked.subresource(path);
    if node.authorize(caller, verb, subresource).await {
        return Ok(());
    }
    let message = format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource=[{subresource}])",
        caller.user
    );
    Err(Refusal::new(StatusCode::FORBIDDEN, message))
}

/// Runs a command to its end and answers with its output.
async fn run(
    node: &Arc<dyn Node>,
    named: &Named,
    pairs: &Pairs,
) -> Result<Response<Body>, Refusal> {
    let id = node.running(named).await?;
    let command = pairs.iter().find(|(name, _)| name == "cmd").map(|(_, value)| value.clone());
    let command =
        command.ok_or_else(|| Refusal::bad_request("query parameter \"cmd\" is required"))?;
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let runtime = node.runtime();
    let done = runtime.exec_sync(&id, &words, Some(RUN_TIMEOUT)).await;
    let done = done.map_err(|error| Refusal::internal(error.to_string()))?;
    let mut output = done.stdout;
    output.extend_from_slice(&done.stderr);
    if done.code == 0 {
        return Ok(text(StatusCode::OK, output));
    }
    Err(Refusal::internal(format!(
        "command '{command}' exited with {}: {}",
        done.code,
        String::from_utf8_lossy(&output)
    )))
}
