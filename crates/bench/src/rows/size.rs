//! The binary's size, and what building it costs.
use crate::Bench;
use crate::report::{KYBERN, Measure, Target};
use crate::stats::Samples;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Instant;

pub(super) async fn size(bench: &mut Bench) -> Result<()> {
    let bytes = std::fs::metadata(&bench.binary).context("cannot see the binary")?.len();
    let samples = Samples::from(bytes as f64 / 1e6);
    let measure = Measure::new("size", "static binary", KYBERN, &samples, "MB");
    bench.report.add(measure.target(Target::P50(60.0)));
    Ok(())
}

/// In a target folder of its own, with no cache of compiled crates in between. Its network has no
/// way out, so what the build needs must have been fetched.
pub(super) async fn build(bench: &mut Bench) -> Result<()> {
    let target = crate::plane::scratch(bench, "kybern-bench-build")?;
    let start = Instant::now();
    let status = Command::new("cargo")
        .args(["build", "--release", "--offline", "--package", "kybern"])
        .env("CARGO_TARGET_DIR", target.path())
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_BUILD_RUSTC_WRAPPER")
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the build failed: {status}");
    let samples = Samples::from(start.elapsed().as_secs_f64());
    let measure = Measure::new("build", "cold, release", KYBERN, &samples, "s");
    bench.report.add(measure.target(Target::P50(360.0)));
    Ok(())
}
