//! The one connection to one of the endpoints, made anew when it is lost; and why it cannot be
//! made, in words that say what to do.
use crate::{
    config::{Config, Endpoint},
    grpc::{CallError, Outgoing},
};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{AlertDescription, CertificateError, pki_types::ServerName};
use std::{error::Error, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call that failed may be told so a little before its connection ends.
const END_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Unread bytes on the way, for each stream.
const STREAM_WINDOW: u32 = 4 << 20;

/// How a server refuses what it is shown, or not shown.
const CERTIFICATE_ALERTS: [AlertDescription; 5] = [
    AlertDescription::CertificateRequired,
    AlertDescription::BadCertificate,
    AlertDescription::UnknownCA,
    AlertDescription::CertificateExpired,
    AlertDescription::UnsupportedCertificate,
];

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Default)]
pub(crate) struct Connection {
    sender: Option<SendRequest<Outgoing>>,
    /// Ends with the connection.
    driver: Option<(usize, Driver)>,
    /// The endpoint to try first.
    endpoint: usize,
}

type Driver = JoinHandle<Result<(), hyper::Error>>;

impl Connection {
    /// With the number of its endpoint.
    pub(crate) async fn sender(
        &mut self,
        config: &Config,
    ) -> Result<(SendRequest<Outgoing>, usize), CallError> {
        if let Some(sender) = &mut self.sender
            && sender.ready().await.is_ok()
        {
            return Ok((sender.clone(), self.endpoint));
        }
        self.sender = None;
        let mut failures = Vec::new();
        for _ in 0..config.endpoints.len() {
            let endpoint = &config.endpoints[self.endpoint];
            match timeout(CONNECT_TIMEOUT, connect(config, endpoint)).await {
                Ok(Ok((sender, driver))) => {
                    self.sender = Some(sender.clone());
                    self.driver = Some((self.endpoint, driver));
                    return Ok((sender, self.endpoint));
                }
                Ok(Err(error)) => failures.push(format!("{endpoint}: {}", reason(&*error))),
                Err(_) => failures.push(format!("{endpoint}: no answer in time")),
            }
            self.endpoint = (self.endpoint + 1) % config.endpoints.len();
        }
        Err(CallError::Unreachable(failures.join("; ")))
    }

    /// Why the connection ended just now: a call that ended with it knows less.
    pub(crate) async fn ended(&mut self, config: &Config) -> Option<String> {
        let (endpoint, driver) = self.driver.take()?;
        let error = timeout(END_TIMEOUT, driver).await.ok()?.ok()?.err()?;
        let endpoint = &config.endpoints[endpoint];
        let text = reason(&error);
        // The kernel forgets what was said before a connection was reset.
        let hint = match config.tls {
            Some(_) if text.contains("client certificate") => "",
            Some(_) => ": does etcd take the client certificate?",
            None => ": does etcd listen there, and does it want TLS (etcds://)?",
        };
        Some(format!("{endpoint}: {text}{hint}"))
    }

    /// The next call tries another endpoint.
    pub(crate) fn leave(&mut self, endpoint: usize, config: &Config) {
        if self.endpoint == endpoint && self.sender.take().is_some() {
            self.endpoint = (self.endpoint + 1) % config.endpoints.len();
        }
    }
}

async fn connect(
    config: &Config,
    endpoint: &Endpoint,
) -> Result<(SendRequest<Outgoing>, Driver), Failure> {
    let tcp = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
    tcp.set_nodelay(true)?;
    match &config.tls {
        Some(tls) => {
            let name = ServerName::try_from(endpoint.host.clone())?;
            let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err("what listens there is not etcd: it has no HTTP/2".into());
            }
            begin(stream).await
        }
        None => begin(tcp).await,
    }
}

async fn begin<S>(stream: S) -> Result<(SendRequest<Outgoing>, Driver), Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * 2);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // Until the connection is lost or nobody holds its other end.
    Ok((sender, tokio::spawn(connection)))
}

/// What is behind a failed connection: the innermost cause, told as what to do about it.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    loop {
        if let Some(tls) = deepest.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        let io = deepest.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return "connection refused: is etcd running there?".to_owned();
        }
        // What an I/O error wraps is not its source.
        let inner =
            io.and_then(|error| error.get_ref()).map(|inner| inner as &(dyn Error + 'static));
        match inner.or_else(|| deepest.source()) {
            Some(cause) => deepest = cause,
            None => break,
        }
    }
    let text = deepest.to_string();
    // What comes after the handshake is told as text only.
    if CERTIFICATE_ALERTS.iter().any(|alert| text.ends_with(&format!("{alert:?}"))) {
        return format!("etcd wants a client certificate that its CA signed ({text})");
    }
    text
}

fn of_tls(error: &rustls::Error) -> String {
    let hint = match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the CA that was given did not sign etcd's certificate"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "etcd's certificate is for other names than this endpoint's"
            }
            _ => "etcd's certificate cannot be used",
        },
        rustls::Error::InvalidMessage(_) => "what listens there does not speak TLS",
        rustls::Error::AlertReceived(alert) if CERTIFICATE_ALERTS.contains(alert) => {
            "etcd wants a client certificate that its CA signed"
        }
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}
