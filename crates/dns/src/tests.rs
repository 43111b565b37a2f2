//! The whole server over real sockets on loopback, against the DNS specification's examples.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::{DnsConfig, Error, Server, parse_resolv_conf};

const PATIENCE: Duration = Duration::from_secs(10);

async fn server(upstreams: Vec<SocketAddr>) -> Server {
    let server = Server::start(DnsConfig {
        bind: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        upstreams,
        domain: "cluster.local".to_owned(),
        networks: vec!["10.244.0.0/16".parse().unwrap(), "10.96.0.0/16".parse().unwrap()],
    })
    .await
    .unwrap();
    let zone = server.zone();
    let service = |name: &str, spec: serde_json::Value| {
        let meta = json!({"namespace": "shop", "name": name});
        let object = json!({"metadata": meta, "spec": spec});
        zone.upsert_service(&serde_json::from_value(object).unwrap());
    };
    let http = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    service(
        "web",
        json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ports": http}),
    );
    service("db", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": http}));
    service("empty", json!({"clusterIP": "None", "ports": http}));
    service(
        "inside",
        json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}),
    );
    service("outside", json!({"type": "ExternalName", "externalName": "example.test."}));
    zone.upsert_slice(&slice(
        "db-1",
        &[
            ("10.244.1.5", Some("db-0"), true),
            ("10.244.2.6", None, true),
            ("10.244.2.9", Some("db-9"), false),
        ],
    ));
    server
}

fn slice(
    name: &str,
    endpoints: &[(&str, Option<&str>, bool)],
) -> api::k8s::api::discovery::v1::EndpointSlice {
    let endpoint = |(ip, host, ready): &(&str, Option<&str>, bool)| json!({"addresses": [ip], "hostname": host, "conditions": {"ready": ready}});
    serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": name,
            "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    }))
    .unwrap()
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn send(server: &Server, message: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server.addresses()[0]).await.unwrap();
    socket.send(&message.to_vec().unwrap()).await.unwrap();
    let mut buf = [0; 4096];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buf)).await;
    let answer = Message::from_vec(&buf[..received.unwrap().unwrap()]).unwrap();
    assert_eq!(answer.metadata.id, message.metadata.id);
    assert_eq!(answer.queries, message.queries);
    answer
}

async fn send_tcp(server: &Server, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buf = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut buf).await.unwrap();
    Message::from_vec(&buf).unwrap()
}

/// The answer in short: the code if it is not NOERROR, then the records, sorted.
async fn ask(server: &Server, name: &str, kind: &str) -> String {
    let message = question(name, RecordType::from_str(kind).unwrap());
    let answer = send(server, &message).await;
    let tcp = send_tcp(server, &message).await;
    assert_eq!(answer.metadata.response_code, tcp.metadata.response_code);
    assert_eq!(answer.answers.len(), tcp.answers.len());
    if answer.answers.is_empty() && answer.metadata.authoritative {
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA, "{name} {kind}");
    }
    let mut words: Vec<String> = answer.answers.iter().map(|r| r.data.to_string()).collect();
    words.sort();
    match answer.metadata.response_code {
        ResponseCode::NoError if words.is_empty() => "NODATA".to_owned(),
        ResponseCode::NoError => words.join(", "),
        code => format!("{code:?}"),
    }
}

#[tokio::test]
async fn answers_as_the_specification_says() {
    let server = server(Vec::new()).await;
    let table = [
        ("web.shop.svc.cluster.local.", "A", "10.96.0.7"),
        ("WEB.Shop.svc.CLUSTER.local.", "A", "10.96.0.7"),
        ("web.shop.svc.cluster.local.", "AAAA", "fd00::7"),
        ("web.shop.svc.cluster.local.", "MX", "NODATA"),
        ("_http._tcp.web.shop.svc.cluster.local.", "SRV", "0 100 80 web.shop.svc.cluster.local."),
        ("_http._udp.web.shop.svc.cluster.local.", "SRV", "NXDomain"),
        ("_http._tcp.web.shop.svc.cluster.local.", "A", "NODATA"),
        ("_tcp.web.shop.svc.cluster.local.", "SRV", "NODATA"),
        ("db.shop.svc.cluster.local.", "A", "10.244.1.5, 10.244.2.6"),
        ("db.shop.svc.cluster.local.", "AAAA", "NODATA"),
        ("db-0.db.shop.svc.cluster.local.", "A", "10.244.1.5"),
        ("10-244-2-6.db.shop.svc.cluster.local.", "A", "10.244.2.6"),
        ("db-9.db.shop.svc.cluster.local.", "A", "NXDomain"),
        (
            "_http._tcp.db.shop.svc.cluster.local.",
            "SRV",
            "0 50 8080 10-244-2-6.db.shop.svc.cluster.local., \
             0 50 8080 db-0.db.shop.svc.cluster.local.",
        ),
        ("empty.shop.svc.cluster.local.", "A", "NODATA"),
        ("nothing.shop.svc.cluster.local.", "A", "NXDomain"),
        ("web.other.svc.cluster.local.", "A", "NXDomain"),
        ("shop.svc.cluster.local.", "A", "NODATA"),
        ("svc.cluster.local.", "A", "NODATA"),
        ("cluster.local.", "A", "NODATA"),
        ("dns-version.cluster.local.", "TXT", "1.1.0"),
        ("web.cluster.local.", "A", "NXDomain"),
        ("inside.shop.svc.cluster.local.", "CNAME", "web.shop.svc.cluster.local."),
        ("inside.shop.svc.cluster.local.", "A", "10.96.0.7, web.shop.svc.cluster.local."),
        ("10-244-9-9.shop.pod.cluster.local.", "A", "10.244.9.9"),
        ("nonsense.shop.pod.cluster.local.", "A", "NXDomain"),
        ("7.0.96.10.in-addr.arpa.", "PTR", "web.shop.svc.cluster.local."),
        ("5.1.244.10.in-addr.arpa.", "PTR", "db-0.db.shop.svc.cluster.local."),
        ("6.2.244.10.in-addr.arpa.", "PTR", "10-244-2-6.db.shop.svc.cluster.local."),
        ("77.2.244.10.in-addr.arpa.", "PTR", "NXDomain"),
        ("1.2.0.192.in-addr.arpa.", "PTR", "Refused"),
        ("example.test.", "A", "Refused"),
    ];
    for (name, kind, expected) in table {
        assert_eq!(ask(&server, name, kind).await, expected, "{name} {kind}");
    }
    let answer = send(&server, &question("web.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(answer.answers[0].ttl, 5);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
}

#[tokio::test]
async fn follows_what_changes() {
    let server = server(Vec::new()).await;
    let zone = server.zone();
    zone.upsert_slice(&slice("db-1", &[("10.244.1.8", Some("db-0"), true)]));
    assert_eq!(ask(&server, "db-0.db.shop.svc.cluster.local.", "A").await, "10.244.1.8");
    assert_eq!(ask(&server, "5.1.244.10.in-addr.arpa.", "PTR").await, "NXDomain");
    zone.upsert_slice(&slice("db-2", &[("10.244.1.9", None, true)]));
    assert_eq!(ask(&server, "db.shop.svc.cluster.local.", "A").await, "10.244.1.8, 10.244.1.9");
    zone.remove_slice("shop", "db-1");
    assert_eq!(ask(&server, "db.shop.svc.cluster.local.", "A").await, "10.244.1.9");
    for name in ["web", "db", "empty", "inside", "outside"] {
        zone.remove_service("shop", name);
    }
    assert_eq!(ask(&server, "web.shop.svc.cluster.local.", "A").await, "NXDomain");
    assert_eq!(ask(&server, "shop.svc.cluster.local.", "A").await, "NXDomain");
    assert_eq!(ask(&server, "9.1.244.10.in-addr.arpa.", "PTR").await, "NXDomain");
}

#[tokio::test]
async fn long_answers_are_truncated_and_whole_over_tcp() {
    let server = server(Vec::new()).await;
    let ips: Vec<String> = (1..=200).map(|i| format!("10.244.7.{i}")).collect();
    let endpoints: Vec<_> = ips.iter().map(|ip| (ip.as_str(), None, true)).collect();
    server.zone().upsert_slice(&slice("db-1", &endpoints));
    let mut message = question("db.shop.svc.cluster.local.", RecordType::A);
    let plain = send(&server, &message).await;
    assert!(plain.metadata.truncation && plain.to_vec().unwrap().len() <= 512);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    let larger = send(&server, &message).await;
    assert!(larger.metadata.truncation && larger.answers.len() > plain.answers.len());
    let whole = send_tcp(&server, &message).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
}

/// A name server that knows one name and counts what it is asked.
async fn upstream(
    count: std::sync::Arc<std::sync::atomic::AtomicUsize>,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let serve = async move {
        let mut buf = [0; 4096];
        loop {
            let (length, client) = socket.recv_from(&mut buf).await.unwrap();
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let request = Message::from_vec(&buf[..length]).unwrap();
            let mut response = Message::response(request.metadata.id, OpCode::Query);
            response.add_queries(request.queries.clone());
            let name = request.queries[0].name().clone();
            if name.to_ascii() == "example.test." {
                let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 80)));
                response.add_answer(Record::from_rdata(name, 60, data));
            } else {
                response.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&response.to_vec().unwrap(), client).await.unwrap();
        }
    };
    (address, tokio::spawn(serve))
}

#[tokio::test]
async fn other_names_are_forwarded_once() {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (address, task) = upstream(count.clone()).await;
    let server = server(vec![address]).await;
    // Asked twice (UDP and TCP), answered the second time from memory.
    assert_eq!(ask(&server, "example.test.", "A").await, "192.0.2.80");
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    let alias = ask(&server, "outside.shop.svc.cluster.local.", "A").await;
    assert_eq!(alias, "192.0.2.80, example.test.");
    assert_eq!(ask(&server, "unknown.test.", "A").await, "NXDomain");
    assert_eq!(ask(&server, "77.2.244.10.in-addr.arpa.", "PTR").await, "NXDomain");
    task.abort();
}

#[tokio::test]
async fn a_loop_is_cut() {
    // The upstream is a relay that sends every question back to the server.
    let relay = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let server = server(vec![relay.local_addr().unwrap()]).await;
    let target = server.addresses()[0];
    let task = tokio::spawn(async move {
        let mut buf = [0; 4096];
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        loop {
            let (length, client) = relay.recv_from(&mut buf).await.unwrap();
            back.send_to(&buf[..length], target).await.unwrap();
            let length = back.recv(&mut buf).await.unwrap();
            relay.send_to(&buf[..length], client).await.unwrap();
        }
    });
    assert_eq!(ask(&server, "example.test.", "A").await, "Refused");
    task.abort();
}

#[tokio::test]
async fn nonsense_is_answered_or_ignored_but_never_fatal() {
    let server = server(Vec::new()).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server.addresses()[0]).await.unwrap();
    for length in 0..64usize {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 37 + length * 11) as u8).collect();
        socket.send(&bytes).await.unwrap();
    }
    let mut none = Message::query();
    none.metadata.id = 4711;
    assert_eq!(send(&server, &none).await.metadata.response_code, ResponseCode::FormErr);
    let mut transfer = question("cluster.local.", RecordType::AXFR);
    assert_eq!(send(&server, &transfer).await.metadata.response_code, ResponseCode::Refused);
    transfer.metadata.op_code = OpCode::Update;
    assert_eq!(ask(&server, "web.shop.svc.cluster.local.", "A").await, "10.96.0.7");
}

#[tokio::test]
async fn a_taken_address_and_a_wrong_domain_are_told() {
    let first = server(Vec::new()).await;
    let config = |domain: &str| DnsConfig {
        bind: first.addresses().to_vec(),
        upstreams: Vec::new(),
        domain: domain.to_owned(),
        networks: Vec::new(),
    };
    let taken = Server::start(config("cluster.local")).await.err().unwrap();
    assert!(matches!(taken, Error::Bind { .. }), "{taken}");
    let wrong = Server::start(config("")).await.err().unwrap();
    assert!(matches!(wrong, Error::Domain(_)), "{wrong}");
}

#[test]
fn resolv_conf() {
    let text =
        "# comment\nsearch a b\nnameserver 192.0.2.1\nnameserver  fd00::1 # two\nnameserver x\n";
    let servers = parse_resolv_conf(text);
    let ips: Vec<IpAddr> = servers.iter().map(SocketAddr::ip).collect();
    assert_eq!(ips, ["192.0.2.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
}
