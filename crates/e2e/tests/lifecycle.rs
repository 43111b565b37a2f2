//! Starting, stopping, killing and starting again; and what is left behind.
use e2e::{Cluster, kill, until};
use serde_json::Value;
use std::io::{Read, Write};

fn status_of(cluster: &Cluster, component: &str) -> Value {
    let status = cluster.status();
    let components = status["components"].as_array().unwrap();
    components.iter().find(|c| c["name"] == component).unwrap().clone()
}

fn pid_of(cluster: &Cluster, component: &str, which: &str) -> i32 {
    i32::try_from(status_of(cluster, component)[which].as_i64().unwrap()).unwrap()
}

#[test]
fn down_leaves_nothing_behind() {
    let Some(cluster) = Cluster::new() else { return };
    cluster.kybern(&["up"]);
    cluster.kubectl(&[
        "create",
        "deployment",
        "d",
        "--image=kybern.local/toolbox",
        "--replicas=3",
        "--",
        "toolbox",
        "serve",
    ]);
    cluster.rollout("deployment/d");
    cluster.traces().assert_running();
    cluster.kybern(&["down"]);
    cluster.traces().assert_none();
    assert!(!cluster.home().join(".kube/config").exists());
    cluster.kybern(&["up"]);
    cluster.rollout("deployment/d");
    cluster.kybern(&["down"]);
    cluster.kybern(&["down"]);
    cluster.kybern(&["down", "--wipe"]);
    cluster.traces().assert_none();
    assert!(!cluster.data_dir().exists());
}

#[test]
fn containers_and_connections_outlive_a_killed_kybern() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let mut stream = echo(&cluster);
    let before = cluster.get(&["pod", "echo"]);
    let mut say = |text: &str| say(&mut stream, text);
    say("before");
    for component in ["agent-kybern", "server"] {
        // What would start it again goes first, so that nobody is there at all.
        let main = pid_of(&cluster, component, "pid");
        kill(pid_of(&cluster, component, "supervisorPid"));
        kill(main);
    }
    say("nobody is there");
    cluster.kybern(&["up"]);
    say("after");
    let after = cluster.get(&["pod", "echo"]);
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(id(&before), id(&after));
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(cluster.kubectl(&["exec", "echo", "--", "echo", "still here"]), "still here\n");
}

/// As a service manager does it that starts again what was killed.
#[test]
fn a_foreground_that_is_killed_is_taken_over() {
    let Some(cluster) = Cluster::new() else { return };
    let start = || {
        let mut up = cluster.command(&["up", "--foreground", "--quiet"]);
        up.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let ready = || {
        until("the node is ready", || {
            let nodes = cluster.try_kubectl(&["get", "nodes", "--no-headers"]);
            e2e::text(&nodes.stdout).contains(" Ready ").then_some(())
        });
    };
    let mut first = start();
    ready();
    let mut stream = echo(&cluster);
    say(&mut stream, "before");
    let running =
        |name: &str| (pid_of(&cluster, name, "pid"), pid_of(&cluster, name, "supervisorPid"));
    let before = [running("server"), running("agent-kybern")];
    kill(i32::try_from(first.id()).unwrap());
    first.wait().unwrap();
    say(&mut stream, "nobody waits for it");
    let mut second = start();
    stays(&cluster, &second);
    assert_eq!([running("server"), running("agent-kybern")], before);
    say(&mut stream, "somebody does again");
    // It ends when a part of it does, so that the service manager sees it.
    let (main, supervisor) = before[1];
    kill(supervisor);
    kill(main);
    assert!(!second.wait().unwrap().success());
    assert!(e2e::text(&second.wait_with_output().unwrap().stderr).contains("ended"));
    let mut last = start();
    ready();
    stays(&cluster, &last);
    say(&mut stream, "all the time");
    let asked = std::process::Command::new("kill").arg(last.id().to_string()).status().unwrap();
    assert!(asked.success() && last.wait().unwrap().success());
    say(&mut stream, "even after the end");
}

/// Waits until the foreground that has begun only waits: only then others hear that it runs.
fn stays(cluster: &Cluster, foreground: &std::process::Child) {
    until("it has taken over", || {
        // One more before that would take over itself, and stay.
        let file = std::fs::metadata(cluster.data_dir().join("run/foreground")).ok()?;
        let inode = format!(":{} ", std::os::unix::fs::MetadataExt::ino(&file));
        let holder = format!(" {} ", foreground.id());
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        locks.lines().any(|lock| lock.contains(&inode) && lock.contains(&holder)).then_some(())
    });
    let error = until("it is done with its work", || {
        let another = cluster.command(&["up", "--quiet"]).output().unwrap();
        let error = e2e::text(&another.stderr);
        (!error.contains("at work")).then_some(error)
    });
    assert!(error.contains("is running"), "{error}");
}

/// A connection through a Service to a pod that says what it hears.
fn echo(cluster: &Cluster) -> std::net::TcpStream {
    let image = "--image=kybern.local/toolbox";
    cluster.kubectl(&[
        "run", "echo", image, "--port=7", "--expose", "--", "toolbox", "tcp-echo", "--port", "7",
    ]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/echo", "--timeout=60s"]);
    let service = cluster.get(&["service", "echo"]);
    let address = format!("{}:7", service["spec"]["clusterIP"].as_str().unwrap());
    let stream =
        until("a connection through the Service", || std::net::TcpStream::connect(&address).ok());
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    stream
}

fn say(stream: &mut std::net::TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, text.as_bytes());
}

#[test]
fn a_killed_process_is_started_again_by_itself() {
    let Some(cluster) = Cluster::new() else { return };
    cluster.kybern(&["up"]);
    cluster.kubectl(&["run", "web", "--image=kybern.local/toolbox", "--", "toolbox", "serve"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    let container = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    let first = container(&cluster.get(&["pod", "web"]));
    for component in ["server", "agent-kybern"] {
        let pid = pid_of(&cluster, component, "pid");
        kill(pid);
        until("it is started again", || {
            let now = status_of(&cluster, component);
            (now["pid"].is_i64() && now["pid"] != pid && now["restarts"] == 1).then_some(())
        });
    }
    until("the container answers", || {
        let said = cluster.try_kubectl(&["exec", "web", "--", "echo", "hello"]);
        (e2e::text(&said.stdout) == "hello\n").then_some(())
    });
    assert_eq!(container(&cluster.get(&["pod", "web"])), first);
    let error = cluster.kybern_fails(&["up", "--quiet"]);
    assert!(error.contains("is running") && error.lines().count() == 1, "{error}");
    cluster.kybern(&["down"]);
    cluster.traces().assert_none();
}

#[test]
fn the_join_token_shows_in_no_list_of_processes() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let pid = pid_of(&cluster, "agent-kybern", "pid");
    for file in ["cmdline", "environ"] {
        let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(!e2e::text(&text).contains("K1"), "{file}");
    }
    assert!(!cluster.data_dir().join("run/join-token").exists());
}

/// No program but Kybern itself is run, except inside containers.
#[test]
fn no_other_program_is_run() {
    let Some(cluster) = Cluster::new() else { return };
    let trace = cluster.home().join("trace");
    let up = cluster.command(&["up"]);
    let mut traced = std::process::Command::new("strace");
    traced
        .args(["-f", "-qq", "-s", "256", "-e", "trace=execve", "-o"])
        .arg(&trace)
        .arg(up.get_program())
        .args(up.get_args())
        .env("HOME", cluster.home())
        .env_remove("KUBECONFIG");
    let child = traced.spawn().unwrap();
    until("the node is ready", || {
        let nodes = cluster.try_kubectl(&["get", "nodes", "--no-headers"]);
        e2e::text(&nodes.stdout).contains(" Ready ").then_some(())
    });
    cluster.kubectl(&["run", "web", "--image=kybern.local/toolbox", "--", "toolbox", "serve"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    cluster.kubectl(&["expose", "pod", "web", "--port=80", "--target-port=8080"]);
    cluster.kybern(&["down"]);
    let status = child.wait_with_output().unwrap().status;
    assert!(status.success(), "{status}");
    let trace = std::fs::read_to_string(trace).unwrap();
    let binary = cluster.binary.to_string_lossy().into_owned();
    let inside = ["/usr/bin/toolbox", "/proc/self/exe", binary.as_str()];
    let executed = trace.lines().filter(|line| line.contains("execve(") && line.ends_with("= 0"));
    let paths: Vec<&str> = executed.filter_map(|line| line.split('"').nth(1)).collect();
    assert!(paths.iter().any(|path| path.ends_with("toolbox")), "the container ran: {paths:?}");
    let strangers: Vec<&&str> = paths.iter().filter(|path| !inside.contains(path)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn three_nodes_on_one_machine() {
    let Some(cluster) = Cluster::up(&["--nodes", "3"]) else { return };
    let nodes = cluster.get(&["nodes"]);
    assert_eq!(nodes["items"].as_array().unwrap().len(), 3);
    cluster.kubectl(&[
        "create",
        "deployment",
        "d",
        "--image=kybern.local/toolbox",
        "--replicas=6",
        "--",
        "toolbox",
        "serve",
    ]);
    cluster.rollout("deployment/d");
    cluster.kubectl(&["expose", "deployment", "d", "--port=80", "--target-port=8080"]);
    let pods = cluster.get(&["pods", "-l", "app=d"]);
    let mut used: Vec<&str> = Vec::new();
    for pod in pods["items"].as_array().unwrap() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        used.push(pod["spec"]["nodeName"].as_str().unwrap());
        for other in pods["items"].as_array().unwrap() {
            let url = format!("http://{}:8080/", other["status"]["podIP"].as_str().unwrap());
            cluster.kubectl(&["exec", name, "--", "toolbox", "get", &url]);
        }
        cluster.kubectl(&["exec", name, "--", "toolbox", "get", "http://d"]);
        let proxy = format!("/api/v1/namespaces/default/pods/{name}:8080/proxy/");
        cluster.kubectl(&["get", "--raw", &proxy]);
    }
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 3, "the scheduler spreads a set over the nodes");
}

/// A machine that is gone: its agent and everything that held its pods.
fn lose_node(cluster: &Cluster, node: &str) {
    let agent = format!("agent-{node}");
    let main = pid_of(cluster, &agent, "pid");
    kill(pid_of(cluster, &agent, "supervisorPid"));
    kill(main);
    for shim in shims(cluster, node) {
        kill(shim);
    }
}

fn shims(cluster: &Cluster, node: &str) -> Vec<i32> {
    let folder = cluster.data_dir().join("nodes").join(node).join("runtime/sandboxes");
    let sandboxes = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let records = sandboxes.filter_map(|s| std::fs::read(s.path().join("shim.json")).ok());
    let pid = |record: Vec<u8>| {
        let record: Value = serde_json::from_slice(&record).unwrap();
        i32::try_from(record["pid"].as_i64().unwrap()).unwrap()
    };
    records.map(pid).collect()
}

#[test]
fn pods_leave_a_node_that_is_lost_and_it_comes_back_clean() {
    let Some(cluster) = Cluster::up(&["--nodes", "3"]) else { return };
    let lost = "kybern-2";
    let tolerations: String = ["not-ready", "unreachable"]
        .map(|what| {
            format!(
                "      - {{key: node.kubernetes.io/{what}, operator: Exists, effect: NoExecute, \
                 tolerationSeconds: 1}}\n"
            )
        })
        .concat();
    cluster.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  replicas: 3\n  \
         selector: {{matchLabels: {{app: d}}}}\n  template:\n    \
         metadata: {{labels: {{app: d}}}}\n    spec:\n      tolerations:\n{tolerations}\
         \x20     containers:\n      - name: c\n        \
         image: kybern.local/toolbox\n        command: [toolbox, serve]\n"
    ));
    cluster.rollout("deployment/d");
    let on_lost = || {
        let pods = cluster.get(&["pods", "-l", "app=d"]);
        let pods = pods["items"].as_array().unwrap().clone();
        let own = pods.into_iter().filter(|pod| pod["spec"]["nodeName"] == lost);
        own.map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let stale = on_lost();
    assert_eq!(stale.len(), 1, "the scheduler spreads a set over the nodes");
    lose_node(&cluster, lost);
    let node = format!("node/{lost}");
    cluster.kubectl(&["wait", "--for=condition=Ready=Unknown", &node, "--timeout=90s"]);
    let taints = cluster.get(&["node", lost])["spec"]["taints"].to_string();
    assert!(taints.contains("node.kubernetes.io/unreachable"), "{taints}");
    // The one that was there is told to go, and another takes its place elsewhere.
    cluster.kubectl(&[
        "wait",
        "--for=jsonpath={.status.readyReplicas}=3",
        "deployment/d",
        "--timeout=60s",
    ]);
    until("a replacement runs elsewhere", || {
        let pods = cluster.get(&["pods", "-l", "app=d", "--field-selector=status.phase=Running"]);
        let pods = pods["items"].as_array().unwrap();
        let elsewhere = pods.iter().filter(|pod| pod["spec"]["nodeName"] != lost);
        (elsewhere.count() == 3).then_some(())
    });
    assert_eq!(on_lost(), stale, "nobody knows whether it still runs");
    cluster.kybern(&["up"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", &node, "--timeout=60s"]);
    until("the stale pod is gone", || on_lost().is_empty().then_some(()));
    let folder = cluster.data_dir().join("nodes").join(lost);
    for (what, path) in
        [("sandboxes", "runtime/sandboxes"), ("pods", "pods"), ("logs", "logs/pods")]
    {
        until(what, || {
            let left = std::fs::read_dir(folder.join(path)).unwrap().flatten();
            let left = left.filter(|e| {
                stale.iter().any(|uid| e.file_name().to_string_lossy().contains(uid.as_str()))
            });
            let empty = what != "sandboxes" || shims(&cluster, lost).is_empty();
            (left.count() == 0 && empty).then_some(())
        });
    }
    until("its taints are gone", || {
        cluster.get(&["node", lost])["spec"].get("taints").is_none().then_some(())
    });
}

#[test]
fn mistakes_get_one_clear_line() {
    let Some(cluster) = Cluster::new() else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = cluster.kybern_fails(&["up", "--quiet", "--listen", &address]);
    assert!(error.starts_with("error: cannot listen on") && error.lines().count() == 1, "{error}");
    cluster.kybern(&["up"]);
    let error = cluster.kybern_fails(&["up", "--quiet"]);
    assert!(error.contains("is running") && error.lines().count() == 1, "{error}");
}
