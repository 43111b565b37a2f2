//! WebSocket (RFC 6455) frames, the server's side of a connection, and Kubernetes' channels on it.
//!
//! A message begins with its channel: one byte, or one digit when the sub-protocol is of the base64
//! kind. Since `v5` a message on channel 255 closes the channel that its second byte names.
use crate::{CHUNK, Closed, Io, Out, QUEUE, Reader, Target, Writer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};

/// The largest message that is accepted.
pub const MAX_MESSAGE: usize = 4 << 20;
/// The channel whose messages close another channel (`v5.channel.k8s.io`).
const CLOSE_CHANNEL: u8 = 255;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[derive(Debug, thiserror::Error)]
pub enum WsError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a WebSocket frame breaks the protocol: {0}")]
    Protocol(&'static str),
}

/// A message as the application sees it; fragments are already joined.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Data(Bytes),
    Ping(Bytes),
    Pong,
    Close,
}

/// A frame as a server sends it: not masked.
pub fn frame(opcode: u8, head: &[u8], body: &[u8]) -> Bytes {
    let len = head.len() + body.len();
    let mut out = BytesMut::with_capacity(len + 10);
    put_header(&mut out, opcode, len, 0);
    out.put_slice(head);
    out.put_slice(body);
    out.freeze()
}

fn put_header(out: &mut BytesMut, opcode: u8, len: usize, mask_bit: u8) {
    out.put_u8(0x80 | opcode);
    match len {
        0..=125 => out.put_u8(mask_bit | len as u8),
        126..=0xffff => {
            out.put_u8(mask_bit | 126);
            out.put_u16(len as u16);
        }
        _ => {
            out.put_u8(mask_bit | 127);
            out.put_u64(len as u64);
        }
    }
}

/// A binary message.
pub fn binary(body: &[u8]) -> Bytes {
    frame(BINARY, &[], body)
}

/// The frame that ends a connection, with a status code: clients take an empty one as an error.
pub fn close(code: u16) -> Bytes {
    frame(CLOSE, &code.to_be_bytes(), &[])
}

/// A whole message without a channel.
pub(crate) fn message(body: &[u8], base64: bool) -> Bytes {
    if base64 { frame(TEXT, &[], STANDARD.encode(body).as_bytes()) } else { binary(body) }
}

/// A message on a channel.
pub(crate) fn channel_frame(channel: u8, base64: bool, body: &[u8]) -> Bytes {
    if base64 {
        frame(TEXT, &[b'0' + channel], STANDARD.encode(body).as_bytes())
    } else {
        frame(BINARY, &[channel], body)
    }
}

/// Reads messages of a peer, masked (from a client) or not.
pub struct Messages<R> {
    from: R,
    partial: Option<BytesMut>,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    pub fn new(from: R) -> Self {
        Self { from, partial: None }
    }

    /// The next message; an error at the end of the connection.
    pub async fn next(&mut self) -> Result<Message, WsError> {
        loop {
            let (fin, opcode, body) = self.frame().await?;
            match opcode {
                PING => return Ok(Message::Ping(body.freeze())),
                PONG => return Ok(Message::Pong),
                CLOSE => return Ok(Message::Close),
                TEXT | BINARY if self.partial.is_some() => {
                    return Err(WsError::Protocol("a message begins inside another"));
                }
                TEXT | BINARY if fin => return Ok(Message::Data(body.freeze())),
                TEXT | BINARY => self.partial = Some(body),
                CONTINUATION => {
                    let mut whole = self
                        .partial
                        .take()
                        .ok_or(WsError::Protocol("a continuation without a beginning"))?;
                    if whole.len() + body.len() > MAX_MESSAGE {
                        return Err(WsError::Protocol("a message is larger than 4 MiB"));
                    }
                    whole.extend_from_slice(&body);
                    if fin {
                        return Ok(Message::Data(whole.freeze()));
                    }
                    self.partial = Some(whole);
                }
                _ => return Err(WsError::Protocol("unknown opcode")),
            }
        }
    }

    async fn frame(&mut self) -> Result<(bool, u8, BytesMut), WsError> {
        let first = self.from.read_u8().await?;
        let second = self.from.read_u8().await?;
        if first & 0x70 != 0 {
            return Err(WsError::Protocol("a reserved bit is set"));
        }
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let len = match second & 0x7f {
            126 => u64::from(self.from.read_u16().await?),
            127 => self.from.read_u64().await?,
            short => u64::from(short),
        };
        if opcode >= CLOSE && (len > 125 || !fin) {
            return Err(WsError::Protocol("a control frame is too long or in parts"));
        }
        if len > MAX_MESSAGE as u64 {
            return Err(WsError::Protocol("a message is larger than 4 MiB"));
        }
        let mut mask = [0u8; 4];
        let masked = second & 0x80 != 0;
        if masked {
            self.from.read_exact(&mut mask).await?;
        }
        let mut body = BytesMut::zeroed(len as usize);
        self.from.read_exact(&mut body).await?;
        if masked {
            for (n, byte) in body.iter_mut().enumerate() {
                *byte ^= mask[n % 4];
            }
        }
        Ok((fin, opcode, body))
    }
}

/// One connection cut into channels.
pub struct Channels {
    pub readers: Vec<Option<Reader>>,
    pub closed: Closed,
    out: mpsc::Sender<Out>,
    base64: bool,
}

impl Channels {
    pub fn writer(&self, channel: u8) -> Writer {
        Writer { out: self.out.clone(), to: Target::Ws { channel, base64: self.base64 } }
    }
    pub fn take_reader(&mut self, channel: u8) -> Option<Reader> {
        self.readers.get_mut(usize::from(channel)).and_then(Option::take)
    }
    pub(crate) fn sender(&self) -> mpsc::Sender<Out> {
        self.out.clone()
    }
}

pub(crate) async fn close_with(out: &mpsc::Sender<Out>, mut closed: Closed) {
    let _ = out.send(Out::Frame(close(1000))).await;
    let _ = out.send(Out::End).await;
    // The peer answers a close with a close; one that does not is left to the reading task.
    let _ = tokio::time::timeout(crate::exec::LINGER, closed.wait()).await;
}

/// Which channels the peer may write.
#[derive(Debug, Clone)]
pub struct ChannelRules {
    pub readable: Vec<bool>,
    pub base64: bool,
    /// The peer can close single channels (`v5`).
    pub close_signal: bool,
}

/// Starts the two tasks that serve a connection.
pub fn serve<I: Io>(io: I, rules: ChannelRules) -> Channels {
    let (read, write) = tokio::io::split(io);
    let (out, queue) = mpsc::channel(QUEUE);
    let (alive, closed) = watch::channel(());
    let mut senders = Vec::new();
    let mut readers = Vec::new();
    for &readable in &rules.readable {
        let (tx, rx) = mpsc::channel(QUEUE);
        senders.push(readable.then_some(tx));
        readers.push(readable.then_some(Reader(rx)));
    }
    let base64 = rules.base64;
    tokio::spawn(write_frames(write, queue));
    let answers = out.clone();
    tokio::spawn(async move {
        let mut messages = Messages::new(BufReader::with_capacity(CHUNK, read));
        if let Err(error) = dispatch(&mut messages, &mut senders, &rules, &answers).await {
            tracing::debug!(%error, "a WebSocket connection ended");
        }
        drop(alive);
    });
    Channels { readers, closed: Closed(closed), out, base64 }
}

async fn write_frames<W: AsyncWriteExt + Unpin>(mut to: W, mut queue: mpsc::Receiver<Out>) {
    while let Some(item) = queue.recv().await {
        let Out::Frame(frame) = item else { break };
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

async fn dispatch<R: AsyncRead + Unpin>(
    messages: &mut Messages<R>,
    senders: &mut [Option<mpsc::Sender<Bytes>>],
    rules: &ChannelRules,
    answers: &mpsc::Sender<Out>,
) -> Result<(), WsError> {
    loop {
        let data = match messages.next().await? {
            Message::Data(data) => data,
            Message::Ping(body) => {
                // A peer that does not read its answers does not get more of them.
                let _ = answers.try_send(Out::Frame(frame(PONG, &[], &body)));
                continue;
            }
            Message::Pong => continue,
            Message::Close => {
                let _ = answers.try_send(Out::Frame(close(1000)));
                let _ = answers.try_send(Out::End);
                return Ok(());
            }
        };
        let Some((channel, body)) = split_channel(&data, rules)? else { continue };
        if channel == CLOSE_CHANNEL && rules.close_signal {
            let named = body.first().copied().map(usize::from);
            if let Some(slot) = named.and_then(|n| senders.get_mut(n)) {
                *slot = None;
            }
            continue;
        }
        // Empty messages and those for channels that only the server writes are ignored.
        let Some(slot) = senders.get_mut(usize::from(channel)) else { continue };
        if let Some(sender) = slot.as_ref().filter(|_| !body.is_empty()) {
            if sender.send(body).await.is_err() {
                *slot = None;
            }
        }
    }
}

fn split_channel(data: &Bytes, rules: &ChannelRules) -> Result<Option<(u8, Bytes)>, WsError> {
    let Some(&first) = data.first() else { return Ok(None) };
    if !rules.base64 {
        return Ok(Some((first, data.slice(1..))));
    }
    if !first.is_ascii_digit() {
        return Err(WsError::Protocol("the first character is not a channel's digit"));
    }
    let body = STANDARD.decode(&data[1..]).map_err(|_| WsError::Protocol("invalid base64"))?;
    Ok(Some((first - b'0', Bytes::from(body))))
}

/// The byte stream that a client tunnels through binary messages.
pub fn tunnel<I: Io>(io: I) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(2 * CHUNK);
    let (read, write) = tokio::io::split(io);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let (out, queue) = mpsc::channel(QUEUE);
    tokio::spawn(write_frames(write, queue));
    let answers = out.clone();
    tokio::spawn(async move {
        let mut messages = Messages::new(BufReader::with_capacity(CHUNK, read));
        while let Ok(message) = messages.next().await {
            match message {
                Message::Data(data) if far_write.write_all(&data).await.is_err() => break,
                Message::Data(_) | Message::Pong => {}
                Message::Ping(body) => {
                    let _ = answers.try_send(Out::Frame(frame(PONG, &[], &body)));
                }
                Message::Close => break,
            }
        }
        let _ = far_write.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(n @ 1..) = far_read.read(&mut buffer).await {
            if out.send(Out::Frame(binary(&buffer[..n]))).await.is_err() {
                return;
            }
        }
        let _ = out.send(Out::Frame(close(1000))).await;
        let _ = out.send(Out::End).await;
    });
    near
}

#[cfg(test)]
pub(crate) mod tests;
