//! A cluster whose objects are in an etcd, as Debian packages it.
use e2e::{Background, Cluster, until};
use std::path::Path;
use std::process::{Command, Stdio};

/// An etcd in this folder, once it answers; `None` where it is not installed.
fn etcd(folder: &Path, port: u16) -> Option<Background> {
    let paths = std::env::var_os("PATH")?;
    if !std::env::split_paths(&paths).any(|place| place.join("etcd").exists()) {
        eprintln!("skipped: etcd is not installed (Debian: etcd-server)");
        return None;
    }
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", port + 1);
    let child = Command::new("etcd")
        .args(["--name", "one", "--data-dir"])
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Background(child);
    until("etcd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    Some(server)
}

#[test]
fn a_cluster_on_etcd_keeps_its_state() {
    let Some(cluster) = Cluster::new() else { return };
    let Some(_etcd) = etcd(cluster.home(), 12_379) else { return };
    cluster.kybern(&["up", "--datastore", "etcd://127.0.0.1:12379"]);
    let image = "--image=kybern.local/toolbox";
    cluster.kubectl(&["create", "deployment", "d", image, "--", "toolbox", "serve"]);
    cluster.rollout("deployment/d");
    let uid = |cluster: &Cluster| cluster.get(&["deployment", "d"])["metadata"]["uid"].clone();
    let before = uid(&cluster);
    cluster.kybern(&["down"]);
    cluster.kybern(&["up"]);
    assert_eq!(uid(&cluster), before);
    cluster.kubectl(&["scale", "deployment", "d", "--replicas=2"]);
    cluster.rollout("deployment/d");
}

#[test]
fn a_datastore_that_is_not_there_is_named() {
    let Some(cluster) = Cluster::new() else { return };
    let error = cluster.kybern_fails(&["up", "--quiet", "--datastore", "etcd://127.0.0.1:9"]);
    assert!(error.contains("127.0.0.1:9") && error.lines().count() == 1, "{error}");
    let error = cluster.kybern_fails(&["up", "--quiet", "--datastore", "mysql://x"]);
    assert!(error.contains("mysql://x") && error.lines().count() == 1, "{error}");
}
