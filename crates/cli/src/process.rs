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

/// How long a process may take to let go of what it holds, once it is killed.
const ENDING: Duration = Duration::from_secs(10);

/// A live process of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    /// In clock ticks since boot, from `/proc/PID/stat`.
    started: u64,
}

/// The server or an agent: at least one of its two processes lives.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    pub(crate) name: String,
    /// Absent while it waits to be started again.
    pub(crate) main: Option<Running>,
    pub(crate) supervisor: Option<Running>,
    pub(crate) restarts: u32,
}

impl Running {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = Stat::of(pid).filter(|stat| !stat.ended)?;
        Some(Self { pid, started: stat.started })
    }
    /// `PID START`, as [`Running::written`] wrote it, if that process still lives. One that is
    /// just being killed is waited for: it holds its ports and locks until its last thread ends.
    fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.trim().split_once(' ')?;
        let recorded = Running { pid: pid.parse().ok()?, started: started.parse().ok()? };
        let now = Stat::of(recorded.pid).filter(|stat| stat.started == recorded.started)?;
        if now.ended && now.threads > 1 {
            PidFd::open(recorded.pid).wait(recorded, ENDING);
        }
        (!now.ended).then_some(recorded)
    }
    pub(crate) fn written(self) -> String {
        format!("{} {}", self.pid, self.started)
    }
}

/// What a pid file names, as far as it still lives.
pub(crate) fn running(dir: &DataDir, component: &str) -> Option<Component> {
    let text = std::fs::read_to_string(dir.pid_file(component)).ok()?;
    let mut lines = text.lines();
    let main = lines.next().and_then(Running::parse);
    let supervisor = lines.next().and_then(Running::parse);
    let restarts = lines.next().and_then(|line| line.parse().ok()).unwrap_or_default();
    let name = component.to_owned();
    (main.is_some() || supervisor.is_some()).then_some(Component {
        name,
        main,
        supervisor,
        restarts,
    })
}

/// Every component that has a pid file and lives: the server first, then the agents by name.
pub(crate) fn all_running(dir: &DataDir) -> Vec<Component> {
    let entries = std::fs::read_dir(dir.run()).into_iter().flatten().flatten();
    let mut found: Vec<Component> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            running(dir, name.strip_suffix(".pid")?)
        })
        .collect();
    found.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    found
}

/// Ends a component: its supervisor first, which tells it and would otherwise start it again.
pub(crate) fn stop_component(component: &Component, patience: Duration) {
    for process in [component.supervisor, component.main].into_iter().flatten() {
        stop(process, patience);
    }
}

/// The server first, then the agents by name.
fn order(component: &str) -> (bool, &str) {
    (component != "server", component)
}

/// What `/proc/PID/stat` tells about a process.
struct Stat {
    /// Its first thread has: a zombie, until its parent has asked about it.
    ended: bool,
    /// Those that have not ended, and the first.
    threads: u64,
    /// In clock ticks since boot.
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // From the third field on: the second, the name, may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            ended: matches!(*fields.first()?, "Z" | "X"),
            threads: fields.get(17)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Starts `kybern ARGS` in the background and waits until it says that it is ready.
pub(crate) fn start(
    dir: &DataDir,
    component: &str,
    args: &[String],
    timeout: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<Component> {
    let log_path = dir.log(component);
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut child = Command::new("/proc/self/exe")
        .args(args)
        .arg("--supervised")
        .arg(dir.pid_file(component))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start the {component}"))?;
    let supervisor = Running::of(child.id() as i32);
    let output = child.stdout.take().context("the child has no standard output")?;
    let outcome = await_ready(output, timeout, progress);
    let found = running(dir, component);
    match outcome.and_then(|()| found.clone().context("it ended as soon as it was ready")) {
        Ok(component) => Ok(component),
        Err(error) => {
            let name = component.to_owned();
            let only = Component { name, main: None, supervisor, restarts: 0 };
            stop_component(&found.unwrap_or(only), Duration::from_secs(5));
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
        forget_stdout();
    }
    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }
}

/// Nobody waits on standard output any more.
pub(crate) fn forget_stdout() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
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

/// Returns once the process has ended; it need not be our child.
pub(crate) fn await_end(process: Running) {
    let watched = PidFd::open(process.pid);
    // Without a descriptor it is gone already.
    while watched.0.is_some() && alive(process) {
        watched.wait(process, Duration::MAX);
    }
}

pub(crate) fn alive(process: Running) -> bool {
    Running::of(process.pid) == Some(process)
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
    try_lock(path)?.context("another kybern command is at work in this data folder: wait for it")
}

/// The same for any purpose; `None` if another process has it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Lock>> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let locked = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock);
    Ok(locked.ok().map(Lock))
}
