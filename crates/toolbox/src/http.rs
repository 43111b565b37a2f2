//! HTTP/1.1, both sides of it: a server that tells about requests, a client that fetches.
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Outcome, at, echo, resolve};

/// Longest head of a message, and longest request body that is kept.
const MAX_HEAD: u64 = 64 << 10;
const MAX_BODY: u64 = 16 << 20;
const MAX_REDIRECTS: usize = 10;
const IDLE: Duration = Duration::from_secs(300);

pub(crate) fn serve(args: &[String]) -> Outcome {
    let port = echo::port(args, 8080)?;
    let listener = echo::listen(port)?;
    let host = nix::unistd::gethostname().map_err(at("cannot tell the host name"))?;
    let host = host.to_string_lossy().into_owned();
    println!("serving HTTP on port {port}");
    echo::each_connection(&listener, move |stream| connection(stream, &host))
}

/// The first line and the header fields of a message.
struct Head {
    line: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// `None` at the end of the connection.
    fn read(input: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut input = input.take(MAX_HEAD);
        let mut next = || -> io::Result<Option<String>> {
            let mut line = Vec::new();
            if input.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
            }
            Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
        };
        let Some(line) = next()? else { return Ok(None) };
        let mut fields = Vec::new();
        loop {
            match next()?.as_deref() {
                None | Some("") => return Ok(Some(Head { line, fields })),
                Some(field) => {
                    if let Some((name, value)) = field.split_once(':') {
                        fields.push((name.trim().to_owned(), value.trim().to_owned()));
                    }
                }
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.get("content-length")?.parse().ok()
    }
}

fn connection(stream: TcpStream, host: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let remote = stream.peer_addr()?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    while let Some(head) = Head::read(&mut input)? {
        let mut words = head.line.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or("/"));
        let old = words.next() == Some("HTTP/1.0");
        let closing = head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        if head.get("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue")) {
            out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Vec::new();
        if head.is_chunked() {
            read_chunks(&mut input, &mut body)?;
        } else {
            let length = head.length().unwrap_or(0);
            if length > MAX_BODY {
                return respond(&mut out, "413 Content Too Large", b"", true, false);
            }
            (&mut input).take(length).read_to_end(&mut body)?;
        }
        let (status, answer) = answer(method, path, &head, &body, host, &remote.to_string());
        let close = closing || old;
        respond(&mut out, status, &answer, close, method == "HEAD")?;
        if close {
            break;
        }
    }
    Ok(())
}

fn answer(
    method: &str,
    path: &str,
    head: &Head,
    body: &[u8],
    host: &str,
    remote: &str,
) -> (&'static str, Vec<u8>) {
    let (place, query) = path.split_once('?').unwrap_or((path, ""));
    match place {
        "/healthz" | "/readyz" => ("200 OK", b"ok\n".to_vec()),
        "/hostname" => ("200 OK", format!("{host}\n").into_bytes()),
        "/clientip" => ("200 OK", format!("{remote}\n").into_bytes()),
        "/echo" => ("200 OK", body.to_vec()),
        "/status" => match query {
            "404" => ("404 Not Found", Vec::new()),
            "500" => ("500 Internal Server Error", Vec::new()),
            "503" => ("503 Service Unavailable", Vec::new()),
            _ => ("200 OK", Vec::new()),
        },
        _ => {
            let mut text = String::new();
            let _ = writeln!(text, "hostname: {host}\nmethod: {method}\npath: {path}");
            let _ = writeln!(text, "remote: {remote}");
            for (name, value) in &head.fields {
                let _ = writeln!(text, "header {name}: {value}");
            }
            if !body.is_empty() {
                let _ = writeln!(text, "body: {}", String::from_utf8_lossy(body));
            }
            ("200 OK", text.into_bytes())
        }
    }
}

fn respond(
    out: &mut TcpStream,
    status: &str,
    body: &[u8],
    close: bool,
    head_only: bool,
) -> io::Result<()> {
    let connection = if close { "close" } else { "keep-alive" };
    let mut message = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if !head_only {
        message.extend_from_slice(body);
    }
    out.write_all(&message)
}

fn read_chunks(input: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "a broken chunk");
    loop {
        let mut line = String::new();
        input.take(1024).read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or("");
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid())?;
        if size == 0 {
            // Trailers, up to the empty line.
            while {
                line.clear();
                input.take(MAX_HEAD).read_line(&mut line)? > 0 && !line.trim().is_empty()
            } {}
            return Ok(());
        }
        if io::copy(&mut input.take(size), out)? != size {
            return Err(invalid());
        }
        let mut end = [0; 2];
        input.read_exact(&mut end)?;
    }
}

/// What to fetch and how.
struct Fetch {
    url: String,
    timeout: Duration,
    fields: Vec<String>,
    show_head: bool,
    body: Option<String>,
}

pub(crate) fn get(args: &[String]) -> Outcome {
    let options = crate::Options::parse(args, "T:H:id:O:q")?;
    let [url] = &options.rest[..] else {
        return Err("usage: get [-i] [-T SECONDS] [-H FIELD] [-d BODY] [-O FILE] URL".to_owned());
    };
    let fields = options.set.iter().filter(|(l, _)| *l == 'H').map(|(_, v)| v.clone()).collect();
    let seconds = options.value('T').unwrap_or("30");
    let seconds = seconds.parse::<f64>().ok().filter(|s| (0.001..=1e6).contains(s));
    let fetch = Fetch {
        url: url.clone(),
        timeout: Duration::from_secs_f64(seconds.ok_or("-T needs a number of seconds")?),
        fields,
        show_head: options.has('i'),
        body: options.value('d').map(str::to_owned),
    };
    match options.value('O') {
        None | Some("-") => fetch_to(fetch, &mut io::stdout().lock()),
        Some(path) => fetch_to(fetch, &mut File::create(path).map_err(at(path))?),
    }
}

/// As people call it out of habit: `wget -qO- URL`; without `-O` into a file of the URL's name.
pub(crate) fn wget(args: &[String]) -> Outcome {
    let mut all = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--spider" => all.extend(["-O".to_owned(), "/dev/null".to_owned()]),
            "--timeout" | "-t" | "--tries" => drop(args.next()),
            other => match other.strip_prefix("--timeout=") {
                Some(seconds) => all.extend(["-T".to_owned(), seconds.to_owned()]),
                None => all.push(arg.clone()),
            },
        }
    }
    let options = crate::Options::parse(&all, "T:H:id:O:q")?;
    if options.value('O').is_none() {
        let url = options.rest.first().ok_or("missing URL")?;
        let name = url.rsplit('/').next().unwrap_or_default();
        let name =
            if name.is_empty() || url.matches('/').count() < 3 { "index.html" } else { name };
        all.extend(["-O".to_owned(), name.to_owned()]);
    }
    get(&all)
}

fn fetch_to(mut fetch: Fetch, out: &mut impl Write) -> Outcome {
    for _ in 0..=MAX_REDIRECTS {
        let (head, mut input) = request(&fetch)?;
        let status = head.line.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok());
        let status = status.ok_or_else(|| format!("{}: no HTTP answer", fetch.url))?;
        if let (301..=303 | 307 | 308, Some(to)) = (status, head.get("location")) {
            fetch.url = match to.strip_prefix('/') {
                Some(path) => format!("http://{}/{path}", split(&fetch.url)?.0),
                None => to.to_owned(),
            };
            continue;
        }
        if fetch.show_head {
            writeln!(out, "{}", head.line).map_err(at("output"))?;
            for (name, value) in &head.fields {
                writeln!(out, "{name}: {value}").map_err(at("output"))?;
            }
            writeln!(out).map_err(at("output"))?;
        }
        let copied = match (head.is_chunked(), head.length()) {
            (true, _) => read_chunks(&mut input, out),
            (false, Some(length)) => match io::copy(&mut (&mut input).take(length), out) {
                Ok(n) if n < length => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other.map(drop),
            },
            (false, None) => io::copy(&mut input, out).map(drop),
        };
        copied.map_err(at(&fetch.url))?;
        out.flush().map_err(at("output"))?;
        if status >= 400 {
            return Err(format!("{}: {}", fetch.url, head.line));
        }
        return Ok(0);
    }
    Err(format!("{}: too many redirects", fetch.url))
}

/// Host with port, and path.
fn split(url: &str) -> Result<(String, String), String> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(format!("{url}: {scheme} is not supported, only http")),
        None => url,
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() {
        return Err(format!("{url}: no host"));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((authority.to_owned(), format!("{slash}{path}")))
}

fn host_and_port(authority: &str) -> Result<(&str, u16), String> {
    let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    let Some(at) = port_at else { return Ok((authority, 80)) };
    let port = authority[at + 1..].parse();
    Ok((&authority[..at], port.map_err(|_| format!("{authority:?}: no port"))?))
}

fn request(fetch: &Fetch) -> Result<(Head, BufReader<TcpStream>), String> {
    let (authority, path) = split(&fetch.url)?;
    let (host, port) = host_and_port(&authority)?;
    let mut stream = resolve::connect(host, port, fetch.timeout)?;
    let url = &fetch.url;
    stream.set_read_timeout(Some(fetch.timeout)).map_err(at(url))?;
    stream.set_write_timeout(Some(fetch.timeout)).map_err(at(url))?;
    let method = if fetch.body.is_some() { "POST" } else { "GET" };
    let mut message = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n");
    message.push_str("User-Agent: kybern-toolbox\r\nAccept: */*\r\nConnection: close\r\n");
    for field in &fetch.fields {
        if field.contains(['\r', '\n']) || !field.contains(':') {
            return Err(format!("{field:?} is no header field"));
        }
        let _ = write!(message, "{field}\r\n");
    }
    if let Some(body) = &fetch.body {
        let _ = write!(message, "Content-Length: {}\r\n", body.len());
    }
    message.push_str("\r\n");
    message.push_str(fetch.body.as_deref().unwrap_or(""));
    stream.write_all(message.as_bytes()).map_err(at(url))?;
    let mut input = BufReader::new(stream);
    let head = Head::read(&mut input).map_err(at(url))?;
    Ok((head.ok_or_else(|| format!("{url}: the connection was closed"))?, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            echo::each_connection(&listener, |stream| connection(stream, "me"))
        });
        port
    }

    fn fetched(url: String, body: Option<&str>) -> (Outcome, String) {
        let mut out = Vec::new();
        let fetch = Fetch {
            url,
            timeout: Duration::from_secs(10),
            fields: vec!["X-One: 1".to_owned()],
            show_head: false,
            body: body.map(str::to_owned),
        };
        let outcome = fetch_to(fetch, &mut out);
        (outcome, String::from_utf8(out).unwrap())
    }

    #[test]
    fn client_and_server_understand_each_other() {
        let port = start();
        let (outcome, text) = fetched(format!("http://127.0.0.1:{port}/a?b=c"), None);
        assert_eq!(outcome, Ok(0));
        assert!(text.contains("hostname: me\n") && text.contains("path: /a?b=c\n"), "{text}");
        assert!(text.contains("header X-One: 1\n") && text.contains("remote: 127.0.0.1:"));
        let (_, text) = fetched(format!("localhost:{port}/echo"), Some("hello"));
        assert_eq!(text, "hello");
        let (outcome, _) = fetched(format!("http://127.0.0.1:{port}/status?503"), None);
        assert!(outcome.is_err_and(|e| e.contains("503")));
        assert!(fetched("https://127.0.0.1/".to_owned(), None).0.is_err());
    }

    #[test]
    fn a_connection_serves_many_requests() {
        let mut stream = TcpStream::connect(("127.0.0.1", start())).unwrap();
        let mut input = BufReader::new(stream.try_clone().unwrap());
        for _ in 0..3 {
            let chunked =
                "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
            stream.write_all(chunked.as_bytes()).unwrap();
            let head = Head::read(&mut input).unwrap().unwrap();
            assert_eq!((head.line.as_str(), head.length()), ("HTTP/1.1 200 OK", Some(3)));
            let mut body = [0; 3];
            input.read_exact(&mut body).unwrap();
            assert_eq!(&body, b"abc");
        }
    }

    #[test]
    fn urls_come_apart() {
        assert_eq!(split("http://a:1/x?y#z"), Ok(("a:1".into(), "/x?y".into())));
        assert_eq!(split("a?q"), Ok(("a".into(), "/?q".into())));
        assert_eq!(host_and_port("[::1]:81"), Ok(("[::1]", 81)));
        assert_eq!(host_and_port("[::1]"), Ok(("[::1]", 80)));
        assert!(host_and_port("a:x").is_err() && split("http:///x").is_err());
    }
}
