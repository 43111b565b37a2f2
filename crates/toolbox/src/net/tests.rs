use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::client::{Request, Url};
use super::resolver::{Config, hosts_lookup, query, resolve_with};
use super::serve::Server;
use super::wire::{Head, copy_body};

#[test]
fn resolv_conf_is_read_as_kubernetes_writes_it() {
    let config = Config::parse(
        "search a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10 # dns\n\
         nameserver nonsense\noptions ndots:5 timeout:1 attempts:3 edns0\n",
    );
    assert_eq!(config.servers, [SocketAddr::from(([10, 96, 0, 10], 53))]);
    assert_eq!((config.ndots, config.attempts), (5, 3));
    assert_eq!(config.timeout, Duration::from_secs(1));
    assert_eq!(
        config.candidates("web"),
        ["web.a.svc.cluster.local.", "web.svc.cluster.local.", "web."]
    );
    assert_eq!(config.candidates("web."), ["web."]);
    assert_eq!(config.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f.");
    let none = Config::parse("");
    assert_eq!(none.servers, [SocketAddr::from(([127, 0, 0, 1], 53))]);
    assert_eq!(none.candidates("web"), ["web."]);
}

#[test]
fn hosts_come_first() {
    let hosts = "127.0.0.1 localhost # me\n# 1.2.3.4 gone\n10.0.0.9\tpod pod.example\n::1 pod\n";
    assert_eq!(hosts_lookup(hosts, "POD").len(), 2);
    assert_eq!(
        hosts_lookup(hosts, "pod.example."),
        ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()]
    );
    assert!(hosts_lookup(hosts, "gone").is_empty());
    let config = Config::parse("");
    assert_eq!(resolve_with(&config, hosts, "localhost").unwrap().len(), 1);
    assert_eq!(resolve_with(&config, "", "[::1]").unwrap().len(), 1);
}

/// A DNS server for `questions` questions over UDP, and for cut answers over TCP.
fn dns(questions: usize) -> (Config, std::thread::JoinHandle<()>) {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).unwrap();
    let answer = |question: &Message, cut: bool| {
        let query = question.queries[0].clone();
        let mut reply = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        let name = query.name().to_ascii();
        let data = match (name.as_str(), query.query_type()) {
            ("web.default.svc.", RecordType::A) => Some(RData::A(A::new(10, 0, 0, 1))),
            ("long.default.svc.", RecordType::TXT) if cut => {
                reply.metadata.truncation = true;
                None
            }
            ("long.default.svc.", RecordType::TXT) => {
                Some(RData::TXT(TXT::new(vec!["x".repeat(200)])))
            }
            ("web.default.svc.", _) => None,
            _ => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                None
            }
        };
        if let Some(data) = data {
            reply.add_answer(Record::from_rdata(Name::from_ascii(&name).unwrap(), 5, data));
        }
        reply.add_query(query);
        reply.to_vec().unwrap()
    };
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        for _ in 0..questions {
            let (n, peer) = udp.recv_from(&mut buffer).unwrap();
            let question = Message::from_vec(&buffer[..n]).unwrap();
            // An answer to somebody else's question comes first and must not be believed.
            let mut other = question.clone();
            other.metadata.id = question.metadata.id.wrapping_add(1);
            udp.send_to(&answer(&other, true), peer).unwrap();
            let reply = answer(&question, true);
            udp.send_to(&reply, peer).unwrap();
            if Message::from_vec(&reply).unwrap().metadata.truncation {
                let (mut stream, _) = tcp.accept().unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut bytes = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut bytes).unwrap();
                let reply = answer(&Message::from_vec(&bytes).unwrap(), false);
                stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        }
    });
    let config = Config {
        servers: vec![address],
        search: vec!["none.svc".to_owned(), "default.svc".to_owned()],
        ndots: 5,
        timeout: Duration::from_secs(5),
        attempts: 1,
    };
    (config, thread)
}

#[test]
fn names_are_looked_up_along_the_search_list() {
    let (config, thread) = dns(4);
    // A and AAAA of the first suffix, then of the second.
    let found = resolve_with(&config, "", "web").unwrap();
    assert_eq!(found, [std::net::IpAddr::from([10, 0, 0, 1])]);
    thread.join().unwrap();
}

#[test]
fn a_cut_answer_is_asked_for_again_over_tcp() {
    let (config, thread) = dns(2);
    let answer = query(&config, "long", RecordType::TXT).unwrap();
    assert!(answer.found());
    assert!(matches!(&answer.records[0].data, RData::TXT(t) if t.txt_data[0].len() == 200));
    thread.join().unwrap();
}

#[test]
fn urls() {
    let parse = |text: &str| Url::parse(text).map(|u| (u.host, u.port, u.path));
    let url = |host: &str, port, path: &str| (host.to_owned(), port, path.to_owned());
    assert_eq!(parse("http://a").unwrap(), url("a", 80, "/"));
    assert_eq!(parse("a:81?x=1").unwrap(), url("a", 81, "/?x=1"));
    assert_eq!(parse("http://[::1]:8080/p/q").unwrap(), url("::1", 8080, "/p/q"));
    for bad in ["https://a", "ftp://a", "http://", "http://a:b", "http://a/\r\nX: y", "http://a/ b"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn bodies_of_every_kind() {
    let read = |text: &str, limit| {
        let mut reader = BufReader::new(text.as_bytes());
        let head = Head::read(&mut reader)?.unwrap();
        let mut body = Vec::new();
        copy_body(&mut reader, &head.length()?, &mut body, limit)?;
        Ok::<_, std::io::Error>(String::from_utf8(body).unwrap())
    };
    let chunked =
        "GET / X\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n";
    assert_eq!(read(chunked, 10).unwrap(), "abcde");
    assert!(read(chunked, 4).is_err());
    assert_eq!(read("A\nContent-Length: 2\n\nabc", 2).unwrap(), "ab");
    assert!(read("A\nContent-Length: 4\n\nabc", 9).is_err());
    assert!(read("A\nContent-Length: x\n\nabc", 9).is_err());
    assert_eq!(read("A\n\nabc", 9).unwrap(), "abc");
    assert!(Head::read(&mut "A\nno colon\n\n".as_bytes()).is_err());
    let endless = format!("A\nB: {}\n\n", "x".repeat(70_000));
    assert!(Head::read(&mut endless.as_bytes()).is_err());
}

/// Runs the server; the stream ends it when written to.
fn serve() -> (SocketAddr, UnixStream, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || Server::default().run(&listener, &theirs).unwrap());
    (address, ours, thread)
}

#[test]
fn the_server_answers_and_the_client_reads() {
    let (address, mut end, thread) = serve();
    let request = |method: &str, path: &str, data: Option<&str>| {
        let request = Request {
            method: method.to_owned(),
            headers: vec!["X-Test: yes".to_owned()],
            data: data.map(str::to_owned),
            timeout: Duration::from_secs(10),
        };
        let mut response = request.follow(&format!("http://{address}{path}")).unwrap();
        let mut body = Vec::new();
        response.body_to(&mut body).unwrap();
        (response.status, String::from_utf8(body).unwrap())
    };
    let (status, body) = request("GET", "/some/path?q=1", None);
    assert_eq!(status, 200);
    let name = super::serve::hostname();
    for line in [
        format!("Hostname: {name}\n"),
        "Method: GET\n".to_owned(),
        "Path: /some/path?q=1\n".to_owned(),
        format!("Server: {address}\n"),
        "Header: X-Test: yes\n".to_owned(),
    ] {
        assert!(body.contains(&line), "{line} in {body}");
    }
    assert_eq!(request("GET", "/healthz", None), (200, "ok\n".to_owned()));
    assert_eq!(request("GET", "/status/503", None).0, 503);
    assert_eq!(request("GET", "/status/204", None), (204, String::new()));
    assert_eq!(request("GET", "/status/9", None).0, 400);
    assert_eq!(request("HEAD", "/", None), (200, String::new()));
    assert!(request("POST", "/", Some("the body")).1.ends_with("\nthe body\n"));
    end.write_all(b"x").unwrap();
    thread.join().unwrap();
}

#[test]
fn a_connection_is_used_again_and_closed_at_the_end() {
    let (address, mut end, thread) = serve();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = Head::read(&mut reader).unwrap().unwrap();
        assert_eq!(head.header("connection"), Some("keep-alive"));
        copy_body(&mut reader, &head.length().unwrap(), &mut Vec::new(), 100).unwrap();
    }
    end.write_all(b"x").unwrap();
    thread.join().unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn bad_requests_are_told() {
    let (address, mut end, thread) = serve();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400 "),
        ("nonsense\r\n\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "HTTP/1.1 413 "),
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        assert!(text.starts_with(status), "{request}: {text}");
    }
    end.write_all(b"x").unwrap();
    thread.join().unwrap();
}
