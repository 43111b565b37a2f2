//! Proxies: what a target sees, and what clients see of it.
use super::*;
use http::HeaderMap;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A node whose API gives each path its answer, and says in a header what it was asked.
async fn node(lab: &Lab, answers: &[(&'static str, &'static str)]) {
    let pki = &lab.server.config.pki;
    let profile = pki::Profile::server("system:node:n", &["n"], &["127.0.0.1".parse().unwrap()]);
    let issued = pki.ca.issue(&profile).unwrap();
    let mut config = tls(&issued.cert_pem, &issued.key_pem, pki.ca.cert_pem()).unwrap();
    config.alpn_protocols.clear();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers: BTreeMap<&str, &str> = answers.iter().copied().collect();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let answer = answers.get(path.as_str()).copied().unwrap_or("200 OK\r\n\r\n");
            let seen = head.trim().replace("\r\n", "|");
            let answer =
                format!("HTTP/1.1 {answer}").replacen("\r\n", &format!("\r\nSeen: {seen}\r\n"), 1);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    lab.node_at(port).await;
}

const PROXY: &str = "/api/v1/nodes/n/proxy";

async fn ask(
    lab: &Lab,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
) -> (u16, HeaderMap, String) {
    let response = lab.raw(method, uri, headers, Bytes::new()).await;
    let (parts, body) = response.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn without_a_path_clients_are_sent_to_the_root() {
    let lab = Lab::new().await;
    node(&lab, &[]).await;
    for (method, uri, want) in [
        ("GET", PROXY, Some("/")),
        ("HEAD", PROXY, Some("/")),
        ("GET", "/api/v1/nodes/n/proxy?method=GET&a=b", Some("/?method=GET&a=b")),
        ("POST", PROXY, None),
        ("OPTIONS", PROXY, None),
        ("GET", "/api/v1/nodes/n/proxy/", None),
        ("GET", "/api/v1/nodes/n/proxy/x", None),
    ] {
        let (status, headers, _) = ask(&lab, method, uri, &[]).await;
        let location = headers.get("location").map(|value| value.to_str().unwrap());
        let want = want.map(|tail| format!("{PROXY}{tail}"));
        assert_eq!(location, want.as_deref(), "{method} {uri}");
        assert_eq!(status, if want.is_some() { 301 } else { 200 }, "{method} {uri}");
    }
    // Who is not there redirects nobody.
    lab.get("/api/v1/nodes/none/proxy").await.refused(404, "nodes \"none\" not found");
}

#[tokio::test]
async fn what_a_target_sees() {
    let lab = Lab::new().await;
    node(&lab, &[]).await;
    let headers = [
        ("host", "localhost:8001"),
        ("authorization", "Bearer secret"),
        ("connection", "close, X-Mine"),
        ("x-mine", "1"),
        ("te", "gzip"),
        ("proxy-authorization", "Basic x"),
        ("x-forwarded-for", "192.0.2.1"),
        ("accept-encoding", "gzip"),
    ];
    let mut request = Request::builder().method("PUT").uri(format!("{PROXY}/a%20b/c/?d=e%2Ff"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut request = request.body(crate::body::empty()).unwrap();
    request.extensions_mut().insert(Caller::InProcess(lab.user.clone()));
    let peer = Some("[::ffff:192.0.2.9]:555".parse().unwrap());
    let response = lab.server.handle(request, ConnInfo { peer, user: None }).await;
    let seen = response.headers()["seen"].to_str().unwrap().to_lowercase();
    let mut lines: Vec<&str> = seen.split('|').collect();
    assert_eq!(lines.remove(0), "put /a%20b/c/?d=e%2ff http/1.1");
    lines.retain(|line| !line.starts_with("content-length"));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept-encoding: gzip",
            "host: localhost:8001",
            "x-forwarded-for: 192.0.2.1, 192.0.2.9",
            "x-forwarded-uri: /api/v1/nodes/n/proxy/a%20b/c/",
        ]
    );
}

#[tokio::test]
async fn answers_come_from_behind_the_proxy() {
    let lab = Lab::new().await;
    node(
        &lab,
        &[
            ("/page", "200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 13\r\n\r\n<a href='/x'>"),
            ("/text", "200 OK\r\nContent-Type: text/plain\r\nAccess-Control-Allow-Origin: *\r\n\r\n<a href='/x'>"),
            ("/to", "302 Found\r\nLocation: /x?y\r\nContent-Type: text/html\r\n\r\n<a href='/x'>"),
            ("/away", "302 Found\r\nLocation: http://example.test/x\r\n\r\n"),
            ("/teapot", "418 I am a teapot\r\nContent-Type: text/html\r\n\r\n<img src=/y>"),
        ],
    )
    .await;
    let get = async |path: &str| ask(&lab, "GET", &format!("{PROXY}{path}"), &[]).await;
    let (status, headers, text) = get("/page").await;
    assert_eq!((status, text.as_str()), (200, "<a href='/api/v1/nodes/n/proxy/x'>"));
    assert!(!headers.contains_key("content-length"));
    let (_, headers, text) = get("/text").await;
    assert_eq!(text, "<a href='/x'>");
    assert!(!headers.contains_key("access-control-allow-origin"));
    let (status, headers, text) = get("/to").await;
    assert_eq!((status, text.as_str()), (302, "<a href='/x'>"));
    assert_eq!(headers["location"], "/api/v1/nodes/n/proxy/x?y");
    assert_eq!(get("/away").await.1["location"], "http://example.test/x");
    let (status, _, text) = get("/teapot").await;
    assert_eq!((status, text.as_str()), (418, "<img src=/api/v1/nodes/n/proxy/y>"));
    let (_, headers, text) = ask(&lab, "HEAD", &format!("{PROXY}/page"), &[]).await;
    assert_eq!((headers["content-length"].to_str().unwrap(), text.as_str()), ("13", ""));
    // An upgrade that is not one.
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    let (status, _, text) = ask(&lab, "GET", &format!("{PROXY}/text"), &upgrade).await;
    assert_eq!(status, 500);
    assert!(text.contains("invalid upgrade response: status code 200"), "{text}");
    let (status, _, text) = ask(&lab, "GET", &format!("{PROXY}/teapot"), &upgrade).await;
    assert_eq!((status, text.starts_with("<img")), (418, true));
}

async fn pod(lab: &Lab, name: &str, ip: &str) {
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let spec = json!({ "nodeName": "n", "containers": [
        { "name": "a", "image": "i" },
        { "name": "b", "image": "i", "ports": [{ "name": "web", "containerPort": 9 }] },
    ]});
    let meta = json!({ "name": name });
    lab.post(PODS, json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec }))
        .await
        .ok();
    let status = json!({ "status": { "podIP": ip, "podIPs": [{ "ip": ip }] } });
    lab.send("PATCH", &format!("{PODS}/{name}/status"), status).await.ok();
}

#[tokio::test]
async fn targets_that_cannot_be_reached() {
    let lab = Lab::new().await;
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    lab.post("/api/v1/namespaces/default/serviceaccounts", account).await.ok();
    // Nothing is ever sent to an address of this kind.
    pod(&lab, "p", "127.0.0.1").await;
    pod(&lab, "far", "255.255.255.254").await;
    const NS: &str = "/api/v1/namespaces/default";
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" },
        "spec": { "ports": [{ "name": "http", "port": 80 }, { "name": "b", "port": 81 }] },
    });
    lab.post(&format!("{NS}/services"), service).await.ok();
    let check = async |path: &str, code: u16, message: &str| {
        lab.get(&format!("{NS}/{path}/proxy/")).await.refused(code, message);
    };
    check("pods/p", 400, "address not allowed").await;
    check("pods/none", 404, "pods \"none\" not found").await;
    check("pods/ftp:p:1", 400, "invalid pod request \"ftp:p:1\"").await;
    check("pods/a:b:c:d", 400, "invalid pod request \"a:b:c:d\"").await;
    check(
        "pods/p:nowhere",
        503,
        "error trying to reach service: dial tcp: lookup tcp/nowhere: unknown port",
    )
    .await;
    check("services/ftp:s:1", 400, "invalid service request \"ftp:s:1\"").await;
    check("services/s:82", 503, "no service port 82 found for service \"s\"").await;
    for id in ["s:http", "s:80", "https:s:80", "s"] {
        let message = format!("no endpoints available for service {id:?}");
        check(&format!("services/{id}"), 503, &message).await;
    }
    // Endpoints that are no pods of the namespace lead nowhere.
    let target = |kind: &str, name: &str| json!({ "kind": kind, "name": name });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "s-1", "labels": { "kubernetes.io/service-name": "s" } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 80 }],
        "endpoints": [
            { "addresses": ["192.0.2.1"] },
            { "addresses": ["192.0.2.1"], "targetRef": target("Node", "n") },
            { "addresses": ["192.0.2.1"], "targetRef": target("Pod", "p") },
            { "addresses": ["192.0.2.1"], "targetRef": target("Pod", "none") },
            { "addresses": ["255.255.255.254"], "targetRef": target("Pod", "far"),
              "conditions": { "ready": false } },
        ],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    lab.post(slices, slice).await.ok();
    check("services/s:http", 503, "no endpoints available for service \"s:http\"").await;
}

#[tokio::test]
async fn nobody_listens_there() {
    let lab = Lab::new().await;
    node(&lab, &[]).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let status = json!({ "status": {
        "daemonEndpoints": { "kubeletEndpoint": { "Port": at.port() } },
    }});
    lab.send("PATCH", "/api/v1/nodes/n/status", status).await.ok();
    let why = format!("dial tcp {at}: connect: connection refused");
    let message = format!("error trying to reach service: {why}");
    lab.get(&format!("{PROXY}/")).await.refused(503, &message);
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    let answer = answer(lab.raw("GET", PROXY, &upgrade, Bytes::new()).await).await;
    answer.refused(500, &format!("error dialing backend: {why}"));
    // Another port of the node's is like a pod's: never on this machine itself.
    lab.get("/api/v1/nodes/n:1/proxy/").await.refused(400, "address not allowed");
    lab.get("/api/v1/nodes/x:n:y:z/proxy/").await.refused(400, "invalid node request \"x:n:y:z\"");
}
