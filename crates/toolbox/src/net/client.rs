//! `get` and `wget`: an HTTP client that prints or stores what it gets.
use std::fs::File;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::resolver;
use super::wire::{self, Head, Length};
use crate::common::{Done, Fault, Options, duration, out, usage};

const REDIRECTS_MAX: usize = 5;

/// `get [-T SECONDS] [-H HEADER] [-X METHOD] [-d DATA] URL`: prints the body; exit 1 unless the
/// answer is 2xx.
pub(crate) fn get(args: &[String]) -> Done {
    let long =
        [("timeout", 'T'), ("header", 'H'), ("method", 'X'), ("data", 'd'), ("include", 'i')];
    let options = Options::parse(args, "T:H:X:d:i", &long)?;
    let [url] = options.rest.as_slice() else {
        return Err(usage("usage: get [-i] [-T SECONDS] [-H HEADER] [-X METHOD] [-d DATA] URL"));
    };
    let data = options.value('d').map(str::to_owned);
    let method = options.value('X').unwrap_or(if data.is_some() { "POST" } else { "GET" });
    let request = Request {
        method: method.to_owned(),
        headers: options.values('H').map(str::to_owned).collect(),
        data,
        timeout: timeout(&options)?,
    };
    let mut answer = request.follow(url)?;
    let mut out = out()?;
    if options.has('i') {
        writeln!(out, "{}", answer.head.start)?;
        for (name, value) in &answer.head.headers {
            writeln!(out, "{name}: {value}")?;
        }
        writeln!(out)?;
    }
    answer.body_to(&mut out)?;
    if answer.ok() {
        return Ok(0);
    }
    Err(Fault::new(format!("{url}: the server answered {}", answer.status_text())))
}

fn timeout(options: &Options) -> Result<Duration, Fault> {
    let given = options.value('T').map(duration).transpose()?.flatten();
    Ok(given.filter(|d| !d.is_zero()).unwrap_or(Duration::from_secs(30)))
}

/// `wget [-q] [-O FILE] [-T SECONDS] [-S] [--spider] [--header H] [--post-data D] URL`.
pub(crate) fn wget(args: &[String]) -> Done {
    let long = [
        ("quiet", 'q'),
        ("output-document", 'O'),
        ("timeout", 'T'),
        ("header", 'H'),
        ("post-data", 'd'),
        ("spider", 's'),
        ("server-response", 'S'),
        ("tries", 't'),
        ("user-agent", 'U'),
        ("no-check-certificate", 'n'),
    ];
    let options = Options::parse(args, "qO:T:H:d:sSt:U:n", &long)?;
    let [url] = options.rest.as_slice() else {
        return Err(usage("usage: wget [-qS] [-O FILE] [-T SECONDS] [--header HEADER] URL"));
    };
    let quiet = options.has('q');
    let spider = options.has('s');
    let data = options.value('d').map(str::to_owned);
    let method = match (&data, spider) {
        (Some(_), _) => "POST",
        (None, true) => "HEAD",
        (None, false) => "GET",
    };
    let mut headers: Vec<String> = options.values('H').map(str::to_owned).collect();
    headers.extend(options.value('U').map(|agent| format!("User-Agent: {agent}")));
    let timeout = timeout(&options)?;
    let mut answer = Request { method: method.into(), headers, data, timeout }.follow(url)?;
    if options.has('S') {
        eprintln!("  {}", answer.head.start);
        answer.head.headers.iter().for_each(|(name, value)| eprintln!("  {name}: {value}"));
    }
    if !answer.ok() {
        return Err(Fault::new(format!("server returned error: {}", answer.head.start)));
    }
    if spider {
        return Ok(0);
    }
    let tail = answer.url.path.split('?').next().unwrap_or_default().rsplit('/').next();
    let default = tail.filter(|name| !name.is_empty()).unwrap_or("index.html").to_owned();
    match options.value('O').unwrap_or(&default) {
        "-" => answer.body_to(&mut out()?)?,
        path => {
            let file = File::create(path).map_err(crate::common::about(path))?;
            answer.body_to(&mut std::io::BufWriter::new(file))?;
            if !quiet {
                eprintln!("'{path}' saved");
            }
        }
    }
    Ok(0)
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Url, Fault> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(Fault::new("https is not spoken here; use http")),
            Some((scheme, _)) => return Err(Fault::new(format!("unknown scheme '{scheme}'"))),
            None => text,
        };
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let bad = || Fault::new(format!("bad URL '{text}'"));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| bad())?)
            }
            _ => (authority, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // Nothing that could end the request line or a header may get into one.
        if host.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(bad());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url { host: host.to_owned(), port, path: path.split('#').next().unwrap_or("/").into() })
    }

    fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }

    /// Where a redirection from here leads.
    fn join(&self, location: &str) -> Result<Url, Fault> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(Url { path: location.to_owned(), ..self.clone() });
        }
        Url::parse(location)
    }
}

pub(super) struct Request {
    pub(super) method: String,
    pub(super) headers: Vec<String>,
    pub(super) data: Option<String>,
    pub(super) timeout: Duration,
}

impl Request {
    /// Sends it, and again where the answers redirect to.
    pub(super) fn follow(&self, url: &str) -> Result<Response, Fault> {
        let mut url = Url::parse(url)?;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(url.clone())?;
            let location = response.head.header("Location");
            match (response.status, location) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => url = url.join(location)?,
                _ => return Ok(response),
            }
        }
        Err(Fault::new(format!("more than {REDIRECTS_MAX} redirections")))
    }

    fn send(&self, url: Url) -> Result<Response, Fault> {
        let mut stream = resolver::connect(&url.host, url.port, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, url.path);
        let given = |name: &str| {
            let same = |h: &String| {
                h.split(':').next().is_some_and(|n| n.trim().eq_ignore_ascii_case(name))
            };
            self.headers.iter().any(same)
        };
        if !given("Host") {
            text += &format!("Host: {}\r\n", url.authority());
        }
        if !given("User-Agent") {
            text += "User-Agent: toolbox\r\n";
        }
        if !given("Accept") {
            text += "Accept: */*\r\n";
        }
        for header in &self.headers {
            if header.chars().any(char::is_control) || !header.contains(':') {
                return Err(usage(format!("bad header '{}'", header.escape_debug())));
            }
            text += &format!("{header}\r\n");
        }
        if let Some(data) = &self.data {
            if !given("Content-Type") {
                text += "Content-Type: application/x-www-form-urlencoded\r\n";
            }
            text += &format!("Content-Length: {}\r\n", data.len());
        }
        text += "Connection: close\r\n\r\n";
        text += self.data.as_deref().unwrap_or_default();
        let shown = url.authority();
        let fault =
            |e: std::io::Error| Fault::new(format!("{shown}: {}", resolver::timeout_reason(&e)));
        stream.write_all(text.as_bytes()).map_err(fault)?;
        let mut reader = BufReader::new(stream);
        loop {
            let head = Head::read(&mut reader).map_err(fault)?;
            let head =
                head.ok_or_else(|| Fault::new(format!("{shown}: closed without an answer")))?;
            let status = head.start.split(' ').nth(1).and_then(|word| word.parse().ok());
            let status: u16 =
                status.ok_or_else(|| Fault::new(format!("{shown}: this is not HTTP")))?;
            if !(100..200).contains(&status) {
                let headless = self.method == "HEAD" || matches!(status, 204 | 304);
                return Ok(Response { url, status, head, reader, headless });
            }
        }
    }
}

/// An answer whose body is still to be read.
pub(super) struct Response {
    url: Url,
    pub(super) status: u16,
    head: Head,
    reader: BufReader<TcpStream>,
    headless: bool,
}

impl Response {
    fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn status_text(&self) -> &str {
        self.head.start.split_once(' ').map_or("", |(_, text)| text)
    }

    pub(super) fn body_to(&mut self, to: &mut impl Write) -> Result<(), Fault> {
        let length = if self.headless { Length::Known(0) } else { self.head.length()? };
        let copied = wire::copy_body(&mut self.reader, &length, to, u64::MAX);
        to.flush()?;
        let fault = |e| Fault::new(format!("{}: {}", self.url.host, resolver::timeout_reason(&e)));
        copied.map_err(fault)
    }
}
