//! What the store tells of an image: its identity, configuration and unpacked layers.
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An image that is present on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// `host/path@sha256:…` of the manifests it was pulled by.
    pub repo_digests: Vec<String>,
    /// `host/path:tag`.
    pub tags: Vec<String>,
    pub config: ImageConfig,
    /// Unpacked layers for an overlay mount, the lowest first.
    pub layers: Vec<PathBuf>,
    /// Bytes of the unpacked layers.
    pub size: u64,
    /// Never removed to make room: it was brought by hand, and no registry may have it.
    pub pinned: bool,
}

/// The `config` member of an OCI image configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub cmd: Vec<String>,
    /// `user[:group]`, names or numbers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// The command line of a container: `command` replaces the entry point and with it the image's
    /// `Cmd`; `args` replaces only the latter. Empty when there is nothing to run.
    pub fn argv(&self, command: &[String], args: &[String]) -> Vec<String> {
        let (entry, rest): (&[String], &[String]) = match (command.is_empty(), args.is_empty()) {
            (false, _) => (command, args),
            (true, false) => (&self.entrypoint, args),
            (true, true) => (&self.entrypoint, &self.cmd),
        };
        entry.iter().chain(rest).cloned().collect()
    }

    /// The environment as pairs; a variable without `=` is skipped, as Docker does.
    pub fn env_pairs(&self) -> Vec<(String, String)> {
        let pair = |e: &String| e.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        self.env.iter().filter_map(pair).collect()
    }
}

/// Credentials for one registry host.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    pub username: String,
    pub password: String,
    /// A token to be exchanged for access tokens (`identitytoken`), instead of a password.
    pub identity_token: String,
    /// A token to send as it is (`registrytoken`).
    pub registry_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How a pull is to be done.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Tried in this order; then, if none was accepted, without.
    pub auths: Vec<Auth>,
    /// `http(s)://host[:port]` to try in this order before the image's own registry.
    pub mirrors: Vec<String>,
    /// `os/architecture`; empty: this machine's.
    pub platform: String,
}

/// What `build` makes an image from.
#[derive(Debug, Clone, Default)]
pub struct BuildSpec {
    /// The folder that becomes the root file system.
    pub folder: PathBuf,
    pub config: ImageConfig,
    /// Reference to tag it by.
    pub name: String,
}

/// Progress of a pull: bytes of compressed layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// Registries write `null` where they mean "none".
fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
