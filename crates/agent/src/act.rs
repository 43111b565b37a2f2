//! Single acts towards a container: the requests of probes and lifecycle hooks.
use api::k8s::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction};
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use runtime::{Error, Runtime};
use std::fmt::Write;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Bytes of an answer that are read, as upstream.
const MAX_BODY: usize = 10 * 1024;
/// Characters of an answer or of output that a message shows.
const MAX_SHOWN: usize = 1024;

/// Why an act failed: the text for the event.
pub type Outcome = Result<(), String>;

/// Where a container is reached.
#[derive(Debug, Clone)]
pub struct Target {
    pub host: String,
    pub container_id: String,
    pub container: Arc<Container>,
}

/// The number of a port that may be given by its name.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse::<i32>() {
            Ok(number) => number,
            Err(_) => container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name))
                .map(|port| port.container_port)
                .ok_or_else(|| format!("couldn't find port: {name:?}"))?,
        },
    };
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let address = authority(host, port);
    TcpStream::connect(&address).await.map_err(|error| {
        let reason = match error.raw_os_error() {
            Some(_) => format!("connect: {}", lowercase(&error)),
            None => error.to_string(),
        };
        format!("dial tcp {address}: {reason}")
    })
}

/// The kernel's message alone, as other programs write it.
fn lowercase(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

/// A connection can be made.
pub async fn tcp(target: &Target, action: &TCPSocketAction, timeout: Duration) -> Outcome {
    let port = port(&action.port, &target.container)?;
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&target.host);
    match tokio::time::timeout(timeout, connect(host, port)).await {
        Ok(result) => result.map(drop),
        Err(_) => Err(format!("dial tcp {}: i/o timeout", authority(host, port))),
    }
}

/// A request is answered. With `check_status` the answer must be a good one.
pub async fn http_get(
    target: &Target,
    action: &HTTPGetAction,
    agent: &str,
    timeout: Duration,
    check_status: bool,
) -> Outcome {
    let port = port(&action.port, &target.container)?;
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&target.host);
    let tls = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://{}{path}", authority(host, port));
    let request = request(action, &path, &authority(host, port), agent)?;
    let exchange = async {
        let stream = connect(host, port).await?;
        if tls {
            let name = rustls::pki_types::ServerName::try_from(host.to_owned())
                .map_err(|error| error.to_string())?;
            let connector = tokio_rustls::TlsConnector::from(TRUST_ANYONE.clone());
            let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
            send(stream, request).await
        } else {
            send(stream, request).await
        }
    };
    let answer = match tokio::time::timeout(timeout, exchange).await {
        Ok(answer) => answer.map_err(|error| format!("Get {url:?}: {error}"))?,
        Err(_) => {
            return Err(format!(
                "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting \
                 headers)"
            ));
        }
    };
    let status = answer.as_u16();
    if check_status && !(200..400).contains(&status) {
        return Err(format!("HTTP probe failed with statuscode: {status}"));
    }
    Ok(())
}

fn request(
    action: &HTTPGetAction,
    path: &str,
    authority: &str,
    agent: &str,
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::get(path)
        .header("host", authority)
        .header("user-agent", agent)
        .header("accept", "*/*")
        .header("connection", "close")
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_str(&header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(format!("invalid header {:?}", header.name));
        };
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<http::StatusCode, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| crate::seams::chain(&error);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(text);
    let status = answer.as_ref().map(|answer| answer.status()).map_err(String::clone);
    if let Ok(answer) = answer {
        // Reading a little lets well-behaved servers end the connection in order.
        let _ = Limited::new(answer.into_body(), MAX_BODY).collect().await;
    }
    connection.abort();
    status
}

/// The answer of a service to `grpc.health.v1.Health/Check` is "serving".
pub async fn grpc(target: &Target, action: &GRPCAction, timeout: Duration) -> Outcome {
    let port = u16::try_from(action.port).map_err(|_| "invalid port number".to_owned())?;
    let address = authority(&target.host, port);
    let service = action.service.clone().unwrap_or_default();
    let exchange = async {
        let stream = connect(&target.host, port).await?;
        health_check(stream, &address, &service).await
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "timeout: failed to connect service {address:?} within {}: context deadline exceeded",
            podlife::backoff::written(timeout.try_into().unwrap_or_default())
        )),
    }
}

async fn health_check(stream: TcpStream, address: &str, service: &str) -> Outcome {
    let text = |error: hyper::Error| crate::seams::chain(&error);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(text)?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37 grpc")
        .body(Full::new(health_request(service)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(text)?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| error.to_string())?;
    connection.abort();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let header = |name: &str| {
        let value = trailers.get(name).or_else(|| head.headers.get(name))?;
        value.to_str().ok().map(str::to_owned)
    };
    match header("grpc-status").as_deref() {
        Some("0") => {}
        Some("12") => {
            return Err("this server does not implement the grpc health protocol \
                        (grpc.health.v1.Health)"
                .to_owned());
        }
        code => {
            let message = header("grpc-message").unwrap_or_default();
            return Err(format!("rpc error: code = {}: {message}", code.unwrap_or("unknown")));
        }
    }
    match health_status(&body.to_bytes()) {
        Some(1) => Ok(()),
        other => {
            let name = match other {
                Some(2) => "NOT_SERVING",
                Some(3) => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            Err(format!("service unhealthy (responded with {name:?})"))
        }
    }
}

/// A gRPC frame with the field `service = 1`.
fn health_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut len = service.len();
        while len >= 0x80 {
            message.push(len as u8 | 0x80);
            len >>= 7;
        }
        message.push(len as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    Bytes::from(frame)
}

/// The field `status = 1` of the first frame.
fn health_status(frame: &[u8]) -> Option<u8> {
    match frame.get(5..)? {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

/// A command ends with 0.
pub async fn exec(
    runtime: &dyn Runtime,
    target: &Target,
    action: &ExecAction,
    timeout: Duration,
) -> Outcome {
    let args = action.command.clone().unwrap_or_default();
    match runtime.exec_sync(&target.container_id, &args, Some(timeout)).await {
        Ok(output) if output.code == 0 => Ok(()),
        Ok(output) => {
            let mut all = output.stdout;
            all.extend_from_slice(&output.stderr);
            match shown(&all).as_str() {
                "" => Err(format!("command exited with code {}", output.code)),
                text => Err(text.to_owned()),
            }
        }
        Err(Error::Timeout { .. }) => {
            let command = args.join(" ");
            let limit = podlife::backoff::written(timeout.try_into().unwrap_or_default());
            Err(format!("command timed out: {command:?} timed out after {limit}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for c in text.chars().take(MAX_SHOWN) {
        let _ = out.write_char(c);
    }
    out
}

/// Probes and hooks look at whether something answers, not at who.
static TRUST_ANYONE: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    Arc::new(builder.with_no_client_auth())
});

#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
