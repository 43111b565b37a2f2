//! TLS towards those who prove who they are by authorities that somebody named.
use super::dial;
use crate::server::Server;
use api::ApiError;
use base64::Engine;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Authorities whose settings are kept, with the sessions of earlier connections.
const KEPT_MAX: usize = 64;
/// Where distributions keep the authorities that everybody trusts.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Settings by the authorities that a webhook's configuration or an APIService names.
#[derive(Default)]
pub(crate) struct Authorities(Mutex<HashMap<String, Arc<rustls::ClientConfig>>>);

impl Authorities {
    pub(crate) fn of(&self, bundle: &str) -> Result<Arc<rustls::ClientConfig>, String> {
        self.kept(bundle.to_owned(), || {
            Ok(dial::builder()?.with_root_certificates(roots(bundle)?).with_no_client_auth())
        })
    }

    /// For one who is to know that it is this server that asks.
    pub(crate) fn for_front(
        &self,
        server: &Server,
        bundle: &str,
    ) -> Result<Arc<rustls::ClientConfig>, String> {
        self.kept(format!("front {bundle}"), || {
            dial::as_front(server, dial::builder()?.with_root_certificates(roots(bundle)?))
        })
    }

    /// As [`Self::for_front`], whoever it may be.
    pub(crate) fn unverified(&self, server: &Server) -> Result<Arc<rustls::ClientConfig>, String> {
        self.kept(" unverified".to_owned(), || dial::unverified_as_front(server))
    }

    fn kept(
        &self,
        key: String,
        make: impl FnOnce() -> Result<rustls::ClientConfig, ApiError>,
    ) -> Result<Arc<rustls::ClientConfig>, String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = kept.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(make().map_err(|error| error.message)?);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&config));
        Ok(config)
    }
}

fn roots(bundle: &str) -> Result<rustls::RootCertStore, ApiError> {
    let fail = |why: String| ApiError::internal(format!("caBundle: {why}"));
    let pem = match bundle {
        "" => SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default(),
        text => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| fail(error.to_string()))?,
    };
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&pem) {
        let cert = cert.map_err(|error| fail(error.to_string()))?;
        // Some of everybody's authorities this library does not take; those named here it must.
        match roots.add(cert) {
            Err(error) if !bundle.is_empty() => return Err(fail(error.to_string())),
            _ => {}
        }
    }
    Ok(roots)
}
