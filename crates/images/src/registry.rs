//! The distribution protocol's client side: HTTP with tokens, digests checked by the caller.
//!
//! Plain HTTP is spoken with loopback addresses only. Credentials go to the registry that they are
//! for and to the token service it names, never to where it redirects.
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use crate::Auth;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that a server may say nothing.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;
const MAX_TOKEN: usize = 1 << 20;
/// Where distributions keep the certificates they trust.
const CERTIFICATES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0}")]
    Unauthorized(String),
    #[error("not found")]
    NotFound,
    #[error("{0}")]
    Other(String),
}

impl From<String> for HttpError {
    fn from(text: String) -> Self {
        HttpError::Other(text)
    }
}

/// One registry and one repository in it, as one pull uses them.
pub(crate) struct Registry {
    /// `scheme://host[:port][/path]`, in the order to try; the first that answers stays.
    bases: Vec<String>,
    chosen: OnceLock<String>,
    repository: String,
    auths: Vec<Option<Auth>>,
    /// The `Authorization` that worked.
    granted: tokio::sync::Mutex<Option<String>>,
}

impl Registry {
    /// `base` is a host with an optional port, or a URL.
    pub(crate) fn new(base: &str, repository: &str, auths: &[Auth]) -> Result<Self, String> {
        let base = base.trim_end_matches('/');
        // What the reference rules call docker.io answers under another name.
        let base = if base == "docker.io" { "registry-1.docker.io" } else { base };
        let bases = match base.split_once("://") {
            Some(("https", _)) => vec![base.to_owned()],
            Some(("http", rest)) if is_loopback(rest) => vec![base.to_owned()],
            Some(("http", _)) => {
                return Err(format!("{base}: plain HTTP is spoken with loopback addresses only"));
            }
            Some(_) => return Err(format!("{base}: neither http:// nor https://")),
            // Plain first: a plain server may wait for ever for the rest of what TLS sends it,
            // while one that speaks TLS turns a plain request away at once. It carries no
            // credentials.
            None if is_loopback(base) => vec![format!("http://{base}"), format!("https://{base}")],
            None => vec![format!("https://{base}")],
        };
        let all = auths.iter().cloned().map(Some).chain([None]).collect();
        Ok(Registry {
            bases,
            chosen: OnceLock::new(),
            repository: repository.to_owned(),
            auths: all,
            granted: tokio::sync::Mutex::default(),
        })
    }

    /// A manifest's bytes, at most `most`.
    pub(crate) async fn manifest(
        &self,
        selector: &str,
        accept: &str,
        most: usize,
    ) -> Result<Bytes, HttpError> {
        let path = format!("manifests/{selector}");
        collect(self.get(&path, Some(accept)).await?.into_body(), most).await
    }

    /// A blob as a stream.
    pub(crate) async fn blob(&self, digest: &str) -> Result<Incoming, HttpError> {
        Ok(self.get(&format!("blobs/{digest}"), None).await?.into_body())
    }

    async fn get(&self, path: &str, accept: Option<&str>) -> Result<Response<Incoming>, HttpError> {
        let granted = self.granted.lock().await.clone();
        let first = self.attempt(path, accept, granted.as_deref()).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return expect_ok(first).await;
        }
        let challenge = Challenge::from(&first)?;
        // One at a time: the others then use what it was granted.
        let mut slot = self.granted.lock().await;
        if *slot != granted {
            let again = self.attempt(path, accept, slot.as_deref()).await?;
            if again.status() != StatusCode::UNAUTHORIZED {
                return expect_ok(again).await;
            }
        }
        let mut refused = HttpError::Unauthorized("the registry wants credentials".to_owned());
        for auth in &self.auths {
            let authorization = match self.authorize(&challenge, auth.as_ref()).await {
                Ok(Some(authorization)) => authorization,
                Ok(None) => continue,
                Err(e @ HttpError::Unauthorized(_)) => {
                    refused = e;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let response = self.attempt(path, accept, Some(&authorization)).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    refused = HttpError::Unauthorized(failure(response).await);
                }
                _ => {
                    *slot = Some(authorization);
                    return expect_ok(response).await;
                }
            }
        }
        Err(refused)
    }

    async fn attempt(
        &self,
        path: &str,
        accept: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<Response<Incoming>, HttpError> {
        let bases = match self.chosen.get() {
            Some(chosen) => std::slice::from_ref(chosen),
            None => self.bases.as_slice(),
        };
        let mut error = HttpError::Other("no address to try".to_owned());
        for (index, base) in bases.iter().enumerate() {
            let url = format!("{base}/v2/{}/{path}", self.repository);
            match fetch(&url, accept, authorization).await {
                Ok(response)
                    if response.status() == StatusCode::BAD_REQUEST && index + 1 < bases.len() =>
                {
                    error = HttpError::Other(failure(response).await);
                }
                Ok(response) => {
                    let _ = self.chosen.set(base.clone());
                    return Ok(response);
                }
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    /// The `Authorization` for a challenge; `None` when these credentials cannot answer it.
    async fn authorize(
        &self,
        challenge: &Challenge,
        auth: Option<&Auth>,
    ) -> Result<Option<String>, HttpError> {
        let basic =
            |a: &Auth| format!("Basic {}", BASE64.encode(format!("{}:{}", a.username, a.password)));
        let password = auth.filter(|a| !a.username.is_empty());
        let (realm, service) = match challenge {
            Challenge::Basic => return Ok(password.map(basic)),
            Challenge::Bearer { realm, service } => (realm, service),
        };
        if let Some(auth) = auth.filter(|a| !a.registry_token.is_empty()) {
            return Ok(Some(format!("Bearer {}", auth.registry_token)));
        }
        let scope = format!("repository:{}:pull", self.repository);
        let response = match auth.filter(|a| !a.identity_token.is_empty()) {
            Some(auth) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", "kybern"),
                    ("scope", &scope),
                    ("refresh_token", &auth.identity_token),
                ];
                let body = form.map(|(k, v)| format!("{k}={}", escape(v))).join("&");
                send(Method::POST, realm, &[(CONTENT_TYPE, FORM)], body.into()).await?
            }
            None => {
                let separator = if realm.contains('?') { '&' } else { '?' };
                let (service, scope) = (escape(service), escape(&scope));
                let url = format!("{realm}{separator}service={service}&scope={scope}");
                let authorization = password.map(basic);
                let header = authorization.as_deref().map(|a| (AUTHORIZATION, a));
                send(Method::GET, &url, header.as_slice(), Bytes::new()).await?
            }
        };
        if !response.status().is_success() {
            let refused = response.status().is_client_error();
            let text = failure(response).await;
            return Err(if refused { HttpError::Unauthorized(text) } else { text.into() });
        }
        let body = collect(response.into_body(), MAX_TOKEN).await?;
        let answer: HashMap<String, serde_json::Value> = serde_json::from_slice(&body)
            .map_err(|_| "the token service answered with no JSON".to_owned())?;
        let token = ["token", "access_token"].iter().find_map(|k| answer.get(*k)?.as_str());
        let token = token.ok_or("the token service answered without a token".to_owned())?;
        Ok(Some(format!("Bearer {token}")))
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: String },
}

impl Challenge {
    fn from(response: &Response<Incoming>) -> Result<Self, HttpError> {
        let all = response.headers().get_all(http::header::WWW_AUTHENTICATE);
        let all: Vec<_> = all.iter().filter_map(|v| v.to_str().ok()).filter_map(parse).collect();
        let bearer = all.iter().position(|c| matches!(c, Challenge::Bearer { .. }));
        let chosen = all.into_iter().nth(bearer.unwrap_or(0));
        chosen.ok_or_else(|| {
            HttpError::Unauthorized("the registry does not say which credentials it wants".into())
        })
    }
}

fn parse(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, String::new());
    let mut rest = rest.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value.to_owned()),
            "service" => value.clone_into(&mut service),
            _ => {}
        }
        rest = next.trim_start_matches([',', ' ']);
    }
    // Credentials are sent there.
    let realm = realm?;
    let safe =
        realm.starts_with("https://") || realm.strip_prefix("http://").is_some_and(is_loopback);
    safe.then_some(Challenge::Bearer { realm, service })
}

/// Gets a URL, following redirects, without credentials where they lead elsewhere.
async fn fetch(
    url: &str,
    accept: Option<&str>,
    authorization: Option<&str>,
) -> Result<Response<Incoming>, HttpError> {
    let mut url = url.to_owned();
    let origin = origin(&url);
    for _ in 0..=MAX_REDIRECTS {
        let mut headers = Vec::new();
        headers.extend(accept.map(|a| (ACCEPT, a)));
        let same = self::origin(&url) == origin;
        headers.extend(authorization.filter(|_| same).map(|a| (AUTHORIZATION, a)));
        let response = send(Method::GET, &url, &headers, Bytes::new()).await?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let to = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
        let to = to.ok_or("a redirect that leads nowhere".to_owned())?;
        url = if to.contains("://") {
            to.to_owned()
        } else if to.starts_with('/') {
            format!("{}{to}", self::origin(&url))
        } else {
            let parent = url.rsplit_once('/').map_or(url.as_str(), |(parent, _)| parent);
            format!("{parent}/{to}")
        };
    }
    Err(HttpError::Other("too many redirects".to_owned()))
}

fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    format!("{scheme}://{}", rest.split(['/', '?']).next().unwrap_or_default())
}

async fn send(
    method: Method,
    url: &str,
    headers: &[(http::HeaderName, &str)],
    body: Bytes,
) -> Result<Response<Incoming>, HttpError> {
    let uri: Uri = url.parse().map_err(|_| format!("{url:?} is no URL"))?;
    let authority = uri.authority().ok_or_else(|| format!("{url:?} names no host"))?;
    let secure = uri.scheme_str() == Some("https");
    if !secure && !is_loopback(authority.as_str()) {
        return Err(HttpError::Other(format!(
            "{authority}: plain HTTP is spoken with loopback addresses only"
        )));
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let mut request = Request::builder()
        .method(method)
        .uri(uri.path_and_query().map_or("/", |p| p.as_str()))
        .header(HOST, authority.as_str())
        .header(USER_AGENT, "kybern");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let request =
        request.body(Full::new(body)).map_err(|e| format!("{url}: not a request: {e}"))?;
    let exchange = async {
        let stream = TcpStream::connect((host.as_str(), port)).await;
        let stream = stream.map_err(|e| format!("dial {host}:{port}: {}", sys::reason(&e)))?;
        // Not every network lets small packets wait well.
        let _ = stream.set_nodelay(true);
        if !secure {
            return exchange(TokioIo::new(stream), request).await;
        }
        let name =
            ServerName::try_from(host.clone()).map_err(|_| format!("{host:?} is no host name"))?;
        let connector = tokio_rustls::TlsConnector::from(tls()?);
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|e| format!("TLS with {host}:{port}: {e}"))?;
        exchange(TokioIo::new(stream), request).await
    };
    tokio::time::timeout(CONNECT_TIMEOUT + IDLE_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(HttpError::Other(format!("{authority} does not answer"))))
}

async fn exchange(
    io: impl hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, HttpError> {
    let broken = |e: hyper::Error| HttpError::Other(format!("HTTP: {e}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
    // Ends with the response's body or when that is dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// Trusts what the machine trusts.
fn tls() -> Result<Arc<rustls::ClientConfig>, HttpError> {
    static CONFIG: OnceLock<Result<Arc<rustls::ClientConfig>, String>> = OnceLock::new();
    let make = || {
        let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
        let usual = CERTIFICATES.iter().map(std::path::PathBuf::from);
        let file = named.into_iter().chain(usual).find(|p| p.is_file());
        let mut roots = rustls::RootCertStore::empty();
        if let Some(file) = file {
            let read = CertificateDer::pem_file_iter(&file);
            let read = read.map_err(|e| format!("{}: {e}", file.display()))?;
            roots.add_parsable_certificates(read.flatten());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    };
    CONFIG.get_or_init(make).clone().map_err(HttpError::Other)
}

async fn expect_ok(response: Response<Incoming>) -> Result<Response<Incoming>, HttpError> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND => Err(HttpError::NotFound),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(HttpError::Unauthorized(failure(response).await))
        }
        _ => Err(HttpError::Other(failure(response).await)),
    }
}

/// The status and, where there is one, the registry's own message.
async fn failure(response: Response<Incoming>) -> String {
    let status = response.status();
    let body = collect(response.into_body(), 64 << 10).await.unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match value.pointer("/errors/0/message").and_then(serde_json::Value::as_str) {
        Some(message) => format!("{status}: {}", message.chars().take(300).collect::<String>()),
        None => status.to_string(),
    }
}

async fn collect(mut body: Incoming, most: usize) -> Result<Bytes, HttpError> {
    let mut all = Vec::new();
    while let Some(data) = next(&mut body).await? {
        if all.len() + data.len() > most {
            return Err(HttpError::Other(format!("the answer is longer than {most} bytes")));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next(body: &mut Incoming) -> Result<Option<Bytes>, HttpError> {
    loop {
        let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame())
            .await
            .map_err(|_| "the connection went silent".to_owned())?;
        match frame {
            None => return Ok(None),
            Some(Err(e)) => return Err(HttpError::Other(format!("the transfer broke off: {e}"))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Whether `host[:port][/path]` is this machine itself.
fn is_loopback(authority: &str) -> bool {
    let authority = authority.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_challenges() {
        let bearer = |realm: &str, service: &str| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.into() })
        };
        let full = r#"Bearer realm="https://a.example/token",service="r, x",scope="s:pull,push""#;
        assert_eq!(parse(full), bearer("https://a.example/token", "r, x"));
        assert_eq!(parse("bearer realm=https://a.example/t"), bearer("https://a.example/t", ""));
        assert_eq!(parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(
            parse("Bearer realm=\"http://a.example/token\""),
            None,
            "no secrets in the open"
        );
        assert!(parse("Bearer realm=\"http://127.0.0.1:5/token\"").is_some());
        for broken in ["", "Bearer", "Bearer realm=\"x", "Digest a=b"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn plain_http_stays_on_the_machine() {
        for yes in ["localhost", "localhost:5000/x", "127.0.0.1:1", "127.9.9.9", "[::1]:80"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.example", "10.0.0.1", "127.0.0.1.example", "[2001:db8::1]", ""] {
            assert!(!is_loopback(no), "{no}");
        }
        assert!(Registry::new("http://mirror.example", "a", &[]).is_err());
        assert!(Registry::new("ftp://mirror.example", "a", &[]).is_err());
        assert!(Registry::new("http://localhost:1", "a", &[]).is_ok());
    }
}
