//! Name resolution by `/etc/hosts` and `/etc/resolv.conf`: UDP, and TCP when an answer is cut.
//!
//! Search lists, ndots, timeout and attempts mean what resolv.conf(5) says, since Kubernetes' DNS
//! policy relies on them.
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::common::{Fault, reason};

/// What resolv.conf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) ndots: usize,
    pub(crate) timeout: Duration,
    pub(crate) attempts: usize,
}

impl Config {
    /// That of this machine or pod; without a file, the server on this host.
    pub(crate) fn system() -> Config {
        Config::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    pub(crate) fn parse(text: &str) -> Config {
        let mut config = Config {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if config.servers.len() < 3 => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    config.servers.extend(address.map(|ip| SocketAddr::new(ip, 53)));
                }
                Some("search" | "domain") => {
                    config.search = words.take(32).map(str::to_owned).collect();
                }
                Some("options") => words.for_each(|word| config.option(word)),
                _ => {}
            }
        }
        if config.servers.is_empty() {
            config.servers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
        }
        config
    }

    fn option(&mut self, word: &str) {
        let Some((name, Ok(value))) = word.split_once(':').map(|(n, v)| (n, v.parse::<usize>()))
        else {
            return;
        };
        match name {
            "ndots" => self.ndots = value.min(15),
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30) as u64),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The names to ask for, in order.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let absolute = format!("{name}.");
        let searched =
            self.search.iter().map(|suffix| format!("{name}.{}.", suffix.trim_end_matches('.')));
        let mut names: Vec<String> = searched.collect();
        if name.matches('.').count() >= self.ndots {
            names.insert(0, absolute);
        } else {
            names.push(absolute);
        }
        names
    }
}

/// An answer that came, whatever it says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) server: SocketAddr,
    pub(crate) code: ResponseCode,
    pub(crate) records: Vec<Record>,
}

impl Answer {
    pub(crate) fn found(&self) -> bool {
        self.code == ResponseCode::NoError && !self.records.is_empty()
    }
}

/// Asks along the search list until a name has records of that type; else the last answer.
pub(crate) fn query(config: &Config, name: &str, kind: RecordType) -> Result<Answer, Fault> {
    let mut last = None;
    for candidate in config.candidates(name) {
        let answer = ask(config, &candidate, kind)?;
        if answer.found() {
            return Ok(answer);
        }
        // A name that exists without such records says more than one that does not exist.
        if last.as_ref().is_none_or(|l: &Answer| l.code != ResponseCode::NoError) {
            last = Some(answer);
        }
    }
    last.ok_or_else(|| Fault::new(format!("bad name '{name}'")))
}

/// Asks the servers in turn for exactly this name.
pub(crate) fn ask(config: &Config, name: &str, kind: RecordType) -> Result<Answer, Fault> {
    let parsed =
        Name::from_ascii(name).map_err(|e| Fault::new(format!("bad name '{name}': {e}")))?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(parsed, kind));
    let bytes = message.to_vec().map_err(|e| Fault::new(format!("bad name '{name}': {e}")))?;
    let mut trouble = String::from("no answer");
    for _ in 0..config.attempts {
        for server in &config.servers {
            match exchange(*server, &bytes, &message, config.timeout) {
                Ok(reply) => {
                    let code = reply.metadata.response_code;
                    if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
                        return Ok(Answer { server: *server, code, records: reply.answers });
                    }
                    trouble = format!("{server} answered {code}");
                }
                Err(e) => trouble = format!("{server}: {}", timeout_reason(&e)),
            }
        }
    }
    Err(Fault::new(format!("cannot look up '{}': {trouble}", name.trim_end_matches('.'))))
}

/// What an error of a socket with a time limit means.
pub(crate) fn timeout_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timed out".to_owned(),
        _ => reason(error),
    }
}

fn exchange(
    server: SocketAddr,
    bytes: &[u8],
    question: &Message,
    timeout: Duration,
) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(server)?;
    socket.send(bytes)?;
    let end = Instant::now() + timeout;
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let n = socket.recv(&mut buffer)?;
        // What does not answer this question is dropped, not believed.
        let Ok(reply) = Message::from_vec(&buffer[..n]) else { continue };
        if answers(&reply, question) {
            if reply.metadata.truncation {
                return exchange_tcp(server, bytes, question, timeout);
            }
            return Ok(reply);
        }
    }
}

fn answers(reply: &Message, question: &Message) -> bool {
    reply.metadata.id == question.metadata.id && reply.queries == question.queries
}

fn exchange_tcp(
    server: SocketAddr,
    bytes: &[u8],
    question: &Message,
    timeout: Duration,
) -> io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    let reply = Message::from_vec(&reply).map_err(io::Error::other)?;
    if answers(&reply, question) {
        return Ok(reply);
    }
    Err(io::Error::other("the answer is to another question"))
}

/// The addresses of a host: a literal, `/etc/hosts`, then DNS (A and AAAA).
pub(crate) fn resolve(host: &str) -> Result<Vec<IpAddr>, Fault> {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    resolve_with(&Config::system(), &hosts, host)
}

pub(crate) fn resolve_with(config: &Config, hosts: &str, host: &str) -> Result<Vec<IpAddr>, Fault> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = literal.parse() {
        return Ok(vec![ip]);
    }
    let listed = hosts_lookup(hosts, host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    // Along the search list name by name, so that both families come from the same name.
    let mut refused = None;
    for candidate in config.candidates(host) {
        let mut found = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            match ask(config, &candidate, kind) {
                Ok(answer) => found.extend(answer.records.iter().filter_map(address)),
                Err(e) if found.is_empty() => refused = Some(e),
                Err(_) => {}
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(refused.unwrap_or_else(|| Fault::new(format!("cannot resolve '{host}': no such host"))))
}

fn address(record: &Record) -> Option<IpAddr> {
    match record.data {
        RData::A(ref a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(ref a) => Some(IpAddr::V6(a.0)),
        _ => None,
    }
}

pub(crate) fn hosts_lookup(hosts: &str, host: &str) -> Vec<IpAddr> {
    let wanted = host.trim_end_matches('.');
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let ip = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(wanted)).then_some(ip)
        })
        .collect()
}

/// The socket addresses behind a host and a port.
pub(crate) fn socket_addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    Ok(resolve(host)?.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Connects to the first of a host's addresses that answers.
pub(crate) fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, Fault> {
    let mut trouble = Fault::new(format!("cannot resolve '{host}'"));
    for address in socket_addresses(host, port)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(e) => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let shown = format!("cannot connect to {host}:{port} ({address})");
                trouble = Fault::new(format!("{shown}: {}", timeout_reason(&e)));
            }
        }
    }
    Err(trouble)
}
