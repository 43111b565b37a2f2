//! Certificates with their keys, on disk.
use crate::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

/// A certificate and the key for it, in one file, so that they cannot part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub cert_pem: String,
    pub key_pem: String,
}

/// The folder that holds them.
#[derive(Debug)]
pub struct Store(PathBuf);

impl Store {
    pub fn new(folder: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| {
            let source = pki::Error::File { what: "create", path: folder.to_owned(), source };
            Error::File { what: "create", path: folder.display().to_string(), source }
        })?;
        Ok(Self(folder.to_owned()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }

    pub fn load(&self, name: &str) -> Result<Option<Credential>, Error> {
        let path = self.path(name);
        let shown = || path.display().to_string();
        let read = pki::read_pem(&path);
        let read = read.map_err(|source| Error::File { what: "read", path: shown(), source })?;
        let Some(text) = read else { return Ok(None) };
        let at = text.find("-----BEGIN PRIVATE KEY-----");
        let Some(at) = at else { return Err(Error::Damaged { path: shown() }) };
        let (cert, key) = text.split_at(at);
        let found = Credential { cert_pem: cert.to_owned(), key_pem: key.to_owned() };
        found.facts().ok_or_else(|| Error::Damaged { path: shown() })?;
        Ok(Some(found))
    }

    pub fn save(&self, name: &str, credential: &Credential) -> Result<(), Error> {
        let path = self.path(name);
        let text = format!("{}{}", credential.cert_pem, credential.key_pem);
        pki::write_secret(&path, text.as_bytes()).map_err(|source| Error::File {
            what: "write",
            path: path.display().to_string(),
            source,
        })
    }
}

struct Facts {
    common_name: String,
    from: SystemTime,
    until: SystemTime,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Credential {
    fn facts(&self) -> Option<Facts> {
        let (_, pem) = parse_x509_pem(self.cert_pem.as_bytes()).ok()?;
        let certificate = pem.parse_x509().ok()?;
        let at = |seconds: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        };
        let mut facts = Facts {
            common_name: certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            from: at(certificate.validity().not_before.timestamp()),
            until: at(certificate.validity().not_after.timestamp()),
            names: Vec::new(),
            addresses: Vec::new(),
        };
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => facts.names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => facts.addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        Some(facts)
    }

    /// Whether it has not run out and is for this user.
    pub(crate) fn usable_as(&self, user: &str) -> bool {
        self.facts()
            .is_some_and(|facts| facts.common_name == user && facts.until > SystemTime::now())
    }

    /// Whether it has not run out and covers the node's name and addresses.
    pub(crate) fn serves(&self, node: &str, addresses: &[IpAddr]) -> bool {
        self.facts().is_some_and(|facts| {
            facts.until > SystemTime::now()
                && facts.names.iter().any(|name| name == node)
                && addresses.iter().all(|wanted| facts.addresses.contains(wanted))
        })
    }

    /// When four fifths of its life are over.
    pub fn renew_at(&self) -> SystemTime {
        let Some(facts) = self.facts() else { return SystemTime::now() };
        let life = facts.until.duration_since(facts.from).unwrap_or_default();
        facts.from + life.mul_f64(0.8)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_judged() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path()).unwrap();
        assert_eq!(store.load("serving").unwrap(), None);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["n1".to_owned(), "10.0.0.7".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let made = Credential { cert_pem: certificate.pem(), key_pem: key.serialize_pem() };
        store.save("serving", &made).unwrap();
        let loaded = store.load("serving").unwrap().unwrap();
        assert_eq!(loaded, made);
        let ip: IpAddr = "10.0.0.7".parse().unwrap();
        assert!(loaded.serves("n1", &[ip]));
        assert!(!loaded.serves("n2", &[ip]) && !loaded.usable_as("system:node:n1"));
        assert!(loaded.renew_at() > SystemTime::now());
        std::fs::write(folder.path().join("client.pem"), "rubbish").unwrap();
        assert!(matches!(store.load("client"), Err(Error::Damaged { .. })));
    }
}
