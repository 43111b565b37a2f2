//! A whole cluster of one node: how fast it is there, what it takes, how fast it runs pods.
use crate::Bench;
use crate::load::{Ask, Watch, Wire, call};
use crate::objects;
use crate::plane::{access_of_data_dir, scratch, service_account};
use crate::processes;
use crate::report::{KYBERN, Measure, Target};
use crate::stats::Samples;
use anyhow::{Context, Result, bail, ensure};
use client::HttpsConfig;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::UdpSocket;

const PORT: u16 = 6443;
const PATIENCE: Duration = Duration::from_secs(120);
const MANY: usize = 100;
const NAMESPACE: &str = "bench";

/// Brought down and wiped when dropped.
struct Cluster {
    binary: PathBuf,
    data: PathBuf,
    folder: TempDir,
}

impl Cluster {
    fn new(bench: &Bench) -> Result<Self> {
        let folder = scratch(bench, "kybern-bench")?;
        Ok(Self { binary: bench.binary.clone(), data: folder.path().join("data"), folder })
    }
    fn kybern(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(args).arg("--data-dir").arg(&self.data).env("HOME", self.folder.path());
        let output = command.output().context("cannot run kybern")?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "kybern {} failed: {}", args.join(" "), errors.trim());
        Ok(())
    }
    /// Until the node is Ready and DNS answers.
    async fn up(&self) -> Result<Duration> {
        let start = Instant::now();
        let listen = format!("127.0.0.1:{PORT}");
        let mut args = vec!["up", "--output", "json", "--no-merge-kubeconfig", "--listen", &listen];
        args.extend(["--eviction-hard", "memory.available<50Mi"]);
        self.kybern(&args)?;
        let wire = Wire::new(&self.access()?, 1)?;
        node_ready(&wire).await?;
        dns_answers(&self.data).await?;
        Ok(start.elapsed())
    }
    fn access(&self) -> Result<HttpsConfig> {
        access_of_data_dir(&self.data, PORT)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.kybern(&["down", "--wipe", "--quiet"]) {
            eprintln!("{error:#}");
        }
    }
}

pub(super) async fn start(bench: &mut Bench) -> Result<()> {
    let (mut first, mut again) = (Samples::default(), Samples::default());
    for _ in 0..bench.pick(5, 2) {
        let cluster = Cluster::new(bench)?;
        first.push(cluster.up().await?.as_secs_f64());
        cluster.kybern(&["down", "--quiet"])?;
        again.push(cluster.up().await?.as_secs_f64());
    }
    let measure = Measure::new("start", "first, to node Ready and DNS", KYBERN, &first, "s");
    bench.report.add(measure.target(Target::P50(1.5)));
    let measure = Measure::new("start", "again, to node Ready and DNS", KYBERN, &again, "s");
    bench.report.add(measure.target(Target::P50(0.8)));
    Ok(())
}

pub(super) async fn idle(bench: &mut Bench) -> Result<()> {
    let cluster = Cluster::new(bench)?;
    cluster.up().await?;
    tokio::time::sleep(bench.pick(Duration::from_secs(30), Duration::from_secs(10))).await;
    let window = bench.pick(Duration::from_secs(60), Duration::from_secs(10));
    let idle = processes::idle(&processes::of_binary(&bench.binary), window).await;
    for (role, mb) in &idle.each {
        let case = format!("PSS of {role}");
        bench.report.add(Measure::new("idle", case, KYBERN, &Samples::from(*mb), "MB"));
    }
    let pss = Samples::from(idle.pss_mb());
    let measure = Measure::new("idle", "PSS of all processes", KYBERN, &pss, "MB");
    bench.report.add(measure.target(Target::P50(80.0)));
    let cpu = Samples::from(idle.percent);
    let measure = Measure::new("idle", "processor time", KYBERN, &cpu, "% of a core");
    bench.report.add(measure.target(Target::P50(0.5)));
    Ok(())
}

pub(super) async fn pods(bench: &mut Bench) -> Result<()> {
    let cluster = Cluster::new(bench)?;
    cluster.up().await?;
    let wire = Wire::new(&cluster.access()?, 32)?;
    wire.warm().await?;
    let namespace = objects::namespace(NAMESPACE);
    call(wire.of(0), &Ask::post("/api/v1/namespaces", &namespace)).await?;
    service_account(wire.of(0), NAMESPACE).await?;
    let mut watcher = Watcher::open(&cluster).await?;
    watcher.run(&wire, &["warm".to_owned()]).await?;
    watcher.remove(&wire, &["warm".to_owned()]).await?;
    let mut alone = Samples::default();
    for index in 0..bench.pick(30, 10) {
        let name = [format!("alone-{index}")];
        alone.extend(watcher.run(&wire, &name).await?);
        watcher.remove(&wire, &name).await?;
    }
    let measure = Measure::new("pods", "create to Running, alone", KYBERN, &alone, "ms");
    bench.report.add(measure.target(Target::Both(80.0, 250.0)));
    let settle = bench.pick(Duration::from_secs(10), Duration::from_secs(3));
    tokio::time::sleep(settle).await;
    let before = memory(&bench.binary);
    let names: Vec<String> = (0..MANY).map(|index| format!("many-{index}")).collect();
    let many = watcher.run(&wire, &names).await?;
    let all = Samples::from(many.percentile(100.0));
    let case = format!("create to Running, {MANY} at once");
    bench.report.add(Measure::new("pods", case, KYBERN, &many, "ms"));
    let case = format!("create to the last Running, {MANY} at once");
    let measure = Measure::new("pods", case, KYBERN, &all, "ms");
    bench.report.add(measure.target(Target::P50(3000.0)));
    tokio::time::sleep(settle).await;
    let after = memory(&bench.binary);
    let each = Samples::from((after.total - before.total) / MANY as f64);
    let measure = Measure::new("pods", "PSS growth per idle pod", KYBERN, &each, "MB");
    bench.report.add(measure.target(Target::P50(1.0)));
    bench.report.add(Measure::new("pods", "PSS of a shim", KYBERN, &after.shims, "MB"));
    watcher.remove(&wire, &names).await
}

struct Memory {
    total: f64,
    shims: Samples,
}

fn memory(binary: &Path) -> Memory {
    let mut memory = Memory { total: 0.0, shims: Samples::default() };
    for process in processes::of_binary(binary) {
        let mb = processes::pss_mb(&process);
        memory.total += mb;
        if process.role == "shim" {
            memory.shims.push(mb);
        }
    }
    memory
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// Sees what becomes of pods.
struct Watcher(Watch);

impl Watcher {
    async fn open(cluster: &Cluster) -> Result<Self> {
        let own = Wire::new(&cluster.access()?, 1)?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?watch=true");
        Ok(Self(Watch::open(own.of(0), &path).await?))
    }
    /// Creates pods at once; the time until each was seen Running.
    async fn run(&mut self, wire: &Wire, names: &[String]) -> Result<Samples> {
        let start = Instant::now();
        let created: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let (wire, pod) = (wire.clone(), objects::sleeper(name));
                tokio::spawn(async move {
                    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
                    call(wire.of(index), &Ask::post(path, &pod)).await
                })
            })
            .collect();
        let mut left: HashMap<&str, ()> = names.iter().map(|name| (&**name, ())).collect();
        let mut samples = Samples::default();
        while !left.is_empty() {
            let event = self.event().await.context("pods that do not run")?;
            let name = event.object.metadata.name.as_str();
            if event.object.status.phase == "Running" && left.remove(name).is_some() {
                samples.push_millis(start.elapsed());
            }
        }
        for task in created {
            task.await.context("a client panicked")??;
        }
        Ok(samples)
    }
    /// Deletes pods and sees them gone.
    async fn remove(&mut self, wire: &Wire, names: &[String]) -> Result<()> {
        for name in names {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}");
            call(wire.of(0), &Ask::delete(path)).await?;
        }
        let mut left = names.len();
        while left > 0 {
            let event = self.event().await.context("pods that do not go")?;
            left -= usize::from(event.kind == "DELETED");
        }
        Ok(())
    }
    async fn event(&mut self) -> Result<Event> {
        tokio::time::timeout(PATIENCE, self.0.next()).await.context("no event")?
    }
}

async fn node_ready(wire: &Wire) -> Result<()> {
    let mut watch = Watch::open(wire.of(0), "/api/v1/nodes?watch=true").await?;
    let ready = async {
        loop {
            let event: Event = watch.next().await?;
            let mut conditions = event.object.status.conditions.iter();
            if conditions.any(|condition| condition.kind == "Ready" && condition.status == "True") {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.context("the node is not Ready")?
}

/// Asks the cluster's DNS for the API server's name until it answers with an address.
async fn dns_answers(data: &Path) -> Result<()> {
    let text = std::fs::read(data.join("cluster.json")).context("cannot read cluster.json")?;
    let cluster: serde_json::Value = serde_json::from_slice(&text).context("cluster.json")?;
    let services = cluster["serviceCidr"].as_str().unwrap_or_default();
    let base = services.split('/').next().unwrap_or_default();
    let base: std::net::Ipv4Addr = base.parse().context("the service range in cluster.json")?;
    let address = std::net::Ipv4Addr::from(u32::from(base) + 10);
    let socket = UdpSocket::bind("0.0.0.0:0").await.context("cannot make a socket")?;
    let query = dns_query("kubernetes.default.svc.cluster.local");
    let mut answer = [0; 512];
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let sent = socket.send_to(&query, (address, 53)).await;
        let received = socket.recv_from(&mut answer);
        let received = tokio::time::timeout(Duration::from_millis(20), received).await;
        if sent.is_ok()
            && let Ok(Ok((length, _))) = received
            && length >= 12
            && answer[..2] == query[..2]
            && answer[3] & 15 == 0
            && answer[7] > 0
        {
            return Ok(());
        }
    }
    bail!("the cluster's DNS at {address} does not answer")
}

/// A question for an IPv4 address.
fn dns_query(name: &str) -> Vec<u8> {
    let mut query = vec![0x6b, 0x79, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

#[cfg(test)]
mod tests {
    use super::dns_query;

    #[test]
    fn a_query_is_header_labels_type_and_class() {
        let query = dns_query("a.bc");
        assert_eq!(query.len(), 12 + 2 + 3 + 1 + 4);
        assert_eq!(&query[12..], [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
    }
}
