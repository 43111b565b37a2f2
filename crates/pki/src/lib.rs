//! The cluster's keys: certificate authority, certificates signed by it, and the key that signs
//! service-account tokens.
//!
//! Knows files and cryptography, nothing of the API. Everything is made on first use and then
//! loaded; key files have mode 0600, and a file is written whole or not at all. Keys are ECDSA
//! P-256.
mod authority;
mod files;
mod jwt;

pub use authority::{
    Authority, CsrFacts, Issued, Profile, certificate_pem, certificates, nameless_request,
};
pub use files::{read_pem, write_public, write_secret};
pub use jwt::{JwtError, TokenKey};

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} {path:?}")]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    #[error("{path:?} does not hold what it should: {why}; restore it or remove it")]
    Content { path: PathBuf, why: String },
    #[error("the certificate signing request is not valid: {0}")]
    Csr(String),
}

/// All that a control plane has in its `pki/` folder.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    /// Signs servers, clients and kubelets.
    pub ca: Authority,
    /// Signs the API server's certificate for those whom it hands requests on to. An authority of
    /// its own: whoever has a certificate of it is believed whatever he says about users.
    pub front_proxy: Authority,
    pub tokens: TokenKey,
}

impl Pki {
    /// Loads the folder's keys, making those that are not there.
    pub fn load_or_create(dir: &Path) -> Result<Self, Error> {
        files::private_folder(dir)?;
        let ca = Authority::load_or_create(&dir.join("ca.crt"), &dir.join("ca.key"))?;
        let (crt, key) = (dir.join("front-proxy-ca.crt"), dir.join("front-proxy-ca.key"));
        let front_proxy = Authority::load_or_create(&crt, &key)?;
        let tokens = TokenKey::load_or_create(&dir.join("sa.key"))?;
        Ok(Self { dir: dir.to_owned(), ca, front_proxy, tokens })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The certificate `NAME.crt` with `NAME.key`, made anew if it is missing, signed by another
    /// authority, for other names, or within 30 days of its end.
    pub fn certificate(&self, name: &str, profile: &Profile) -> Result<Issued, Error> {
        self.certificate_of(&self.ca, name, profile)
    }

    /// As whom the API server hands requests on.
    pub fn front_proxy_client(&self) -> Result<Issued, Error> {
        let profile = Profile::client("front-proxy-client", &[]);
        self.certificate_of(&self.front_proxy, "front-proxy-client", &profile)
    }

    fn certificate_of(
        &self,
        authority: &Authority,
        name: &str,
        profile: &Profile,
    ) -> Result<Issued, Error> {
        let (crt, key) =
            (self.dir.join(format!("{name}.crt")), self.dir.join(format!("{name}.key")));
        if let (Some(cert_pem), Some(key_pem)) = (read_pem(&crt)?, read_pem(&key)?)
            && authority.still_good(&cert_pem, profile)
        {
            return Ok(Issued { cert_pem, key_pem });
        }
        let issued = authority.issue(profile)?;
        write_secret(&key, issued.key_pem.as_bytes())?;
        write_public(&crt, issued.cert_pem.as_bytes())?;
        Ok(issued)
    }
}

#[cfg(test)]
mod tests;
