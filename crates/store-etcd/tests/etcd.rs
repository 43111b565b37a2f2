//! Against a real etcd, as Debian packages it (`etcd-server`), started on loopback by each test.
#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use futures_util::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    fs,
    future::ready,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};
use store::{Change, Changes, Entry, Expect, ReadAt, Revision, Store, conformance};
use store_etcd::{Config, Etcd, Tls};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

/// An etcd of the test's own; ended with it.
struct Server {
    child: Child,
    port: u16,
    peer_port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find_etcd() -> Option<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&places).map(|place| place.join("etcd"));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: etcd is not installed (Debian: etcd-server)");
    }
    found
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Yields once it serves. A port may be taken between choosing and using it: then try others.
fn start(etcd: &Path, dir: &Path, ports: Option<(u16, u16)>, tls: &[&str]) -> Server {
    for _ in 0..5 {
        let (port, peer_port) = ports.unwrap_or_else(|| (free_port(), free_port()));
        let scheme = if tls.is_empty() { "http" } else { "https" };
        let (clients, peers) =
            (format!("{scheme}://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
        let mut child = Command::new(etcd)
            .args(["--name", "one", "--log-outputs", "stderr", "--logger", "zap"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("one={peers}")])
            .args(tls)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serves =
            lines.by_ref().map_while(Result::ok).any(|line| line.contains("serving client"));
        let server = Server { child, port, peer_port };
        if serves {
            // Nobody else reads what it says.
            thread::spawn(move || lines.for_each(drop));
            return server;
        }
    }
    panic!("etcd does not start");
}

async fn connect(server: &Server) -> Etcd {
    let url = format!("etcd://127.0.0.1:{}", server.port);
    Etcd::connect(&Config::parse(&url, &Tls::default()).unwrap()).await.unwrap()
}

async fn create(store: &Etcd, key: &str) -> Entry {
    store.put(key, Bytes::from_static(b"value"), Expect::Absent).await.unwrap()
}

async fn next(changes: &mut Changes) -> Change {
    loop {
        match changes.next().await.unwrap().unwrap() {
            Change::Progress(_) => {}
            change => return change,
        }
    }
}

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, test).await.expect("the test ends in time")
}

#[tokio::test]
async fn conforms() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let store: Arc<dyn Store> = Arc::new(connect(&server).await);
    in_time(conformance::run(|| ready(Arc::clone(&store)))).await;
}

#[tokio::test]
async fn servers_share_what_is_there() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let (one, two) = (connect(&server).await, connect(&server).await);
    let start = two.latest().await.unwrap();
    let mut changes = two.watch(store::prefix("/"), start).await.unwrap();
    let entry = create(&one, "/a").await;
    assert_eq!(in_time(next(&mut changes)).await, Change::Put { entry: entry.clone(), old: None });
    let page = two.range(String::new().."~".to_owned(), ReadAt::Latest, 0).await.unwrap();
    assert_eq!(page.entries, std::slice::from_ref(&entry), "the marker is no entry");
    let (old, at) = two.delete("/a", entry.modified).await.unwrap();
    assert_eq!(in_time(next(&mut changes)).await, Change::Deleted { old, at });
    // Another's prefix is another's.
    let url = format!("etcd://127.0.0.1:{}/kybern-other", server.port);
    let other = Etcd::connect(&Config::parse(&url, &Tls::default()).unwrap()).await.unwrap();
    create(&other, "/b").await;
    let everything = || String::new().."~".to_owned();
    assert!(one.range(everything(), ReadAt::Latest, 0).await.unwrap().entries.is_empty());
    let refused = one.put("b", Bytes::new(), Expect::Absent).await.unwrap_err();
    assert!(refused.to_string().contains("does not begin with a slash"), "{refused}");
    // What others write is progress all the same.
    let mut changes = one.watch(everything(), at).await.unwrap();
    let latest = one.latest().await.unwrap();
    assert!(latest > at);
    let mut reached = at;
    while reached < latest {
        match in_time(changes.next()).await {
            Some(Ok(Change::Progress(at))) => reached = at,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn long_reads_are_made_of_pages_of_one_revision() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let store = connect(&server).await;
    let keys: Vec<String> = (0..2500).map(|index| format!("/{index:04}")).collect();
    for chunk in keys.chunks(250) {
        futures_util::future::join_all(chunk.iter().map(|key| create(&store, key))).await;
    }
    for (limit, length) in [(0, 2500), (1000, 1000), (1700, 1700), (2500, 2500), (9999, 2500)] {
        let page = store.range(store::prefix("/"), ReadAt::Latest, limit).await.unwrap();
        assert_eq!(page.entries.len(), length, "limit {limit}");
        assert_eq!(page.remaining, 2500 - length as u64, "limit {limit}");
        assert!(page.entries.iter().zip(&keys).all(|(entry, key)| *entry.key == **key));
    }
}

#[tokio::test]
async fn a_restart_of_etcd_loses_no_change() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let ports = (server.port, server.peer_port);
    let store = connect(&server).await;
    let mut changes = store.watch(store::prefix("/"), store.latest().await.unwrap()).await.unwrap();
    let first = create(&store, "/a").await;
    drop(server);
    let refused = store.put("/b", Bytes::new(), Expect::Absent).await;
    assert!(matches!(refused, Err(store::Error::Unavailable(_))), "{refused:?}");
    let server = start(&etcd, dir.path(), Some(ports), &[]);
    // Another writes, maybe before the watch is back.
    let second = create(&connect(&server).await, "/c").await;
    let third = create(&store, "/d").await;
    for entry in [first, second, third] {
        assert_eq!(in_time(next(&mut changes)).await, Change::Put { entry, old: None });
    }
}

#[tokio::test]
async fn nobody_there_is_told() {
    let url = format!("etcd://127.0.0.1:{}", free_port());
    let error = Etcd::connect(&Config::parse(&url, &Tls::default()).unwrap()).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot use the datastore: cannot reach etcd: 127."));
}

#[tokio::test]
async fn certificates_are_shown_and_checked() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let tls = certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let flags = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &ca,
        "--cert-file",
        &certificate,
        "--key-file",
        &key,
    ];
    let server = start(&etcd, dir.path(), None, &flags);
    let url = format!("etcd://127.0.0.1:{}", server.port);
    let store = Etcd::connect(&Config::parse(&url, &tls).unwrap()).await.unwrap();
    assert!(create(&store, "/a").await.modified > Revision(1));
    let anonymous = Tls { certificate: None, key: None, ..tls.clone() };
    assert!(Etcd::connect(&Config::parse(&url, &anonymous).unwrap()).await.is_err());
    let other = TempDir::new().unwrap();
    let stranger = Tls { ca: certificates(other.path()).ca, ..tls };
    let error = Etcd::connect(&Config::parse(&url, &stranger).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

/// Writes a CA and a server's certificate; yields a client's.
fn certificates(dir: &Path) -> Tls {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
    };
    let (server, server_key) = signed(&["127.0.0.1"]);
    let (client, client_key) = signed(&["client"]);
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    fs::write(dir.join("server.pem"), server).unwrap();
    fs::write(dir.join("server.key"), server_key).unwrap();
    Tls { ca: Some(ca.pem()), certificate: Some(client), key: Some(client_key) }
}
