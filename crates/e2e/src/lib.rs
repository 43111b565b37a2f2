//! What the end-to-end tests stand on: a cluster of the built binary, and the real kubectl.
//!
//! A test sees only what a user sees: commands, their output, and the kernel. Waiting is always for
//! a condition (`kubectl wait`, `rollout status`, or [`until`] with a bound), never for a time.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
pub mod registry;
pub mod terminal;
mod traces;

pub use traces::Traces;

use serde_json::Value;
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a condition may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary under test and kubectl, or `None` where the end-to-end tests are not asked for.
pub fn tools() -> Option<(PathBuf, PathBuf)> {
    let binary = std::env::var_os("KYBERN_E2E_BINARY");
    let kubectl = std::env::var_os("KYBERN_E2E_KUBECTL");
    let tools = binary.zip(kubectl).map(|(a, b)| (PathBuf::from(a), PathBuf::from(b)));
    if tools.is_none() {
        eprintln!("skipped: the end-to-end tests are run by `cargo xtask e2e`");
    }
    tools
}

/// A cluster of its own, ended and wiped when dropped.
pub struct Cluster {
    /// Under the folder; goes first.
    disk: Option<Disk>,
    folder: tempfile::TempDir,
    pub binary: PathBuf,
    pub kubectl: PathBuf,
    /// Kept, because a cluster that is wiped no longer tells them.
    ranges: RefCell<Vec<String>>,
}

impl Cluster {
    /// A folder for a cluster that is not up yet.
    pub fn new() -> Option<Self> {
        let (binary, kubectl) = tools()?;
        let folder = tempfile::Builder::new().prefix("kybern-e2e").tempdir().unwrap();
        Some(Self { disk: None, folder, binary, kubectl, ranges: RefCell::default() })
    }
    /// The same, with everything on a file system of its own that has little room beside what a
    /// cluster needs.
    pub fn on_small_disk(spare_mib: u64) -> Option<Self> {
        let mut cluster = Self::new()?;
        // The built-in image is made of the binary.
        let binary = std::fs::metadata(&cluster.binary).unwrap().len() >> 20;
        cluster.disk = Some(Disk::mount(cluster.folder.path(), binary + spare_mib));
        Some(cluster)
    }
    /// A cluster that is up.
    pub fn up(args: &[&str]) -> Option<Self> {
        let cluster = Self::new()?;
        let mut all = vec!["up"];
        all.extend(args);
        cluster.kybern(&all);
        Some(cluster)
    }
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }
    /// What there is of it on this machine.
    pub fn traces(&self) -> Traces {
        let mut ranges = self.ranges.borrow_mut();
        if ranges.is_empty() {
            *ranges = traces::ranges(&self.data_dir());
        }
        Traces::of(&self.data_dir(), &ranges)
    }
    pub fn home(&self) -> &Path {
        self.folder.path()
    }
    /// `kybern ARGS --data-dir …`, not yet run. How full this machine's disk is does not matter,
    /// unless the test says so.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        if args.first() == Some(&"up") && !args.contains(&"--eviction-hard") {
            command.env("KYBERN_EVICTION_HARD", "memory.available<100Mi");
        }
        command
            .args(args)
            .arg("--data-dir")
            .arg(self.data_dir())
            .env("HOME", self.home())
            .env_remove("KUBECONFIG");
        command
    }
    /// Runs `kybern ARGS`; its standard output.
    pub fn kybern(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(
            output.status.success(),
            "kybern {args:?} failed: {}\n{}",
            text(&output.stderr),
            self.tail_of_logs()
        );
        text(&output.stdout)
    }
    /// What `kybern status` tells, whatever runs.
    pub fn status(&self) -> Value {
        let output = self.command(&["status", "--output", "json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
    /// Runs `kybern ARGS`, which must fail; its standard error.
    pub fn kybern_fails(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(!output.status.success(), "kybern {args:?} should fail");
        text(&output.stderr)
    }
    /// `kubectl ARGS` with the user's kubeconfig, as `kybern up` left it.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(args).env("HOME", self.home()).env_remove("KUBECONFIG");
        command
    }
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_command(args).stdin(Stdio::null()).output().unwrap()
    }
    /// Runs kubectl, which must succeed; its standard output.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        assert!(
            output.status.success(),
            "kubectl {args:?} failed: {}{}\n{}",
            text(&output.stdout),
            text(&output.stderr),
            self.tail_of_logs()
        );
        text(&output.stdout)
    }
    /// Runs kubectl, which must fail; its standard error.
    pub fn kubectl_fails(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        assert!(!output.status.success(), "kubectl {args:?} should fail: {}", text(&output.stdout));
        text(&output.stderr)
    }
    /// `kubectl apply -f -` of a manifest.
    pub fn apply(&self, manifest: &str) -> String {
        let output = self.with_input(&["apply", "-f", "-"], manifest);
        assert!(output.status.success(), "apply failed: {}", text(&output.stderr));
        text(&output.stdout)
    }
    pub fn with_input(&self, args: &[&str], input: &str) -> Output {
        let mut child = self
            .kubectl_command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
    pub fn get(&self, args: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        serde_json::from_str(&self.kubectl(&all)).unwrap()
    }
    /// A kubectl that goes on until it is dropped.
    pub fn background(&self, args: &[&str]) -> Background {
        let child = self
            .kubectl_command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Background(child)
    }
    pub fn rollout(&self, what: &str) {
        self.kubectl(&["rollout", "status", what, "--timeout=60s"]);
    }
    fn tail_of_logs(&self) -> String {
        let mut out = String::new();
        for entry in std::fs::read_dir(self.data_dir().join("logs")).into_iter().flatten().flatten()
        {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(15).collect();
            out += &format!("--- {}\n", entry.path().display());
            out.extend(lines.into_iter().rev().map(|line| format!("{line}\n")));
        }
        out
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let output = self.command(&["down", "--wipe", "--quiet"]).output();
        if let Ok(output) = output
            && !output.status.success()
            && !std::thread::panicking()
        {
            panic!("kybern down failed: {}", text(&output.stderr));
        }
    }
}

/// A file system in memory, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, mib: u64) -> Self {
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        assert!(mount.status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A process that is ended when dropped.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ends a process at once, and waits until it is gone.
pub fn kill(pid: i32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    until("the killed process is gone", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // One that nobody has asked about is gone too.
        let zombie = status.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
        (status.is_empty() || zombie).then_some(())
    });
}

/// Tries again until it yields something, or fails the test. For conditions that no client can wait
/// for; the pause only bounds the load.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
