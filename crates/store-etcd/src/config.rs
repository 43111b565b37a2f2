//! Where etcd is and how to speak to it: `etcd://host:port,host:port/prefix`, or `etcds://` for
//! TLS.
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{fmt, sync::Arc};
use store::window::Limits;

const DEFAULT_PORT: u16 = 2379;
const DEFAULT_PREFIX: &str = "/kybern";

/// What TLS needs, as PEM texts.
#[derive(Clone, Default)]
pub struct Tls {
    pub ca: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
}

/// A user of etcd's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

#[derive(Clone)]
pub struct Config {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) prefix: String,
    /// Who reads and writes; none where etcd asks nobody, or goes by the client's certificate.
    pub login: Option<Login>,
    /// How much of the past is kept for watchers.
    pub window: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "the datastore {0:?} is not of the form etcd://host:port,host:port/prefix (etcds:// for TLS)"
    )]
    Form(String),
    #[error("the datastore {0:?} mixes endpoints with TLS and without")]
    Mixed(String),
    #[error("the datastore's URL must hold no user and no password, which anybody here could read")]
    Secret,
    #[error("the TLS {what} of the datastore cannot be used: {reason}")]
    Tls { what: &'static str, reason: String },
    #[error("a TLS certificate of the datastore needs its key, and a key its certificate")]
    Half,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca", &self.ca.is_some()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoints", &self.endpoints)
            .field("tls", &self.tls.is_some())
            .field("prefix", &self.prefix)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Config {
    /// Endpoints are `etcd://` (TLS if there is anything in `tls`) or `http://`, with TLS
    /// `etcds://` or `https://`; the scheme may be repeated. What follows the last host is the
    /// prefix of all keys.
    pub fn parse(url: &str, tls: &Tls) -> Result<Config, ConfigError> {
        if url.contains('@') {
            return Err(ConfigError::Secret);
        }
        let form = || ConfigError::Form(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(form)?;
        let secure = match scheme {
            "etcd" => tls.ca.is_some() || tls.certificate.is_some() || tls.key.is_some(),
            "http" => false,
            "https" | "etcds" => true,
            _ => return Err(form()),
        };
        let mut endpoints = Vec::new();
        let mut prefix = DEFAULT_PREFIX.to_owned();
        let mut parts = rest.split(',').peekable();
        while let Some(part) = parts.next() {
            let address = match part.split_once("://") {
                Some((own, _)) if own != scheme => return Err(ConfigError::Mixed(url.to_owned())),
                Some((_, address)) => address,
                None => part,
            };
            let (address, path) = match address.find('/') {
                Some(place) => address.split_at(place),
                None => (address, ""),
            };
            if !path.is_empty() && parts.peek().is_some() {
                return Err(form());
            }
            let path = path.trim_end_matches('/');
            if !path.is_empty() {
                prefix = path.to_owned();
            }
            endpoints.push(endpoint(address).ok_or_else(form)?);
        }
        let tls = if secure { Some(Arc::new(client(tls)?)) } else { None };
        Ok(Config { endpoints, tls, prefix, login: None, window: Limits::default() })
    }
}

fn endpoint(address: &str) -> Option<Endpoint> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => DEFAULT_PORT,
    };
    // What TLS takes for a name is what a name is.
    ServerName::try_from(host).ok()?;
    Some(Endpoint { host: host.to_owned(), port })
}

fn client(tls: &Tls) -> Result<ClientConfig, ConfigError> {
    let bad =
        |what| move |error: &dyn fmt::Display| ConfigError::Tls { what, reason: error.to_string() };
    let mut roots = RootCertStore::empty();
    let Some(ca) = &tls.ca else {
        return Err(ConfigError::Tls { what: "CA", reason: "it is not given".to_owned() });
    };
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| bad("CA")(&error))?;
        roots.add(certificate).map_err(|error| bad("CA")(&error))?;
    }
    let none = "it holds no certificate";
    if roots.is_empty() {
        return Err(bad("CA")(&none));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("versions")(&error))?
        .with_root_certificates(roots);
    let mut client = match (&tls.certificate, &tls.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(chain), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| bad("certificate")(&error))?;
            if chain.is_empty() {
                return Err(bad("certificate")(&none));
            }
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| bad("key")(&error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| bad("certificate")(&error))?
        }
        _ => return Err(ConfigError::Half),
    };
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<(Vec<String>, String), ConfigError> {
        let config = Config::parse(url, &Tls::default())?;
        Ok((config.endpoints.iter().map(Endpoint::to_string).collect(), config.prefix))
    }

    #[test]
    fn urls_name_endpoints_and_a_prefix() {
        for (url, endpoints, prefix) in [
            ("etcd://127.0.0.1:2379", &["127.0.0.1:2379"][..], "/kybern"),
            ("etcd://a,b:1,[::1]:2/some/where", &["a:2379", "b:1", "[::1]:2"], "/some/where"),
            ("http://a:1,http://b:2", &["a:1", "b:2"], "/kybern"),
            ("http://a/", &["a:2379"], "/kybern"),
            ("http://a/p/", &["a:2379"], "/p"),
        ] {
            let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
            assert_eq!(parsed(url), Ok((endpoints, prefix.to_owned())), "{url}");
        }
    }

    #[test]
    fn what_is_no_datastore_is_told() {
        for url in [
            "",
            "a:1",
            "sqlite://x",
            "etcd://",
            "etcd://a:b",
            "etcd://a:1/p,b:2",
            "etcd://a b",
            "etcd://[::1",
        ] {
            assert_eq!(parsed(url), Err(ConfigError::Form(url.to_owned())), "{url}");
        }
        let mixed = "http://a,https://b";
        assert_eq!(parsed(mixed), Err(ConfigError::Mixed(mixed.to_owned())));
        assert!(matches!(parsed("https://a"), Err(ConfigError::Tls { what: "CA", .. })));
        assert!(matches!(parsed("etcds://a"), Err(ConfigError::Tls { what: "CA", .. })));
        let error = parsed("etcd://root:geheim@a:1").unwrap_err();
        assert!(!error.to_string().contains("geheim"), "{error}");
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        let ca = Some(ca.cert.pem());
        let parse = |tls: &Tls| Config::parse("etcds://a", tls).map(drop);
        let empty = Tls { ca: Some("nothing\n".to_owned()), ..Tls::default() };
        assert!(matches!(parse(&empty), Err(ConfigError::Tls { what: "CA", .. })));
        assert_eq!(parse(&Tls { ca: ca.clone(), ..Tls::default() }), Ok(()));
        let (certificate, key) = (Some(String::new()), Some(String::new()));
        let no_chain = Tls { ca: ca.clone(), certificate, key };
        assert!(matches!(parse(&no_chain), Err(ConfigError::Tls { what: "certificate", .. })));
        let no_key = Tls { certificate: ca.clone(), key: Some(String::new()), ca: ca.clone() };
        assert!(matches!(parse(&no_key), Err(ConfigError::Tls { what: "key", .. })));
        let half = Tls { ca, key: Some("x".to_owned()), ..Tls::default() };
        assert_eq!(Config::parse("etcd://a", &half).err(), Some(ConfigError::Half));
    }
}
