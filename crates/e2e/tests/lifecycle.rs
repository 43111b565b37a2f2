//! Starting, stopping, killing and starting again; and what is left behind.
use e2e::{Cluster, until};
use serde_json::Value;
use std::io::{Read, Write};

fn status_of(cluster: &Cluster, component: &str) -> Value {
    let status: Value =
        serde_json::from_str(&cluster.kybern(&["status", "--output", "json"])).unwrap();
    let components = status["components"].as_array().unwrap();
    components.iter().find(|c| c["name"] == component).unwrap().clone()
}

fn pid_of(cluster: &Cluster, component: &str, which: &str) -> i32 {
    i32::try_from(status_of(cluster, component)[which].as_i64().unwrap()).unwrap()
}

fn kill(pid: i32) {
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    until("the killed process is gone", || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
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
    cluster.kybern(&["down", "--wipe"]);
    cluster.traces().assert_none();
    assert!(!cluster.data_dir().exists());
}

#[test]
fn containers_and_connections_outlive_a_killed_kybern() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let image = "--image=kybern.local/toolbox";
    cluster.kubectl(&[
        "run", "echo", image, "--port=7", "--expose", "--", "toolbox", "tcp-echo", "--port", "7",
    ]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/echo", "--timeout=60s"]);
    let before = cluster.get(&["pod", "echo"]);
    let service = cluster.get(&["service", "echo"]);
    let address = format!("{}:7", service["spec"]["clusterIP"].as_str().unwrap());
    let mut stream =
        until("a connection through the Service", || std::net::TcpStream::connect(&address).ok());
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut say = |text: &str| {
        stream.write_all(text.as_bytes()).unwrap();
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, text.as_bytes());
    };
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
