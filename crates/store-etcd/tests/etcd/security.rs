//! Certificates, users and several endpoints; and what is told when they are wrong.
use super::server::{Server, connect, create, find_etcd, free_port, in_time, next, start};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
};
use store::{Expect, ReadAt, Revision, Store};
use store_etcd::{Config, Etcd, Login, Tls};
use tempfile::TempDir;

async fn refused(url: &str, tls: &Tls, login: Option<Login>) -> String {
    let mut config = Config::parse(url, tls).unwrap();
    config.login = login;
    let error = in_time(Etcd::connect(&config)).await.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("cannot use the datastore: "), "{error}");
    error
}

fn login(user: &str, password: &str) -> Option<Login> {
    Some(Login { user: user.to_owned(), password: password.to_owned() })
}

/// A call of etcd's gateway, as an administrator's tool makes it.
fn gateway(server: &Server, path: &str, body: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let length = body.len();
    let head =
        format!("POST /v3/{path} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{path}: {answer}");
}

/// With a user `kybern` who may use the default prefix only.
fn ask_for_passwords(server: &Server) {
    // `/kybern/` to `/kybern0`, in base64.
    let grant = r#"{"name": "kybern", "perm": {"permType": "READWRITE",
        "key": "L2t5YmVybi8=", "range_end": "L2t5YmVybjA="}}"#;
    for (path, body) in [
        ("auth/user/add", r#"{"name": "root", "password": "root"}"#),
        ("auth/role/add", r#"{"name": "root"}"#),
        ("auth/user/grant", r#"{"user": "root", "role": "root"}"#),
        ("auth/user/add", r#"{"name": "kybern", "password": "right"}"#),
        ("auth/role/add", r#"{"name": "kybern"}"#),
        ("auth/user/grant", r#"{"user": "kybern", "role": "kybern"}"#),
        ("auth/role/grant", grant),
        ("auth/enable", "{}"),
    ] {
        gateway(server, path, body);
    }
}

#[tokio::test]
async fn certificates_are_shown_and_checked() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let tls = certificates(dir.path(), "127.0.0.1");
    let server = start(&etcd, dir.path(), None, &flags(dir.path()));
    let url = format!("etcds://127.0.0.1:{}", server.port);
    let store = Etcd::connect(&Config::parse(&url, &tls).unwrap()).await.unwrap();
    assert!(create(&store, "/a").await.modified > Revision(1));
    let other = TempDir::new().unwrap();
    let others = certificates(other.path(), "127.0.0.1");
    let anonymous = Tls { certificate: None, key: None, ..tls.clone() };
    let unknown = Tls { ca: tls.ca.clone(), ..others.clone() };
    let stranger = Tls { ca: others.ca, ..tls.clone() };
    for (tls, told) in [
        (anonymous, "client certificate"),
        (unknown, "client certificate"),
        (stranger, "the CA that was given did not sign etcd's certificate"),
    ] {
        let error = refused(&url, &tls, None).await;
        assert!(error.contains(told), "{error}");
    }
    let plain = refused(&url.replace("etcds", "http"), &Tls::default(), None).await;
    assert!(plain.contains("does etcd listen there, and does it want TLS"), "{plain}");
}

#[tokio::test]
async fn a_certificate_for_others_is_refused() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let tls = certificates(dir.path(), "elsewhere");
    let server = start(&etcd, dir.path(), None, &flags(dir.path()));
    let error = refused(&format!("etcds://127.0.0.1:{}", server.port), &tls, None).await;
    assert!(error.contains("for other names than this endpoint's"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_or_not_etcd_is_told() {
    let url = format!("etcd://127.0.0.1:{}", free_port());
    let error = refused(&url, &Tls::default(), None).await;
    let (start, end) = ("cannot reach etcd: 127.", "connection refused: is etcd running there?");
    assert!(error.contains(start) && error.ends_with(end), "{error}");
    let dir = TempDir::new().unwrap();
    let tls = certificates(dir.path(), "127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let error = refused(&format!("etcd://127.0.0.1:{port}"), &Tls::default(), None).await;
    assert!(error.contains("does etcd listen there"), "{error}");
    let error = refused(&format!("etcds://127.0.0.1:{port}"), &tls, None).await;
    assert!(error.contains("what listens there does not speak TLS"), "{error}");
}

#[tokio::test]
async fn users_log_in_and_do_so_again() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let url = format!("etcd://127.0.0.1:{}", server.port);
    let mut config = Config::parse(&url, &Tls::default()).unwrap();
    config.login = login("kybern", "right");
    // Asked for nothing, it may still be given.
    let early = Etcd::connect(&config).await.unwrap();
    let mut changes = early.watch(store::prefix("/"), Revision(1)).await.unwrap();
    ask_for_passwords(&server);
    let first = create(&early, "/a").await;
    let store = Etcd::connect(&config).await.unwrap();
    let plain = Tls::default();
    for (login, url, told) in [
        (None, url.clone(), "wants a user and a password"),
        (login("kybern", "wrong"), url.clone(), "the user or the password is wrong"),
        (login("nobody", "right"), url.clone(), "the user or the password is wrong"),
        (login("kybern", "right"), format!("{url}/elsewhere"), "grant the user `readwrite`"),
    ] {
        let error = refused(&url, &plain, login).await;
        assert!(error.contains(told), "{error}");
    }
    // Tokens end with the server that made them.
    let ports = (server.port, server.peer_port);
    drop(server);
    let _server = start(&etcd, dir.path(), Some(ports), &[]);
    store.range(store::prefix("/"), ReadAt::Latest, 0).await.unwrap();
    let second = create(&store, "/b").await;
    for entry in [first, second] {
        let change = in_time(next(&mut changes)).await;
        assert_eq!(change, store::Change::Put { entry, old: None });
    }
}

#[tokio::test]
async fn another_endpoint_takes_over() {
    let Some(etcd) = find_etcd() else { return };
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap()];
    let ports: Vec<(u16, u16)> = dirs.iter().map(|_| (free_port(), free_port())).collect();
    let peers: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(index, (_, peer))| format!("member{index}=http://127.0.0.1:{peer}"))
        .collect();
    let peers = peers.join(",");
    let mut servers = thread::scope(|scope| {
        let starts: Vec<_> = (0..3)
            .map(|index| {
                let (dir, ports) = (dirs[index].path(), ports[index]);
                let name = format!("member{index}");
                let (etcd, peers) = (&etcd, &peers);
                scope.spawn(move || {
                    let flags = ["--name", &name, "--initial-cluster", peers];
                    Some(start(etcd, dir, Some(ports), &flags))
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
    });
    let hosts: Vec<String> = ports.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
    let url = format!("etcd://127.0.0.1:{},{}", free_port(), hosts.join(","));
    let store = Etcd::connect(&Config::parse(&url, &Tls::default()).unwrap()).await.unwrap();
    let mut changes = store.watch(store::prefix("/"), Revision(1)).await.unwrap();
    let first = create(&store, "/a").await;
    // The one that is connected to.
    servers[0] = None;
    let page = store.range(store::prefix("/"), ReadAt::Latest, 0).await.unwrap();
    assert_eq!(page.entries, std::slice::from_ref(&first));
    let second = create(&store, "/b").await;
    for entry in [first, second] {
        let change = in_time(next(&mut changes)).await;
        assert_eq!(change, store::Change::Put { entry, old: None });
    }
}

#[tokio::test]
async fn without_space_it_still_reads() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &["--quota-backend-bytes", "1000000"]);
    let store = connect(&server).await;
    let value = Bytes::from(vec![b'x'; 100_000]);
    let mut made = 0;
    let error = loop {
        match store.put(&format!("/{made}"), value.clone(), Expect::Absent).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 100, "it never fills");
    };
    assert!(matches!(error, store::Error::Full(_)), "{error}");
    // The alarm does not keep a server from starting.
    let store = connect(&server).await;
    let page = store.range(store::prefix("/"), ReadAt::Latest, 0).await.unwrap();
    assert_eq!(page.entries.len(), made);
    let again = store.put("/late", Bytes::new(), Expect::Absent).await.unwrap_err();
    assert!(again.to_string().contains("no space left for the store"), "{again}");
}

fn flags(dir: &Path) -> [&'static str; 7] {
    let leak = |name: &str| -> &'static str { dir.join(name).display().to_string().leak() };
    [
        "--client-cert-auth",
        "--trusted-ca-file",
        leak("ca.pem"),
        "--cert-file",
        leak("server.pem"),
        "--key-file",
        leak("server.key"),
    ]
}

/// Writes a CA and a server's certificate; yields a client's.
fn certificates(dir: &Path, name: &str) -> Tls {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
    };
    let (server, server_key) = signed(&[name]);
    let (client, client_key) = signed(&["client"]);
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    fs::write(dir.join("server.pem"), server).unwrap();
    fs::write(dir.join("server.key"), server_key).unwrap();
    Tls { ca: Some(ca.pem()), certificate: Some(client), key: Some(client_key) }
}
