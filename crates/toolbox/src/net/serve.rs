//! `serve`: an HTTP/1.1 server that answers with what it knows of itself and of the request.
//!
//! One thread per connection, boundedly many; idle connections are closed after a minute. SIGTERM
//! stops accepting, closes idle connections and lets running answers end.
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use super::wire::{self, Head};
use crate::common::{Done, Fault, Options, number, reason, usage};

const CONNECTIONS_MAX: usize = 256;
const BODY_MAX: u64 = 1 << 20;
const IDLE: Duration = Duration::from_secs(60);
/// How long running answers may take after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// `serve [--port 8080]`.
pub(crate) fn main(args: &[String]) -> Done {
    let options = Options::parse(args, "p:", &[("port", 'p')])?;
    if !options.rest.is_empty() {
        return Err(usage("usage: serve [--port PORT]"));
    }
    let port = options.number::<u16>('p')?.unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port))
        .map_err(|e| Fault::new(format!("cannot listen on port {port}: {}", reason(&e))))?;
    // Before the first thread, so that all threads leave these signals to the descriptor.
    let signals = end_signals()?;
    println!("serving HTTP on port {port} as {}", hostname());
    Server::default().run(&listener, &signals)?;
    println!("ended");
    Ok(0)
}

/// Blocks the signals that ask for an end; the descriptor tells of them.
pub(crate) fn end_signals() -> Result<SignalFd, Fault> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    Ok(SignalFd::new(&set)?)
}

/// Waits until `fd` is readable; false when an end was asked for first.
pub(crate) fn readable(fd: impl AsFd, signals: impl AsFd) -> io::Result<bool> {
    loop {
        let mut fds = [
            PollFd::new(fd.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if fds[1].any() == Some(true) => return Ok(false),
            Ok(_) if fds[0].any() == Some(true) => return Ok(true),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The open connections.
#[derive(Default)]
pub(super) struct Server {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    ending: bool,
    open: HashMap<u64, Connection>,
}

struct Connection {
    stream: TcpStream,
    busy: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Serves until `signals` is readable and the last answer has ended.
    pub(super) fn run(&self, listener: &TcpListener, signals: impl AsFd) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        while readable(listener, &signals)? {
            // When the peer left already the listener stays usable.
            if let Ok((stream, peer)) = listener.accept() {
                self.admit(stream, peer);
            }
        }
        self.finish();
        Ok(())
    }

    fn admit(&self, mut stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(Some(IDLE));
        let _ = stream.set_write_timeout(Some(IDLE));
        let _ = stream.set_nodelay(true);
        let mut state = self.shared.lock();
        if state.open.len() >= CONNECTIONS_MAX {
            drop(state);
            let _ = stream.write_all(&response(503, b"too many connections\n", false, false));
            return;
        }
        let Ok(copy) = stream.try_clone() else { return };
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Connection { stream: copy, busy: false });
        drop(state);
        let shared = Arc::clone(&self.shared);
        let talk = move || {
            let _ = talk(&shared, id, &stream, peer);
            shared.lock().open.remove(&id);
            shared.changed.notify_all();
        };
        let spawned = std::thread::Builder::new().stack_size(256 << 10).spawn(talk);
        if spawned.is_err() {
            self.shared.lock().open.remove(&id);
        }
    }

    fn finish(&self) {
        let mut state = self.shared.lock();
        state.ending = true;
        for connection in state.open.values().filter(|c| !c.busy) {
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
        let wait = |state: &mut State| !state.open.is_empty();
        let _ = self.shared.changed.wait_timeout_while(state, GRACE, wait);
    }
}

/// One connection: request after request.
fn talk(shared: &Shared, id: u64, stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let head = match Head::read(&mut reader) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                let text = format!("bad request: {e}\n");
                return writer.write_all(&response(400, text.as_bytes(), false, false));
            }
            Err(e) => return Err(e),
        };
        set_busy(shared, id, true);
        if head.has_token("Expect", "100-continue") {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Vec::new();
        let length = match head.length() {
            Ok(wire::Length::Unsaid) => Ok(wire::Length::Known(0)),
            other => other,
        };
        let read = length.and_then(|l| wire::copy_body(&mut reader, &l, &mut body, BODY_MAX));
        if let Err(e) = read {
            let status = if e.kind() == io::ErrorKind::InvalidData { 413 } else { 400 };
            let text = format!("bad body: {e}\n");
            return writer.write_all(&response(status, text.as_bytes(), false, false));
        }
        let request = Request { head: &head, body: &body, peer, local: stream.local_addr()? };
        let (status, text) = request.answer();
        let keep = request.keep_alive() && !shared.lock().ending;
        let headless = head.start.starts_with("HEAD ");
        writer.write_all(&response(status, text.as_bytes(), keep, headless))?;
        if !keep || !set_busy(shared, id, false) {
            return Ok(());
        }
    }
}

/// Marks a connection; false when the server is ending and idle connections have no future.
fn set_busy(shared: &Shared, id: u64, busy: bool) -> bool {
    let mut state = shared.lock();
    if let Some(connection) = state.open.get_mut(&id) {
        connection.busy = busy;
    }
    !state.ending
}

fn response(status: u16, body: &[u8], keep: bool, headless: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", wire::phrase(status));
    let _ = write!(head, "Content-Type: text/plain; charset=utf-8\r\n");
    if !matches!(status, 204 | 304) {
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    let _ = write!(head, "Connection: {}\r\n\r\n", if keep { "keep-alive" } else { "close" });
    let mut bytes = head.into_bytes();
    if !headless && !matches!(status, 204 | 304) {
        bytes.extend_from_slice(body);
    }
    bytes
}

struct Request<'a> {
    head: &'a Head,
    body: &'a [u8],
    peer: SocketAddr,
    local: SocketAddr,
}

impl Request<'_> {
    fn keep_alive(&self) -> bool {
        if self.head.start.ends_with("HTTP/1.0") {
            return self.head.has_token("Connection", "keep-alive");
        }
        !self.head.has_token("Connection", "close")
    }

    fn answer(&self) -> (u16, String) {
        let mut words = self.head.start.split(' ');
        let (Some(method), Some(target), Some(version)) =
            (words.next(), words.next(), words.next())
        else {
            return (400, "bad request: no method, path and version\n".to_owned());
        };
        let path = target.split('?').next().unwrap_or_default();
        if matches!(path, "/healthz" | "/livez" | "/readyz") {
            return (200, "ok\n".to_owned());
        }
        if path == "/hostname" {
            return (200, format!("{}\n", hostname()));
        }
        if let Some(status) = path.strip_prefix("/status/") {
            return match status.parse::<u16>() {
                Ok(status @ 200..=599) => (status, format!("{status} {}\n", wire::phrase(status))),
                _ => (400, "a status is a number from 200 to 599\n".to_owned()),
            };
        }
        if let Some(text) = path.strip_prefix("/delay/") {
            let Ok(ms) = number::<u64>(text) else {
                return (400, "a delay is a number of milliseconds\n".to_owned());
            };
            std::thread::sleep(Duration::from_millis(ms.min(60_000)));
        }
        (200, self.describe(method, target, version))
    }

    fn describe(&self, method: &str, target: &str, version: &str) -> String {
        let mut text = format!("Hostname: {}\n", hostname());
        if let Some(namespace) = namespace() {
            let _ = writeln!(text, "Namespace: {namespace}");
        }
        let _ = writeln!(text, "Server: {}\nClient: {}", self.local, self.peer);
        let _ = writeln!(text, "Method: {method}\nPath: {target}\nProtocol: {version}");
        for (name, value) in &self.head.headers {
            let _ = writeln!(text, "Header: {name}: {value}");
        }
        if !self.body.is_empty() {
            let body = String::from_utf8_lossy(self.body);
            let _ = writeln!(text, "Body: {} bytes\n\n{body}", self.body.len());
        }
        text
    }
}

/// The host's name: in a pod the pod's.
pub(crate) fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The pod's namespace: as the environment says, or beside the service account's token.
fn namespace() -> Option<String> {
    let file = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    let set = ["POD_NAMESPACE", "NAMESPACE"].iter().find_map(|name| std::env::var(name).ok());
    let found = set.or_else(|| std::fs::read_to_string(file).ok())?;
    let found = found.trim();
    (!found.is_empty()).then(|| found.to_owned())
}
