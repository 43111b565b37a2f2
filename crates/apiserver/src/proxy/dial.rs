//! A connection to a target, with TLS where it needs that.
use super::{Target, target::Security};
use crate::server::Server;
use api::ApiError;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A body whose error type the client's connection can name.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

const CONNECT: Duration = Duration::from_secs(10);

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) struct Link(Box<dyn Duplex>);

impl Link {
    pub(crate) async fn handshake(
        self,
    ) -> hyper::Result<(
        http1::SendRequest<Outgoing>,
        http1::Connection<TokioIo<Box<dyn Duplex>>, Outgoing>,
    )> {
        http1::handshake(TokioIo::new(self.0)).await
    }
}

/// Why a target cannot be reached; in upstream's words where it has some.
#[derive(Debug)]
pub(crate) enum Broken {
    Unreachable(String),
    Api(ApiError),
}

impl From<ApiError> for Broken {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

pub(crate) async fn connect(server: &Server, target: &Target) -> Result<Link, Broken> {
    let dial = |why: &str| Broken::Unreachable(format!("dial tcp {}: {why}", target.host_header));
    let connecting = TcpStream::connect((target.host.as_str(), target.port));
    let stream = match tokio::time::timeout(CONNECT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(dial(&format!("connect: {}", plain(&error)))),
        Err(_) => return Err(dial("i/o timeout")),
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let config = match &target.security {
        Security::Plain => return Ok(Link(Box::new(stream))),
        Security::Node => Arc::new(node_tls(server)?),
        Security::Unverified => Arc::new(unverified_tls()?),
        Security::Authorities(config) => Arc::clone(config),
    };
    let name = ServerName::try_from(target.tls_name.clone()).map_err(ApiError::internal)?;
    let connector = tokio_rustls::TlsConnector::from(config);
    match tokio::time::timeout(CONNECT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Link(Box::new(stream))),
        Ok(Err(error)) => Err(Broken::Unreachable(untrusted(&error))),
        Err(_) => Err(Broken::Unreachable("net/http: TLS handshake timeout".to_owned())),
    }
}

/// The system's text alone, as other programs print it.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A node must show a certificate of the cluster's, and is shown this server's.
fn node_tls(server: &Server) -> Result<ClientConfig, ApiError> {
    let pki = &server.config.pki;
    let profile = pki::Profile::client("kube-apiserver-kubelet-client", &["system:masters"]);
    let issued =
        pki.certificate("apiserver-kubelet-client", &profile).map_err(ApiError::internal)?;
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pki.ca.cert_pem().as_bytes()) {
        roots.add(cert.map_err(ApiError::internal)?).map_err(ApiError::internal)?;
    }
    presenting(builder()?.with_root_certificates(roots), &issued)
}

/// A pod's or Service's own certificate is of no authority that the cluster knows: upstream, too,
/// takes any for `https:` proxies, and sends no secret of its own along.
fn unverified_tls() -> Result<ClientConfig, ApiError> {
    Ok(unverified()?.with_no_client_auth())
}

type Presenting = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn unverified() -> Result<Presenting, ApiError> {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    Ok(builder()?.dangerous().with_custom_certificate_verifier(verifier))
}

/// For an aggregated API whose APIService says that its certificate is not to be looked at.
pub(crate) fn unverified_as_front(server: &Server) -> Result<ClientConfig, ApiError> {
    as_front(server, unverified()?)
}

/// As whom this server hands requests on.
pub(crate) fn as_front(server: &Server, builder: Presenting) -> Result<ClientConfig, ApiError> {
    let issued = server.config.pki.front_proxy_client().map_err(ApiError::internal)?;
    presenting(builder, &issued)
}

fn presenting(builder: Presenting, issued: &pki::Issued) -> Result<ClientConfig, ApiError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).collect();
    let key =
        PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).map_err(ApiError::internal)?;
    builder
        .with_client_auth_cert(chain.map_err(ApiError::internal)?, key)
        .map_err(ApiError::internal)
}

/// In upstream's words, where the certificate is not to be trusted.
fn untrusted(error: &std::io::Error) -> String {
    use rustls::CertificateError::{
        self, BadSignature, NotValidForName, NotValidForNameContext, UnknownIssuer,
    };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match inner {
        Some(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) => {
            "certificate signed by unknown authority".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "certificate has expired or is not yet valid".to_owned(),
        Some(rustls::Error::InvalidCertificate(
            other @ (NotValidForName | NotValidForNameContext { .. }),
        )) => other.to_string(),
        _ => return format!("tls: {error}"),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

pub(crate) fn builder()
-> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, ApiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ApiError::internal)
}

#[derive(Debug)]
struct AnyCertificate(rustls::crypto::WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
