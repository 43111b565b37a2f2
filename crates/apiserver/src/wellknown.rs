//! Paths that are no resources: health, version, metrics, discovery, OpenAPI, token keys.
use crate::body::Body;
use crate::request_info::{Query, RequestInfo};
use crate::server::Server;
use crate::{aggregate, discovery, openapi, reply};
use api::{ApiError, User, Value};
use http::{Method, Request, Response, StatusCode};
use value::json;

pub const GIT_VERSION: &str = "v1.37.2+kybern1";

/// What may be read without saying who one is.
pub(crate) fn is_open(path: &str) -> bool {
    let root = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(root, "healthz" | "livez" | "readyz" | "version")
}

pub(crate) async fn answer(
    server: &Server,
    _user: &User,
    request: Request<Body>,
    info: &RequestInfo,
    query: &Query,
) -> Result<Response<Body>, ApiError> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed(
            "the server does not allow this method on the \
                                                 requested resource",
        ));
    }
    let path = info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] => Ok(reply::json(StatusCode::OK, &json!({ "paths": paths(server) }))),
        ["healthz" | "livez" | "readyz", rest @ ..] => health(server, parts[0], rest, query).await,
        ["version"] => Ok(reply::json(StatusCode::OK, &version())),
        ["metrics"] => Ok(reply::finish(
            Response::builder(),
            "text/plain; version=0.0.4; charset=utf-8",
            crate::body::full(server.metrics.text()),
        )),
        ["openid", "v1", "jwks"] => Ok(reply::finish(
            Response::builder(),
            "application/jwk-set+json",
            crate::body::full(server.config.pki.tokens.jwks().to_string()),
        )),
        [".well-known", "openid-configuration"] => {
            let issuer = &server.config.issuer;
            let (address, port) = server.config.advertise;
            let host = std::net::SocketAddr::new(address, port);
            Ok(reply::json(
                StatusCode::OK,
                &json!({
                    "issuer": issuer, "jwks_uri": format!("https://{host}/openid/v1/jwks"),
                    "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                }),
            ))
        }
        ["openapi", rest @ ..] => {
            let wish = openapi::wish(server, &request, rest)?;
            openapi::answer(wish).await
        }
        ["api" | "apis", ..] => discovery::answer(server, &request, &parts),
        _ => Err(ApiError::no_such_path()),
    }
}

fn paths(server: &Server) -> Vec<String> {
    let table = server.table();
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"].map(str::to_owned).into();
    let groups = aggregate::groups(server, &table);
    for group in groups.iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|v| format!("/apis/{}/{v}", group.name)));
    }
    let fixed = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    paths.extend(fixed.map(str::to_owned));
    paths
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "37", "gitVersion": GIT_VERSION,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none (Rust)", "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

/// Each check by name, and all of them together.
async fn health(
    server: &Server,
    endpoint: &str,
    rest: &[&str],
    query: &Query,
) -> Result<Response<Body>, ApiError> {
    let mut checks: Vec<(&str, bool)> = vec![("ping", true), ("log", true)];
    // A server whose store is away is alive: restarting it would not help.
    if endpoint != "livez" {
        checks.push(("etcd", server.caches.store().latest().await.is_ok()));
    }
    checks.push(("poststarthook/bootstrap", server.is_ready() || endpoint != "readyz"));
    if endpoint == "readyz" {
        checks.push(("informer-sync", server.caches.catch_up().await.is_ok()));
        checks.push(("shutdown", !*server.stopping().borrow()));
    }
    let excluded = query.all("exclude");
    checks.retain(|(name, _)| !excluded.iter().any(|out| out == name));
    if !rest.is_empty() {
        let name = rest.join("/");
        let found = checks.iter().find(|(have, _)| *have == name);
        let (_, ok) = found.ok_or_else(ApiError::no_such_path)?;
        return Ok(match ok {
            true => reply::text(StatusCode::OK, "ok"),
            false => reply::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {name} check failed"),
            ),
        });
    }
    let all = checks.iter().all(|(_, ok)| *ok);
    if all && !query.has("verbose") {
        return Ok(reply::text(StatusCode::OK, "ok"));
    }
    let mut text: String = checks
        .iter()
        .map(|(name, ok)| match ok {
            true => format!("[+]{name} ok\n"),
            false => format!("[-]{name} failed: reason withheld\n"),
        })
        .collect();
    text.push_str(&format!("{endpoint} check {}\n", if all { "passed" } else { "failed" }));
    let status = if all { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    Ok(reply::text(status, text))
}
