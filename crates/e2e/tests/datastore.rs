//! A cluster whose objects are in an etcd, as Debian packages it.
#![allow(clippy::unwrap_used)]
use e2e::{Background, Cluster, until};
use pki::{Authority, Profile};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

/// An etcd in this folder, once it listens; `None` where it is not installed.
fn etcd(folder: &Path, port: u16, scheme: &str, flags: &[String]) -> Option<Background> {
    let paths = std::env::var_os("PATH")?;
    if !std::env::split_paths(&paths).any(|place| place.join("etcd").exists()) {
        eprintln!("skipped: etcd is not installed (Debian: etcd-server)");
        return None;
    }
    let client = format!("{scheme}://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", port + 1);
    let child = Command::new("etcd")
        .args(["--name", "one", "--data-dir"])
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .args(flags)
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
    let Some(_etcd) = etcd(cluster.home(), 12_379, "http", &[]) else { return };
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
fn an_etcd_with_certificates_may_be_restarted() {
    let Some(cluster) = Cluster::new() else { return };
    let file = |name: &str| cluster.home().join(name).display().to_string();
    let ca = Authority::load_or_create(Path::new(&file("ca.crt")), Path::new(&file("ca.key")));
    let ca = ca.unwrap();
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for (name, profile) in [
        ("server", Profile::server("etcd", &[], &[loopback])),
        ("client", Profile::client("kybern", &[])),
    ] {
        let issued = ca.issue(&profile).unwrap();
        std::fs::write(file(&format!("{name}.crt")), issued.cert_pem).unwrap();
        std::fs::write(file(&format!("{name}.key")), issued.key_pem).unwrap();
    }
    let flags = [
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={}", file("ca.crt")),
        format!("--cert-file={}", file("server.crt")),
        format!("--key-file={}", file("server.key")),
    ];
    let Some(server) = etcd(cluster.home(), 12_379, "https", &flags) else { return };
    let url = "etcds://127.0.0.1:9,127.0.0.1:12379/e2e";
    let without = cluster.kybern_fails(&["up", "--quiet", "--datastore", url]);
    assert!(without.contains("--etcd-cafile") && without.lines().count() == 1, "{without}");
    let (ca, certificate, key) = (file("ca.crt"), file("client.crt"), file("client.key"));
    let tls = ["--etcd-cafile", &ca, "--etcd-certfile", &certificate, "--etcd-keyfile", &key];
    let stranger = ["--etcd-cafile", &certificate, "--etcd-certfile", &certificate];
    let up = ["up", "--quiet", "--datastore", url];
    let refused = cluster.kybern_fails(&[&up[..], &stranger, &["--etcd-keyfile", &key]].concat());
    assert!(refused.contains("the CA that was given did not sign"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
    cluster.kybern(&[&up[..], &tls].concat());
    cluster.kubectl(&["create", "configmap", "before"]);
    drop(server);
    let error = cluster.kubectl_fails(&["create", "configmap", "during"]);
    assert!(error.contains("connection refused: is etcd running there?"), "{error}");
    let _server = etcd(cluster.home(), 12_379, "https", &flags);
    until("writes are taken again", || {
        cluster.try_kubectl(&["create", "configmap", "after"]).status.success().then_some(())
    });
    cluster.kubectl(&["get", "configmap", "before", "after"]);
}

#[test]
fn a_datastore_that_is_not_there_is_named() {
    let Some(cluster) = Cluster::new() else { return };
    let error = cluster.kybern_fails(&["up", "--quiet", "--datastore", "etcd://127.0.0.1:9"]);
    assert!(error.contains("127.0.0.1:9") && error.lines().count() == 1, "{error}");
    let error = cluster.kybern_fails(&["up", "--quiet", "--datastore", "mysql://x"]);
    assert!(error.contains("mysql://x") && error.lines().count() == 1, "{error}");
}
