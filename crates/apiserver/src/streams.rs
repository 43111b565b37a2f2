//! All streams of an HTTP/2 connection in the connection's own task.
//!
//! What a thousand watches hear of at once is sent connection by connection: each is woken once,
//! hands its streams' frames on together, and writes them, while the next has its turn on another
//! processor. Streams only hand frames on; what works out an answer has a task of its own
//! ([`apart`]), so that one request does not wait for another.
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::task::JoinHandle;

type Stream = BoxFuture<'static, ()>;

/// Takes the streams that a connection begins; [`Connection`] runs them.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<Vec<Stream>>>);

impl Streams {
    fn take(&self) -> Vec<Stream> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

/// A connection with its streams, which end with it.
pub(crate) struct Connection<C> {
    pub(crate) connection: C,
    begun: Streams,
    open: FuturesUnordered<Stream>,
    woken: Arc<Woken>,
}

/// Whether a stream has something to do.
#[derive(Default)]
struct Woken {
    flag: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<C> Connection<C> {
    /// `begun` is the executor that the connection was given.
    pub(crate) fn new(connection: C, begun: Streams) -> Self {
        Self { connection, begun, open: FuturesUnordered::new(), woken: Arc::default() }
    }

    /// Gives every stream that has something to do its turn, also those that this one woke.
    fn poll_streams(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..=self.open.len() {
            if !self.woken.flag.swap(false, Ordering::AcqRel) {
                return;
            }
            while let Poll::Ready(Some(())) = self.open.poll_next_unpin(&mut cx) {}
        }
    }
}

impl<C: Future + Unpin> Future for Connection<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        self.woken.task.register(cx.waker());
        loop {
            // First, so that what they send goes out in this turn.
            self.poll_streams();
            let ended = Pin::new(&mut self.connection).poll(cx);
            let begun = self.begun.take();
            if ended.is_ready() || begun.is_empty() {
                return ended;
            }
            self.open.extend(begun);
            self.woken.flag.store(true, Ordering::Release);
        }
    }
}

/// Runs in a task of its own, which ends when what waits for it does.
pub(crate) fn apart<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> {
    let mut task = Apart(tokio::spawn(work));
    async move {
        match (&mut task.0).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Ended with the runtime, as this will be.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

struct Apart<T>(JoinHandle<T>);

impl<T> Drop for Apart<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
