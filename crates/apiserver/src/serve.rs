//! The server on a socket: TLS with optional client certificates, HTTP/1.1 and HTTP/2.
use crate::body;
use crate::gather::Gather;
use crate::server::{ConnInfo, Server};
use crate::streams::{Connection, Streams, apart};
use authn::user_of_certificate;
use futures_util::future::Either;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const MAX_CONNECTIONS: usize = 16_384;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAX_STREAMS: u32 = 1000;
/// How long open requests may go on after the server has been told to stop.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(String);

/// TLS with the given certificate; client certificates of the authority are welcome, not needed.
pub fn tls(cert_pem: &str, key_pem: &str, client_ca_pem: &str) -> Result<ServerConfig, TlsError> {
    let fail = |error: &dyn std::fmt::Display| TlsError(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(client_ca_pem.as_bytes()) {
        let cert = cert.map_err(|error| fail(&error))?;
        roots.add(cert).map_err(|error| fail(&error))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| fail(&error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| fail(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.map_err(|error| fail(&error))?, key)
        .map_err(|error| fail(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until [`Server::stop`], then lets what is open end for a little while.
pub async fn serve(server: Server, listener: TcpListener, tls: ServerConfig) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stopped = Box::pin(server.stopped());
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            accepted = async { (place.await, listener.accept().await) } => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
                let (server, acceptor) = (server.clone(), acceptor.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection(server, acceptor, stream, peer).await;
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (Err(_), _) => break,
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::info!("connections were still open at the end and are closed");
    }
}

async fn connection(
    server: Server,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: std::net::SocketAddr,
) {
    // Without it small answers wait for acknowledgements of earlier ones.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let user = certificates.first().and_then(|cert| user_of_certificate(cert));
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let conn = ConnInfo { peer: Some(peer), user };
    let mut stopped = Box::pin(server.stopped());
    let silence = silent_for(server.config.first_request);
    let begun = Arc::clone(&silence.0);
    let service = service_fn(move |request: Request<Incoming>| {
        begun.store(true, Ordering::Relaxed);
        let (server, conn) = (server.clone(), conn.clone());
        let answer = server.handle(request.map(body::boxed), conn);
        let answer = if http2 { Either::Left(apart(answer)) } else { Either::Right(answer) };
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let streams = Streams::default();
    let mut builder = auto::Builder::new(streams.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEADER_BYTES * 4);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(60));
    let stream = Gather::new(stream, http2);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let serving = std::pin::pin!(serving);
    let mut serving = Connection::new(serving, streams);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = &mut stopped => {
            serving.connection.as_mut().graceful_shutdown();
            serving.await
        }
        () = silence.1 => return tracing::debug!(%peer, "no request came"),
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// Ends after that time, unless the flag beside it is set by then.
fn silent_for(time: Duration) -> (Arc<AtomicBool>, impl Future<Output = ()>) {
    let begun = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&begun);
    let silent = async move {
        tokio::time::sleep(time).await;
        if flag.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    (begun, silent)
}
