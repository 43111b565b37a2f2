//! A control plane that nobody asks anything: how fast it is there, and what it takes.
use crate::Bench;
use crate::plane::Plane;
use crate::processes;
use crate::report::Measure;
use crate::stats::Samples;
use anyhow::Result;
use std::time::Duration;

pub(super) async fn plane(bench: &mut Bench, plane: &Plane) -> Result<()> {
    let seconds = |time: Duration| Samples::from(time.as_secs_f64());
    let who = plane.who;
    let report = &mut bench.report;
    report.add(Measure::new("plane", "start to /readyz", who, &seconds(plane.ready), "s"));
    report.add(Measure::new(
        "plane",
        "start to default service account",
        who,
        &seconds(plane.usable),
        "s",
    ));
    tokio::time::sleep(bench.pick(Duration::from_secs(60), Duration::from_secs(10))).await;
    let window = bench.pick(Duration::from_secs(60), Duration::from_secs(10));
    let idle = processes::idle(&plane.processes(), window).await;
    for (role, mb) in &idle.each {
        let case = format!("idle PSS of {role}");
        bench.report.add(Measure::new("plane", case, who, &Samples::from(*mb), "MB"));
    }
    let pss = Samples::from(idle.pss_mb());
    bench.report.add(Measure::new("plane", "idle PSS", who, &pss, "MB"));
    let cpu = Samples::from(idle.percent);
    bench.report.add(Measure::new("plane", "idle processor time", who, &cpu, "% of a core"));
    Ok(())
}
