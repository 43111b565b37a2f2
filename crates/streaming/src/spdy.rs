//! SPDY/3.1 as `kubectl` and client-go speak it: the server's side of a connection.
//!
//! The peer opens all streams. Like the library on the other side, no flow-control windows are
//! kept: a stream that is not read holds up its connection. Headers are compressed with the
//! dictionary of the protocol, one compressor per direction and connection.
pub mod frame;
pub mod headers;

use crate::{CHUNK, Closed, Io, Out, QUEUE, Reader, Target, Writer};
use bytes::Bytes;
use frame::{FLAG_FIN, Head, RstStatus};
use headers::{Deflate, Inflate};
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};

/// Streams that a peer may have open at once on one connection.
const MAX_STREAMS: usize = 4096;
/// The largest control frame that is read.
const MAX_CONTROL: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a SPDY frame breaks the protocol: {0}")]
    Protocol(&'static str),
}

/// A stream that the peer has opened.
#[derive(Debug)]
pub struct Stream {
    pub id: u32,
    headers: Vec<(String, String)>,
    pub reader: Reader,
    pub writer: Writer,
}

impl Stream {
    /// The first value of a header; names are in lower case on the wire.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A connection and the streams that arrive on it.
pub struct Connection {
    pub streams: mpsc::Receiver<Stream>,
    pub closed: Closed,
    out: mpsc::Sender<Out>,
}

impl Connection {
    /// Lets the peer read all that was sent, then ends the connection.
    pub async fn close(self) {
        close_with(&self.out, self.closed).await;
    }
    pub(crate) fn sender(&self) -> mpsc::Sender<Out> {
        self.out.clone()
    }
}

pub(crate) async fn close_with(out: &mpsc::Sender<Out>, mut closed: Closed) {
    // The client hangs up when its streams have ended; one that does not is cut off.
    if tokio::time::timeout(crate::exec::LINGER, closed.wait()).await.is_err() {
        let _ = out.send(Out::Frame(frame::goaway())).await;
    }
    let _ = out.send(Out::End).await;
}

/// Starts the two tasks that serve a connection.
pub fn serve<I: Io>(io: I) -> Connection {
    let (read, write) = tokio::io::split(io);
    let (out, queue) = mpsc::channel(QUEUE);
    let (arrivals, streams) = mpsc::channel(QUEUE);
    let (alive, closed) = watch::channel(());
    tokio::spawn(write_frames(write, queue));
    let mut side = ReadSide {
        from: BufReader::with_capacity(CHUNK, read),
        inflate: Inflate::default(),
        open: HashMap::new(),
        last: 0,
        out: out.clone(),
        arrivals,
    };
    tokio::spawn(async move {
        if let Err(error) = side.run().await {
            tracing::debug!(%error, "a SPDY connection ended");
        }
        drop(alive);
    });
    Connection { streams, closed: Closed(closed), out }
}

async fn write_frames<W: AsyncWriteExt + Unpin>(mut to: W, mut queue: mpsc::Receiver<Out>) {
    let mut deflate = Deflate::default();
    while let Some(item) = queue.recv().await {
        let frame = match item {
            Out::Frame(frame) => frame,
            Out::Reply { stream } => match deflate.block(&[]) {
                Ok(block) => frame::syn_reply(stream, &block),
                Err(_) => break,
            },
            Out::End => break,
        };
        if to.write_all(&frame).await.is_err() {
            return;
        }
        if queue.is_empty() && to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.flush().await;
    let _ = to.shutdown().await;
}

struct ReadSide<R> {
    from: R,
    inflate: Inflate,
    open: HashMap<u32, mpsc::Sender<Bytes>>,
    last: u32,
    out: mpsc::Sender<Out>,
    arrivals: mpsc::Sender<Stream>,
}

impl<R: AsyncRead + Unpin> ReadSide<R> {
    async fn run(&mut self) -> Result<(), SpdyError> {
        loop {
            let mut head = [0; 8];
            match self.from.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            };
            match Head::parse(head).map_err(SpdyError::Protocol)? {
                Head::Data { stream, flags, len } => self.data(stream, flags, len).await?,
                Head::Control { kind, flags, len } => {
                    if len > MAX_CONTROL {
                        return Err(SpdyError::Protocol("a control frame is too large"));
                    }
                    let mut body = vec![0; len];
                    self.from.read_exact(&mut body).await?;
                    if self.control(kind, flags, &body).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn data(&mut self, stream: u32, flags: u8, len: usize) -> Result<(), SpdyError> {
        let mut left = len;
        while left > 0 {
            let mut piece = vec![0; left.min(CHUNK)];
            self.from.read_exact(&mut piece).await?;
            left -= piece.len();
            if let Some(sender) = self.open.get(&stream) {
                // A reader that was dropped does not want the rest.
                let _ = sender.send(Bytes::from(piece)).await;
            }
        }
        if flags & FLAG_FIN != 0 {
            self.open.remove(&stream);
        }
        Ok(())
    }

    /// Returns true if the peer says good-bye.
    async fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<bool, SpdyError> {
        match kind {
            frame::SYN_STREAM => self.open_stream(flags, body).await?,
            frame::RST_STREAM => {
                let id = frame::stream_id(body).map_err(SpdyError::Protocol)?;
                self.open.remove(&id);
            }
            frame::PING => {
                // Only the peer's own pings (odd numbers) are answered.
                let id = frame::word(body).map_err(SpdyError::Protocol)?;
                if id % 2 == 1 {
                    let _ = self.out.try_send(Out::Frame(frame::ping(id)));
                }
            }
            frame::HEADERS => {
                let block = body.get(4..).ok_or(SpdyError::Protocol("a frame is too short"))?;
                self.inflate.block(block).map_err(SpdyError::Protocol)?;
                if flags & FLAG_FIN != 0 {
                    let id = frame::stream_id(body).map_err(SpdyError::Protocol)?;
                    self.open.remove(&id);
                }
            }
            frame::GOAWAY => {
                self.open.clear();
                return Ok(true);
            }
            // SETTINGS, WINDOW_UPDATE and kinds of other versions say nothing that matters here.
            _ => {}
        }
        Ok(false)
    }

    async fn open_stream(&mut self, flags: u8, body: &[u8]) -> Result<(), SpdyError> {
        let id = frame::stream_id(body).map_err(SpdyError::Protocol)?;
        let block = body.get(10..).ok_or(SpdyError::Protocol("a frame is too short"))?;
        let headers = self.inflate.block(block).map_err(SpdyError::Protocol)?;
        if id == 0 || id % 2 == 0 || id <= self.last {
            return Err(SpdyError::Protocol("a stream's number is not the peer's next"));
        }
        self.last = id;
        self.open.retain(|_, sender| !sender.is_closed());
        if self.open.len() >= MAX_STREAMS {
            let refuse = frame::rst_stream(id, RstStatus::Refused);
            return self.send(Out::Frame(refuse)).await;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        if flags & FLAG_FIN == 0 {
            self.open.insert(id, sender);
        }
        self.send(Out::Reply { stream: id }).await?;
        let writer = Writer { out: self.out.clone(), to: Target::Spdy { stream: id } };
        let stream = Stream { id, headers, reader: Reader(receiver), writer };
        if self.arrivals.send(stream).await.is_err() {
            self.open.remove(&id);
            self.send(Out::Frame(frame::rst_stream(id, RstStatus::Refused))).await?;
        }
        Ok(())
    }

    async fn send(&mut self, item: Out) -> Result<(), SpdyError> {
        self.out.send(item).await.map_err(|_| SpdyError::Io(crate::closed_error()))
    }
}

#[cfg(test)]
pub(crate) mod tests;
