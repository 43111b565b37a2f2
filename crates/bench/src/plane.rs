//! A control plane without nodes: Kybern's server, or upstream's four programs, under one handle.
use crate::connection::Client;
use crate::load::{Ask, Wire, call};
use crate::processes::{Owned, Process};
use crate::report::KYBERN;
use crate::{Bench, peer};
use anyhow::{Context, Result, bail};
use client::{HttpsConfig, Identity};
use pki::{Pki, Profile};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_PATIENCE: Duration = Duration::from_secs(120);
const PORT: u16 = 6443;

/// Ends its processes, then removes its data, when dropped.
pub(crate) struct Plane {
    pub(crate) who: &'static str,
    pub(crate) access: HttpsConfig,
    /// From the start of the first process to `/readyz`.
    pub(crate) ready: Duration,
    /// ... to the default service account, which the first pod needs.
    pub(crate) usable: Duration,
    /// Before the folder, so that they are gone first.
    processes: Vec<Owned>,
    folder: TempDir,
}

impl Plane {
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.processes.iter().map(|owned| owned.process.clone()).collect()
    }
    /// What its programs said last.
    pub(crate) fn logs(&self) -> String {
        tails(&self.processes, self.folder.path())
    }
    pub(crate) fn wire(&self, clients: usize) -> Result<Wire> {
        Wire::new(&self.access, clients)
    }
    /// A namespace in which pods can be made.
    pub(crate) async fn namespace(&self, name: &str) -> Result<()> {
        let wire = self.wire(1)?;
        call(wire.of(0), &Ask::post("/api/v1/namespaces", &crate::objects::namespace(name)))
            .await?;
        service_account(wire.of(0), name).await
    }
}

/// Kybern, fresh.
pub(crate) async fn kybern(bench: &Bench) -> Result<Plane> {
    let folder = scratch(bench, "kybern-bench")?;
    let data = folder.path().join("data");
    for path in [data.clone(), data.join("run"), data.join("logs"), data.join("nodes")] {
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
    }
    let cluster = json!({
        "format": 1, "id": "bench0", "listen": format!("127.0.0.1:{PORT}"),
        "podCidr": "10.240.0.0/12", "serviceCidr": "10.96.0.0/16", "nodeCidr": "10.90.0.0/24",
        "nodes": [], "datastore": "embedded",
    });
    std::fs::write(data.join("cluster.json"), cluster.to_string())
        .context("cannot write cluster.json")?;
    let start = Instant::now();
    let mut command = Command::new(&bench.binary);
    command.arg("server").arg("--data-dir").arg(&data);
    let processes = vec![spawn("server", &mut command, folder.path())?];
    let access = access_of_data_dir(&data, PORT)?;
    finish(KYBERN, access, processes, folder, start).await
}

/// Upstream, fresh.
pub(crate) async fn upstream(bench: &Bench, binaries: &peer::Binaries) -> Result<Plane> {
    let folder = scratch(bench, "kybern-bench-peer")?;
    let start = Instant::now();
    let started = peer::start(binaries, folder.path()).await?;
    finish(crate::report::UPSTREAM, started.access, started.processes, folder, start).await
}

/// A folder for data, removed when dropped.
pub(crate) fn scratch(bench: &Bench, prefix: &str) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(&bench.scratch)
        .with_context(|| format!("cannot make a folder in {}", bench.scratch.display()))
}

/// The administrator's way to the cluster in a data folder. The server may be about to write the
/// same keys, so this waits until it has.
pub(crate) fn access_of_data_dir(data: &Path, port: u16) -> Result<HttpsConfig> {
    let folder = data.join("pki");
    let deadline = Instant::now() + START_PATIENCE;
    while ["admin.key", "admin.crt"].iter().any(|name| !folder.join(name).exists()) {
        if Instant::now() > deadline {
            bail!("the server made no keys in {}", folder.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let pki = Pki::load_or_create(&folder).context("cannot load the cluster's keys")?;
    let profile = Profile::client("kubernetes-admin", &["system:masters"]);
    let admin = pki.certificate("admin", &profile).context("the administrator's certificate")?;
    let mut access = HttpsConfig::new(format!("https://127.0.0.1:{port}"));
    access.ca_pem = pki.ca.cert_pem().as_bytes().to_vec();
    access.identity = Identity::ClientCert {
        cert_pem: admin.cert_pem.into_bytes(),
        key_pem: admin.key_pem.into_bytes(),
    };
    Ok(access)
}

/// Starts a program whose output goes to a log in `folder`.
pub(crate) fn spawn(role: &str, command: &mut Command, folder: &Path) -> Result<Owned> {
    let path = folder.join(format!("{role}.log"));
    let log =
        std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let errors = log.try_clone().context("cannot share a log")?;
    let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
    Ok(Owned::new(role, child.with_context(|| format!("cannot start {role}"))?))
}

async fn finish(
    who: &'static str,
    access: HttpsConfig,
    mut processes: Vec<Owned>,
    folder: TempDir,
    start: Instant,
) -> Result<Plane> {
    let wire = Wire::new(&access, 1)?;
    if let Err(error) = answered(&wire, &mut processes).await {
        return Err(error.context(tails(&processes, folder.path())));
    }
    let ready = start.elapsed();
    service_account(wire.of(0), "default").await?;
    let usable = start.elapsed();
    Ok(Plane { who, access, ready, usable, processes, folder })
}

/// Waits for `/readyz`: nothing tells of it, so it is asked for.
pub(crate) async fn answered(wire: &Wire, processes: &mut [Owned]) -> Result<()> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match call(wire.of(0), &Ask::get("/readyz")).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.context("never ready")),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        for process in processes.iter_mut() {
            process.check_alive()?;
        }
    }
}

/// Waits until a namespace has its default service account.
pub(crate) async fn service_account(client: &Client, namespace: &str) -> Result<()> {
    let path = format!(
        "/api/v1/namespaces/{namespace}/serviceaccounts?watch=true\
         &fieldSelector=metadata.name%3Ddefault&timeoutSeconds=60"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    // The namespace itself may still be about to be made.
    loop {
        match crate::load::Watch::open(client, &path).await {
            Ok(mut watch) => {
                let _: Value = watch.next().await.context("no default service account")?;
                return Ok(());
            }
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// What the programs said last, for an error.
pub(crate) fn tails(processes: &[Owned], folder: &Path) -> String {
    let tail = |owned: &Owned| {
        let role = &owned.process.role;
        let log = std::fs::read_to_string(folder.join(format!("{role}.log"))).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.reverse();
        format!("{role} said: {}", lines.join("\n"))
    };
    processes.iter().map(tail).collect::<Vec<_>>().join("\n")
}
