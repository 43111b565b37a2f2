//! Small objects: created durably, and read one by one.
use crate::Bench;
use crate::load::{self, Ask, Load, Until, Wire, call};
use crate::objects;
use crate::plane::Plane;
use crate::report::{Measure, Target};
use anyhow::Result;
use std::time::Duration;

const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";

pub(super) async fn create(bench: &mut Bench, plane: &Plane) -> Result<()> {
    let time = bench.pick(Duration::from_secs(10), Duration::from_secs(2));
    for clients in [1, 64, 256] {
        let wire = plane.wire(clients)?;
        wire.warm().await?;
        let load = create_config_maps(&wire, clients, Until::Elapsed(time)).await?;
        add(bench, plane, "create", "ConfigMap 1 kB", clients, &load, Target::Rate(3.0));
    }
    for clients in [1, 64] {
        let wire = plane.wire(clients)?;
        wire.warm().await?;
        let load = get(&wire, clients, Until::Elapsed(time / 2)).await?;
        add(bench, plane, "get", "ConfigMap 1 kB", clients, &load, Target::None);
    }
    Ok(())
}

pub(super) fn add(
    bench: &mut Bench,
    plane: &Plane,
    row: &'static str,
    what: &str,
    clients: usize,
    load: &Load,
    target: Target,
) {
    let plural = if clients == 1 { "client" } else { "clients" };
    let case = format!("{what}, {clients} {plural}");
    let measure = Measure::new(row, case, plane.who, &load.latencies, "ms");
    bench.report.add(measure.rate(load.per_second()).target(target));
}

async fn create_config_maps(wire: &Wire, clients: usize, until: Until) -> Result<Load> {
    let wire = wire.clone();
    load::run(clients, until, move |client, number| {
        let wire = wire.clone();
        async move {
            let object = objects::config_map(&format!("c{clients}-{number}"));
            call(wire.of(client), &Ask::post(COLLECTION, &object)).await.map(drop)
        }
    })
    .await
}

/// Of objects that the last round has made.
async fn get(wire: &Wire, clients: usize, until: Until) -> Result<Load> {
    let wire = wire.clone();
    load::run(clients, until, move |client, number| {
        let wire = wire.clone();
        async move {
            let path = format!("{COLLECTION}/c1-{}", number % 50);
            call(wire.of(client), &Ask::get(path)).await.map(drop)
        }
    })
    .await
}
