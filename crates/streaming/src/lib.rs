//! The streaming protocols between a client and a node: remote commands (exec, attach) and port
//! forwarding, over WebSocket and over SPDY/3.1; the server's side.
//!
//! Knows bytes and frames, not containers or pods: what runs behind a stream is the caller's. All
//! queues are bounded, so a slow peer slows the process behind it and nothing else.
pub mod exec;
pub mod forward;
pub mod output;
pub mod spdy;
pub mod upgrade;
pub mod ws;

pub use exec::{ExecOptions, Outcome, Session, TermSize};
pub use forward::{Forward, ForwardConn};
pub use upgrade::{Accepted, Refused};

use bytes::Bytes;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

/// Pieces of data waiting for a stream's reader, and frames waiting for the connection.
pub(crate) const QUEUE: usize = 16;
/// The largest piece that is put into one frame.
pub(crate) const CHUNK: usize = 32 * 1024;

/// Any connection that an upgrade can give.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// What the peer sends on one stream.
#[derive(Debug)]
pub struct Reader(pub(crate) mpsc::Receiver<Bytes>);

impl Reader {
    /// The next piece; `None` once the peer has closed the stream or the connection is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// One stream towards the peer.
#[derive(Debug, Clone)]
pub struct Writer {
    pub(crate) out: mpsc::Sender<Out>,
    pub(crate) to: Target,
}

/// How data for one stream is framed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    Ws { channel: u8, base64: bool },
    Spdy { stream: u32 },
}

/// What a connection's writing task takes.
#[derive(Debug)]
pub(crate) enum Out {
    /// A whole frame.
    Frame(Bytes),
    /// Accept a stream that the peer opened (SPDY only: its headers are compressed in order).
    Reply { stream: u32 },
    /// Nothing follows: flush and shut down the writing half.
    End,
}

impl Writer {
    /// Sends `data`, waiting while the connection is full.
    pub async fn write(&self, data: Bytes) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(CHUNK));
            self.send(self.frame(&piece)).await?;
        }
        Ok(())
    }

    /// Tells the peer that nothing follows on this stream. WebSocket channels have no such mark.
    pub async fn finish(&self) -> io::Result<()> {
        match self.to {
            Target::Ws { .. } => Ok(()),
            Target::Spdy { stream } => self.send(spdy::frame::data(stream, true, &[])).await,
        }
    }

    /// One message without content: says "connected" to WebSocket clients of the first version.
    pub(crate) async fn write_empty(&self) -> io::Result<()> {
        self.send(self.frame(&[])).await
    }

    fn frame(&self, piece: &[u8]) -> Bytes {
        match self.to {
            Target::Ws { channel, base64 } => ws::channel_frame(channel, base64, piece),
            Target::Spdy { stream } => spdy::frame::data(stream, false, piece),
        }
    }

    async fn send(&self, frame: Bytes) -> io::Result<()> {
        self.out.send(Out::Frame(frame)).await.map_err(|_| closed_error())
    }
}

/// Tells when a connection has ended.
#[derive(Debug, Clone)]
pub struct Closed(pub(crate) watch::Receiver<()>);

impl Closed {
    /// Returns when the peer has closed the connection or it has broken.
    pub async fn wait(&mut self) {
        // The sender never sends: it is dropped by the reading task.
        while self.0.changed().await.is_ok() {}
    }
}

fn closed_error() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the streaming connection is closed")
}
