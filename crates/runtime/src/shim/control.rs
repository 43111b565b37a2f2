//! Connections of agents: bytes in, messages out, nothing blocks.
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::wire::{Inbox, Message, frame};

/// Bytes waiting for an agent that does not read; with more it is hung up on, and lists anew.
const MAX_OUTBOX: usize = 4 << 20;

pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) inbox: Inbox,
    /// Each with the descriptors that go with its first byte.
    outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    queued: usize,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Connection { stream, inbox: Inbox::default(), outbox: VecDeque::new(), queued: 0 })
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Reads what there is; `false` at the end.
    pub(super) fn receive(&mut self) -> bool {
        let mut buffer = [0_u8; 8192];
        loop {
            let mut fds = Vec::new();
            match sys::socket::receive(&self.stream, &mut buffer, &mut fds) {
                Ok(0) => return false,
                Ok(n) => self.inbox.push(&buffer[..n], fds),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Queues a message and sends what can be sent; `false` when the agent is gone or too slow.
    pub(super) fn send(&mut self, message: &Message, fds: Vec<OwnedFd>) -> bool {
        let bytes = frame(message);
        self.queued += bytes.len();
        self.outbox.push_back((bytes, fds));
        self.queued <= MAX_OUTBOX && self.flush()
    }

    pub(super) fn flush(&mut self) -> bool {
        while let Some((bytes, fds)) = self.outbox.front_mut() {
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match sys::socket::send(&self.stream, bytes, &borrowed) {
                Ok(n) => {
                    drop(borrowed);
                    fds.clear();
                    bytes.drain(..n);
                    self.queued -= n;
                    if bytes.is_empty() {
                        self.outbox.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}
