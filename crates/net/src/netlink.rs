//! The netlink wire format and a blocking socket for it.
//!
//! Requests are built in a [`Buf`]; the kernel answers while it handles the request, so after a
//! send everything there is to read is already queued.
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket as RawSocket, SocketAddr};

use crate::config::{Error, Result};

pub(crate) const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_CAPPED: u16 = 0x100;
const NLA_F_NESTED: u16 = 0x8000;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER: usize = 16;
/// The kernel's dumps come in pieces of at most this.
const RECEIVE_BYTES: usize = 64 << 10;
/// Answers to one request that may wait to be read.
const RECEIVE_QUEUE_BYTES: usize = 8 << 20;
/// The largest transaction.
const SEND_BYTES: usize = 256 << 20;

/// One or more requests.
#[derive(Default)]
pub(crate) struct Buf {
    bytes: Vec<u8>,
    start: usize,
}

impl Buf {
    pub(crate) fn request(kind: u16, flags: u16) -> Buf {
        let mut buf = Buf::default();
        buf.begin(kind, flags, 0);
        buf
    }

    pub(crate) fn begin(&mut self, kind: u16, flags: u16, sequence: u32) {
        self.start = self.bytes.len();
        self.u32(0);
        self.put(&kind.to_ne_bytes());
        self.put(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.u32(sequence);
        self.u32(0);
    }

    /// Writes the length of the message begun last.
    pub(crate) fn end(&mut self) {
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        self.put(&((value.len() + 4) as u16).to_ne_bytes());
        self.put(&kind.to_ne_bytes());
        self.put(value);
        self.pad();
    }

    pub(crate) fn attr_str(&mut self, kind: u16, value: &str) {
        self.put(&((value.len() + 5) as u16).to_ne_bytes());
        self.put(&kind.to_ne_bytes());
        self.put(value.as_bytes());
        self.put(&[0]);
        self.pad();
    }

    pub(crate) fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub(crate) fn attr_be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Buf)) {
        let at = self.bytes.len();
        self.put(&[0, 0]);
        self.put(&(kind | NLA_F_NESTED).to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the message begun last.
    pub(crate) fn acknowledge_last(&mut self) {
        self.bytes[self.start + 6] |= NLM_F_ACK as u8;
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// An answer.
pub(crate) struct Message {
    pub kind: u16,
    pub sequence: u32,
    /// Who it is for, or who caused it.
    pub port: u32,
    pub body: Vec<u8>,
}

/// The attributes in `bytes`; stops at the first malformed one.
pub(crate) fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(crate) fn attr(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

pub(crate) fn as_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

pub(crate) fn as_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

/// What the kernel said to one message of a request.
pub(crate) struct Answer {
    pub sequence: u32,
    pub errno: i32,
    pub reason: String,
}

pub(crate) struct Socket {
    raw: RawSocket,
}

impl Socket {
    /// A socket in the calling thread's network namespace; it stays with that namespace.
    pub(crate) fn open(protocol: isize) -> Result<Socket> {
        let open = || {
            let mut raw = RawSocket::new(protocol)?;
            raw.bind_auto()?;
            raw.connect(&SocketAddr::new(0, 0))?;
            raw.set_ext_ack(true)?;
            raw.set_cap_ack(true)?;
            use nix::sys::socket::{setsockopt, sockopt};
            // Without the privilege to exceed the system's limit the defaults have to do.
            let _ = setsockopt(&raw.as_fd(), sockopt::RcvBufForce, &RECEIVE_QUEUE_BYTES);
            let _ = setsockopt(&raw.as_fd(), sockopt::SndBufForce, &SEND_BYTES);
            Ok(raw)
        };
        let raw = open().map_err(io_error("cannot open a netlink socket"))?;
        Ok(Socket { raw })
    }

    /// A socket that hears what a group is told; nothing is sent over it.
    pub(crate) fn listen(protocol: isize, group: u32) -> Result<Socket> {
        let this = Socket::open(protocol)?;
        let join = this.raw.add_membership(group).and_then(|()| this.raw.set_non_blocking(true));
        join.map_err(io_error("cannot listen to the kernel over netlink"))?;
        Ok(this)
    }

    /// Who the kernel says has caused what others hear of this socket's requests.
    pub(crate) fn port(&self) -> Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        let known = self.raw.get_address(&mut address);
        known.map_err(io_error("cannot read a netlink socket's address"))?;
        Ok(address.port_number())
    }

    /// What has been heard since the last call; `None` if some of it was lost.
    pub(crate) fn heard(&mut self) -> Result<Option<Vec<Message>>> {
        let mut all = Vec::new();
        let mut lost = false;
        loop {
            match self.receive(libc::MSG_DONTWAIT) {
                Ok(messages) if messages.is_empty() => return Ok((!lost).then_some(all)),
                Ok(mut messages) => all.append(&mut messages),
                Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOBUFS) => {
                    lost = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends one request and waits for its acknowledgement.
    pub(crate) fn execute(&mut self, what: &str, mut buf: Buf) -> Result<()> {
        buf.acknowledge_last();
        buf.end();
        self.send(&buf)?;
        for message in self.receive(libc::MSG_DONTWAIT)? {
            if message.kind == NLMSG_ERROR {
                let answer = answer(&message);
                if answer.errno != 0 {
                    return Err(kernel_error(what, answer.errno, &answer.reason));
                }
            }
        }
        Ok(())
    }

    /// Sends one request and returns what it answers with: one message, or all of a dump.
    pub(crate) fn query(&mut self, what: &str, mut buf: Buf) -> Result<Vec<Message>> {
        buf.end();
        self.send(&buf)?;
        let mut found = Vec::new();
        loop {
            let messages = self.receive(libc::MSG_DONTWAIT)?;
            if messages.is_empty() {
                return Ok(found);
            }
            for message in messages {
                match message.kind {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => {
                        let answer = answer(&message);
                        if answer.errno != 0 {
                            return Err(kernel_error(what, answer.errno, &answer.reason));
                        }
                    }
                    _ => found.push(message),
                }
            }
        }
    }

    /// Sends a batch; returns every acknowledgement and error that it caused.
    pub(crate) fn batch(&mut self, buf: &Buf) -> Result<Vec<Answer>> {
        self.send(buf)?;
        let mut answers = Vec::new();
        loop {
            let messages = self.receive(libc::MSG_DONTWAIT)?;
            if messages.is_empty() {
                return Ok(answers);
            }
            answers.extend(messages.iter().filter(|m| m.kind == NLMSG_ERROR).map(answer));
        }
    }

    fn send(&mut self, buf: &Buf) -> Result<()> {
        self.raw.send(&buf.bytes, 0).map_err(io_error("cannot send to the kernel over netlink"))?;
        Ok(())
    }

    /// The next datagram's messages; none if nothing is queued.
    fn receive(&mut self, flags: i32) -> Result<Vec<Message>> {
        let mut bytes: Vec<u8> = Vec::with_capacity(RECEIVE_BYTES);
        match self.raw.recv(&mut bytes, flags) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            Err(e) => return Err(io_error("cannot read netlink answers")(e)),
        }
        let mut messages = Vec::new();
        let mut rest = bytes.as_slice();
        while rest.len() >= HEADER {
            let word = |at: usize| as_u32(&rest[at..]).unwrap_or_default();
            let length = word(0) as usize;
            let Some(body) = rest.get(HEADER..length) else { break };
            // The flags' ones matter only with errors: they tell how to find the text.
            let (kind, flags) = ((word(4) & 0xffff) as u16, (word(4) >> 16) as u16);
            let mut body = body.to_vec();
            if kind == NLMSG_ERROR {
                body.extend_from_slice(&flags.to_ne_bytes());
            }
            messages.push(Message { kind, sequence: word(8), port: word(12), body });
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

fn answer(message: &Message) -> Answer {
    let (body, flags) = message.body.split_at(message.body.len() - 2);
    let flags = u16::from_ne_bytes([flags[0], flags[1]]);
    let errno = -(as_u32(body).unwrap_or_default() as i32);
    let original = body.get(4..).and_then(as_u32).unwrap_or_default() as usize;
    let skip = if flags & NLM_F_CAPPED != 0 { 4 + HEADER } else { 4 + original.max(HEADER) };
    let text = (flags & NLM_F_ACK_TLVS != 0)
        .then(|| attr(body.get(skip.next_multiple_of(4)..)?, NLMSGERR_ATTR_MSG).map(as_text));
    let reason = text.flatten().unwrap_or_default();
    Answer { sequence: message.sequence, errno, reason }
}

pub(crate) fn kernel_error(what: &str, errno: i32, reason: &str) -> Error {
    let name = io::Error::from_raw_os_error(errno);
    let reason = match reason {
        "" => name.to_string(),
        text => format!("{text}: {name}"),
    };
    Error::Kernel { what: what.to_owned(), errno, reason }
}

pub(crate) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// Accepts that something is already as wanted.
pub(crate) fn allow(result: Result<()>, errnos: &[i32]) -> Result<()> {
    match result {
        Err(Error::Kernel { errno, .. }) if errnos.contains(&errno) => Ok(()),
        other => other,
    }
}
