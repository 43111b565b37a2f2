//! The parts of a kubeconfig that say how to connect. Its YAML is parsed by the caller.
use crate::{Error, HttpsConfig, Identity};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A kubeconfig as a document, and the folder that its relative paths start from.
pub struct Kubeconfig {
    document: Value,
    folder: PathBuf,
}

impl Kubeconfig {
    pub fn new(document: Value, folder: impl Into<PathBuf>) -> Self {
        Self { document, folder: folder.into() }
    }
    /// How to connect as `context`, or as the current one.
    pub fn connection(&self, context: Option<&str>) -> Result<HttpsConfig, Error> {
        let current = self.document["current-context"].as_str().unwrap_or_default();
        let context = self.entry("contexts", "context", context.unwrap_or(current))?;
        let cluster_name = context["cluster"].as_str().unwrap_or_default();
        let cluster = self.entry("clusters", "cluster", cluster_name)?;
        let user = self.entry("users", "user", context["user"].as_str().unwrap_or_default())?;
        let server = cluster["server"].as_str().ok_or_else(|| {
            Error::Config(format!("cluster {cluster_name:?} in the kubeconfig has no server"))
        })?;
        let mut config = HttpsConfig::new(server);
        config.ca_pem = self.data(cluster, "certificate-authority")?.unwrap_or_default();
        config.server_name = cluster["tls-server-name"].as_str().map(str::to_owned);
        config.identity = self.identity(user)?;
        Ok(config)
    }
    fn identity(&self, user: &Value) -> Result<Identity, Error> {
        let cert = self.data(user, "client-certificate")?;
        let key = self.data(user, "client-key")?;
        if let (Some(cert_pem), Some(key_pem)) = (cert, key) {
            return Ok(Identity::ClientCert { cert_pem, key_pem });
        }
        if let Some(path) = user["tokenFile"].as_str() {
            return Ok(Identity::TokenFile(self.folder.join(path)));
        }
        if let Some(token) = user["token"].as_str() {
            return Ok(Identity::Token(token.to_owned()));
        }
        Ok(Identity::None)
    }
    fn entry(&self, list: &str, field: &str, name: &str) -> Result<&Value, Error> {
        let entries = self.document[list].as_array();
        entries
            .and_then(|entries| entries.iter().find(|entry| entry["name"] == name))
            .map(|entry| &entry[field])
            .ok_or_else(|| Error::Config(format!("the kubeconfig has no {field} {name:?}")))
    }
    /// `NAME-data` in base64, or the file that `NAME` tells of.
    fn data(&self, object: &Value, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if let Some(data) = object[format!("{name}-data")].as_str() {
            let decoded = STANDARD.decode(data);
            return decoded.map(Some).map_err(|error| {
                Error::Config(format!("{name}-data in the kubeconfig is not base64: {error}"))
            });
        }
        let Some(path) = object[name].as_str() else { return Ok(None) };
        let path = self.folder.join(Path::new(path));
        let read = std::fs::read(&path);
        read.map(Some).map_err(|error| Error::Config(format!("{}: {error}", path.display())))
    }
}
