//! A runtime in a folder of its own, an image of one layer, and a look at what is left behind.
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use runtime::embedded::Embedded;
use runtime::*;
use tokio::sync::broadcast::Receiver;

pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: Embedded,
    group: String,
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    runtime.block_on(limited).expect("no test takes a minute");
}

impl Node {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix(&prefix()).tempdir().expect("a folder");
        let layer = dir.path().join("layer");
        for folder in ["bin", "etc", "home/web"] {
            fs::create_dir_all(layer.join(folder)).expect("image");
        }
        let own = std::env::current_exe().expect("own path");
        fs::hard_link(&own, layer.join("bin/probe"))
            .or_else(|_| fs::copy(&own, layer.join("bin/probe")).map(drop))
            .expect("probe");
        fs::write(layer.join("etc/plain"), "").expect("file");
        fs::write(layer.join("etc/passwd"), "web:x:1000:1000::/home/web:/bin/sh\n").expect("file");
        let group = format!("/kybern-test-{}", std::process::id());
        let runtime = Embedded::new(dir.path().join("run"), own).expect("a runtime");
        Node { dir, runtime, group }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// The same node, seen by a process that was started anew.
    pub(crate) fn again(&self) -> Embedded {
        let own = std::env::current_exe().expect("own path");
        Embedded::new(self.root(), own).expect("a runtime")
    }

    pub(crate) fn pod(&self) -> SandboxConfig {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        SandboxConfig {
            name: "pod".into(),
            hostname: "pod-0".into(),
            cgroup: format!("{}/pod{n}", self.group),
            shim_cgroup: format!("{}/shims", self.group),
            ..SandboxConfig::default()
        }
    }

    pub(crate) async fn sandbox(&self) -> Sandbox {
        self.runtime.run_sandbox(&self.pod()).await.expect("a sandbox")
    }

    pub(crate) fn container(&self, args: &[&str]) -> ContainerConfig {
        let args = std::iter::once("/bin/probe").chain(args.iter().copied());
        ContainerConfig {
            name: "c".into(),
            layers: vec![self.dir.path().join("layer")],
            args: args.map(str::to_owned).collect(),
            env: vec![("HOSTNAME".into(), "pod-0".into())],
            ..ContainerConfig::default()
        }
    }

    pub(crate) async fn start_with(&self, sandbox: &str, config: &ContainerConfig) -> String {
        let id = self.runtime.create_container(sandbox, config).await.expect("created");
        self.runtime.start_container(&id).await.expect("started");
        id
    }

    pub(crate) async fn start(&self, sandbox: &str, args: &[&str]) -> String {
        self.start_with(sandbox, &self.container(args)).await
    }

    /// Runs a container to its end and returns what it said.
    pub(crate) async fn run(&self, sandbox: &str, mut config: ContainerConfig) -> String {
        let mut events = self.runtime.events();
        let log = self.dir.path().join("run.log");
        let _ = fs::remove_file(&log);
        config.log_path = Some(log.clone());
        let id = self.start_with(sandbox, &config).await;
        self.exit(&mut events, &id).await;
        self.runtime.remove_container(&id).await.expect("removed");
        let text = fs::read_to_string(log).expect("a log");
        let lines = text.lines().map(|l| l.splitn(4, ' ').nth(3).expect("CRI format"));
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) async fn exit(&self, events: &mut Receiver<Event>, wanted: &str) -> Exit {
        let is = |e: &Event| matches!(e, Event::ContainerExited { id, .. } if id == wanted);
        match next(events, is).await {
            Event::ContainerExited { exit, .. } => exit,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn container_of(&self, sandbox: &str, id: &str) -> ContainerStatus {
        let list = self.runtime.list().await.expect("a list");
        let sandbox = list.into_iter().find(|s| s.id == sandbox).expect("the sandbox");
        sandbox.containers.into_iter().find(|c| c.id == id).expect("the container")
    }

    /// Processes in all containers of a sandbox.
    pub(crate) fn processes(&self, sandbox: &str) -> usize {
        let config = self.root().join("sandboxes").join(sandbox).join("config.json");
        let config: SandboxConfig =
            serde_json::from_slice(&fs::read(config).expect("config")).expect("JSON");
        let cgroups = sys::cgroup::Cgroups::detect().expect("cgroups");
        cgroups.processes(&config.cgroup).expect("processes").len()
    }

    pub(crate) async fn remove(&self, sandbox: &str) {
        self.runtime.stop_sandbox(sandbox).await.expect("stopped");
        self.runtime.remove_sandbox(sandbox).await.expect("removed");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        cleanup_all(&self.root()).expect("cleaned up");
        let cgroups = sys::cgroup::Cgroups::detect().expect("cgroups");
        cgroups.kill(&self.group, 5000).expect("killed");
        cgroups.remove(&self.group).expect("removed");
    }
}

pub(crate) async fn next(events: &mut Receiver<Event>, is: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = events.recv().await.expect("events go on");
        if is(&event) {
            return event;
        }
    }
}

pub(crate) async fn until(mut is: impl FnMut() -> bool) {
    until_async(async || is()).await;
}

/// Asks again and again; the test's own time limit ends it.
pub(crate) async fn until_async(mut is: impl AsyncFnMut() -> bool) {
    while !is().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

/// How the folders of this run's tests begin, by which their mounts are known.
fn prefix() -> String {
    format!("kybern-runtime-{}-", std::process::id())
}

/// What a test may not change: mounts, namespaces in use, processes of ours, cgroups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Census {
    mounts: usize,
    processes: usize,
    namespaces: BTreeSet<PathBuf>,
    groups: usize,
}

pub(crate) fn census() -> Census {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains(&prefix())).count();
    let own = std::env::current_exe().expect("own path");
    let mut namespaces = BTreeSet::new();
    let mut processes = 0;
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let exe = fs::read_link(entry.path().join("exe"));
        if !exe.is_ok_and(|e| e == own || e.ends_with("bin/probe")) {
            continue;
        }
        processes += 1;
        for name in ["net", "mnt", "ipc", "uts", "pid", "cgroup"] {
            namespaces.extend(fs::read_link(entry.path().join("ns").join(name)));
        }
    }
    let groups = fs::read_dir("/sys/fs/cgroup/pids").into_iter().flatten().flatten();
    let ours = format!("kybern-test-{}", std::process::id());
    let groups = groups.filter(|e| e.file_name().to_string_lossy().starts_with(&ours)).count();
    Census { mounts, processes, namespaces, groups }
}

/// Everything is as it was, at once or a moment later: a killed process whose parent is gone is
/// reaped by the machine's first process, in its own time.
pub(crate) fn settle(before: &Census, test: &str) {
    for _ in 0..500 {
        if census() == *before {
            return;
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    assert_eq!(census(), *before, "{test} left something behind");
}

pub(crate) fn pss_kb(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps");
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).expect("Pss");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
