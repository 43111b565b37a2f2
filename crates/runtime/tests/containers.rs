//! Real containers, started by root. This program is the tests, the shim and what runs inside the
//! containers, as the kybern binary is; so it has no test harness. A first argument filters.
#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "these are tests")]
#[path = "containers/probe.rs"]
mod probe;
#[path = "containers/support.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use runtime::*;
use support::{Node, block_on, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[0].ends_with("probe") {
        std::process::exit(probe::main(&args[1..]));
    }
    if args.get(1).is_some_and(|a| a == "shim") {
        std::process::exit(runtime::shim::main(&args[2..]));
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: containers need root");
        return;
    }
    let filter = args.iter().skip(1).find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    let tests: &[(&str, fn())] = &[
        ("runs_and_logs", runs_and_logs),
        ("tells_why_it_cannot_start", tells_why_it_cannot_start),
        ("is_confined", is_confined),
        ("privileged_is_not_confined", privileged_is_not_confined),
        ("mounts_what_it_is_told", mounts_what_it_is_told),
        ("execs", execs),
        ("terminals_and_attach", terminals_and_attach),
        ("limits_memory", limits_memory),
        ("shares_the_pod", shares_the_pod),
        ("survives_the_agent", survives_the_agent),
        ("a_dead_shim_leaves_nothing", a_dead_shim_leaves_nothing),
        ("an_unborn_shim_leaves_nothing", an_unborn_shim_leaves_nothing),
        ("is_fast_and_small", is_fast_and_small),
    ];
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(&filter)) {
        let before = support::census();
        let start = Instant::now();
        test();
        support::settle(&before, name);
        println!("test {name} ... ok ({} ms)", start.elapsed().as_millis());
    }
}

fn runs_and_logs() {
    block_on(async {
        let node = Node::new();
        let mut events = node.runtime.events();
        let sandbox = node.sandbox().await;
        let log = node.dir.path().join("logs/pod/c/0.log");
        let config = ContainerConfig { log_path: Some(log.clone()), ..node.container(&["say"]) };
        let id = node.runtime.create_container(&sandbox.id, &config).await.unwrap();
        let pid = node.runtime.start_container(&id).await.unwrap();
        let started = events.recv().await.unwrap();
        assert_eq!(
            started,
            Event::ContainerStarted { sandbox: sandbox.id.clone(), id: id.clone(), pid }
        );
        let Event::ContainerExited { exit, .. } = events.recv().await.unwrap() else {
            panic!("an exit follows")
        };
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
        let lines = fs::read_to_string(&log).unwrap();
        let mut lines: Vec<_> = lines.lines().map(|l| l.split_once(' ').unwrap().1).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["stderr F to stderr", "stdout F to stdout", "stdout P no newline"]);

        let id = node.start(&sandbox.id, &["sleep"]).await;
        assert!(node.runtime.remove_container(&id).await.is_err(), "it is running");
        node.runtime.signal_container(&id, 9).await.unwrap();
        assert_eq!(node.exit(&mut events, &id).await.code, 137);
        assert!(node.runtime.stats(&id).await.is_ok());
        node.runtime.remove_container(&id).await.unwrap();
        node.runtime.remove_container(&id).await.unwrap();
        node.remove(&sandbox.id).await;
    });
}

fn tells_why_it_cannot_start() {
    block_on(async {
        let node = Node::new();
        let sandbox = node.sandbox().await;
        let mut events = node.runtime.events();
        for (args, want) in [
            (vec!["foo"], "exec: \"foo\": executable file not found in $PATH"),
            (vec!["/foo"], "exec: \"/foo\": stat /foo: no such file or directory"),
            (vec!["/etc"], "exec: \"/etc\": is a directory"),
            (vec!["/etc/plain"], "exec: \"/etc/plain\": permission denied"),
        ] {
            let args = args.into_iter().map(str::to_owned).collect();
            let config = ContainerConfig { args, ..node.container(&[]) };
            let id = node.runtime.create_container(&sandbox.id, &config).await.unwrap();
            let error = node.runtime.start_container(&id).await.unwrap_err();
            assert_eq!(error, Error::Start(want.to_owned()));
            let exit = node.exit(&mut events, &id).await;
            assert_eq!((exit.code, exit.start_failed, exit.message.as_str()), (128, true, want));
            node.runtime.remove_container(&id).await.unwrap();
        }
        let missing =
            Mount { source: "/no/such/place".into(), destination: "/x".into(), ..Mount::default() };
        let config = ContainerConfig { mounts: vec![missing], ..node.container(&["say"]) };
        let error = node.runtime.create_container(&sandbox.id, &config).await.unwrap_err();
        assert!(matches!(&error, Error::Create(m) if m.contains("/no/such/place")), "{error}");
        let mut config = node.container(&["say"]);
        config.security.capabilities.add = vec!["NOPE".into()];
        let error = node.runtime.create_container(&sandbox.id, &config).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)));
        node.remove(&sandbox.id).await;
    });
}

fn is_confined() {
    block_on(async {
        let node = Node::new();
        let sandbox = node.sandbox().await;
        let mut config = node.container(&["status"]);
        config.user = User { uid: 1000, gid: 1000, groups: vec![1000, 2000] };
        config.security.no_new_privileges = true;
        config.security.seccomp = Seccomp::RuntimeDefault;
        config.security.readonly_rootfs = true;
        config.cwd = "/work/here".into();
        let output = node.run(&sandbox.id, config.clone()).await;
        let status: std::collections::BTreeMap<_, _> =
            output.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k, v.trim())).collect();
        let show = |key: &str| status.get(key).copied().unwrap_or_default();
        assert_eq!(show("Uid"), "1000\t1000\t1000\t1000", "{output}");
        assert_eq!(show("Groups"), "1000 2000");
        assert_eq!((show("NoNewPrivs"), show("Seccomp")), ("1", "2"));
        assert_eq!(show("CapEff"), "0000000000000000", "no root, no capabilities");
        assert_eq!(show("CapBnd"), "00000000a80425fb", "the customary set");
        assert_eq!((show("NSpid").split('\t').nth(1), show("pid")), (None, "1"));
        assert_eq!((show("cwd"), show("hostname")), ("/work/here", "pod-0"));
        assert_eq!(show("HOME"), "/home/web");
        for (what, want) in [
            ("write /file", "read-only file system"),
            ("write /proc/sys/kernel/shmmax", "read-only file system"),
            ("write /sys/kernel/profiling", "read-only file system"),
            ("read /proc/interrupts", "0 bytes"),
            ("write /dev/null", "ok"),
            ("write /dev/shm/x", "ok"),
            ("mount", "operation not permitted"),
            ("links", "net=lo"),
        ] {
            // Even root is refused.
            let mut config = ContainerConfig { user: User::default(), ..config.clone() };
            config.args = vec!["/bin/probe".into()];
            config.args.extend(what.split(' ').map(str::to_owned));
            let output = node.run(&sandbox.id, config).await;
            assert!(output.contains(want), "{what}: {output}");
        }
        // Root in the container may make a node of the kernel's log, and still not open it.
        let config = node.container(&["kernel-log"]);
        assert_eq!(node.run(&sandbox.id, config).await.trim(), "operation not permitted");
        node.remove(&sandbox.id).await;
    });
}

fn privileged_is_not_confined() {
    block_on(async {
        let node = Node::new();
        let sandbox = node.sandbox().await;
        let mut config = node.container(&["status"]);
        config.security.privileged = true;
        let output = node.run(&sandbox.id, config.clone()).await;
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let caps = |s: &str| s.lines().find(|l| l.starts_with("CapEff")).map(str::to_owned);
        assert_eq!(caps(&output), caps(&own));
        for (what, want) in
            [("mount", "ok"), ("kernel-log", "ok"), ("write /proc/sys/net/ipv4/ip_forward", "ok")]
        {
            let mut config = config.clone();
            config.args = vec!["/bin/probe".into()];
            config.args.extend(what.split(' ').map(str::to_owned));
            let output = node.run(&sandbox.id, config).await;
            assert!(output.contains(want), "{what}: {output}");
        }
        node.remove(&sandbox.id).await;
    });
}

fn mounts_what_it_is_told() {
    block_on(async {
        let node = Node::new();
        let sandbox = node.sandbox().await;
        let volume = node.dir.path().join("volume");
        fs::create_dir_all(volume.join("sub")).unwrap();
        fs::write(volume.join("file"), "from the host").unwrap();
        fs::write(volume.join("sub/inner"), "inner").unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        let bind = |destination: &str, source: std::path::PathBuf| Mount {
            destination: destination.into(),
            source,
            ..Mount::default()
        };
        let mounts = vec![
            bind("/data/below/sub", volume.join("sub")),
            bind("/data/below", volume.clone()),
            Mount { readonly: true, ..bind("/ro", volume.clone()) },
            Mount { readonly: true, ..bind("/etc/hosts", volume.join("file")) },
            Mount { sub_path: Some("sub".into()), ..bind("/part", volume.clone()) },
            Mount { kind: MountKind::Tmpfs, size_bytes: 1 << 16, ..bind("/tmp", "".into()) },
        ];
        let run = |what: &str, mounts: &[Mount]| {
            let mut config = node.container(&what.split(' ').collect::<Vec<_>>());
            config.mounts = mounts.to_vec();
            config
        };
        for (what, want) in [
            ("read /data/below/file", "from the host"),
            ("read /data/below/sub/inner", "inner"),
            ("read /etc/hosts", "from the host"),
            ("read /part/inner", "inner"),
            ("write /ro/new", "read-only file system"),
            ("write /data/below/new", "ok"),
            ("fill /tmp/big", "no space left on device"),
        ] {
            let output = node.run(&sandbox.id, run(what, &mounts)).await;
            assert!(output.contains(want), "{what}: {output}");
        }
        assert!(volume.join("new").exists());
        // A link may not lead a sub path out of its volume.
        let escape = Mount { sub_path: Some("out".into()), ..bind("/x", volume.clone()) };
        let id = node.runtime.create_container(&sandbox.id, &run("say", &[escape])).await.unwrap();
        let error = node.runtime.start_container(&id).await.unwrap_err();
        assert!(matches!(error, Error::Start(_)), "{error}");
        // Nothing of all this is mounted on the host.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*node.dir.path().to_string_lossy()), "{mounts}");
        node.remove(&sandbox.id).await;
    });
}

fn execs() {
    block_on(async {
        let node = Node::new();
        let sandbox = node.sandbox().await;
        let mut config = node.container(&["sleep"]);
        config.security.seccomp = Seccomp::RuntimeDefault;
        let id = node.start_with(&sandbox.id, &config).await;
        let args = |a: &[&str]| a.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        let exec = |a: &[&str]| {
            let (runtime, id, args) = (node.runtime.clone(), id.clone(), args(a));
            async move { runtime.exec_sync(&id, &args, Some(Duration::from_secs(20))).await }
        };
        let output = exec(&["/bin/probe", "say"]).await.unwrap();
        assert_eq!((output.code, text(&output.stdout)), (7, "to stdout\nno newline".into()));
        assert_eq!(text(&output.stderr), "to stderr\n");
        let output = text(&exec(&["probe", "status"]).await.unwrap().stdout);
        assert!(output.contains("Seccomp:\t2"), "the container's filter is this one's too");
        assert!(output.contains("CapEff:\t00000000a80425fb"), "{output}");
        let error = exec(&["foo"]).await.unwrap_err();
        assert_eq!(error, Error::Start("exec: \"foo\": executable file not found in $PATH".into()));
        let slow = args(&["probe", "sleep"]);
        let late = node.runtime.exec_sync(&id, &slow, Some(Duration::from_millis(50))).await;
        assert!(matches!(late, Err(Error::Timeout { .. })));

        let config = ExecConfig {
            args: args(&["probe", "echo"]),
            stdin: true,
            stdout: true,
            ..ExecConfig::default()
        };
        let mut session = node.runtime.exec(&id, &config).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        let mut stdout = session.stdout.take().unwrap();
        let big = vec![b'x'; 1 << 20];
        let sent = big.clone();
        let write = tokio::spawn(async move {
            stdin.write_all(&sent).await.unwrap();
            drop(stdin);
        });
        let mut back = Vec::new();
        stdout.read_to_end(&mut back).await.unwrap();
        write.await.unwrap();
        assert_eq!(back.len(), big.len());
        assert_eq!(session.wait.await.unwrap(), 0);

        let config = ExecConfig { tty: true, args: args(&["probe", "tty"]), ..config };
        let mut session = node.runtime.exec(&id, &config).await.unwrap();
        session.resize.as_ref().unwrap()(101, 33).unwrap();
        session.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
        let mut seen = Vec::new();
        session.stdout.take().unwrap().read_to_end(&mut seen).await.unwrap();
        let seen = text(&seen);
        assert!(seen.contains("size 101x33 on /dev/pts/0"), "{seen}");
        assert_eq!(session.wait.await.unwrap(), 0);
        // The processes that nobody waits for any more were killed.
        support::until(|| node.processes(&sandbox.id) == 1).await;
        node.remove(&sandbox.id).await;
    });
}

fn terminals_and_attach() {
    block_on(async {
        let node = Node::new();
        let sandbox = node.sandbox().await;
        let log = node.dir.path().join("tty.log");
        let mut config = node.container(&["tty"]);
        (config.tty, config.stdin, config.log_path) = (true, true, Some(log.clone()));
        let id = node.start_with(&sandbox.id, &config).await;
        let all = AttachConfig { stdin: true, stdout: true, stderr: true };
        let mut first = node.runtime.attach(&id, &all).await.unwrap();
        let mut second = node.runtime.attach(&id, &all).await.unwrap();
        first.resize.as_ref().unwrap()(90, 20).unwrap();
        // Answered in order, so the size is set when this is done.
        node.runtime.rotate_log(&id).await.unwrap();
        first.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
        let mut seen = Vec::new();
        first.stdout.take().unwrap().read_to_end(&mut seen).await.unwrap();
        assert!(text(&seen).contains("size 90x20 on /dev/pts/0"), "{}", text(&seen));
        let mut other = Vec::new();
        second.stdout.take().unwrap().read_to_end(&mut other).await.unwrap();
        assert!(text(&other).contains("size 90x20"), "{}", text(&other));
        assert_eq!(first.wait.await.unwrap(), 0);
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains("stdout F size 90x20 on /dev/pts/0"), "{log}");
        assert!(log.contains("stdout F console true"), "{log}");

        // Standard input that ends with its first client.
        let mut config = node.container(&["echo"]);
        (config.stdin, config.stdin_once) = (true, true);
        let id = node.start_with(&sandbox.id, &config).await;
        let mut session = node.runtime.attach(&id, &all).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        drop(stdin);
        let mut seen = Vec::new();
        session.stdout.take().unwrap().read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"hello");
        assert_eq!(session.wait.await.unwrap(), 0);
        assert!(matches!(node.runtime.attach(&id, &all).await, Err(Error::State(_))));
        node.remove(&sandbox.id).await;
    });
}

fn limits_memory() {
    block_on(async {
        let node = Node::new();
        let mut events = node.runtime.events();
        let sandbox = node.sandbox().await;
        let mut config = node.container(&["eat"]);
        config.resources.memory_bytes = Some(32 << 20);
        config.resources.pids = Some(10);
        let id = node.start_with(&sandbox.id, &config).await;
        let exit = node.exit(&mut events, &id).await;
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));

        let id = node.start(&sandbox.id, &["sleep"]).await;
        let more = Resources { memory_bytes: Some(64 << 20), ..Resources::default() };
        node.runtime.update_resources(&id, &more).await.unwrap();
        let stats = node.runtime.stats(&id).await.unwrap();
        assert_eq!((stats.memory_limit, stats.pids), (Some(64 << 20), 1));
        assert!(node.runtime.sandbox_stats(&sandbox.id).await.unwrap().memory_usage > 0);
        node.remove(&sandbox.id).await;
    });
}

fn shares_the_pod() {
    block_on(async {
        let node = Node::new();
        let config = SandboxConfig { share_pid: true, ..node.pod() };
        let shared = node.runtime.run_sandbox(&config).await.unwrap();
        let a = node.start(&shared.id, &["keep", "/dev/shm/note"]).await;
        let b = node.start(&shared.id, &["sleep"]).await;
        let run = |id: &str, args: &str| {
            let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
            let (runtime, id) = (node.runtime.clone(), id.to_owned());
            async move { text(&runtime.exec_sync(&id, &args, None).await.unwrap().stdout) }
        };
        support::until_async(async || run(&b, "probe read /dev/shm/note").await.contains("kept"))
            .await;
        let seen = run(&a, "probe pids").await;
        assert_eq!(seen.trim().split(' ').count(), 4, "pause, both containers, this: {seen}");
        assert!(run(&b, "probe links").await.contains("net=lo"));
        node.runtime.signal_container(&a, 9).await.unwrap();
        node.remove(&shared.id).await;

        let apart = node.sandbox().await;
        let main = node.start(&apart.id, &["sleep"]).await;
        let config = ContainerConfig { pids_of: Some(main.clone()), ..node.container(&["sleep"]) };
        let guest = node.runtime.create_container(&apart.id, &config).await.unwrap();
        node.runtime.start_container(&guest).await.unwrap();
        let seen = run(&guest, "probe pids").await;
        assert_eq!(seen.trim().split(' ').count(), 3, "both containers and this: {seen}");
        let late = ContainerConfig { pids_of: Some("gone".into()), ..node.container(&["sleep"]) };
        let late = node.runtime.create_container(&apart.id, &late).await.unwrap();
        let error = node.runtime.start_container(&late).await.unwrap_err();
        assert_eq!(error, Error::Start("target container gone is not running".to_owned()));
        node.remove(&apart.id).await;

        let config =
            SandboxConfig { host_network: true, host_pid: true, host_ipc: true, ..node.pod() };
        let host = node.runtime.run_sandbox(&config).await.unwrap();
        assert_eq!(host.netns, None);
        let id = node.start(&host.id, &["sleep"]).await;
        let link = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        let status = node.container_of(&host.id, &id).await;
        let ContainerState::Running { pid, .. } = status.state else { panic!("it runs") };
        for name in ["net", "pid", "ipc", "uts"] {
            assert_eq!(link(pid, name), link(std::process::id() as i32, name), "{name}");
        }
        node.remove(&host.id).await;
    });
}

fn survives_the_agent() {
    block_on(async {
        let node = Node::new();
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox.id, &["sleep"]).await;
        let done = node.start(&sandbox.id, &["say"]).await;
        support::until_async(async || {
            let status = node.container_of(&sandbox.id, &done).await;
            matches!(status.state, ContainerState::Exited(e) if e.code == 7)
        })
        .await;
        let before = node.runtime.list().await.unwrap();
        // Another process that knows only the folder.
        let other = node.again();
        assert_eq!(other.list().await.unwrap(), before);
        let other = node.again();
        let mut events = other.events();
        let args = ["probe".to_owned(), "say".to_owned()];
        assert_eq!(other.exec_sync(&id, &args, None).await.unwrap().code, 7);
        other.signal_container(&id, 9).await.unwrap();
        assert_eq!(node.exit(&mut events, &id).await.code, 137);
        other.stop_sandbox(&sandbox.id).await.unwrap();
        let gone = support::next(&mut events, |e| matches!(e, Event::SandboxGone { .. })).await;
        assert_eq!(gone, Event::SandboxGone { sandbox: sandbox.id.clone() });
        let list = other.list().await.unwrap();
        assert!(list[0].running.is_none() && list[0].containers.len() == 2);
        other.stop_sandbox(&sandbox.id).await.unwrap();
        other.remove_sandbox(&sandbox.id).await.unwrap();
        other.remove_sandbox(&sandbox.id).await.unwrap();
        assert!(other.list().await.unwrap().is_empty());
    });
}

fn a_dead_shim_leaves_nothing() {
    block_on(async {
        let node = Node::new();
        let mut events = node.runtime.events();
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox.id, &["sleep"]).await;
        let also = node.sandbox().await;
        node.start(&also.id, &["sleep"]).await;
        sys::process::kill(sandbox.pid, 9).unwrap();
        let gone = support::next(&mut events, |e| matches!(e, Event::SandboxGone { .. })).await;
        assert_eq!(gone, Event::SandboxGone { sandbox: sandbox.id.clone() });
        let list = node.runtime.list().await.unwrap();
        let dead = list.iter().find(|s| s.id == sandbox.id).unwrap();
        assert!(dead.running.is_none());
        assert_eq!(dead.containers[0].id, id);
        assert!(matches!(&dead.containers[0].state, ContainerState::Exited(e) if e.code == 255));
        assert!(matches!(node.runtime.start_container(&id).await, Err(Error::Gone(_))));
        // What `kybern down` does, without any agent.
        let root = node.root();
        tokio::task::spawn_blocking(move || cleanup_all(&root)).await.unwrap().unwrap();
        assert!(node.again().list().await.unwrap().is_empty());
    });
}

/// An agent may be killed at any moment while it starts a shim, which then goes on by itself.
fn an_unborn_shim_leaves_nothing() {
    block_on(async {
        for delay in (0..12_000).step_by(100).map(Duration::from_micros) {
            let node = Node::new();
            let pod = node.pod();
            let _ = tokio::time::timeout(delay, node.runtime.run_sandbox(&pod)).await;
            let cgroups = sys::cgroup::Cgroups::detect().unwrap();
            drop(node);
            assert!(!cgroups.exists(&pod.shim_cgroup).unwrap(), "after {delay:?}");
        }
    });
}

/// Prints rather than asserts times: machines differ.
fn is_fast_and_small() {
    block_on(async {
        let node = Node::new();
        let mut pods = Vec::new();
        let (mut sandboxes, mut starts) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let start = Instant::now();
            let sandbox = node.sandbox().await;
            sandboxes.push(start.elapsed());
            let start = Instant::now();
            node.start(&sandbox.id, &["sleep"]).await;
            starts.push(start.elapsed());
            pods.push(sandbox);
        }
        sandboxes.sort();
        starts.sort();
        let shim = support::pss_kb(pods[5].pid);
        println!("  sandbox {:?}, container {:?}, shim {shim} kB PSS", sandboxes[5], starts[5]);
        for pod in pods {
            node.remove(&pod.id).await;
        }
    });
}
