//! One question to one webhook: where it is, whom it must prove to be, and how long it may take.
use super::review::{self, Reply};
use super::{Ask, Match, Phase};
use crate::meta;
use crate::proxy::dial::{self, Broken, Outgoing};
use crate::proxy::target::{self, Security, Target};
use crate::server::{Context, Server};
use api::{ApiError, Value};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use std::time::Duration;

const ANSWER_MAX_BYTES: usize = 8 << 20;
const DEFAULT_SECONDS: u64 = 10;
const MAX_SECONDS: u64 = 30;

#[derive(Debug)]
pub(super) enum Trouble {
    /// The webhook says no.
    Denied(ApiError),
    /// It could not be asked.
    Failed(String),
}

/// Where a webhook is, and how its address is written.
struct Place {
    target: Target,
    url: String,
}

fn place(server: &Server, client: &Value, seconds: u64) -> Result<Place, String> {
    let bundle = client["caBundle"].as_str().unwrap_or_default();
    let security = Security::Authorities(server.authorities.of(bundle)?);
    let with_timeout = |path: &str| {
        let join = if path.contains('?') { '&' } else { '?' };
        format!("{path}{join}timeout={seconds}s")
    };
    if let Some(url) = client["url"].as_str() {
        let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let path = with_timeout(uri.path_and_query().map_or("/", |path| path.as_str()));
        let shown = uri.authority().map_or("", |authority| authority.as_str());
        let url = format!("https://{shown}{path}");
        let target = Target {
            host_header: shown.to_owned(),
            tls_name: host.clone(),
            port: uri.port_u16().unwrap_or(443),
            host,
            security,
            path,
        };
        return Ok(Place { target, url });
    }
    let service = &client["service"];
    let text = |key: &str| service[key].as_str().unwrap_or_default();
    let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
    let (namespace, name) = (text("namespace"), text("name"));
    let path = with_timeout(&format!("/{}", text("path").trim_start_matches('/')));
    let tls_name = format!("{name}.{namespace}.svc");
    let host_header = format!("{tls_name}:{port}");
    let url = format!("https://{host_header}{path}");
    let (host, port) = target::of_service(&server.caches, namespace, name, port)
        .map_err(|why| format!("Post {url:?}: {why}"))?;
    Ok(Place { target: Target { host, port, security, tls_name, host_header, path }, url })
}

pub(super) async fn call(
    context: &Context,
    ask: &Ask<'_>,
    matched: &Match,
    object: &Value,
    phase: Phase,
) -> Result<Reply, Trouble> {
    let hook = matched.hook.value();
    let failed = |why: String| Trouble::Failed(format!("failed to call webhook: {why}"));
    let version = review::version(hook)
        .ok_or_else(|| failed("webhook does not accept known AdmissionReview versions".into()))?;
    let uid = meta::uid();
    let request = review::request(context, ask, matched, object, (version, &uid));
    let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_SECONDS).min(MAX_SECONDS);
    let place = place(&context.server, &hook["clientConfig"], seconds).map_err(failed)?;
    let url = place.url.clone();
    let asked = post(&context.server, &place.target, request.to_string());
    let answer = match tokio::time::timeout(Duration::from_secs(seconds), asked).await {
        Err(_) => return Err(failed(format!("Post {url:?}: context deadline exceeded"))),
        Ok(Err(why)) => return Err(failed(format!("Post {url:?}: {why}"))),
        Ok(Ok(answer)) => answer,
    };
    let review = match answer {
        (status, bytes) if status.is_success() => {
            serde_json::from_slice(&bytes).map_err(|error| {
                failed(format!("couldn't get version/kind; json parse error: {error}"))
            })?
        }
        (StatusCode::NOT_FOUND, _) => {
            return Err(failed("the server could not find the requested resource".to_owned()));
        }
        (_, bytes) => {
            let text: String = String::from_utf8_lossy(&bytes).trim().chars().take(2048).collect();
            let why = format!(
                "an error on the server ({text:?}) has prevented the request from succeeding"
            );
            return Err(failed(why));
        }
    };
    review::reply(&review, matched.hook.name(), phase, (version, &uid))
}

async fn post(
    server: &Server,
    target: &Target,
    body: String,
) -> Result<(StatusCode, bytes::Bytes), String> {
    let broken = |broken: Broken| match broken {
        Broken::Unreachable(why) => why,
        Broken::Api(error) => error.message,
    };
    let plain = |error: hyper::Error| {
        let ended = error.is_incomplete_message() || error.is_closed();
        if ended { "EOF".to_owned() } else { error.to_string() }
    };
    let body: Outgoing = Full::from(body).map_err(|never| match never {}).boxed_unsync();
    let request = Request::post(&target.path)
        .header(header::HOST, &target.host_header)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(body)
        .map_err(|error| error.to_string())?;
    let link = dial::connect(server, target).await.map_err(broken)?;
    let (mut sender, connection) = link.handshake().await.map_err(plain)?;
    // Ends with the question, also when its time is over.
    let mut driving = tokio::task::JoinSet::new();
    driving.spawn(connection);
    let response = sender.send_request(request).await.map_err(plain)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
    let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, bytes))
}
