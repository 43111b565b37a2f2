//! `kybern agent`: a node of a cluster, on this machine or elsewhere.
use crate::join::JoinToken;
use crate::logging;
use crate::process::Report;
use crate::supervise;
use anyhow::{Context, Result, bail};
use api::Key;
use api::k8s::api::core::v1::{ConfigMap, Taint};
use client::{Client, HttpsConfig, Identity};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  kybern agent --server https://192.168.1.10:6443 --token K1…::abcdef.0123456789abcdef")]
pub(crate) struct Agent {
    /// The cluster's API server
    #[arg(long, value_name = "URL")]
    server: String,
    /// Made by `kybern token create`; not needed again once the node has joined
    #[arg(long, value_name = "TOKEN", env = "KYBERN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds the token, so that it shows in no list of processes
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The node's own folder
    #[arg(long, default_value = "/var/lib/kybern-agent", value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Images, which several nodes of a machine may share [default: DATA_DIR/images]
    #[arg(long, value_name = "FOLDER")]
    images_dir: Option<PathBuf>,
    /// [default: the machine's host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The address at which others reach this node [default: that of the default route]
    #[arg(long, value_name = "ADDRESS")]
    node_ip: Option<IpAddr>,
    /// The port of the node's API
    #[arg(long, default_value_t = ::agent::config::NODE_PORT, value_name = "PORT")]
    port: u16,
    /// Labels of the node, `key=value`
    #[arg(long = "node-label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Taints of the node when it joins, `key=value:Effect`
    #[arg(long = "node-taint", value_name = "KEY=VALUE:EFFECT")]
    taints: Vec<String>,
    /// Most pods at once
    #[arg(long, default_value_t = ::agent::config::MAX_PODS, value_name = "N")]
    max_pods: u32,
    /// Below these levels pods are evicted, `signal<quantity` or `signal<percentage`
    #[arg(long, default_value = podlife::eviction::DEFAULT_HARD, value_name = "THRESHOLDS")]
    eviction_hard: String,
    /// A folder of manifests that this node runs, whoever else knows of them
    #[arg(long, value_name = "FOLDER")]
    static_pod_path: Option<PathBuf>,
    /// Run in this network namespace
    #[arg(long, value_name = "FILE", hide = true)]
    netns: Option<PathBuf>,
    /// Started by `kybern up`: detach, report over standard output, be started again on a crash
    #[arg(long, hide = true, value_name = "PID_FILE")]
    supervised: Option<PathBuf>,
}

impl Agent {
    pub(crate) fn run(self) -> Result<()> {
        crate::require_root("agent")?;
        match &self.supervised {
            Some(pid_file) => supervise::enter(pid_file)?,
            None => crate::needs::check(&self.data_dir, true)?,
        }
        if let Some(netns) = &self.netns {
            // Before any other thread is started: all of them are to be there.
            net::hostlab::enter(netns)?;
        }
        logging::start();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().min(4)))
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let background = self.supervised.is_some();
        let outcome = runtime.block_on(self.serve());
        if let Err(error) = &outcome
            && background
        {
            Report.error(&crate::one_line(error));
        }
        outcome
    }

    async fn serve(self) -> Result<()> {
        let background = self.supervised.is_some();
        let config = self.config().await?;
        let node = config.node_name.clone();
        let ready = move || {
            tracing::info!(node, "the node is ready");
            if background {
                Report.ready();
            }
        };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut term), Ok(mut int)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            let _ = stop.send(true);
        });
        ::agent::run(config, stopped, ready).await.context("the node failed")
    }

    /// As typed, or from the file. A node that has joined goes on without it.
    fn token(&self) -> Result<Option<JoinToken>> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, None) => None,
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.joined() => None,
                Err(error) => {
                    let what = || format!("cannot read --token-file {}", path.display());
                    return Err(error).with_context(what);
                }
            },
        };
        text.as_deref().map(str::trim).map(JoinToken::parse).transpose()
    }

    fn joined(&self) -> bool {
        self.data_dir.join("pki/ca.crt").exists()
    }

    async fn config(self) -> Result<::agent::AgentConfig> {
        let node_name = match &self.node_name {
            Some(name) => name.clone(),
            None => host_name()?,
        };
        let node_ip = match self.node_ip {
            Some(ip) => ip,
            None => net::primary_address()
                .context("cannot read this machine's addresses")?
                .context("this machine has no default route: give --node-ip")?,
        };
        let token = self.token()?;
        let ca_file = self.data_dir.join("pki/ca.crt");
        let ca_pem = match (&token, std::fs::read_to_string(&ca_file)) {
            (Some(token), _) => {
                let ca_pem = token.fetch_ca(&self.server)?;
                write_ca(&ca_file, &ca_pem)?;
                ca_pem
            }
            (None, Ok(ca_pem)) => ca_pem,
            (None, Err(_)) => bail!("this node has not joined yet: give --token or --token-file"),
        };
        let settings = settings(&self.server, &ca_pem, token.as_ref(), &self.data_dir).await?;
        let setting = |name: &str| {
            let value = settings.get(name);
            value.cloned().with_context(|| format!("the cluster's settings lack {name}"))
        };
        let range = |name: &str| -> Result<_> {
            setting(name)?.parse().with_context(|| format!("{name} is no address range"))
        };
        let cluster_id = setting("clusterId")?;
        Ok(::agent::AgentConfig {
            server: self.server,
            ca_pem,
            bootstrap_token: token.map(|token| token.bootstrap),
            images_dir: self.images_dir.unwrap_or_else(|| self.data_dir.join("images")),
            node_ip,
            port: self.port,
            cluster_cidr: range("podCidr")?,
            service_cidr: range("serviceCidr")?,
            cluster_dns: setting("clusterDns")?.parse().context("clusterDns")?,
            cluster_domain: setting("clusterDomain")?,
            mtu: 1500,
            labels: labels(&self.labels)?,
            taints: taints(&self.taints)?,
            max_pods: self.max_pods,
            eviction_hard: podlife::eviction::parse(&self.eviction_hard)
                .map_err(|error| anyhow::anyhow!("--eviction-hard: {error}"))?,
            static_pods: self.static_pod_path,
            shim: PathBuf::from("/proc/self/exe"),
            cgroup: format!("/kybern-{cluster_id}/{node_name}"),
            cluster_id,
            node_name,
            root: self.data_dir,
        })
    }
}

pub(crate) fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

fn write_ca(path: &Path, pem: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    crate::cluster::write_private(path, pem.as_bytes())
}

/// What the server tells its nodes: by the token, or as the node that this is already. Kept, so
/// that a node starts while the server is away.
async fn settings(
    server: &str,
    ca_pem: &str,
    token: Option<&JoinToken>,
    root: &Path,
) -> Result<BTreeMap<String, String>> {
    let kept = root.join("cluster-settings.json");
    if let Some(token) = token {
        let mut config = HttpsConfig::new(server.to_owned());
        config.ca_pem = ca_pem.as_bytes().to_vec();
        config.identity = Identity::Token(token.bootstrap.clone());
        let client = Client::https(config)?;
        let key = Key::new("kube-public", crate::server::SETTINGS);
        let found = client.get::<ConfigMap>(&key).await;
        let found = found.context("cannot read the cluster's settings with this token")?;
        let data = found.data.unwrap_or_default();
        let text = serde_json::to_vec_pretty(&data).context("cannot encode the settings")?;
        crate::cluster::write_private(&kept, &text)?;
        return Ok(data);
    }
    let text = std::fs::read(&kept).context("this node has not joined yet: give --token")?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", kept.display()))
}

fn labels(given: &[String]) -> Result<BTreeMap<String, String>> {
    given
        .iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .with_context(|| format!("--node-label {text}: give key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn taints(given: &[String]) -> Result<Vec<Taint>> {
    given
        .iter()
        .map(|text| {
            let usage = || format!("--node-taint {text}: give key=value:Effect");
            let (pair, effect) = text.rsplit_once(':').with_context(usage)?;
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            anyhow::ensure!(
                matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute"),
                "--node-taint {text}: the effect is NoSchedule, PreferNoSchedule or NoExecute"
            );
            Ok(Taint {
                key: key.to_owned(),
                value: (!value.is_empty()).then(|| value.to_owned()),
                effect: effect.to_owned(),
                time_added: None,
            })
        })
        .collect()
}
