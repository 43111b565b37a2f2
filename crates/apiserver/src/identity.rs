//! Who a request is from: beside it, in its certificate, or in its token; and as whom it acts.
use crate::body::Body;
use crate::clock;
use crate::server::{Caller, ConnInfo, Server};
use api::{ApiError, User};
use authn::{Impersonation, Tokens};
use http::{HeaderMap, Request, header};

pub(crate) fn identify(
    server: &Server,
    request: &mut Request<Body>,
    conn: &ConnInfo,
) -> Result<User, ApiError> {
    let user = match request.extensions_mut().remove::<Caller>() {
        Some(Caller::InProcess(user)) => user,
        None => from_credentials(server, request.headers(), conn)?,
    };
    request.headers_mut().remove(header::AUTHORIZATION);
    let asked = asked(request.headers());
    if !asked.is_asked_for() {
        return Ok(user);
    }
    let (target, needed) = authn::impersonate(&asked)?;
    for wanted in needed {
        let decision = server.authorizer.authorize(&user, &wanted);
        if !decision.allowed() {
            let why = authz::refusal(&user, &wanted, decision.reason());
            return Err(ApiError::forbidden(&wanted.group, &wanted.resource, &wanted.name, why));
        }
    }
    Ok(target)
}

fn from_credentials(
    server: &Server,
    headers: &HeaderMap,
    conn: &ConnInfo,
) -> Result<User, ApiError> {
    if let Some(user) = &conn.user {
        return Ok(user.clone());
    }
    let token = match headers.get(header::AUTHORIZATION).map(|value| value.to_str()) {
        Some(Ok(value)) => match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Some(token.trim().to_owned())
            }
            _ => return Err(ApiError::unauthorized()),
        },
        Some(Err(_)) => return Err(ApiError::unauthorized()),
        None => websocket_token(headers),
    };
    let Some(token) = token else { return Ok(User::anonymous()) };
    let tokens = tokens(server);
    match tokens.authenticate(&token, &[]) {
        Ok(found) => Ok(found.user),
        Err(error) => {
            tracing::debug!(%error, "a bearer token was refused");
            Err(ApiError::unauthorized())
        }
    }
}

/// What tokens are judged by, now.
pub(crate) fn tokens(server: &Server) -> Tokens<'_> {
    Tokens {
        key: &server.config.pki.tokens,
        issuer: &server.config.issuer,
        audiences: &server.config.audiences,
        objects: server.caches.as_ref(),
        now: clock::now(),
    }
}

/// Browsers cannot set headers on a WebSocket: the token is one of the protocols.
fn websocket_token(headers: &HeaderMap) -> Option<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let offered = headers.get("sec-websocket-protocol")?.to_str().ok()?;
    let token = offered.split(',').find_map(|protocol| protocol.trim().strip_prefix(PREFIX))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

fn asked(headers: &HeaderMap) -> Impersonation {
    let texts = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let one = |name: &str| texts(name).into_iter().next().unwrap_or_default();
    let mut asked = Impersonation {
        user: one("impersonate-user"),
        uid: one("impersonate-uid"),
        groups: texts("impersonate-group"),
        ..Impersonation::default()
    };
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            let key = crate::request_info::decode(key, false).to_lowercase();
            asked.extra.insert(key, texts(name.as_str()));
        }
    }
    asked
}
