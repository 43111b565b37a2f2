//! What the numbers were measured on.
use crate::stats::Samples;
use anyhow::{Context, Result};
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) memory_mb: u64,
    pub(crate) kernel: String,
    pub(crate) commit: String,
    pub(crate) version: String,
    /// Of writing 4 KiB and making it durable, on the disk of the data folders.
    pub(crate) sync_p50_ms: f64,
    /// The machine's load before anything was measured: who else was there.
    pub(crate) load: String,
}

pub(crate) fn facts(binary: &Path, scratch: &Path) -> Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory_kb = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0u64);
    let dirty = !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    Ok(Machine {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_mb: memory_kb / 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        commit: if dirty { format!("{commit}+changes") } else { commit },
        version: output(&binary.to_string_lossy(), &["--version"]),
        sync_p50_ms: sync_p50_ms(scratch)?,
        load: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    })
}

fn sync_p50_ms(scratch: &Path) -> Result<f64> {
    let mut file = tempfile::tempfile_in(scratch)
        .with_context(|| format!("cannot write in {}", scratch.display()))?;
    let mut samples = Samples::default();
    for _ in 0..50 {
        let start = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).context("cannot sync a file")?;
        samples.push_millis(start.elapsed());
    }
    Ok(samples.percentile(50.0))
}

/// What a program prints, or nothing.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.ok().filter(|output| output.status.success());
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}
