//! A resolver of our own: `/etc/hosts`, then the DNS by `/etc/resolv.conf` with its search list and
//! `ndots`, as Kubernetes sets them. A static binary cannot count on the C library for this.
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::Outcome;

const A: u16 = 1;
const AAAA: u16 = 28;
const TYPES: &[(&str, u16)] = &[
    ("A", A),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", AAAA),
    ("SRV", 33),
];
/// Jumps of compressed names; a longer chain is a loop.
const MAX_JUMPS: usize = 64;

/// What `/etc/resolv.conf` says.
#[derive(Debug, PartialEq, Eq)]
struct Config {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: usize,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    name: String,
    kind: u16,
    text: String,
    address: Option<IpAddr>,
}

enum Answer {
    Records(Vec<Record>),
    NoName,
}

pub(crate) fn lookup(args: &[String]) -> Outcome {
    let options = crate::Options::parse(args, "t:s:")?;
    let [name] = &options.rest[..] else {
        return Err("usage: lookup [-t TYPE] [-s SERVER] NAME".to_owned());
    };
    let mut config = read_config();
    if let Some(server) = options.value('s') {
        config.servers = vec![server.parse().map_err(|_| format!("{server:?} is no address"))?];
    }
    let Some(kind) = options.value('t') else {
        if let Ok(address) = name.parse::<IpAddr>() {
            return print(&config, &reverse(address), &[12], true);
        }
        if let Some(found) = hosts(name).filter(|_| options.value('s').is_none()) {
            found.iter().for_each(|address| println!("{name}\t{address}"));
            return Ok(0);
        }
        return print(&config, name, &[A, AAAA], false);
    };
    let upper = kind.to_ascii_uppercase();
    let kind = TYPES.iter().find(|(n, _)| *n == upper).map(|(_, k)| *k);
    let kind = kind.ok_or_else(|| format!("unknown type {upper:?}"))?;
    print(&config, name, &[kind], false)
}

fn print(config: &Config, name: &str, kinds: &[u16], absolute: bool) -> Outcome {
    let records = search(config, name, kinds, absolute)?;
    if records.is_empty() {
        return Err(format!("{name}: no records of this type"));
    }
    for record in records {
        let kind = TYPES.iter().find(|(_, k)| *k == record.kind).map_or("?", |(n, _)| n);
        println!("{}\t{kind}\t{}", record.name, record.text);
    }
    Ok(0)
}

/// The addresses of a name or of an address itself.
pub(crate) fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = name.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    if let Some(found) = hosts(name) {
        return Ok(found);
    }
    let records = search(&read_config(), name, &[A, AAAA], false)?;
    let found: Vec<IpAddr> = records.into_iter().filter_map(|r| r.address).collect();
    if found.is_empty() { Err(format!("{name}: no address")) } else { Ok(found) }
}

/// Connects to a host by its name.
pub(crate) fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let mut error = String::new();
    for address in addresses(host)? {
        let to = SocketAddr::new(address, port);
        match TcpStream::connect_timeout(&to, timeout) {
            Ok(stream) => return Ok(stream),
            Err(e) => error = format!("dial {to}: {}", sys::reason(&e)),
        }
    }
    Err(error)
}

fn read_config() -> Config {
    parse_config(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn parse_config(text: &str) -> Config {
    let mut config = Config {
        servers: Vec::new(),
        search: Vec::new(),
        ndots: 1,
        timeout: Duration::from_secs(5),
        attempts: 2,
    };
    for line in text.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or("").split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                config.servers.extend(words.filter_map(|w| w.parse::<IpAddr>().ok()))
            }
            Some("search" | "domain") => {
                config.search = words.map(|w| w.trim_end_matches('.').to_owned()).collect();
            }
            Some("options") => {
                for word in words {
                    let (name, value) = word.split_once(':').unwrap_or((word, ""));
                    let value = value.parse::<u16>().ok();
                    match (name, value) {
                        ("ndots", Some(n)) => config.ndots = usize::from(n.min(15)),
                        ("timeout", Some(n)) => {
                            config.timeout = Duration::from_secs(u64::from(n.clamp(1, 30)));
                        }
                        ("attempts", Some(n)) => config.attempts = usize::from(n.clamp(1, 5)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if config.servers.is_empty() {
        config.servers.push(Ipv4Addr::LOCALHOST.into());
    }
    config
}

fn hosts(name: &str) -> Option<Vec<IpAddr>> {
    let text = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|w| w.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect();
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    (!found.is_empty()).then_some(found)
}

/// The names to try, in order.
fn candidates(config: &Config, name: &str, absolute: bool) -> Vec<String> {
    if absolute || name.ends_with('.') {
        return vec![name.trim_end_matches('.').to_owned()];
    }
    let mut all: Vec<String> = config.search.iter().map(|s| format!("{name}.{s}")).collect();
    let dots = name.matches('.').count();
    let at = if dots >= config.ndots { 0 } else { all.len() };
    all.insert(at, name.to_owned());
    all
}

fn search(
    config: &Config,
    name: &str,
    kinds: &[u16],
    absolute: bool,
) -> Result<Vec<Record>, String> {
    let mut exists = false;
    for candidate in candidates(config, name, absolute) {
        let mut found = Vec::new();
        for kind in kinds {
            match ask(config, &candidate, *kind)? {
                Answer::Records(records) => {
                    exists = true;
                    found.extend(records);
                }
                Answer::NoName => break,
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    if exists { Ok(Vec::new()) } else { Err(format!("{name}: no such host")) }
}

fn ask(config: &Config, name: &str, kind: u16) -> Result<Answer, String> {
    let mut error = String::new();
    for _ in 0..config.attempts {
        for server in &config.servers {
            match exchange(SocketAddr::new(*server, 53), name, kind, config.timeout) {
                Ok(answer) => return Ok(answer),
                Err(e) => error = format!("{name}: server {server}: {e}"),
            }
        }
    }
    Err(error)
}

fn exchange(
    server: SocketAddr,
    name: &str,
    kind: u16,
    timeout: Duration,
) -> Result<Answer, String> {
    let text = |e: io::Error| match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "does not answer".to_owned(),
        _ => sys::reason(&e),
    };
    let mut id = [0; 2];
    fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut id)).map_err(text)?;
    let query = encode(u16::from_be_bytes(id), name, kind)?;
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).map_err(text)?;
    socket.connect(server).map_err(text)?;
    socket.send(&query).map_err(text)?;
    let deadline = Instant::now() + timeout;
    let mut buffer = vec![0; 65_535];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("does not answer".to_owned());
        }
        socket.set_read_timeout(Some(left)).map_err(text)?;
        let n = socket.recv(&mut buffer).map_err(text)?;
        let reply = &buffer[..n];
        // Somebody else's answer, or one to an earlier question.
        if n < 12 || reply[..2] != id {
            continue;
        }
        if reply[2] & 2 == 0 {
            return decode(reply);
        }
        let mut stream = TcpStream::connect_timeout(&server, left).map_err(text)?;
        stream.set_read_timeout(Some(timeout)).map_err(text)?;
        let length = (query.len() as u16).to_be_bytes();
        stream.write_all(&[&length[..], &query].concat()).map_err(text)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).map_err(text)?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).map_err(text)?;
        return decode(&reply);
    }
}

fn encode(id: u16, name: &str, kind: u16) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(name.len() + 18);
    out.extend(id.to_be_bytes());
    // A question that wants recursion, one of them.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(format!("{name:?} is no host name"));
        }
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    if name.len() > 253 {
        return Err(format!("{name:?} is no host name"));
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    Ok(out)
}

/// A cursor over a message from outside.
struct Cursor<'a> {
    all: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.all.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut back = None;
        for _ in 0..MAX_JUMPS {
            let length = self.u8()?;
            match length {
                0 => {
                    self.at = back.unwrap_or(self.at);
                    return Some(if name.is_empty() { ".".to_owned() } else { name });
                }
                1..=63 => {
                    let label = self.all.get(self.at..self.at + usize::from(length))?;
                    self.at += usize::from(length);
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(&String::from_utf8_lossy(label));
                }
                192.. => {
                    let low = self.u8()?;
                    back = back.or(Some(self.at));
                    self.at = usize::from(u16::from_be_bytes([length & 63, low]));
                }
                _ => return None,
            }
        }
        None
    }
}

fn decode(message: &[u8]) -> Result<Answer, String> {
    let broken = || "sent a broken answer".to_owned();
    let code = message.get(3).ok_or_else(broken)? & 15;
    match code {
        0 => {}
        3 => return Ok(Answer::NoName),
        2 => return Err("server failure".to_owned()),
        5 => return Err("refused".to_owned()),
        other => return Err(format!("error {other}")),
    }
    records(message).map(Answer::Records).ok_or_else(broken)
}

fn records(message: &[u8]) -> Option<Vec<Record>> {
    let mut cursor = Cursor { all: message, at: 4 };
    let (questions, answers) = (cursor.u16()?, cursor.u16()?);
    cursor.at = 12;
    for _ in 0..questions {
        cursor.name()?;
        cursor.at += 4;
    }
    let mut all = Vec::new();
    for _ in 0..answers {
        let name = cursor.name()?;
        let kind = cursor.u16()?;
        cursor.at += 6;
        let length = usize::from(cursor.u16()?);
        let end = cursor.at + length;
        let data = message.get(cursor.at..end)?;
        let (text, address) = value(kind, data, &mut cursor)?;
        cursor.at = end;
        all.push(Record { name, kind, text, address });
    }
    Some(all)
}

fn value(kind: u16, data: &[u8], cursor: &mut Cursor<'_>) -> Option<(String, Option<IpAddr>)> {
    let mut text = String::new();
    match kind {
        A => {
            let address = IpAddr::from(<[u8; 4]>::try_from(data).ok()?);
            return Some((address.to_string(), Some(address)));
        }
        AAAA => {
            let address = IpAddr::from(<[u8; 16]>::try_from(data).ok()?);
            return Some((address.to_string(), Some(address)));
        }
        2 | 5 | 12 => text = cursor.name()?,
        6 => {
            let _ = write!(text, "{} {}", cursor.name()?, cursor.name()?);
        }
        15 => {
            let _ = write!(text, "{} {}", cursor.u16()?, cursor.name()?);
        }
        33 => {
            let (priority, weight, port) = (cursor.u16()?, cursor.u16()?, cursor.u16()?);
            let _ = write!(text, "{priority} {weight} {port} {}", cursor.name()?);
        }
        16 => {
            let mut rest = data;
            while let Some((length, after)) = rest.split_first() {
                let part = after.get(..usize::from(*length))?;
                let _ = write!(text, "{:?} ", String::from_utf8_lossy(part));
                rest = &after[part.len()..];
            }
            text.truncate(text.trim_end().len());
        }
        _ => text = data.iter().map(|b| format!("{b:02x}")).collect(),
    }
    Some((text, None))
}

/// The name under which an address is looked up.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|b| [b & 15, b >> 4]);
            let mut text: String = nibbles.map(|n| format!("{n:x}.")).collect();
            text.push_str("ip6.arpa");
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
        nameserver 10.96.0.10 # the cluster's\noptions ndots:5 timeout:1\n";

    #[test]
    fn searches_as_pods_do() {
        let config = parse_config(CONF);
        assert_eq!((config.ndots, config.timeout), (5, Duration::from_secs(1)));
        assert_eq!(config.servers, [IpAddr::from([10, 96, 0, 10])]);
        let names = |n: &str| candidates(&config, n, false);
        assert_eq!(names("hello")[0], "hello.default.svc.cluster.local");
        assert_eq!(names("hello").last().unwrap(), "hello");
        assert_eq!(names("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(names("example.org."), ["example.org"]);
        assert_eq!(parse_config("").servers, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn reads_answers_and_survives_nonsense() {
        let mut reply = encode(7, "web.example", A).unwrap();
        (reply[2], reply[7]) = (0x81, 2);
        // CNAME web.example -> srv.web.example (compressed), then its address.
        reply.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 6, 3, b's', b'r', b'v', 0xc0, 12]);
        reply.extend([0xc0, 41, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 9]);
        let records = records(&reply).expect("a good answer");
        assert_eq!(records[0].text, "srv.web.example");
        assert_eq!(records[1].name, "srv.web.example");
        assert_eq!(records[1].address, Some(IpAddr::from([10, 0, 0, 9])));
        for cut in 0..reply.len() {
            let _ = decode(&reply[..cut]);
        }
        let mut looped = reply.clone();
        looped[30] = 29;
        (looped[29], looped[30]) = (0xc0, 29);
        assert!(super::records(&looped).is_none());
        assert!(encode(1, "a..b", A).is_err() && encode(1, &"x".repeat(64), A).is_err());
    }

    #[test]
    fn addresses_backwards() {
        assert_eq!(reverse("10.1.2.3".parse().unwrap()), "3.2.1.10.in-addr.arpa");
        assert!(reverse("::1".parse().unwrap()).starts_with("1.0.0.0."));
    }
}
