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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::oneshot;

    /// Counts its turns, and never ends.
    struct Turns(Arc<AtomicUsize>);

    impl Future for Turns {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        }
    }

    /// A stream that wakes itself, as one that has just sent does, and then waits.
    fn eager(done: Arc<AtomicUsize>) -> impl Future<Output = ()> + Send {
        let mut first = true;
        poll_fn(move |cx| {
            if std::mem::take(&mut first) {
                cx.waker().wake_by_ref();
            } else {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Poll::Pending
        })
    }

    #[test]
    fn all_streams_have_their_turn_before_the_connection() {
        let (streams, turns, done) = (Streams::default(), Arc::default(), Arc::default());
        let mut connection = Connection::new(Turns(Arc::clone(&turns)), streams.clone());
        let mut cx = Context::from_waker(noop_waker_ref());
        for _ in 0..100 {
            streams.execute(eager(Arc::clone(&done)));
        }
        assert!(Pin::new(&mut connection).poll(&mut cx).is_pending());
        assert_eq!(done.load(Ordering::Relaxed), 100);
        // Once to take them, and once for what they have sent.
        assert_eq!(turns.load(Ordering::Relaxed), 2);
        // Nothing to do: no stream is asked.
        assert!(Pin::new(&mut connection).poll(&mut cx).is_pending());
        assert_eq!((done.load(Ordering::Relaxed), turns.load(Ordering::Relaxed)), (100, 3));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_ends() {
        let (guard, gone) = oneshot::channel::<()>();
        let work = apart(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        drop(work);
        assert!(gone.await.is_err());
        assert_eq!(apart(async { 7 }).await, 7);
    }
}
