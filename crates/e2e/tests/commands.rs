//! What the commands tell people and scripts: outputs, exit codes, kubeconfigs.
#![allow(clippy::unwrap_used)]
use e2e::{Cluster, text};
use serde_json::Value;
use std::path::Path;

fn code(cluster: &Cluster, args: &[&str]) -> i32 {
    cluster.command(args).output().unwrap().status.code().unwrap()
}

fn config(cluster: &Cluster, path: &Path) -> Value {
    let mut command = cluster.kubectl_command(&["config", "view", "--raw", "-o", "json"]);
    let output = command.env("KUBECONFIG", path).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(config: &Value, list: &str) -> Vec<String> {
    let entries = config[list].as_array().into_iter().flatten();
    entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn status_tells_by_its_exit_code() {
    let Some(cluster) = Cluster::new() else { return };
    assert_eq!(code(&cluster, &["status"]), 3);
    cluster.kybern(&["up"]);
    assert_eq!(code(&cluster, &["status"]), 0);
    let json = |args: &[&str]| serde_json::from_str::<Value>(&cluster.kybern(args)).unwrap();
    let status = json(&["status", "-o", "json"]);
    let components = status["components"].as_array().unwrap();
    let components: Vec<_> = components.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(components, ["server", "agent-kybern"]);
    assert_eq!(json(&["kubeconfig", "-o", "json"])["kind"], "Config");
    assert!(json(&["token", "create", "-o", "json"])["token"].is_string());
    assert!(!json(&["image", "list", "-o", "json"]).as_array().unwrap().is_empty());
    assert!(cluster.kybern(&["logs", "server"]).contains("the control plane is up"));
    assert!(!cluster.kybern(&["logs", "agent"]).is_empty());
    cluster.kybern(&["down"]);
    assert_eq!(code(&cluster, &["status"]), 3);
}

#[test]
fn contexts_of_others_stay_as_they_are() {
    let Some(cluster) = Cluster::new() else { return };
    let (missing, theirs) = (cluster.home().join("missing"), cluster.home().join("theirs"));
    let before = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "theirs",
        "clusters": [{"name": "theirs", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "theirs", "user": {"token": "t"}}],
        "contexts": [{"name": "theirs", "context": {"cluster": "theirs", "user": "theirs"}}]}"#;
    std::fs::write(&theirs, before).unwrap();
    let list = std::env::join_paths([&missing, &theirs]).unwrap();
    let run = |args: &[&str]| {
        let output = cluster.command(args).env("KUBECONFIG", &list).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    run(&["up"]);
    assert!(!missing.exists(), "the first file that is there is written");
    let merged = config(&cluster, &theirs);
    assert_eq!(names(&merged, "contexts"), ["kybern", "theirs"]);
    assert_eq!(merged["current-context"], "kybern");
    let mut nodes = cluster.kubectl_command(&["get", "nodes"]);
    assert!(nodes.env("KUBECONFIG", &list).output().unwrap().status.success());
    run(&["down", "--wipe"]);
    let after = config(&cluster, &theirs);
    for list in ["contexts", "clusters", "users"] {
        assert_eq!(names(&after, list), ["theirs"], "{list}");
    }
    assert_eq!(after["current-context"], "");
}

#[test]
fn the_certificate_is_for_the_names_that_were_asked_for() {
    let Some(cluster) = Cluster::new() else { return };
    let listen = ["--listen", "0.0.0.0:7443"];
    let sans = ["--tls-san", "kube.example.com", "--tls-san", "192.0.2.7"];
    cluster.kybern(&[&["up"][..], &listen, &sans].concat());
    let as_named = |name: &str| {
        cluster.try_kubectl(&["--tls-server-name", name, "get", "--raw", "/readyz"]).status
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().to_lowercase();
    for name in ["kube.example.com", "192.0.2.7", "localhost", "127.0.0.1", host.trim()] {
        assert!(as_named(name).success(), "{name}");
    }
    assert!(!as_named("other.example.com").success());
    // It is remembered.
    cluster.kybern(&["down"]);
    cluster.kybern(&["up"]);
    assert!(as_named("kube.example.com").success());
}

#[test]
fn a_wrong_line_is_told_on_one_line() {
    let Some(cluster) = Cluster::new() else { return };
    for (args, told) in [
        (&["up", "--listen", "localhost:6443"][..], "such as 127.0.0.1:6443"),
        (&["up", "--listen", "[::1]:6443"], "only IPv4 addresses"),
        (&["up", "--listen", "127.0.0.1:0"], "such as 127.0.0.1:6443"),
        (&["up", "--nodes", "0"], "1..=64"),
        (&["up", "--nodse", "2"], "--nodes"),
        (&["up", "--tls-san", "a b"], "DNS name or an address"),
        (&["up", "--etcd-cafile", "/x"], "--datastore etcds://"),
        (&["logs"], "`kybern up` makes one"),
        (&["kubeconfig"], "`kybern up` makes one"),
        (&["token", "create"], "`kybern up` makes one"),
        (&["server"], "`kybern up` makes one"),
    ] {
        let error = cluster.kybern_fails(args);
        assert!(error.starts_with("error: ") && error.contains(told), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
    }
}

#[test]
fn clusters_live_beside_each_other() {
    let (Some(one), Some(two)) = (Cluster::new(), Cluster::new()) else { return };
    // One person's kubeconfig for both.
    let file = one.home().join("both");
    let run = |cluster: &Cluster, args: &[&str]| {
        let output = cluster.command(args).env("KUBECONFIG", &file).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    run(&one, &["up"]);
    run(&two, &["up", "--listen", "127.0.0.1:7443"]);
    let merged = config(&one, &file);
    assert_eq!(names(&merged, "contexts"), ["kybern", "kybern-data"]);
    assert_eq!(merged["current-context"], "kybern-data");
    let address = |context: &str, args: &[&str]| {
        let mut kubectl = one.kubectl_command(&[&["--context", context][..], args].concat());
        let output = kubectl.env("KUBECONFIG", &file).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let node = ["get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}"];
    assert_ne!(address("kybern", &node), address("kybern-data", &node));
    for context in ["kybern", "kybern-data"] {
        let image = "--image=kybern.local/toolbox";
        address(context, &["run", "web", image, "--", "toolbox", "serve"]);
        address(context, &["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
        assert!(address(context, &["logs", "web"]).contains("serving HTTP"));
    }
    // The end of one is nothing to the other.
    run(&two, &["down", "--wipe"]);
    assert_eq!(names(&config(&one, &file), "contexts"), ["kybern"]);
    assert!(address("kybern", &["exec", "web", "--", "hostname"]).contains("web"));
    run(&one, &["down", "--wipe"]);
    assert!(!file.exists());
}
