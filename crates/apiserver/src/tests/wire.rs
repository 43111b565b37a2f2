//! Over sockets: TLS and certificates, WebSocket watches, and streams to a node.
use super::*;
use client::{Client, HttpsConfig, Identity};
use futures_util::future::join;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn serving(lab: &Lab) -> SocketAddr {
    let pki = &lab.server.config.pki;
    let local = "127.0.0.1".parse().unwrap();
    let profile = pki::Profile::server("kube-apiserver", &["localhost"], &[local]);
    let issued = pki.ca.issue(&profile).unwrap();
    let tls = tls(&issued.cert_pem, &issued.key_pem, pki.ca.cert_pem()).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(lab.server.clone(), listener, tls));
    address
}

fn https(lab: &Lab, address: SocketAddr, identity: Identity) -> Client {
    let mut config = HttpsConfig::new(format!("https://{address}"));
    config.ca_pem = lab.server.config.pki.ca.cert_pem().as_bytes().to_vec();
    config.identity = identity;
    Client::https(config).unwrap()
}

async fn whoami(client: &Client) -> Result<Value, client::Error> {
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    client.json(Method::POST, path, Some(Bytes::from(review.to_string()))).await
}

#[tokio::test]
async fn certificates_tell_who_one_is() {
    let lab = Lab::new().await;
    let address = serving(&lab).await;
    let profile = pki::Profile::client("jane", &["dev"]);
    let issued = lab.server.config.pki.ca.issue(&profile).unwrap();
    let identity = Identity::ClientCert {
        cert_pem: issued.cert_pem.into_bytes(),
        key_pem: issued.key_pem.into_bytes(),
    };
    let jane = whoami(&https(&lab, address, identity)).await.unwrap();
    let info = &jane["status"]["userInfo"];
    assert_eq!(info["username"], "jane");
    assert_eq!(info["groups"], json!(["dev", "system:authenticated"]));
    let nobody = whoami(&https(&lab, address, Identity::None)).await.unwrap_err();
    assert!(nobody.is_unauthorized(), "{nobody}");
    // Another authority's certificate does not get through the handshake.
    let dir = tempfile::tempdir().unwrap();
    let other = pki::Pki::load_or_create(dir.path()).unwrap().ca.issue(&profile).unwrap();
    let identity = Identity::ClientCert {
        cert_pem: other.cert_pem.into_bytes(),
        key_pem: other.key_pem.into_bytes(),
    };
    assert!(whoami(&https(&lab, address, identity)).await.is_err());
    lab.server.stop();
}

/// A connection with a client certificate of the masters, speaking HTTP/1.1.
async fn connect(lab: &Lab, address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
    let pki = &lab.server.config.pki;
    let issued = pki.ca.issue(&pki::Profile::client("root", &["system:masters"])).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca.cert_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

#[tokio::test]
async fn watches_go_over_websocket() {
    let lab = Lab::new().await;
    let address = serving(&lab).await;
    let mut stream = connect(&lab, address).await;
    let request = format!(
        "GET {MAPS}?watch=true HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    // RFC 6455's own example of key and answer.
    assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    lab.post(MAPS, config_map("a")).await.ok();
    assert_eq!(stream.read_u8().await.unwrap(), 0x81);
    let length = match stream.read_u8().await.unwrap() {
        126 => usize::from(stream.read_u16().await.unwrap()),
        short => usize::from(short),
    };
    let mut event = vec![0; length];
    stream.read_exact(&mut event).await.unwrap();
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&json!("ADDED"), &json!("a"))
    );
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let short = std::time::Duration::from_secs(1);
    let lab = Lab::with(|config| config.first_request = short).await;
    let address = serving(&lab).await;
    // One says nothing, one begins and does not go on; one that has asked may stay.
    let (mut silent, mut slow) = (connect(&lab, address).await, connect(&lab, address).await);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nX: ").await.unwrap();
    let mut good = connect(&lab, address).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    good.write_all(request).await.unwrap();
    assert!(head(&mut good).await.starts_with("http/1.1 200"));
    let mut word = [0; 2];
    good.read_exact(&mut word).await.unwrap();
    for stream in [&mut silent, &mut slow] {
        let mut said = Vec::new();
        // The end comes with or without TLS's own word for it.
        let _ = stream.read_to_end(&mut said).await;
        assert!(said.is_empty(), "{said:?}");
    }
    good.write_all(request).await.unwrap();
    assert!(head(&mut good).await.starts_with("http/1.1 200"));
    lab.server.stop();
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let lab = Lab::new().await;
    let address = serving(&lab).await;
    let mut stream = connect(&lab, address).await;
    let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    // It may be refused before all of it is sent.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    let mut other = connect(&lab, address).await;
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(head(&mut other).await.starts_with("http/1.1 200"));
    lab.server.stop();
}

/// A node that shows its certificate, wants the server's, and echoes what comes over a stream.
async fn node(lab: &Lab) -> (u16, tokio::task::JoinHandle<String>) {
    let pki = Arc::clone(&lab.server.config.pki);
    let local = "127.0.0.1".parse().unwrap();
    let profile = pki::Profile::server("system:node:n", &["n"], &[local]);
    let issued = pki.ca.issue(&profile).unwrap();
    let mut config = tls(&issued.cert_pem, &issued.key_pem, pki.ca.cert_pem()).unwrap();
    config.alpn_protocols.clear();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let mut stream = acceptor.accept(stream).await.unwrap();
        let peer = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let user = authn::user_of_certificate(&peer).unwrap();
        assert_eq!(user.name, "kube-apiserver-kubelet-client");
        let head = head(&mut stream).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
        stream.shutdown().await.unwrap();
        head
    });
    (port, task)
}

#[tokio::test]
async fn streams_reach_the_node_as_they_are() {
    let lab = Lab::new().await;
    let address = serving(&lab).await;
    let (port, node) = node(&lab).await;
    lab.node_at(port).await;
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    lab.post("/api/v1/namespaces/default/serviceaccounts", account).await.ok();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i" }] },
    });
    lab.post("/api/v1/namespaces/default/pods", pod).await.ok();
    let mut stream = connect(&lab, address).await;
    let request = "POST /api/v1/namespaces/default/pods/p/exec?command=echo&command=a%20b&stdin=true\
                   &stdout=true&container=c HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
                   Authorization: Bearer secret\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(answer.contains("upgrade: spdy/3.1") && answer.contains("v4.channel.k8s.io"));
    let mut echo = [0; 5];
    let (mut read, mut write) = tokio::io::split(stream);
    let (written, got) = join(write.write_all(b"hello"), read.read_exact(&mut echo)).await;
    written.unwrap();
    got.unwrap();
    assert_eq!(&echo, b"hello");
    let seen = node.await.unwrap();
    let line = "post /exec/default/p/c?command=echo&command=a%20b&input=1&output=1 http/1.1";
    assert!(seen.starts_with(line), "{seen}");
    assert!(!seen.contains("secret"), "{seen}");
    // What the pod does not have, and a pod that is nowhere yet.
    let none = lab.get("/api/v1/namespaces/default/pods/p/log?container=x").await;
    none.refused(400, "container x is not valid for pod p");
}

/// A WebSocket of what is behind a proxy goes through as it is.
#[tokio::test]
async fn proxies_pass_upgrades_on() {
    let lab = Lab::new().await;
    let address = serving(&lab).await;
    let (port, node) = node(&lab).await;
    lab.node_at(port).await;
    let mut stream = connect(&lab, address).await;
    // Without a path, too: only plain requests are sent to the root.
    let request = "GET /api/v1/nodes/n/proxy?a=b HTTP/1.1\r\nHost: here:1\r\n\
                   Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mine, \
                   base64url.bearer.authorization.k8s.io.c2VjcmV0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
    let seen = node.await.unwrap();
    assert!(seen.starts_with("get /?a=b http/1.1\r\n"), "{seen}");
    for line in [
        "upgrade: websocket",
        "host: here:1",
        "sec-websocket-key: dghlihnhbxbszsbub25jzq==",
        "sec-websocket-protocol: mine",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-uri: /api/v1/nodes/n/proxy",
    ] {
        assert!(seen.contains(&format!("\r\n{line}\r\n")), "no {line}: {seen}");
    }
}

#[tokio::test]
async fn evictions_keep_to_budgets() {
    let lab = Lab::new().await;
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    lab.post("/api/v1/namespaces/default/serviceaccounts", account).await.ok();
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "labels": { "a": "b" } },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i" }] },
    });
    lab.post(PODS, pod).await.ok();
    lab.send(
        "PATCH",
        &format!("{PODS}/p/status"),
        json!({ "status": {
            "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }],
        }}),
    )
    .await
    .ok();
    const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "b" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "a": "b" } } },
    });
    lab.post(BUDGETS, budget).await.ok();
    let allow = async |count: u32| {
        let status = json!({ "status": {
            "disruptionsAllowed": count, "observedGeneration": 1, "currentHealthy": 1,
            "desiredHealthy": 1, "expectedPods": 1,
        }});
        lab.send("PATCH", &format!("{BUDGETS}/b/status"), status).await.ok();
    };
    let eviction =
        json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "p" } });
    allow(0).await;
    lab.post(&format!("{PODS}/p/eviction"), eviction.clone())
        .await
        .refused(429, "Cannot evict pod as it would violate the pod's disruption budget.");
    allow(1).await;
    let mut other = eviction.clone();
    other["deleteOptions"] = json!({ "preconditions": { "uid": "another" } });
    assert_eq!(lab.post(&format!("{PODS}/p/eviction"), other).await.status, 409);
    let before = lab.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(before["status"]["conditions"].as_array().unwrap().len(), 1);
    allow(1).await;
    let mut exact = eviction.clone();
    let version = before["metadata"]["resourceVersion"].clone();
    exact["deleteOptions"] = json!({ "preconditions": { "resourceVersion": version } });
    lab.post(&format!("{PODS}/p/eviction"), exact).await.ok();
    let ending = lab.get(&format!("{PODS}/p")).await.ok();
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    let why = &ending["status"]["conditions"][1];
    assert_eq!(
        [&why["type"], &why["status"], &why["reason"], &why["message"]],
        ["DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: evicting"]
    );
    let budget = lab.get(&format!("{BUDGETS}/b")).await.ok();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
}
