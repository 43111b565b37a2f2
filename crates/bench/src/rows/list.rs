//! Many pods: created by 32 clients, then listed in each way that clients do.
use super::api::add;
use crate::Bench;
use crate::load::{self, Ask, JSON, Load, PROTOBUF, Until, Wire, call, fetch};
use crate::objects;
use crate::plane::Plane;
use crate::processes;
use crate::report::{Measure, Target};
use crate::stats::Samples;
use anyhow::{Result, ensure};
use serde::Deserialize;

const NAMESPACE: &str = "many";
const PODS: u64 = 10_000;
const PAGE: usize = 500;

pub(super) async fn list(bench: &mut Bench, plane: &Plane) -> Result<()> {
    let pods = bench.pick(PODS, PODS / 5);
    plane.namespace(NAMESPACE).await?;
    let wire = plane.wire(32)?;
    wire.warm().await?;
    let load = create(&wire, pods).await?;
    add(bench, plane, "create", "pod", 32, &load, Target::Rate(3.0));
    let wire = plane.wire(8)?;
    wire.warm().await?;
    for (name, accept, times) in [("JSON", JSON, 5.0), ("protobuf", PROTOBUF, 3.0)] {
        for clients in [1, 8] {
            let count = bench.pick(20, 5).max(clients as u64);
            let load = whole(&wire, accept, clients, count).await?;
            let what = format!("{pods} pods, {name}");
            add(bench, plane, "list", &what, clients, &load, Target::Latency(times));
        }
        let count = bench.pick(20, 5);
        let load = paged(&wire, accept, count, pods).await?;
        let what = format!("{pods} pods, {name}, limit={PAGE}");
        add(bench, plane, "list", &what, 1, &load, Target::Latency(times));
    }
    let bytes: usize = call(wire.of(0), &Ask::get(path())).await?.iter().map(|p| p.len()).sum();
    let size = Samples::from(bytes as f64 / 1e6);
    bench.report.add(Measure::new("list", "size as JSON", plane.who, &size, "MB"));
    let pss: f64 = plane.processes().iter().map(processes::pss_mb).sum();
    let pss = Samples::from(pss);
    bench.report.add(Measure::new("list", "PSS after it all", plane.who, &pss, "MB"));
    Ok(())
}

fn path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

async fn create(wire: &Wire, pods: u64) -> Result<Load> {
    let wire = wire.clone();
    load::run(32, Until::Count(pods), move |client, number| {
        let wire = wire.clone();
        async move {
            let pod = objects::stored_pod(&format!("pod-{number:05}"));
            call(wire.of(client), &Ask::post(path(), &pod)).await.map(drop)
        }
    })
    .await
}

async fn whole(wire: &Wire, accept: &'static str, clients: usize, count: u64) -> Result<Load> {
    let wire = wire.clone();
    load::run(clients, Until::Count(count), move |client, _| {
        let wire = wire.clone();
        async move { call(wire.of(client), &Ask::get(path()).accept(accept)).await.map(drop) }
    })
    .await
}

/// The token of the next page is read as a client reads it; for protobuf it is taken from a walk in
/// JSON before, so that both measure the server.
async fn paged(wire: &Wire, accept: &'static str, count: u64, pods: u64) -> Result<Load> {
    let tokens = tokens(wire, pods).await?;
    let wire = wire.clone();
    load::run(1, Until::Count(count), move |client, _| {
        let (wire, tokens) = (wire.clone(), tokens.clone());
        async move {
            for token in &tokens {
                let path = format!("{}?limit={PAGE}&continue={token}", path());
                call(wire.of(client), &Ask::get(path).accept(accept)).await?;
            }
            Ok(())
        }
    })
    .await
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    next: String,
}

/// The tokens of all pages: empty for the first.
async fn tokens(wire: &Wire, pods: u64) -> Result<Vec<String>> {
    let mut tokens = vec![String::new()];
    let mut seen = 0;
    loop {
        let token = tokens.last().cloned().unwrap_or_default();
        let path = format!("{}?limit={PAGE}&continue={token}", path());
        let page: Page = fetch(wire.of(0), &Ask::get(path)).await?;
        seen += page.items.len() as u64;
        if page.metadata.next.is_empty() {
            ensure!(seen == pods, "the pages hold {seen} pods of {pods}");
            return Ok(tokens);
        }
        tokens.push(escape(&page.metadata.next));
    }
}

/// For a query: base64 holds three signs that mean something there.
fn escape(token: &str) -> String {
    token.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}
