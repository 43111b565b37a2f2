//! An etcd of the test's own, and what tests do with one.
use bytes::Bytes;
use futures_util::StreamExt;
use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use store::{Change, Changes, Entry, Expect, Store};
use store_etcd::{Config, Etcd, Tls};

const PATIENCE: Duration = Duration::from_secs(120);

/// An etcd of the test's own; ended with it.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) peer_port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn find_etcd() -> Option<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&places).map(|place| place.join("etcd"));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: etcd is not installed (Debian: etcd-server)");
    }
    found
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Yields once it serves. A port may be taken between choosing and using it: then try others.
pub(crate) fn start(etcd: &Path, dir: &Path, ports: Option<(u16, u16)>, flags: &[&str]) -> Server {
    for _ in 0..5 {
        let (port, peer_port) = ports.unwrap_or_else(|| (free_port(), free_port()));
        let scheme = if flags.contains(&"--cert-file") { "https" } else { "http" };
        let (clients, peers) =
            (format!("{scheme}://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
        let mut child = Command::new(etcd)
            .args(["--name", "one", "--log-outputs", "stderr", "--logger", "zap"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("one={peers}")])
            .args(flags)
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

pub(crate) async fn connect(server: &Server) -> Etcd {
    let url = format!("etcd://127.0.0.1:{}", server.port);
    Etcd::connect(&Config::parse(&url, &Tls::default()).unwrap()).await.unwrap()
}

pub(crate) async fn create(store: &Etcd, key: &str) -> Entry {
    store.put(key, Bytes::from_static(b"value"), Expect::Absent).await.unwrap()
}

pub(crate) async fn next(changes: &mut Changes) -> Change {
    loop {
        match changes.next().await.unwrap().unwrap() {
            Change::Progress(_) => {}
            change => return change,
        }
    }
}

pub(crate) async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, test).await.expect("the test ends in time")
}
