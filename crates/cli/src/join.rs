//! How a machine that knows only a token comes to trust a cluster.
//!
//! A join token is `K1<hash>::<id>.<secret>`: the SHA-256 of the cluster's certificate authority,
//! and a bootstrap token. The server sends its authority in the handshake; only the one with that
//! hash is believed, and everything after is verified against it.
use anyhow::{Context, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinToken {
    ca_hash: String,
    /// `id.secret`, as it is shown to the API server.
    pub(crate) bootstrap: String,
}

impl JoinToken {
    pub(crate) fn new(ca_der: &[u8], bootstrap: &str) -> Self {
        Self { ca_hash: hash(ca_der), bootstrap: bootstrap.to_owned() }
    }
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let form = "a token looks like K1<64 hex digits>::<6 characters>.<16 characters>: make one \
                    with `kybern token create`";
        let (hash, bootstrap) =
            text.strip_prefix("K1").and_then(|rest| rest.split_once("::")).context(form)?;
        let (id, secret) = bootstrap.split_once('.').context(form)?;
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        ensure!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), form);
        ensure!(id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret), form);
        Ok(Self { ca_hash: hash.to_owned(), bootstrap: bootstrap.to_owned() })
    }
    /// Asks the server for its authority and yields it as PEM if it is the token's.
    pub(crate) fn fetch_ca(&self, server: &str) -> Result<String> {
        let authority = server
            .strip_prefix("https://")
            .with_context(|| format!("--server {server}: give https://HOST:PORT"))?
            .trim_end_matches('/');
        let address =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:443") };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let chain = handshake(&address, host)?;
        for certificate in chain {
            if hash(&certificate) == self.ca_hash {
                return Ok(pki::certificate_pem(&certificate));
            }
        }
        bail!(
            "the server at {server} is not the cluster that the token is for (its authority differs)"
        )
    }
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "K1{}::{}", self.ca_hash, self.bootstrap)
    }
}

fn hash(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes inside the first certificate of a PEM text.
pub(crate) fn der_of(pem: &str) -> Result<Vec<u8>> {
    use rustls::pki_types::pem::PemObject;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
    Ok(certificate.ok().context("the certificate authority is not valid PEM")?.to_vec())
}

/// The certificates that the server shows.
fn handshake(address: &str, host: &str) -> Result<Vec<Vec<u8>>> {
    use std::net::ToSocketAddrs;
    let cannot =
        || format!("cannot reach the server at {address}: is it up, and is the port open?");
    let target =
        address.to_socket_addrs().ok().and_then(|mut all| all.next()).with_context(cannot)?;
    let mut stream = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT).with_context(cannot)?;
    stream.set_read_timeout(Some(CONNECT_TIMEOUT)).with_context(cannot)?;
    stream.set_write_timeout(Some(CONNECT_TIMEOUT)).with_context(cannot)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("TLS is not usable")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ShowsItself(provider)))
        .with_no_client_auth();
    let name =
        ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no host name"))?;
    let mut session =
        rustls::ClientConnection::new(Arc::new(config), name).context("TLS is not usable")?;
    while session.is_handshaking() {
        session.complete_io(&mut stream).with_context(cannot)?;
    }
    let shown = session.peer_certificates().unwrap_or_default();
    Ok(shown.iter().map(|certificate| certificate.to_vec()).collect())
}

/// Believes nothing yet: the handshake is only to see the certificates, no data follows it.
#[derive(Debug)]
struct ShowsItself(Arc<CryptoProvider>);

impl ServerCertVerifier for ShowsItself {
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
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let token = JoinToken::new(b"authority", "abcdef.0123456789abcdef");
        assert_eq!(JoinToken::parse(&token.to_string()).unwrap(), token);
        for bad in ["", "abcdef.0123456789abcdef", "K1zz::abcdef.0123456789abcdef"] {
            assert!(JoinToken::parse(bad).unwrap_err().to_string().contains("kybern token create"));
        }
    }
}
