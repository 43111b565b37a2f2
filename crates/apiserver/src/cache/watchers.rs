//! Who watches a cache, by what they can hear of: a change looks up the few that it concerns.
use super::{
    Event, Kind,
    item::{Field, Filter, Item},
};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A watcher that is further behind than this is cut off.
const MAX_QUEUED: usize = 1024;

/// What is sent to one watcher.
#[derive(Debug, Clone)]
pub enum Delivery {
    Event(Arc<Event>, Kind),
    Bookmark(u64),
}

pub struct Subscription {
    pub backlog: VecDeque<(Arc<Event>, Kind)>,
    pub receiver: mpsc::Receiver<Delivery>,
}

impl Subscription {
    /// `None` when the watcher has been cut off.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.backlog.pop_front() {
            Some((event, kind)) => Some(Delivery::Event(event, kind)),
            None => self.receiver.recv().await,
        }
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

struct Watcher {
    filter: Filter,
    namespace: Box<str>,
    bookmarks: bool,
    sender: mpsc::Sender<Delivery>,
}

#[derive(Default)]
pub(crate) struct Watchers {
    by_interest: HashMap<Interest, Vec<Watcher>>,
    /// The fields that someone is interested in.
    fields: Vec<usize>,
}

impl Watchers {
    pub(crate) fn add(
        &mut self,
        namespace: &str,
        filter: Filter,
        bookmarks: bool,
    ) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let field = filter.fields.iter().find_map(|term| match term.field {
            Field::Row(index) if term.equal => Some((index, term.value.as_str())),
            _ => None,
        });
        let interest = match (filter.name(), field) {
            (Some(name), _) if !namespace.is_empty() => {
                Interest::Name(namespace.into(), name.into())
            }
            (_, Some((index, value))) => {
                if !self.fields.contains(&index) {
                    self.fields.push(index);
                }
                Interest::Field(index, value.into())
            }
            _ if !namespace.is_empty() => Interest::Namespace(namespace.into()),
            _ => Interest::All,
        };
        let watcher = Watcher { filter, namespace: namespace.into(), bookmarks, sender };
        self.by_interest.entry(interest).or_default().push(watcher);
        receiver
    }

    pub(crate) fn dispatch(&mut self, event: &Arc<Event>) {
        let Some(item) = event.new.as_ref().or(event.old.as_ref()) else { return };
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
            watchers.retain(|watcher| watcher.hears(item, event));
            if watchers.is_empty() {
                self.by_interest.remove(&interest);
            }
        }
    }

    /// Also forgets the watchers that have gone away.
    pub(crate) fn bookmark(&mut self, revision: u64) {
        for watchers in self.by_interest.values_mut() {
            watchers.retain(|watcher| {
                if watcher.bookmarks {
                    // A full queue will carry a newer revision than this anyway.
                    let _ = watcher.sender.try_send(Delivery::Bookmark(revision));
                }
                !watcher.sender.is_closed()
            });
        }
        self.by_interest.retain(|_, watchers| !watchers.is_empty());
    }
}

impl Watcher {
    /// Whether to keep the watcher.
    fn hears(&self, item: &Item, event: &Arc<Event>) -> bool {
        if !self.namespace.is_empty() && *self.namespace != *item.namespace() {
            return true;
        }
        match event.seen_by(&self.filter) {
            Some(kind) => self.sender.try_send(Delivery::Event(Arc::clone(event), kind)).is_ok(),
            None => true,
        }
    }
}
