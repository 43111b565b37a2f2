//! HTTP/2 (or 1.1) over TLS to a server elsewhere, with a pool of connections.
//!
//! Trusts only the configuration's certificate authority. A changed identity takes effect with
//! the next request: connections made under the former one are left to finish what they do.
use crate::{Body, BoxError, BoxFuture, Error, Transport};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{self, Client as Pool};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How to reach a server and who to be there.
#[derive(Clone)]
pub struct HttpsConfig {
    /// `https://HOST[:PORT]`
    pub server: String,
    pub ca_pem: Vec<u8>,
    pub identity: Identity,
    /// The name in the server's certificate, if it is not the URL's host.
    pub server_name: Option<String>,
    /// For connecting, and for the headers of an answer.
    pub timeout: Duration,
}

#[derive(Clone)]
pub enum Identity {
    None,
    ClientCert {
        cert_pem: Vec<u8>,
        key_pem: Vec<u8>,
    },
    Token(String),
    /// Read again when it is a minute old, as projected tokens are replaced.
    TokenFile(PathBuf),
}

const TIMEOUT: Duration = Duration::from_secs(40);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN_FRESH: Duration = Duration::from_secs(60);
const PING_INTERVAL: Duration = Duration::from_secs(30);

impl HttpsConfig {
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            ca_pem: Vec::new(),
            identity: Identity::None,
            server_name: None,
            timeout: TIMEOUT,
        }
    }
}

/// The transport over TLS.
pub struct Https {
    config: HttpsConfig,
    authority: String,
    live: RwLock<Live>,
    token: Mutex<Option<(Instant, HeaderValue)>>,
}

#[derive(Clone)]
struct Live {
    pool: Pool<Connector, Full<Bytes>>,
    identity: Identity,
}

impl Https {
    pub fn new(config: HttpsConfig) -> Result<Self, Error> {
        let uri: Uri = config.server.parse().map_err(|error| {
            Error::Config(format!("{:?} is not a server's URL: {error}", config.server))
        })?;
        let authority = match (uri.scheme_str(), uri.authority()) {
            (Some("https"), Some(authority)) => authority.to_string(),
            _ => {
                let server = &config.server;
                return Err(Error::Config(format!("{server:?}: give https://HOST:PORT")));
            }
        };
        let pool = pool(&config, &config.identity)?;
        let live = Live { pool, identity: config.identity.clone() };
        Ok(Self { config, authority, live: RwLock::new(live), token: Mutex::new(None) })
    }
    /// Requests from now on are made under this identity, on new connections.
    pub fn set_identity(&self, identity: Identity) -> Result<(), Error> {
        let pool = pool(&self.config, &identity)?;
        *self.live.write().expect("no holder panics") = Live { pool, identity };
        *self.token.lock().expect("no holder panics") = None;
        Ok(())
    }
    fn bearer(&self, identity: &Identity) -> Result<Option<HeaderValue>, BoxError> {
        let path = match identity {
            Identity::None | Identity::ClientCert { .. } => return Ok(None),
            Identity::Token(token) => return bearer_value(token).map(Some),
            Identity::TokenFile(path) => path,
        };
        let mut cached = self.token.lock().expect("no holder panics");
        if let Some((read_at, value)) = &*cached
            && read_at.elapsed() < TOKEN_FRESH
        {
            return Ok(Some(value.clone()));
        }
        let token = std::fs::read_to_string(path)
            .map_err(|error| format!("token file {}: {error}", path.display()))?;
        let value = bearer_value(token.trim())?;
        *cached = Some((Instant::now(), value.clone()));
        Ok(Some(value))
    }
}

impl Transport for Https {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, BoxError>> {
        Box::pin(async move {
            let live = self.live.read().expect("no holder panics").clone();
            let (mut parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            parts.uri = format!("https://{}{path}", self.authority).parse()?;
            if let Some(bearer) = self.bearer(&live.identity)? {
                parts.headers.insert(header::AUTHORIZATION, bearer);
            }
            let request = Request::from_parts(parts, Full::new(body));
            let answer = tokio::time::timeout(self.config.timeout, live.pool.request(request));
            let response = answer
                .await
                .map_err(|_| format!("no answer within {} s", self.config.timeout.as_secs()))??;
            Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        })
    }
}

fn bearer_value(token: &str) -> Result<HeaderValue, BoxError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the bearer token holds characters that no token has")?;
    value.set_sensitive(true);
    Ok(value)
}

fn pool(config: &HttpsConfig, identity: &Identity) -> Result<Pool<Connector, Full<Bytes>>, Error> {
    let connector = Connector {
        tls: TlsConnector::from(Arc::new(tls_config(config, identity)?)),
        server_name: config.server_name.as_deref().map(Arc::from),
    };
    Ok(Pool::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .http2_adaptive_window(true)
        .build(connector))
}

/// What TLS is spoken by: for who makes connections of their own.
///
/// # Errors
/// Certificates or keys that cannot be read.
pub fn tls_config(
    config: &HttpsConfig,
    identity: &Identity,
) -> Result<rustls::ClientConfig, Error> {
    let bad = |what: &str, error: &dyn std::fmt::Display| Error::Config(format!("{what}: {error}"));
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&config.ca_pem) {
        let cert = cert.map_err(|error| bad("certificate authority", &error))?;
        roots.add(cert).map_err(|error| bad("certificate authority", &error))?;
    }
    if roots.is_empty() {
        return Err(Error::Config("no certificate authority to trust was given".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("TLS", &error))?
        .with_root_certificates(roots);
    let mut tls = match identity {
        Identity::ClientCert { cert_pem, key_pem } => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert_pem).collect();
            let chain = chain.map_err(|error| bad("client certificate", &error))?;
            let key = PrivateKeyDer::from_pem_slice(key_pem)
                .map_err(|error| bad("client key", &error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| bad("client certificate", &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
    server_name: Option<Arc<str>>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = Conn;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Conn, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { tls, server_name } = self.clone();
        Box::pin(async move {
            let host = uri.host().ok_or("the server's URL has no host")?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = uri.port_u16().unwrap_or(443);
            let name = ServerName::try_from(server_name.as_deref().unwrap_or(host).to_owned())?;
            let connect = async {
                let tcp = TcpStream::connect((host, port)).await?;
                tcp.set_nodelay(true)?;
                tls.connect(name, tcp).await
            };
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
                .await
                .map_err(|_| format!("{host}:{port} does not answer"))?
                .map_err(|error| format!("{host}:{port}: {error}"))?;
            Ok(Conn(TokioIo::new(stream)))
        })
    }
}

struct Conn(TokioIo<TlsStream<TcpStream>>);

impl Connection for Conn {
    fn connected(&self) -> Connected {
        let (_, session) = self.0.inner().get_ref();
        match session.alpn_protocol() {
            Some(b"h2") => legacy::connect::Connected::new().negotiated_h2(),
            _ => legacy::connect::Connected::new(),
        }
    }
}

impl Read for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
