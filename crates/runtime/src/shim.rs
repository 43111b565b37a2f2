//! The process that holds a pod: `kybern shim --pod-dir <dir>`.
//!
//! One small single-threaded process per pod. It is a member of the pod's network, IPC and UTS
//! namespaces and so keeps them; it is the parent of every container, pumps their output, and
//! records how they end. It depends on no other process: agents come and go. It runs no program
//! but containers, and sleeps until something happens.
mod control;
mod log;
mod pod;
mod process;
mod rootfs;
mod setup;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::wire::{Call, Message};
use control::Connection;
use pod::{Outgoing, Pod};
use streams::{Interest, Part};

/// Connections at once; an agent needs one.
const MAX_CONNECTIONS: usize = 16;

/// Runs a shim; `args` are those after `shim`. Returns in the starting process once the shim is
/// ready (0) or has failed (1, with one line on standard error).
pub fn main(args: &[String]) -> i32 {
    let folder = match parse(args) {
        Ok(folder) => folder,
        Err(message) => {
            eprintln!("{message}");
            return 2;
        }
    };
    match setup::start(&folder) {
        Ok(setup::Started::Here(shim)) => {
            run(*shim);
            0
        }
        Ok(setup::Started::Elsewhere) => 0,
        Err(message) => {
            eprintln!("{message}");
            1
        }
    }
}

fn parse(args: &[String]) -> Result<PathBuf, String> {
    let mut folder = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--pod-dir", Some(value)) => folder = Some(PathBuf::from(value)),
            // Always <pod-dir>/shim.sock; named on the command line for people who look at ps.
            ("--socket", Some(_)) => {}
            _ => return Err(format!("shim: unknown or incomplete argument {arg:?}")),
        }
    }
    folder.ok_or_else(|| "shim: --pod-dir is missing; kybern starts shims by itself".to_owned())
}

/// A shim that is set up.
struct Shim {
    pod: Pod,
    listener: UnixListener,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
}

/// What a descriptor that is waited for belongs to.
#[derive(Debug, Clone, Copy)]
enum Token {
    Listener,
    Signals,
    Connection(u64),
    /// By position; valid until the next change, which is after all have been looked at.
    Start(usize),
    Stream(usize, Part),
}

fn run(mut shim: Shim) {
    let mut ready: Vec<Token> = Vec::new();
    loop {
        ready.clear();
        if let Err(e) = shim.wait(&mut ready) {
            eprintln!("cannot wait for events: {e}");
            return;
        }
        // Positions name containers and starts: handle those first, in one go, as nothing that
        // they do removes one.
        for token in &ready {
            match *token {
                Token::Stream(at, part) => shim.pod.stream_ready(at, part),
                Token::Start(at) => shim.pod.start_ready(at),
                _ => {}
            }
        }
        shim.pod.sweep();
        for token in &ready {
            match *token {
                Token::Signals => {
                    while matches!(shim.signals.read_signal(), Ok(Some(_))) {}
                    shim.pod.reap();
                }
                Token::Listener => shim.accept(),
                Token::Connection(id) => shim.serve(id),
                Token::Stream(..) | Token::Start(_) => {}
            }
        }
        shim.deliver();
        if shim.pod.is_stopped() {
            return;
        }
    }
}

impl Shim {
    fn wait(&self, ready: &mut Vec<Token>) -> io::Result<()> {
        let mut tokens = Vec::new();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let mut add = |token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::new(fd, flags));
        };
        add(Token::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        if self.connections.len() < MAX_CONNECTIONS {
            add(Token::Listener, self.listener.as_fd(), PollFlags::POLLIN);
        }
        for (id, connection) in &self.connections {
            let out =
                if connection.wants_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
            add(Token::Connection(*id), connection.stream.as_fd(), PollFlags::POLLIN | out);
        }
        self.pod.starts(|at, fd: BorrowedFd<'_>| add(Token::Start(at), fd, PollFlags::POLLIN));
        self.pod.streams(|at, part, fd, interest| {
            let flags = match interest {
                Interest::Read => PollFlags::POLLIN,
                Interest::Write => PollFlags::POLLOUT,
                Interest::Hangup => PollFlags::empty(),
            };
            add(Token::Stream(at, part), fd, flags);
        });
        let timeout = self.pod.deadline().map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX))
        });
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let happened = fds.iter().zip(&tokens);
        let happened = happened.filter(|(fd, _)| fd.revents().is_some_and(|r| !r.is_empty()));
        ready.extend(happened.map(|(_, token)| *token));
        Ok(())
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if let Ok(connection) = Connection::new(stream) {
            self.connections.insert(self.next_connection, connection);
            self.next_connection += 1;
        }
    }

    fn serve(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut alive = connection.flush() && connection.receive();
        loop {
            match connection.inbox.next::<Call>() {
                Ok(Some(call)) => match connection.inbox.take(call.fds) {
                    Ok(fds) => self.pod.handle(id, call.id, call.request, fds),
                    Err(_) => alive = false,
                },
                Ok(None) => break,
                Err(_) => {
                    alive = false;
                    break;
                }
            }
        }
        if !alive {
            self.hang_up(id);
        }
    }

    fn hang_up(&mut self, id: u64) {
        self.connections.remove(&id);
        self.pod.connection_gone(id);
    }

    /// Sends what the pod has to say: answers to who asked, events to all.
    fn deliver(&mut self) {
        let mut gone = Vec::new();
        for Outgoing { to, message, fds } in self.pod.take_outgoing() {
            match to {
                Some(id) => {
                    if let Some(connection) = self.connections.get_mut(&id)
                        && !connection.send(&message, fds)
                    {
                        gone.push(id);
                    }
                }
                None => gone.extend(self.broadcast(&message)),
            }
        }
        gone.into_iter().for_each(|id| self.hang_up(id));
    }

    fn broadcast(&mut self, message: &Message) -> Vec<u64> {
        let all = self.connections.iter_mut();
        all.filter_map(|(id, c)| (!c.send(message, Vec::new())).then_some(*id)).collect()
    }
}
