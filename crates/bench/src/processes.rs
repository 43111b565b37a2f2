//! Processes: their memory and processor time, and their end.
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// A process and what to call it.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) role: String,
}

/// Every process that runs `binary`; its role is its first argument. There are no others in this
/// process namespace than those of the run.
pub(crate) fn of_binary(binary: &Path) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let exe = std::fs::read_link(entry.path().join("exe")).ok()?;
            if exe != binary {
                return None;
            }
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let role = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
            Some(Process { pid, role: String::from_utf8_lossy(role).into_owned() })
        })
        .collect()
}

/// Memory that is a process's own share (PSS), in MB.
pub(crate) fn pss_mb(process: &Process) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid));
    let text = text.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() * 1024.0 / 1e6
}

/// Processor time of a process so far, in seconds.
pub(crate) fn cpu_seconds(process: &Process) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0.0 };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<f64>().ok()).sum();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks / per_second.unwrap_or(100) as f64
}

/// Memory in all, and processor time in percent of one core over `window`.
pub(crate) async fn idle(processes: &[Process], window: Duration) -> Idle {
    let before: f64 = processes.iter().map(cpu_seconds).sum();
    let start = Instant::now();
    tokio::time::sleep(window).await;
    let after: f64 = processes.iter().map(cpu_seconds).sum();
    let percent = (after - before) / start.elapsed().as_secs_f64() * 100.0;
    let each = processes.iter().map(|process| (process.role.clone(), pss_mb(process))).collect();
    Idle { each, percent }
}

pub(crate) struct Idle {
    pub(crate) each: Vec<(String, f64)>,
    pub(crate) percent: f64,
}

impl Idle {
    pub(crate) fn pss_mb(&self) -> f64 {
        self.each.iter().map(|(_, mb)| mb).sum()
    }
}

/// A child of ours that is ended, politely at first, when dropped.
pub(crate) struct Owned {
    pub(crate) process: Process,
    child: Child,
}

impl Owned {
    pub(crate) fn new(role: &str, child: Child) -> Self {
        Self { process: Process { pid: child.id() as i32, role: role.to_owned() }, child }
    }
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let status = self.child.try_wait().context("cannot wait for a child")?;
        ensure!(status.is_none(), "{} ended: {}", self.process.role, status.unwrap_or_default());
        Ok(())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.process.pid), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
