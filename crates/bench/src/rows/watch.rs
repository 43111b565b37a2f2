//! One object that many watch.
use crate::Bench;
use crate::load::{Ask, Watch, call, fetch};
use crate::objects;
use crate::plane::Plane;
use crate::report::{Measure, Target};
use crate::stats::Samples;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const WATCHES: usize = 1000;
const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
const NAME: &str = "watched";

pub(super) async fn watch(bench: &mut Bench, plane: &Plane) -> Result<()> {
    let wire = plane.wire(32)?;
    wire.warm().await?;
    let made: Value = fetch(wire.of(0), &Ask::post(COLLECTION, &objects::config_map(NAME))).await?;
    let version = made["metadata"]["resourceVersion"].as_str().context("no resourceVersion")?;
    let path = format!(
        "{COLLECTION}?watch=true&fieldSelector=metadata.name%3D{NAME}&resourceVersion={version}"
    );
    let mut tasks = JoinSet::new();
    let (send, mut delivered) = mpsc::channel::<Instant>(WATCHES);
    for index in 0..WATCHES {
        let mut watch = Watch::open(wire.of(index), &path).await?;
        let send = send.clone();
        tasks.spawn(async move {
            while watch.skip().await.is_ok() {
                if send.send(Instant::now()).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(send);
    let writer = plane.wire(1)?;
    writer.warm().await?;
    let mut samples = Samples::default();
    let mut last = Samples::default();
    for round in 0..bench.pick(50, 10) {
        let mut object = objects::config_map(NAME);
        object["data"]["round"] = json!(round.to_string());
        let start = Instant::now();
        call(writer.of(0), &Ask::put(format!("{COLLECTION}/{NAME}"), &object)).await?;
        let mut slowest = Duration::ZERO;
        for _ in 0..WATCHES {
            let at = tokio::time::timeout(Duration::from_secs(30), delivered.recv()).await;
            let at = at.context("an update did not reach every watch")?.context("watches ended")?;
            let time = at.duration_since(start);
            slowest = slowest.max(time);
            samples.push_millis(time);
        }
        last.push_millis(slowest);
    }
    tasks.abort_all();
    let case = format!("update to delivery, {WATCHES} watches");
    let measure = Measure::new("watch", case, plane.who, &samples, "ms");
    bench.report.add(measure.target(Target::Latency(5.0)));
    let case = format!("update to the last of {WATCHES} watches");
    bench.report.add(Measure::new("watch", case, plane.who, &last, "ms"));
    Ok(())
}
