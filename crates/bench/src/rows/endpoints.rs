//! How soon a change of a Service's endpoints is in force in the kernel of a node.
use crate::Bench;
use crate::plane::scratch;
use crate::report::{KYBERN, Measure, Target};
use crate::stats::Samples;
use anyhow::{Context, Result};
use api::k8s::api::core::v1::Service;
use api::k8s::api::discovery::v1::EndpointSlice;
use net::{NetConfig, NodeNet, Vxlan};
use serde_json::json;
use std::time::Instant;

const SERVICES: u32 = 10_000;
/// Of each Service.
const ENDPOINTS: u32 = 10;

pub(super) async fn endpoints(bench: &mut Bench) -> Result<()> {
    let folder = scratch(bench, "kybern-bench-endpoints")?;
    let node = NodeNet::start(NetConfig {
        cluster_id: "bench".to_owned(),
        node: "here".to_owned(),
        node_ip: "127.0.0.1".parse()?,
        pod_cidr: "10.244.0.0/24".parse()?,
        cluster_cidr: "10.244.0.0/15".parse()?,
        service_cidr: "10.96.0.0/16".parse()?,
        vxlan: Vxlan::default(),
        mtu: 1500,
        data_dir: folder.path().to_path_buf(),
    })
    .context("cannot make a node's network")?;
    let all: Vec<u32> = (0..ENDPOINTS).collect();
    let objects: Result<Vec<_>> =
        (0..SERVICES).map(|index| Ok((service(index)?, slice(index, &all)?))).collect();
    let objects = objects?;
    let start = Instant::now();
    node.update(|state| {
        for (service, slice) in &objects {
            state.upsert_service(service);
            state.upsert_slice(slice);
        }
    })?;
    let case = format!("{SERVICES} Services with {ENDPOINTS} endpoints each, at once");
    let seconds = Samples::from(start.elapsed().as_secs_f64());
    bench.report.add(Measure::new("endpoints", case, KYBERN, &seconds, "s"));
    let rounds = bench.pick(2000, 300);
    // Each Service's turn comes once, so nothing is as it was before.
    let other: Vec<u32> = (0..ENDPOINTS - 1).chain([ENDPOINTS]).collect();
    for (case, wanted) in [("one replaced", &other), ("one less", &all[1..].to_vec())] {
        let mut samples = Samples::default();
        for round in 0..rounds {
            let object = slice(round * 7 % SERVICES, wanted)?;
            let start = Instant::now();
            node.update(|state| state.upsert_slice(&object))?;
            samples.push_millis(start.elapsed());
        }
        let case = format!("endpoint change to kernel, {case}");
        let measure = Measure::new("endpoints", case, KYBERN, &samples, "ms");
        bench.report.add(measure.target(Target::Both(5.0, 20.0)));
    }
    net::cleanup("bench", folder.path()).context("cannot remove the node's network")
}

fn service(index: u32) -> Result<Service> {
    let ip = format!("10.96.{}.{}", 1 + index / 200, 1 + index % 200);
    Ok(serde_json::from_value(json!({
        "metadata": { "namespace": "bench", "name": format!("s{index}") },
        "spec": { "clusterIP": ip, "ports": [{ "port": 80, "protocol": "TCP" }] },
    }))?)
}

/// The Service's slice with these of its endpoints.
fn slice(index: u32, which: &[u32]) -> Result<EndpointSlice> {
    let pod = |which: &u32| {
        let number = 512 + index * (ENDPOINTS + 1) + which;
        let ip = std::net::Ipv4Addr::from(0x0af4_0000 + number);
        json!({ "addresses": [ip], "nodeName": format!("n{}", number % 1000) })
    };
    Ok(serde_json::from_value(json!({
        "metadata": {
            "namespace": "bench", "name": format!("s{index}-1"),
            "labels": { "kubernetes.io/service-name": format!("s{index}") },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        "endpoints": which.iter().map(pod).collect::<Vec<_>>(),
    }))?)
}
