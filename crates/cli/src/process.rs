//! Background processes of a cluster: started, told apart from strangers, and ended.
//!
//! A process is known by its pid *and* its start time, so that a pid which the kernel has given to
//! someone else is never signalled. A child reports over its standard output, one line each:
//! `progress TEXT`, `error TEXT`, or `ready`; after that it lets go of it.
use crate::paths::DataDir;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A live process of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    /// In clock ticks since boot, from `/proc/PID/stat`.
    started: u64,
}

/// The process named by a pid file, if it still lives.
pub(crate) fn running(dir: &DataDir, component: &str) -> Option<Running> {
    let text = std::fs::read_to_string(dir.pid_file(component)).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let recorded = Running { pid: pid.parse().ok()?, started: started.parse().ok()? };
    (start_time(recorded.pid)? == recorded.started).then_some(recorded)
}

/// Every component that has a pid file and lives, by name.
pub(crate) fn all_running(dir: &DataDir) -> Vec<(String, Running)> {
    let entries = std::fs::read_dir(dir.run()).into_iter().flatten().flatten();
    let mut found: Vec<(String, Running)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let component = name.strip_suffix(".pid")?.to_owned();
            let process = running(dir, &component)?;
            Some((component, process))
        })
        .collect();
    found.sort_by(|a, b| order(&a.0).cmp(&order(&b.0)));
    found
}

/// The server first, then the agents by name.
fn order(component: &str) -> (bool, &str) {
    (component != "server", component)
}

/// Field 22 of `/proc/PID/stat`; a zombie counts as gone.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Starts `kybern ARGS` in the background and waits until it says that it is ready.
pub(crate) fn start(
    dir: &DataDir,
    component: &str,
    args: &[String],
    timeout: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<Running> {
    let log_path = dir.log(component);
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut child = Command::new("/proc/self/exe")
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start the {component}"))?;
    let pid = child.id() as i32;
    let started = start_time(pid).unwrap_or_default();
    let process = Running { pid, started };
    std::fs::write(dir.pid_file(component), format!("{pid} {started}\n"))
        .with_context(|| format!("cannot write {}", dir.pid_file(component).display()))?;
    let output = child.stdout.take().context("the child has no standard output")?;
    match await_ready(output, timeout, progress) {
        Ok(()) => Ok(process),
        Err(error) => {
            stop(process, Duration::from_secs(5));
            let _ = child.wait();
            let _ = std::fs::remove_file(dir.pid_file(component));
            Err(error.context(format!(
                "the {component} did not start; its log is {}",
                log_path.display()
            )))
        }
    }
}

fn await_ready(
    output: impl std::io::Read + Send + 'static,
    timeout: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) if line == "ready" => return Ok(()),
            Ok(line) => match line.split_once(' ') {
                Some(("progress", text)) => progress(text),
                Some(("error", text)) => bail!("{text}"),
                _ => progress(&line),
            },
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                bail!("not ready after {} s", timeout.as_secs())
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                bail!("it ended before it was ready")
            }
        }
    }
}

/// The child's side of [`start`].
pub(crate) struct Report;

impl Report {
    pub(crate) fn progress(&self, text: &str) {
        self.line(&format!("progress {text}"));
    }
    pub(crate) fn error(&self, text: &str) {
        self.line(&format!("error {}", text.replace('\n', " ")));
    }
    /// The last word: standard output then goes nowhere, so that nobody waits on it.
    pub(crate) fn ready(self) {
        self.line("ready");
        if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
            let _ = nix::unistd::dup2_stdout(null);
        }
    }
    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }
}

/// Lets go of the terminal that started us.
pub(crate) fn detach() {
    let _ = nix::unistd::setsid();
}

/// Asks a process to end, then makes it. Returns once it is gone.
pub(crate) fn stop(process: Running, patience: Duration) {
    if !alive(process) {
        return;
    }
    let watched = PidFd::open(process.pid);
    signal(process, Signal::SIGTERM);
    if !watched.wait(process, patience) {
        signal(process, Signal::SIGKILL);
        watched.wait(process, Duration::from_secs(5));
    }
}

pub(crate) fn alive(process: Running) -> bool {
    start_time(process.pid) == Some(process.started)
}

fn signal(process: Running, signal: Signal) {
    if alive(process) {
        let _ = nix::sys::signal::kill(Pid::from_raw(process.pid), signal);
    }
}

/// Waits for the end of a process that need not be our child, by the readability of its
/// `/proc/PID` through inotify-free `waitpid` where it is, else by its pidfd.
struct PidFd(Option<std::os::fd::OwnedFd>);

impl PidFd {
    fn open(pid: i32) -> Self {
        Self(sys_pidfd(pid))
    }
    /// True once the process has ended.
    fn wait(&self, process: Running, patience: Duration) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let Some(fd) = &self.0 else { return !alive(process) };
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut fds, timeout) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return other.is_ok_and(|n| n > 0),
            }
        }
    }
}

fn sys_pidfd(pid: i32) -> Option<std::os::fd::OwnedFd> {
    sys::process::pidfd_open(pid).ok()
}

/// Memory of a process that is its own share, in bytes (PSS).
pub(crate) fn pss_bytes(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// When a process was started, in seconds ago.
pub(crate) fn uptime_seconds(process: Running) -> Option<u64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some((uptime - process.started as f64 / ticks as f64).max(0.0) as u64)
}

/// Only one command at a time changes what runs in a data folder.
pub(crate) struct Lock(
    #[expect(dead_code, reason = "held for its drop")] nix::fcntl::Flock<std::fs::File>,
);

pub(crate) fn lock(path: &Path) -> Result<Lock> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map(Lock).map_err(
        |_| anyhow::anyhow!("another kybern command is at work in this data folder: wait for it"),
    )
}
