//! Where a cluster's objects are kept: the options of `kybern up`, and the store that they name.
//!
//! Secrets are named as files and read by the server alone: an argument is read by everybody on the
//! machine. The files are read at every start, so that what has been renewed is taken.
use crate::cluster::Cluster;
use crate::paths::DataDir;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::Store;
use store_etcd::{Config, Login, Tls};

const FORMS: &str = "`embedded`, `memory`, or `etcd://HOST:PORT` (`etcds://HOST:PORT` for TLS)";

#[derive(Debug, Args)]
#[command(next_help_heading = "Datastore")]
pub(crate) struct Options {
    /// `embedded`, `memory`, or `etcd://HOST:PORT[,HOST:PORT...][/PREFIX]`; `etcds://` is with TLS
    /// [default: embedded]
    #[arg(long, value_name = "URL")]
    datastore: Option<String>,
    /// The CA of etcd's certificates
    #[arg(long, value_name = "FILE")]
    etcd_cafile: Option<PathBuf>,
    /// The certificate that is shown to etcd
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    etcd_certfile: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// The user that etcd knows
    #[arg(long, value_name = "NAME", requires = "etcd_password_file")]
    etcd_user: Option<String>,
    /// The file that holds that user's password
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
}

/// What an etcd wants to see, as `cluster.json` remembers it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Etcd {
    #[serde(skip_serializing_if = "Option::is_none")]
    cafile: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certfile: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyfile: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Embedded,
    Memory,
    Etcd,
}

fn kind(datastore: &str) -> Kind {
    match datastore {
        "" | "embedded" => Kind::Embedded,
        "memory" => Kind::Memory,
        _ => Kind::Etcd,
    }
}

impl Etcd {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn config(&self, url: &str) -> Result<Config> {
        let tls = Tls {
            ca: text(self.cafile.as_deref(), "--etcd-cafile")?,
            certificate: text(self.certfile.as_deref(), "--etcd-certfile")?,
            key: text(self.keyfile.as_deref(), "--etcd-keyfile")?,
        };
        let parsed = Config::parse(url, &tls);
        let mut config = parsed.map_err(|error| {
            let hint = match &error {
                store_etcd::ConfigError::Form(_) => format!("give {FORMS}"),
                store_etcd::ConfigError::Secret => {
                    "give --etcd-user and --etcd-password-file".to_owned()
                }
                store_etcd::ConfigError::Mixed(_) => "give one scheme".to_owned(),
                store_etcd::ConfigError::Tls { .. } | store_etcd::ConfigError::Half => {
                    "see --etcd-cafile, --etcd-certfile and --etcd-keyfile".to_owned()
                }
            };
            anyhow::anyhow!("--datastore: {error}: {hint}")
        })?;
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            let password = text(Some(file), "--etcd-password-file")?.unwrap_or_default();
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            config.login = Some(Login { user: user.clone(), password });
        }
        Ok(config)
    }
}

fn text(path: Option<&Path>, option: &str) -> Result<Option<String>> {
    path.map(std::fs::read_to_string).transpose().with_context(|| {
        format!("cannot read {option} {}", path.unwrap_or(Path::new("")).display())
    })
}

impl Options {
    /// Into what is remembered: what was not said stays as it was.
    pub(crate) fn apply(&self, cluster: &mut Cluster, is_new: bool) -> Result<()> {
        if let Some(datastore) = &self.datastore {
            ensure!(
                is_new || kind(datastore) == kind(&cluster.datastore),
                "--datastore {datastore}: the cluster keeps its objects in {} and does not move \
                 them: give another --data-dir, or `kybern down --wipe` first",
                cluster.datastore,
            );
            cluster.datastore.clone_from(datastore);
        }
        let files = [
            (&self.etcd_cafile, &mut cluster.etcd.cafile),
            (&self.etcd_certfile, &mut cluster.etcd.certfile),
            (&self.etcd_keyfile, &mut cluster.etcd.keyfile),
            (&self.etcd_password_file, &mut cluster.etcd.password_file),
        ];
        for (given, kept) in files {
            if let Some(path) = given {
                // The server's working folder is another one.
                *kept = Some(std::path::absolute(path).context("there is no working folder")?);
            }
        }
        if self.etcd_user.is_some() {
            cluster.etcd.user.clone_from(&self.etcd_user);
        }
        match kind(&cluster.datastore) {
            Kind::Etcd => cluster.etcd.config(&cluster.datastore).map(drop),
            Kind::Embedded | Kind::Memory => {
                ensure!(
                    cluster.etcd.is_default(),
                    "--etcd-... options say how to reach an etcd: give --datastore etcds://HOST:PORT"
                );
                Ok(())
            }
        }
    }
}

pub(crate) async fn open(dir: &DataDir, cluster: &Cluster) -> Result<Arc<dyn Store>> {
    Ok(match kind(&cluster.datastore) {
        Kind::Memory => Arc::new(store::mem::Mem::default()),
        Kind::Embedded => {
            let options = store_embedded::Options::default();
            Arc::new(store_embedded::Embedded::open(&dir.store(), options)?)
        }
        Kind::Etcd => {
            let config = cluster.etcd.config(&cluster.datastore)?;
            Arc::new(store_etcd::Etcd::connect(&config).await?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn applied(cluster: &mut Cluster, is_new: bool, line: &str) -> Result<(), String> {
        let words = std::iter::once("up").chain(line.split(' '));
        let parsed = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        parsed.options.apply(cluster, is_new).map_err(|error| crate::one_line(&error))
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_starts() {
        for (line, told) in [
            ("--datastore mysql://x", "mysql://x"),
            ("--datastore etcd://u:pw@h:1", "--etcd-password-file"),
            ("--datastore etcds://h:1", "--etcd-cafile"),
            ("--datastore etcd://h:1 --etcd-cafile /no/such/file", "/no/such/file"),
            ("--datastore etcd://h:1 --etcd-certfile /x", "--etcd-keyfile"),
            ("--datastore etcd://h:1 --etcd-user u", "--etcd-password-file"),
            ("--etcd-cafile /x", "--datastore etcds://"),
        ] {
            let error = applied(&mut crate::cluster::tests::sample(), true, line).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
            assert!(!error.contains("pw@"), "{line}: {error}");
        }
    }

    #[test]
    fn what_was_said_once_is_remembered_and_secrets_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("password");
        std::fs::write(&secret, "geheim\n").unwrap();
        let mut cluster = crate::cluster::tests::sample();
        let line = format!(
            "--datastore etcd://a:1,b:2/p --etcd-user kybern --etcd-password-file {}",
            secret.display()
        );
        applied(&mut cluster, true, &line).unwrap();
        let text = serde_json::to_string(&cluster).unwrap();
        assert!(!text.contains("geheim"), "{text}");
        let mut kept: Cluster = serde_json::from_str(&text).unwrap();
        applied(&mut kept, false, "--datastore etcd://c:3/p").unwrap();
        let config = kept.etcd.config(&kept.datastore).unwrap();
        let login = Login { user: "kybern".to_owned(), password: "geheim".to_owned() };
        assert_eq!(config.login, Some(login));
        let moved = applied(&mut kept, false, "--datastore embedded").unwrap_err();
        assert!(moved.contains("does not move"), "{moved}");
    }
}
