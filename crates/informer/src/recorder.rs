//! Writes events, in the background, one after the other: what they tell of goes before them.
//! Losing one is never an error for who reports it.
use crate::correlate::{Correlator, Verdict};
use crate::reflector::Chain;
use api::Key;
use api::k8s::api::core::v1::Event;
use client::{Client, Patch, Resource};
use reconcile::{Note, NoteKind, Now};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Events waiting to be written; more are dropped.
const WAITING_MAX: usize = 8192;

/// Reports as one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    /// With the time at which it was so.
    sender: mpsc::Sender<(Note, Now)>,
}

struct Writer {
    client: Client,
    component: Arc<str>,
    /// The node's name, for components of a node.
    host: Arc<str>,
}

impl Recorder {
    /// Its task ends when the last clone is dropped.
    pub fn start(client: Client, component: &str, host: &str) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Note, Now)>(WAITING_MAX);
        let writer = Writer { client, component: Arc::from(component), host: Arc::from(host) };
        tokio::spawn(async move {
            let mut correlator = Correlator::default();
            while let Some((note, at)) = receiver.recv().await {
                let verdict = correlator.judge(&note, at, || name(&note, at));
                writer.write(note, verdict, at).await;
            }
        });
        Self { sender }
    }
    pub fn record(&self, note: Note) {
        if self.sender.try_send((note, Now::now())).is_err() {
            tracing::debug!("an event is dropped: too many are waiting");
        }
    }
}

impl Writer {
    async fn write(&self, note: Note, verdict: Verdict, now: Now) {
        let result = match verdict {
            Verdict::Drop => return,
            Verdict::Create { name, message } => self.create(&name, &note, &message, 1, now).await,
            Verdict::Repeat { name, count, message } => {
                let resource = Resource::of::<Event>();
                let key = Key::new(namespace(&note), &name);
                let patch = Patch::Merge(repeat(&note, &message, count, now));
                match self.client.patch_value(&resource, &key, &patch, None).await {
                    Err(error) if error.is_not_found() => {
                        self.create(&name, &note, &message, count, now).await
                    }
                    Err(error) => Err(error),
                    Ok(_) => Ok(()),
                }
            }
        };
        match result {
            Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => {
                tracing::debug!(reason = %note.reason, error = %Chain(&error), "no event written");
            }
            _ => {}
        }
    }
    async fn create(
        &self,
        name: &str,
        note: &Note,
        message: &str,
        count: u32,
        now: Now,
    ) -> Result<(), client::Error> {
        let event = self.event(name, note, message, count, now);
        let resource = Resource::of::<Event>();
        self.client.send_value(&resource, Some(namespace(note)), &event).await
    }
    fn event(&self, name: &str, note: &Note, message: &str, count: u32, now: Now) -> Value {
        let mut event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": namespace(note) },
            "involvedObject": note.about,
            "reason": note.reason,
            "message": message,
            "type": match note.kind { NoteKind::Normal => "Normal", NoteKind::Warning => "Warning" },
            "reportingComponent": *self.component,
            "reportingInstance": *self.host,
        });
        if let Some(action) = note.action {
            event["action"] = json!(action);
            event["eventTime"] = json!(micro(now));
            event["source"] = json!({});
            if self.host.is_empty() {
                event["reportingInstance"] = json!(*self.component);
            }
        } else {
            event["source"] = json!({ "component": *self.component });
            if !self.host.is_empty() {
                event["source"]["host"] = json!(*self.host);
            }
            event["firstTimestamp"] = json!(seconds(now));
            event["lastTimestamp"] = json!(seconds(now));
            event["count"] = json!(count);
        }
        event
    }
}

fn repeat(note: &Note, message: &str, count: u32, now: Now) -> Value {
    if note.action.is_some() {
        json!({ "series": { "count": count, "lastObservedTime": micro(now) } })
    } else {
        json!({ "message": message, "count": count, "lastTimestamp": seconds(now) })
    }
}

/// Events about cluster-scoped objects are kept in `default`.
fn namespace(note: &Note) -> &str {
    match note.about.namespace.as_deref() {
        None | Some("") => "default",
        Some(namespace) => namespace,
    }
}

/// After the object and the time.
fn name(note: &Note, now: Now) -> String {
    format!("{}.{:x}", note.about.name.as_deref().unwrap_or_default(), unique(now))
}

/// The time in nanoseconds, or the next number that was not given out yet.
fn unique(now: Now) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let nanos = u64::try_from(now.as_nanosecond()).unwrap_or_default();
    let next = |last: u64| Some(nanos.max(last + 1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
    nanos.max(last + 1)
}

fn seconds(now: Now) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn micro(now: Now) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
