//! Pods created and bound at many nodes that nobody runs. Their leases are renewed as kubelets do.
use crate::Bench;
use crate::load::{self, Ask, Until, Watch, Wire, call, fetch};
use crate::objects::{self, Constraint};
use crate::plane::Plane;
use crate::processes;
use crate::report::{Measure, Target};
use crate::stats::Samples;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

const NODES: usize = 1000;
const PODS: u64 = 3000;
/// Fewer than there are nodes, as no two may share one.
const APART: u64 = 900;
const CLIENTS: usize = 32;
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const RENEWAL: Duration = Duration::from_secs(10);
/// For all pods of one kind.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) async fn bind(bench: &mut Bench, plane: &Plane) -> Result<()> {
    let nodes = Nodes::make(plane).await?;
    let outcome = constraints(bench, plane).await;
    drop(nodes);
    outcome
}

async fn constraints(bench: &mut Bench, plane: &Plane) -> Result<()> {
    for constraint in [
        Constraint::Basic,
        Constraint::ZoneSpread,
        Constraint::PreferredAntiAffinity,
        Constraint::HostAntiAffinity,
    ] {
        let apart = constraint == Constraint::HostAntiAffinity;
        let pods = bench.pick(if apart { APART } else { PODS }, 300);
        let namespace = format!("bind-{}", constraint as u8);
        let (latencies, seconds) = round(plane, &namespace, constraint, pods).await?;
        let case = format!("{}, {NODES} nodes", constraint.name());
        let measure = Measure::new("bind", case, plane.who, &latencies, "ms");
        let measure = measure.rate(latencies.len() as f64 / seconds);
        bench.report.add(measure.target(Target::Rate(15.0)));
        clear(plane, &namespace, pods).await?;
    }
    let pss: f64 = plane.processes().iter().map(processes::pss_mb).sum();
    let pss = Samples::from(pss);
    bench.report.add(Measure::new("bind", "PSS after it all", plane.who, &pss, "MB"));
    Ok(())
}

#[derive(Deserialize)]
struct Event {
    object: Pod,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Named,
    #[serde(default)]
    spec: Placed,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize, Default)]
struct Placed {
    #[serde(rename = "nodeName", default)]
    node_name: String,
}

/// From each pod's creation to a watcher's seeing its node; and the time that all took.
async fn round(
    plane: &Plane,
    namespace: &str,
    constraint: Constraint,
    pods: u64,
) -> Result<(Samples, f64)> {
    plane.namespace(namespace).await?;
    let wire = plane.wire(CLIENTS)?;
    wire.warm().await?;
    let collection = format!("/api/v1/namespaces/{namespace}/pods");
    let own = plane.wire(1)?;
    let watch = Watch::open(own.of(0), &format!("{collection}?watch=true")).await?;
    let start = Instant::now();
    let watcher = tokio::spawn(bound(watch, pods));
    let created: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let shared = created.clone();
    let load = load::run(CLIENTS, Until::Count(pods), move |client, number| {
        let (wire, collection, created) = (wire.clone(), collection.clone(), shared.clone());
        async move {
            let name = format!("pod-{number:05}");
            let pod = objects::placed_pod(&name, constraint);
            created.lock().expect("no holder panics").insert(name, Instant::now());
            call(wire.of(client), &Ask::post(collection, &pod)).await.map(drop)
        }
    });
    load.await?;
    let seen = tokio::time::timeout(PATIENCE, watcher).await;
    let seen =
        seen.with_context(|| format!("{}: not all pods were bound", constraint.name()))???;
    let seconds = start.elapsed().as_secs_f64();
    let mut latencies = Samples::default();
    let created = created.lock().expect("no holder panics");
    for (name, at) in seen {
        let begun = created.get(&name).context("a pod was bound that nobody created")?;
        latencies.push_millis(at.duration_since(*begun));
    }
    Ok((latencies, seconds))
}

async fn bound(mut watch: Watch, pods: u64) -> Result<HashMap<String, Instant>> {
    let mut seen = HashMap::new();
    while (seen.len() as u64) < pods {
        let event: Event = watch.next().await?;
        if !event.object.spec.node_name.is_empty() {
            seen.entry(event.object.metadata.name).or_insert_with(Instant::now);
        }
    }
    Ok(seen)
}

/// Removes the pods again, so that the next round meets empty nodes.
async fn clear(plane: &Plane, namespace: &str, pods: u64) -> Result<()> {
    let wire = plane.wire(CLIENTS)?;
    let namespace = namespace.to_owned();
    let load = load::run(CLIENTS, Until::Count(pods), move |client, number| {
        let path = format!("/api/v1/namespaces/{namespace}/pods/pod-{number:05}");
        let wire = wire.clone();
        async move { call(wire.of(client), &Ask::delete(path)).await.map(drop) }
    });
    load.await.map(drop)
}

/// Nodes that are ready, and stay so until this is dropped.
struct Nodes(AbortHandle);

impl Nodes {
    async fn make(plane: &Plane) -> Result<Self> {
        let wire = plane.wire(CLIENTS)?;
        let created = wire.clone();
        let load = load::run(CLIENTS, Until::Count(NODES as u64), move |client, number| {
            let wire = created.clone();
            async move { make_one(&wire, client, number as usize).await }
        });
        load.await?;
        let renewing = tokio::spawn(renew(wire.clone())).abort_handle();
        let nodes = Self(renewing);
        untainted(&wire).await?;
        Ok(nodes)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn now() -> String {
    let now = api::k8s::jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn now_micros() -> String {
    let now = api::k8s::jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

async fn make_one(wire: &Wire, client: usize, index: usize) -> Result<()> {
    let client = wire.of(client);
    let node = objects::node(index, &now());
    let made: Value = fetch(client, &Ask::post("/api/v1/nodes", &node)).await?;
    if made["status"]["conditions"].as_array().is_none_or(Vec::is_empty) {
        let path = format!("/api/v1/nodes/{}/status", objects::node_name(index));
        call(client, &Ask::merge(path, &json!({"status": node["status"]}))).await?;
    }
    call(client, &Ask::post(LEASES, &objects::lease(index, &now_micros()))).await.map(drop)
}

/// Every lease once per interval, evenly, until aborted.
async fn renew(wire: Wire) {
    let mut tick = tokio::time::interval(RENEWAL / NODES as u32 * 10);
    let mut next = 0;
    loop {
        tick.tick().await;
        let batch = (0..10).map(|offset| {
            let (wire, index) = (wire.clone(), (next + offset) % NODES);
            tokio::spawn(async move {
                let path = format!("{LEASES}/{}", objects::node_name(index));
                let patch = json!({"spec": {"renewTime": now_micros()}});
                if let Err(error) = call(wire.of(index), &Ask::merge(path, &patch)).await {
                    eprintln!("a lease was not renewed: {error:#}");
                }
            })
        });
        for task in batch.collect::<Vec<_>>() {
            let _ = task.await;
        }
        next = (next + 10) % NODES;
    }
}

#[derive(Deserialize)]
struct NodeEvent {
    object: Node,
}

#[derive(Deserialize)]
struct Node {
    metadata: Named,
    #[serde(default)]
    spec: NodeSpec,
}

#[derive(Deserialize, Default)]
struct NodeSpec {
    #[serde(default)]
    taints: Vec<serde::de::IgnoredAny>,
}

/// Waits until the control plane has taken the taints of nodes that are not ready from all.
async fn untainted(wire: &Wire) -> Result<()> {
    let mut watch = Watch::open(wire.of(0), "/api/v1/nodes?watch=true").await?;
    let mut free: HashMap<String, bool> = HashMap::new();
    let all = async {
        while free.values().filter(|free| **free).count() < NODES {
            let event: NodeEvent = watch.next().await?;
            free.insert(event.object.metadata.name, event.object.spec.taints.is_empty());
        }
        anyhow::Ok(())
    };
    let outcome = tokio::time::timeout(Duration::from_secs(120), all).await;
    ensure!(outcome.is_ok(), "the nodes keep their taints");
    outcome?
}
