//! One object that many watch.
use crate::Bench;
use crate::load::{Ask, Watch, call, fetch};
use crate::objects;
use crate::plane::Plane;
use crate::report::{Measure, Target};
use crate::stats::Samples;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const WATCHES: usize = 1000;
const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
const NAME: &str = "watched";

/// When the watches heard of the update that goes round. Who asks is woken by the last one alone:
/// what is measured is the server more than the client.
#[derive(Default)]
struct Heard {
    at: Mutex<Vec<Instant>>,
    all: Notify,
    broken: AtomicBool,
}

impl Heard {
    fn one(&self) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.push(Instant::now());
        if at.len() == WATCHES {
            self.all.notify_one();
        }
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut self.at.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) async fn watch(bench: &mut Bench, plane: &Plane) -> Result<()> {
    let wire = plane.wire(32)?;
    wire.warm().await?;
    let made: Value = fetch(wire.of(0), &Ask::post(COLLECTION, &objects::config_map(NAME))).await?;
    let version = made["metadata"]["resourceVersion"].as_str().context("no resourceVersion")?;
    let path = format!(
        "{COLLECTION}?watch=true&fieldSelector=metadata.name%3D{NAME}&resourceVersion={version}"
    );
    let heard = Arc::new(Heard::default());
    for index in 0..WATCHES {
        let mut watch = Watch::open(wire.of(index), &path).await?;
        let heard = Arc::clone(&heard);
        let listening = async move {
            while watch.skip().await.is_ok() {
                heard.one();
            }
            heard.broken.store(true, Ordering::Relaxed);
            heard.all.notify_one();
        };
        wire.of(index).follow(listening).await?;
    }
    let writer = plane.wire(1)?;
    writer.warm().await?;
    let mut samples = Samples::default();
    let mut last = Samples::default();
    for round in 0..bench.pick(50, 10) {
        let mut object = objects::config_map(NAME);
        object["data"]["round"] = json!(round.to_string());
        let start = Instant::now();
        call(writer.of(0), &Ask::put(format!("{COLLECTION}/{NAME}"), &object)).await?;
        let all = tokio::time::timeout(Duration::from_secs(30), heard.all.notified()).await;
        all.context("an update did not reach every watch")?;
        ensure!(!heard.broken.load(Ordering::Relaxed), "a watch ended");
        let mut slowest = Duration::ZERO;
        for at in heard.take() {
            let time = at.duration_since(start);
            slowest = slowest.max(time);
            samples.push_millis(time);
        }
        last.push_millis(slowest);
    }
    let case = format!("update to delivery, {WATCHES} watches");
    let measure = Measure::new("watch", case, plane.who, &samples, "ms");
    bench.report.add(measure.target(Target::Latency(5.0)));
    let case = format!("update to the last of {WATCHES} watches");
    bench.report.add(Measure::new("watch", case, plane.who, &last, "ms"));
    Ok(())
}
