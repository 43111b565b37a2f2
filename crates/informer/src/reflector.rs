//! Follows a collection: its state once, then every change, across broken connections.
//!
//! The state comes through the watch itself (`sendInitialEvents`); a server that cannot do that
//! is listed in pages first. A `410` starts over; any other end resumes where it was.
use crate::Backoff;
use api::{Kind, Revision};
use bytes::Bytes;
use client::{Client, Error, ListParams, Resource, WatchEvent, WatchParams};
use futures_util::StreamExt;
use serde_json::value::RawValue;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::time::Instant;

/// What a follower is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<T> {
    /// Everything that is there; whatever else was known is gone.
    Reset { items: Vec<T>, revision: Revision },
    /// Added or modified.
    Changed { object: T, revision: Revision },
    /// With the object as it was last.
    Deleted { object: T, revision: Revision },
    /// Nothing changed up to here.
    Progress { revision: Revision },
}

#[derive(Clone)]
pub struct Reflector {
    pub client: Client,
    pub resource: Resource,
    pub namespace: Option<String>,
    pub label_selector: String,
    pub field_selector: String,
    pub metadata_only: bool,
}

const FIRST_WAIT: Duration = Duration::from_millis(100);
const MOST_WAIT: Duration = Duration::from_secs(30);
/// A watch that lasted this long ended for no reason that would end the next one at once.
const LASTED: Duration = Duration::from_secs(1);
const PAGE_LIMIT: u32 = 500;

impl Reflector {
    pub fn new(client: Client, resource: Resource) -> Self {
        Self {
            client,
            resource,
            namespace: None,
            label_selector: String::new(),
            field_selector: String::new(),
            metadata_only: false,
        }
    }
    /// Only what matches, for example `spec.nodeName=a`.
    #[must_use]
    pub fn fields(self, field_selector: impl Into<String>) -> Self {
        Self { field_selector: field_selector.into(), ..self }
    }
    #[must_use]
    pub fn labels(self, label_selector: impl Into<String>) -> Self {
        Self { label_selector: label_selector.into(), ..self }
    }
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..self }
    }
    /// Never returns: drop it to stop.
    pub async fn run<K: Kind>(&self, sink: impl FnMut(Step<K>) + Send) {
        let decode = |json: &[u8]| {
            let object: K = serde_json::from_slice(json)?;
            let revision = object.revision();
            Ok((object, revision))
        };
        self.run_raw(decode, sink).await;
    }
    /// As [`Self::run`], with any way to decode. What cannot be decoded is left out.
    pub async fn run_raw<T: Send>(
        &self,
        decode: impl Fn(&[u8]) -> Result<(T, Revision), serde_json::Error> + Send + Sync,
        sink: impl FnMut(Step<T>) + Send,
    ) {
        let mut follow = Follow {
            reflector: self,
            decode: &decode,
            sink,
            at: None,
            watch_list: true,
            backoff: Backoff::new(FIRST_WAIT, MOST_WAIT),
            kind: PhantomData,
        };
        loop {
            let started = Instant::now();
            let end = follow.once().await;
            if started.elapsed() >= LASTED {
                follow.backoff.reset();
            }
            match end {
                Ok(()) if started.elapsed() >= LASTED => continue,
                Ok(()) => {}
                Err(error) => follow.failed(&error),
            }
            let wait = follow.backoff.next_wait();
            tokio::time::sleep(wait).await;
        }
    }
}

struct Follow<'a, T, D, S> {
    reflector: &'a Reflector,
    decode: &'a D,
    sink: S,
    /// Where to resume; nothing while the state is not known.
    at: Option<Revision>,
    watch_list: bool,
    backoff: Backoff,
    kind: PhantomData<fn() -> T>,
}

impl<T, D, S> Follow<'_, T, D, S>
where
    D: Fn(&[u8]) -> Result<(T, Revision), serde_json::Error>,
    S: FnMut(Step<T>),
{
    fn failed(&mut self, error: &Error) {
        let plural = &*self.reflector.resource.plural;
        if error.is_expired() {
            tracing::debug!(plural, "the revision to resume from is gone");
            self.at = None;
        } else if self.at.is_none() && self.watch_list && matches!(error.code(), 400 | 422) {
            self.watch_list = false;
        } else if error.is_transient() || error.is_not_found() {
            // A custom kind that went is not told of: who follows it hears of it elsewhere.
            tracing::debug!(plural, error = %Chain(error), "the watch broke");
        } else {
            tracing::warn!(plural, error = %Chain(error), "cannot watch");
        }
    }
    async fn once(&mut self) -> Result<(), Error> {
        if self.at.is_none() && !self.watch_list {
            self.list().await?;
        }
        let reflector = self.reflector;
        let resource_version = self.at.map(|at| at.to_string()).unwrap_or_default();
        let params = WatchParams {
            label_selector: reflector.label_selector.clone(),
            field_selector: reflector.field_selector.clone(),
            resource_version,
            send_initial_events: self.at.is_none(),
            bookmarks: true,
            timeout_seconds: None,
            metadata_only: reflector.metadata_only,
        };
        let namespace = reflector.namespace.as_deref();
        let mut watch = reflector.client.watch_raw(&reflector.resource, namespace, &params).await?;
        let mut initial = Vec::new();
        while let Some(event) = watch.next().await {
            self.event(event?, &mut initial);
        }
        Ok(())
    }
    fn event(&mut self, event: WatchEvent<Bytes>, initial: &mut Vec<T>) {
        match event {
            WatchEvent::Added(json) | WatchEvent::Modified(json) => {
                let Some((object, revision)) = self.decoded(&json) else { return };
                if self.at.is_none() {
                    initial.push(object);
                    return;
                }
                self.at = self.at.max(Some(revision));
                (self.sink)(Step::Changed { object, revision });
            }
            WatchEvent::Deleted(json) => {
                let Some((object, revision)) = self.decoded(&json) else { return };
                self.at = self.at.max(Some(revision));
                (self.sink)(Step::Deleted { object, revision });
            }
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                let Ok(revision) = resource_version.parse().map(Revision) else { return };
                if self.at.is_none() {
                    if !initial_events_end {
                        return;
                    }
                    self.at = Some(revision);
                    (self.sink)(Step::Reset { items: std::mem::take(initial), revision });
                    return;
                }
                self.at = self.at.max(Some(revision));
                (self.sink)(Step::Progress { revision });
            }
        }
    }
    fn decoded(&self, json: &[u8]) -> Option<(T, Revision)> {
        match (self.decode)(json) {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                let plural = &*self.reflector.resource.plural;
                tracing::error!(plural, %error, "an object that cannot be decoded is left out");
                None
            }
        }
    }
    async fn list(&mut self) -> Result<(), Error> {
        let reflector = self.reflector;
        let mut params = ListParams {
            label_selector: reflector.label_selector.clone(),
            field_selector: reflector.field_selector.clone(),
            limit: Some(PAGE_LIMIT),
            metadata_only: reflector.metadata_only,
            ..ListParams::default()
        };
        let mut items = Vec::new();
        loop {
            let namespace = reflector.namespace.as_deref();
            let page = reflector
                .client
                .list_as::<Box<RawValue>>(&reflector.resource, namespace, &params)
                .await?;
            items.extend(
                page.items.iter().filter_map(|json| Some(self.decoded(json.get().as_bytes())?.0)),
            );
            if page.continue_token.is_empty() {
                let revision = Revision(page.resource_version.parse().unwrap_or_default());
                self.at = Some(revision);
                (self.sink)(Step::Reset { items, revision });
                return Ok(());
            }
            params.continue_token = page.continue_token;
        }
    }
}

/// An error with all that caused it, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
