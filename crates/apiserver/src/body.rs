//! Bodies of requests and responses.
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// As upstream: larger request bodies are refused.
pub(crate) const MAX_REQUEST_BYTES: usize = 3 << 20;
/// As upstream's requests that are not streams: a body that takes longer holds up others.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Long bodies are sent in pieces of about this size.
const CHUNK_BYTES: usize = 64 << 10;

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

pub(crate) fn stream(frames: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures_util::StreamExt;
    StreamBody::new(frames.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}

pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

fn never(error: Infallible) -> BoxError {
    match error {}
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadError {
    TooLarge,
    Broken,
    Late,
}

/// The whole of a request's body, if it is not too large and comes in time.
pub(crate) async fn read(body: Body) -> Result<Bytes, ReadError> {
    timeout(READ_TIMEOUT, collect(body)).await.unwrap_or(Err(ReadError::Late))
}

async fn collect(mut body: Body) -> Result<Bytes, ReadError> {
    use http_body::Body as _;
    if body.size_hint().lower() > MAX_REQUEST_BYTES as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut out = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        if out.len() + data.len() > MAX_REQUEST_BYTES {
            return Err(ReadError::TooLarge);
        }
        out.extend_from_slice(&data);
    }
    Ok(out.freeze())
}

/// A list that is put together while it is sent: no second copy of it is ever in memory.
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    pub(crate) fn new(pieces: VecDeque<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, left }
    }
    pub(crate) fn boxed(self) -> Body {
        self.map_err(never).boxed_unsync()
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(first) = self.pieces.pop_front() else { return Poll::Ready(None) };
        let frame = if first.len() >= CHUNK_BYTES || self.pieces.is_empty() {
            first
        } else {
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES + first.len());
            chunk.extend_from_slice(&first);
            while chunk.len() < CHUNK_BYTES
                && let Some(piece) = self.pieces.pop_front()
            {
                chunk.extend_from_slice(&piece);
            }
            chunk.freeze()
        };
        self.left -= frame.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }
    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
