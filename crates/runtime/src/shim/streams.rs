//! The standard streams of a container: into its log, to and from attached clients.
//!
//! Output is read only as fast as every attached client takes it, so a client loses nothing; one
//! that takes nothing for [`STALL_SECONDS`] is cut off, so that it cannot hold a container up for
//! good. Nothing here ever blocks.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::log::{Log, Stream};

const CHUNK: usize = 16 * 1024;
/// Reads in one go before other descriptors have their turn.
const READS: usize = 8;
const STALL_SECONDS: u64 = 30;

/// Attached clients per container.
pub(super) const MAX_CLIENTS: usize = 32;

#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) stdin: Option<OwnedFd>,
    /// Both ways, instead of the three above.
    pub(super) terminal: Option<OwnedFd>,
    pub(super) log: Option<Log>,
    pub(super) clients: Vec<Client>,
    pub(super) stdin_once: bool,
    /// From a client, on its way to the container.
    pub(super) pending_stdin: Vec<u8>,
}

pub(super) struct Client {
    pub(super) id: u64,
    stdout: Option<Outlet>,
    stderr: Option<Outlet>,
    stdin: Option<OwnedFd>,
}

/// A client's pipe and what it has not taken yet.
struct Outlet {
    fd: OwnedFd,
    pending: Vec<u8>,
    progress: Instant,
}

/// What in [`Streams`] a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Stdout,
    Stderr,
    Stdin,
    ClientStdout(u64),
    ClientStderr(u64),
    ClientStdin(u64),
}

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Read,
    Write,
    /// Only that the other end goes away.
    Hangup,
}

/// Makes reads and writes return instead of waiting.
pub(super) fn nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

impl Streams {
    /// Adds a client with the pipe ends it asked for.
    pub(super) fn attach(
        &mut self,
        id: u64,
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> io::Result<()> {
        for fd in [&stdin, &stdout, &stderr].into_iter().flatten() {
            nonblocking(fd)?;
        }
        let outlet = |fd| Outlet { fd, pending: Vec::new(), progress: Instant::now() };
        let (stdout, stderr) = (stdout.map(outlet), stderr.map(outlet));
        self.clients.push(Client { id, stdout, stderr, stdin });
        Ok(())
    }

    /// Every descriptor to wait for.
    pub(super) fn interests<'a>(&'a self, mut add: impl FnMut(Part, BorrowedFd<'a>, Interest)) {
        let outlets = || self.clients.iter().flat_map(|c| [&c.stdout, &c.stderr]).flatten();
        let held_up = outlets().any(|o| !o.pending.is_empty());
        if !held_up {
            let out = self.terminal.as_ref().or(self.stdout.as_ref());
            out.into_iter().for_each(|fd| add(Part::Stdout, fd.as_fd(), Interest::Read));
            let err = self.stderr.iter();
            err.for_each(|fd| add(Part::Stderr, fd.as_fd(), Interest::Read));
        }
        let input = self.terminal.as_ref().or(self.stdin.as_ref());
        if let (Some(fd), false) = (input, self.pending_stdin.is_empty()) {
            add(Part::Stdin, fd.as_fd(), Interest::Write);
        }
        for client in &self.clients {
            let outlets = [
                (Part::ClientStdout(client.id), &client.stdout),
                (Part::ClientStderr(client.id), &client.stderr),
            ];
            for (part, outlet) in outlets {
                if let Some(outlet) = outlet {
                    let idle = outlet.pending.is_empty();
                    let interest = if idle { Interest::Hangup } else { Interest::Write };
                    add(part, outlet.fd.as_fd(), interest);
                }
            }
            if let (Some(fd), true) = (&client.stdin, self.pending_stdin.is_empty()) {
                add(Part::ClientStdin(client.id), fd.as_fd(), Interest::Read);
            }
        }
    }

    /// When the slowest client will have been given up; `None`: nobody is waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let outlets = self.clients.iter().flat_map(|c| [&c.stdout, &c.stderr]).flatten();
        let waiting = outlets.filter(|o| !o.pending.is_empty());
        waiting.map(|o| o.progress + Duration::from_secs(STALL_SECONDS)).min()
    }

    /// Cuts off clients that take nothing.
    pub(super) fn expire(&mut self, now: Instant) {
        let stalled = |o: &Option<Outlet>| {
            o.as_ref().is_some_and(|o| {
                !o.pending.is_empty() && now >= o.progress + Duration::from_secs(STALL_SECONDS)
            })
        };
        self.clients.retain(|c| !stalled(&c.stdout) && !stalled(&c.stderr));
    }

    pub(super) fn ready(&mut self, part: Part) {
        match part {
            Part::Stdout => self.read(Stream::Stdout, READS),
            Part::Stderr => self.read(Stream::Stderr, READS),
            Part::Stdin => self.flush_stdin(),
            Part::ClientStdout(id) => self.flush_client(id, Stream::Stdout),
            Part::ClientStderr(id) => self.flush_client(id, Stream::Stderr),
            Part::ClientStdin(id) => self.read_client(id),
        }
    }

    /// The container ended: takes what is left of its output and lets go of its streams. Clients
    /// go once they have taken all.
    pub(super) fn finish(&mut self) {
        // A pipe holds at most 1 MiB; something that goes on writing into it is not waited for.
        self.read(Stream::Stdout, 64);
        self.read(Stream::Stderr, 64);
        self.stdout = None;
        self.stderr = None;
        self.stdin = None;
        self.terminal = None;
        self.pending_stdin = Vec::new();
        if let Some(log) = &mut self.log {
            log.finish(Stream::Stdout);
            log.finish(Stream::Stderr);
        }
        self.log = None;
        for client in &mut self.clients {
            client.stdin = None;
        }
        self.drop_drained();
    }

    fn ended(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.terminal.is_none()
    }

    fn drop_drained(&mut self) {
        if self.ended() {
            let busy = |o: &Option<Outlet>| o.as_ref().is_some_and(|o| !o.pending.is_empty());
            self.clients.retain(|c| busy(&c.stdout) || busy(&c.stderr));
        }
    }

    fn read(&mut self, stream: Stream, times: usize) {
        let mut buffer = [0_u8; CHUNK];
        for _ in 0..times {
            let source = match stream {
                Stream::Stdout => self.terminal.as_ref().or(self.stdout.as_ref()),
                Stream::Stderr => self.stderr.as_ref(),
            };
            let Some(fd) = source else { return };
            match nix::unistd::read(fd, &mut buffer) {
                Ok(n) if n > 0 => self.spread(stream, &buffer[..n]),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // The end; a terminal says EIO when its last user closed it.
                _ => {
                    match stream {
                        Stream::Stdout => (self.stdout, self.terminal) = (None, None),
                        Stream::Stderr => self.stderr = None,
                    }
                    if let Some(log) = &mut self.log {
                        log.finish(stream);
                    }
                    return;
                }
            }
        }
    }

    fn spread(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.push(stream, bytes);
        }
        for client in &mut self.clients {
            let slot = client.outlet(stream);
            if let Some(outlet) = slot {
                outlet.pending.extend_from_slice(bytes);
                if !outlet.flush() {
                    *slot = None;
                }
            }
        }
        self.clients.retain(Client::is_alive);
    }

    fn flush_client(&mut self, id: u64, stream: Stream) {
        if let Some(client) = self.clients.iter_mut().find(|c| c.id == id) {
            let slot = client.outlet(stream);
            if slot.as_mut().is_some_and(|o| !o.flush()) {
                *slot = None;
            }
        }
        self.clients.retain(Client::is_alive);
        self.drop_drained();
    }

    fn read_client(&mut self, id: u64) {
        let Some(client) = self.clients.iter_mut().find(|c| c.id == id) else { return };
        let Some(fd) = &client.stdin else { return };
        let mut buffer = [0_u8; CHUNK];
        match nix::unistd::read(fd, &mut buffer) {
            Ok(n) if n > 0 => {
                self.pending_stdin.extend_from_slice(&buffer[..n]);
                self.flush_stdin();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            _ => {
                client.stdin = None;
                if self.stdin_once {
                    self.stdin = None;
                }
                self.clients.retain(Client::is_alive);
            }
        }
    }

    fn flush_stdin(&mut self) {
        let Some(fd) = self.terminal.as_ref().or(self.stdin.as_ref()) else {
            // Nobody will ever read it.
            self.pending_stdin = Vec::new();
            return;
        };
        match nix::unistd::write(fd, &self.pending_stdin) {
            Ok(n) => drop(self.pending_stdin.drain(..n)),
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(_) => {
                self.pending_stdin = Vec::new();
                self.stdin = None;
            }
        }
        if self.pending_stdin.is_empty() {
            self.pending_stdin = Vec::new();
        }
    }
}

impl Client {
    fn outlet(&mut self, stream: Stream) -> &mut Option<Outlet> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn is_alive(&self) -> bool {
        self.stdin.is_some() || self.stdout.is_some() || self.stderr.is_some()
    }
}

impl Outlet {
    /// Writes what can be written; `false` when nobody reads any more.
    fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            // Woken without anything to say: the other end was closed.
            return false;
        }
        while !self.pending.is_empty() {
            match nix::unistd::write(&self.fd, &self.pending) {
                Ok(n) => {
                    self.pending.drain(..n);
                    self.progress = Instant::now();
                }
                Err(Errno::EAGAIN) => return true,
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        self.pending = Vec::new();
        true
    }
}
