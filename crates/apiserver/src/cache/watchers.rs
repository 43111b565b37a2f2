//! Who watches a cache, by what they can hear of: a change looks up the few that it concerns.
use super::{
    Event, Kind,
    item::{Field, Filter, Item},
};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A watcher that is further behind than this is cut off.
const MAX_QUEUED: usize = 1024;
/// Room for so many is kept once it was needed.
const KEPT_QUEUED: usize = 8;

/// What is sent to one watcher.
#[derive(Debug, Clone)]
pub enum Delivery {
    Event(Arc<Event>, Kind),
    Bookmark(u64),
}

pub struct Subscription {
    pub backlog: VecDeque<(Arc<Event>, Kind)>,
    pub receiver: Receiver,
}

impl Subscription {
    /// `None` when the watcher has been cut off.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.backlog.pop_front() {
            Some((event, kind)) => Some(Delivery::Event(event, kind)),
            None => poll_fn(|cx| self.receiver.poll_recv(cx)).await,
        }
    }
}

/// What a watcher has not taken yet. Whoever puts something in is given the waker: all who hear of
/// a change have it before the first of them wakes up, so that those of one connection are
/// awake together.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Delivery>,
    waker: Option<Waker>,
    /// Nothing more will come, or nobody is there to take it.
    closed: bool,
}

struct Sender(Arc<Mutex<Queue>>);

/// The watcher's end.
pub struct Receiver(Arc<Mutex<Queue>>);

/// The watcher has gone, or is too far behind.
struct Lost;

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn channel() -> (Sender, Receiver) {
    let queue = Arc::default();
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl Sender {
    fn send(&self, delivery: Delivery) -> Result<Option<Waker>, Lost> {
        let mut queue = lock(&self.0);
        if queue.closed || queue.waiting.len() >= MAX_QUEUED {
            return Err(Lost);
        }
        queue.waiting.push_back(delivery);
        Ok(queue.waker.take())
    }
    fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let waker = {
            let mut queue = lock(&self.0);
            queue.closed = true;
            queue.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Receiver {
    /// What was sent comes even after the sender has gone.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let mut queue = lock(&self.0);
        if let Some(delivery) = queue.waiting.pop_front() {
            // An idle watch holds no memory for what once was.
            if queue.waiting.is_empty() && queue.waiting.capacity() > KEPT_QUEUED {
                queue.waiting = VecDeque::new();
            }
            return Poll::Ready(Some(delivery));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        match &mut queue.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.closed = true;
        queue.waiting = VecDeque::new();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Interest {
    All,
    Namespace(Box<str>),
    Name(Box<str>, Box<str>),
    /// A selectable field with this value.
    Field(usize, Box<str>),
}

/// What a watcher wants to hear of.
#[derive(Debug, Clone)]
pub struct Wish {
    pub filter: Filter,
    /// Empty: all.
    pub namespace: Box<str>,
    pub bookmarks: bool,
    /// The connection that it watches over.
    pub peer: Option<SocketAddr>,
}

struct Watcher {
    wish: Wish,
    sender: Sender,
}

#[derive(Default)]
pub(crate) struct Watchers {
    /// Those of one connection stand together, so that what they hear goes out together.
    by_interest: HashMap<Interest, Vec<Watcher>>,
    /// The fields that someone is interested in.
    fields: Vec<usize>,
}

impl Watchers {
    pub(crate) fn add(&mut self, wish: Wish) -> Receiver {
        let (sender, receiver) = channel();
        let Wish { filter, namespace, .. } = &wish;
        let field = filter.fields.iter().find_map(|term| match term.field {
            Field::Row(index) if term.equal => Some((index, term.value.as_str())),
            _ => None,
        });
        let interest = match (filter.name(), field) {
            (Some(name), _) if !namespace.is_empty() => {
                Interest::Name(namespace.clone(), name.into())
            }
            (_, Some((index, value))) => {
                if !self.fields.contains(&index) {
                    self.fields.push(index);
                }
                Interest::Field(index, value.into())
            }
            _ if !namespace.is_empty() => Interest::Namespace(namespace.clone()),
            _ => Interest::All,
        };
        let watchers = self.by_interest.entry(interest).or_default();
        let at = watchers.partition_point(|watcher| watcher.wish.peer <= wish.peer);
        watchers.insert(at, Watcher { wish, sender });
        receiver
    }

    /// Gives the change to all whom it concerns; they wait to be woken.
    #[must_use]
    pub(crate) fn dispatch(&mut self, event: &Arc<Event>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let Some(item) = event.new.as_ref().or(event.old.as_ref()) else { return wakers };
        let mut interests = vec![Interest::All];
        let namespace: Box<str> = item.namespace().into();
        if !namespace.is_empty() {
            interests.push(Interest::Name(namespace.clone(), item.name().into()));
            interests.push(Interest::Namespace(namespace));
        }
        for index in &self.fields {
            let value = |item: &Arc<Item>| Box::<str>::from(item.field(Field::Row(*index)));
            let (old, new) = (event.old.as_ref().map(value), event.new.as_ref().map(value));
            let second = (old != new).then_some(old).flatten();
            interests.extend(new.into_iter().chain(second).map(|v| Interest::Field(*index, v)));
        }
        for interest in interests {
            let Some(watchers) = self.by_interest.get_mut(&interest) else { continue };
            watchers.retain(|watcher| watcher.hears(item, event, &mut wakers));
            if watchers.is_empty() {
                self.by_interest.remove(&interest);
            }
        }
        wakers
    }

    /// Also forgets the watchers that have gone away.
    pub(crate) fn bookmark(&mut self, revision: u64) {
        for watchers in self.by_interest.values_mut() {
            watchers.retain(|watcher| {
                if watcher.wish.bookmarks
                    // A full queue will carry a newer revision than this anyway.
                    && let Ok(waker) = watcher.sender.send(Delivery::Bookmark(revision))
                {
                    waker.into_iter().for_each(Waker::wake);
                }
                !watcher.sender.is_closed()
            });
        }
        self.by_interest.retain(|_, watchers| !watchers.is_empty());
    }
}

impl Watcher {
    /// Whether to keep the watcher.
    fn hears(&self, item: &Item, event: &Arc<Event>, wakers: &mut Vec<Waker>) -> bool {
        let Wish { filter, namespace, .. } = &self.wish;
        if !namespace.is_empty() && **namespace != *item.namespace() {
            return true;
        }
        match event.seen_by(filter) {
            Some(kind) => match self.sender.send(Delivery::Event(Arc::clone(event), kind)) {
                Ok(waker) => {
                    wakers.extend(waker);
                    true
                }
                Err(Lost) => false,
            },
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;

    #[test]
    fn what_was_sent_comes_and_the_sender_is_given_the_waker() {
        let (sender, mut receiver) = channel();
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(receiver.poll_recv(&mut cx).is_pending());
        assert!(matches!(sender.send(Delivery::Bookmark(1)), Ok(Some(_))));
        assert!(matches!(sender.send(Delivery::Bookmark(2)), Ok(None)), "it is awake already");
        drop(sender);
        for want in [1, 2] {
            let got = receiver.poll_recv(&mut cx);
            assert!(matches!(got, Poll::Ready(Some(Delivery::Bookmark(at))) if at == want));
        }
        assert!(matches!(receiver.poll_recv(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn who_is_too_far_behind_or_gone_is_lost() {
        let (sender, mut receiver) = channel();
        for at in 0..MAX_QUEUED {
            assert!(sender.send(Delivery::Bookmark(at as u64)).is_ok());
        }
        assert!(sender.send(Delivery::Bookmark(0)).is_err());
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(receiver.poll_recv(&mut cx).is_ready());
        assert!(sender.send(Delivery::Bookmark(0)).is_ok());
        drop(receiver);
        assert!(sender.is_closed() && sender.send(Delivery::Bookmark(0)).is_err());
    }
}
