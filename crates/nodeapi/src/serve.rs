//! TLS connections in, requests to the handler.
use crate::{Caller, Node, handler};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of a request, also of the first and the next one.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// The node's certificate with its key, and the authority that clients' certificates come from.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub cert_pem: String,
    pub key_pem: String,
    pub client_ca_pem: String,
}

/// Serves until it is dropped. Changed credentials hold for new connections.
pub async fn serve(
    listener: TcpListener,
    mut credentials: watch::Receiver<Arc<Credentials>>,
    node: Arc<dyn Node>,
) -> io::Result<()> {
    let mut acceptor = acceptor(&credentials.borrow_and_update())?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the node API");
                // Out of file descriptors, say: others must end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if credentials.has_changed().unwrap_or(false) {
            match self::acceptor(&credentials.borrow_and_update()) {
                Ok(renewed) => acceptor = renewed,
                Err(error) => tracing::error!(%error, "the new serving certificate is unusable"),
            }
        }
        let (acceptor, node) = (acceptor.clone(), node.clone());
        tokio::spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            let Ok(Ok(stream)) = handshake.await else { return };
            let shown = stream.get_ref().1.peer_certificates();
            let caller = shown.and_then(|chain| Caller::of_certificate(chain.first()?));
            let service = service_fn(move |request| {
                let (node, caller) = (node.clone(), caller.clone());
                async move {
                    let reply = handler::handle(request, caller, node).await;
                    Ok::<_, std::convert::Infallible>(reply)
                }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let connection = connection.with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the node API broke");
            }
        });
    }
}

fn acceptor(credentials: &Credentials) -> io::Result<TlsAcceptor> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(credentials.client_ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|_| bad("the client authority is not PEM"))?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(io::Error::other)?;
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(credentials.cert_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| bad("the serving certificate is not PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes())
        .map_err(|_| bad("the serving key is not PEM"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    // Upgrades need HTTP/1.1, and nothing here gains from HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
