//! From an HTTP request to a streaming connection: recognises the upgrade and picks the protocol.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;

pub const SPDY: &str = "SPDY/3.1";
/// The header with which SPDY clients list the protocols they speak.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");
const WS_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const WS_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WS_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const WS_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");
const WS_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the client asks to upgrade to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Spdy,
}

/// A request that will be upgraded once `response` has been sent.
pub struct Accepted {
    pub response: Response<()>,
    pub transport: Transport,
    /// The sub-protocol; empty if the client named none.
    pub protocol: String,
    pending: OnUpgrade,
}

impl Accepted {
    /// Waits until the response is sent and gives the connection.
    pub async fn connection(self) -> io::Result<TokioIo<Upgraded>> {
        self.pending.await.map(TokioIo::new).map_err(io::Error::other)
    }
}

/// Why a request cannot be upgraded, as an HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub status: StatusCode,
    pub message: String,
    /// For `X-Accepted-Stream-Protocol-Versions`.
    pub accepted: Vec<&'static str>,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), accepted: Vec::new() }
    }
    /// The answer to send.
    pub fn response(&self) -> Response<String> {
        let mut response = Response::new(self.message.clone());
        *response.status_mut() = self.status;
        for name in &self.accepted {
            response.headers_mut().append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(name));
        }
        response
    }
}

/// Whether the request asks for one of the transports of this crate.
pub fn requested(headers: &HeaderMap) -> Option<Transport> {
    let wants = list(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let to = headers.get(UPGRADE).and_then(|value| value.to_str().ok())?;
    match to {
        _ if !wants => None,
        _ if to.eq_ignore_ascii_case("websocket") => Some(Transport::WebSocket),
        _ if to.eq_ignore_ascii_case(SPDY) => Some(Transport::Spdy),
        _ => None,
    }
}

/// Picks the transport and the protocol. The lists are in the server's order of preference; SPDY
/// clients may name none, WebSocket clients too if `web` contains the empty name.
pub fn accept<B>(
    request: &mut Request<B>,
    web: &[&'static str],
    spdy: &[&'static str],
) -> Result<Accepted, Refused> {
    let headers = request.headers();
    let transport = requested(headers).ok_or_else(|| {
        Refused::new(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        )
    })?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let protocol = match transport {
        Transport::WebSocket => answer_websocket(headers, response.headers_mut(), web)?,
        Transport::Spdy => answer_spdy(headers, response.headers_mut(), spdy)?,
    };
    let pending = hyper::upgrade::on(request);
    Ok(Accepted { response, transport, protocol: protocol.to_owned(), pending })
}

fn answer_websocket(
    headers: &HeaderMap,
    answer: &mut HeaderMap,
    offered: &[&'static str],
) -> Result<&'static str, Refused> {
    let bad = |message: &str| Refused::new(StatusCode::BAD_REQUEST, message);
    if headers.get(WS_VERSION).is_none_or(|version| version != "13") {
        return Err(bad("the WebSocket version must be 13"));
    }
    let key = headers.get(WS_KEY).ok_or_else(|| bad("missing Sec-WebSocket-Key"))?;
    let mut input = key.as_bytes().to_vec();
    input.extend_from_slice(WS_GUID.as_bytes());
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &input);
    let wanted: Vec<&str> = list(headers, &WS_PROTOCOL).collect();
    let chosen = if wanted.is_empty() {
        offered.iter().find(|name| name.is_empty())
    } else {
        // The client's order counts: it names what it likes best first.
        wanted.iter().find_map(|want| offered.iter().find(|name| *name == want))
    };
    let chosen = *chosen.ok_or_else(|| {
        bad(&format!("unable to upgrade: client supports {wanted:?}, server supports {offered:?}"))
    })?;
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&STANDARD.encode(digest.as_ref()))
        .map_err(|_| bad("invalid Sec-WebSocket-Key"))?;
    answer.insert(WS_ACCEPT, accept);
    if !chosen.is_empty() {
        answer.insert(WS_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok(chosen)
}

fn answer_spdy(
    headers: &HeaderMap,
    answer: &mut HeaderMap,
    offered: &[&'static str],
) -> Result<&'static str, Refused> {
    let wanted: Vec<&str> = list(headers, &STREAM_PROTOCOL).collect();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static(SPDY));
    if wanted.is_empty() {
        return Ok("");
    }
    let chosen = wanted.iter().find_map(|want| offered.iter().find(|name| *name == want));
    let chosen = *chosen.ok_or_else(|| Refused {
        status: StatusCode::FORBIDDEN,
        message: format!(
            "unable to upgrade: unable to negotiate protocol: client supports {wanted:?}, \
             server accepts {offered:?}"
        ),
        accepted: offered.to_vec(),
    })?;
    answer.insert(STREAM_PROTOCOL, HeaderValue::from_static(chosen));
    Ok(chosen)
}

/// The elements of all values of a header that holds a list.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}
