//! What many streams of one connection send at about the same time goes out in one write.
//!
//! HTTP/2 flushes after every frame of data: a thousand watches that hear of one change would be a
//! thousand records and system calls. So a flush only lets all other tasks that are ready have
//! their turn first, and what has come together by then is written before the connection is read
//! again. That the connection's task reads each time it is woken is what this relies on: it is for
//! HTTP/2 only.
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than this in one piece is not held back: there is nothing to be gained.
const PIECE_MAX_BYTES: usize = 8 << 10;
/// Room is made for so much at first.
const HELD_FIRST_BYTES: usize = 4 << 10;
/// More than this is not held back in all.
const HELD_MAX_BYTES: usize = 64 << 10;

pub(crate) struct Gather<S> {
    stream: S,
    held: BytesMut,
    /// The task is to be woken, and will write and flush what is held.
    deferred: bool,
    /// Off: everything goes straight through.
    on: bool,
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    pub(crate) fn new(stream: S, on: bool) -> Self {
        Self { stream, held: BytesMut::new(), deferred: false, on }
    }

    /// Writes all that is held.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(n);
        }
        // An idle connection holds no memory for it.
        self.held = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Reading does not wait for it; the task is woken, and reads again, when more can go out.
        if self.deferred
            && self.poll_drain(cx)?.is_ready()
            && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready()
        {
            self.deferred = false;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.as_mut().poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let more: usize = parts.iter().map(|part| part.len()).sum();
        let large = more > PIECE_MAX_BYTES;
        if large || self.held.len() + more > HELD_MAX_BYTES {
            ready!(self.poll_drain(cx))?;
        }
        if !self.on || large {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        }
        if self.held.capacity() == 0 {
            self.held.reserve(more.max(HELD_FIRST_BYTES));
        }
        for part in parts {
            self.held.extend_from_slice(part);
        }
        Poll::Ready(Ok(more))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deferred {
            return Poll::Ready(Ok(()));
        }
        if self.held.is_empty() {
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        self.deferred = true;
        // A task that wakes itself comes after all that are ready already.
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads what is there, which is nothing: only what is held goes out.
    fn turn(gather: &mut Gather<tokio::io::DuplexStream>, cx: &mut Context<'_>) {
        let mut space = [0; 8];
        let mut buf = ReadBuf::new(&mut space);
        assert!(Pin::new(gather).poll_read(cx, &mut buf).is_pending());
    }

    #[tokio::test]
    async fn frames_of_one_turn_go_out_together() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut gather = Gather::new(near, true);
        let wakes = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Arc::clone(&wakes).into();
        let mut cx = Context::from_waker(&waker);
        for part in [b"one ", b"two ", b"six "] {
            assert!(matches!(Pin::new(&mut gather).poll_write(&mut cx, part), Poll::Ready(Ok(4))));
            assert!(Pin::new(&mut gather).poll_flush(&mut cx).is_ready());
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        let mut got = [0; 16];
        let mut space = ReadBuf::new(&mut got);
        let mut idle = Context::from_waker(noop_waker_ref());
        assert!(Pin::new(&mut far).poll_read(&mut idle, &mut space).is_pending());
        turn(&mut gather, &mut cx);
        let mut got = [0; 16];
        assert_eq!(far.read(&mut got).await.unwrap(), 12);
        assert_eq!(&got[..12], b"one two six ");
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_other_side_is_slow_or_the_end_comes() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut gather = Gather::new(near, true);
        let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let parts = sent.clone();
        let writer = tokio::spawn(async move {
            // Small pieces and large ones by turns.
            for part in parts.chunks(20_000) {
                let (small, large) = part.split_at(part.len().min(777));
                gather.write_all(small).await.unwrap();
                gather.flush().await.unwrap();
                gather.write_all(large).await.unwrap();
                gather.flush().await.unwrap();
            }
            gather.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == sent);
    }

    #[tokio::test]
    async fn what_is_held_goes_out_piece_by_piece_while_nothing_is_sent() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut gather = Gather::new(near, true);
        let waiting = tokio::spawn(async move {
            gather.write_all(&[7; 1000]).await.unwrap();
            gather.flush().await.unwrap();
            // As a connection's task does: it reads, and nothing comes.
            gather.read_u8().await
        });
        let mut got = [0; 1000];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [7; 1000]);
        drop(far);
        assert!(waiting.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn off_it_holds_nothing_back() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut gather = Gather::new(near, false);
        gather.write_all(b"now").await.unwrap();
        let mut got = [0; 3];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"now");
    }
}
