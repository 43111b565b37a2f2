//! Writing the pod's status: one write at a time, the newest state only, nothing when nothing
//! changed.
use super::{Done, Worker};
use crate::seams::chain;
use crate::statics;
use api::k8s::api::core::v1::{Pod, PodStatus};
use api::{Key, Revision};
use client::Patch;
use jiff::{SignedDuration, Timestamp};
use podlife::PodExt;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A pod that starts in less than this gets one status, not two.
const FIRST_WAIT: SignedDuration = SignedDuration::from_millis(50);
/// How long the replacement of a container is not reported.
const REPLACE_WAIT: SignedDuration = SignedDuration::from_secs(1);
const FIRST_RETRY: SignedDuration = SignedDuration::from_millis(500);
const MAX_RETRY: SignedDuration = SignedDuration::from_secs(30);

/// What is known about writing the status.
#[derive(Default)]
pub(super) struct Reporter {
    in_flight: bool,
    /// Nothing is written before this time.
    not_before: Option<Timestamp>,
    retry: Option<SignedDuration>,
    begun: bool,
    /// The last patch, and the revision that it led to: what the server drops is not sent forever.
    last: Option<(Revision, Value)>,
    sent: Value,
    dirty: bool,
}

impl Reporter {
    /// The API has the newest status.
    pub(super) fn settled(&self) -> bool {
        !self.in_flight && !self.dirty
    }
    /// Waits a little before the next try.
    pub(super) fn hold(&mut self, now: Timestamp) {
        let wait = self.retry.map_or(FIRST_RETRY, |wait| (wait * 2).min(MAX_RETRY));
        self.retry = Some(wait);
        self.not_before = Some(now + wait);
    }
}

impl Worker {
    /// Writes the status if there is something to write; returns when to look again.
    pub(super) fn report(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.orphan || self.removed || self.facts.removal_sent {
            return None;
        }
        let face = self.face()?;
        if let Some(until) = self.held_until(now) {
            return Some(until);
        }
        let status = podlife::status(&face, &self.facts, &self.shared.node, now);
        let quick = status.phase.as_deref() == Some("Pending") && !self.reporter.begun;
        let patch = patch(face.status.as_ref(), &status);
        let reporter = &mut self.reporter;
        let known = reporter.last.as_ref();
        let repeated = known
            .is_some_and(|(revision, last)| *revision == super::revision(&face) && *last == patch);
        reporter.dirty = !patch.is_null() && !repeated;
        if !reporter.dirty || reporter.in_flight {
            return None;
        }
        if quick && self.facts.verdict.is_none() {
            reporter.begun = true;
            reporter.not_before = Some(now + FIRST_WAIT);
        }
        if let Some(at) = reporter.not_before.filter(|at| *at > now) {
            let urgent = status.phase.as_deref() != Some("Pending") && reporter.retry.is_none();
            if !urgent {
                return Some(at);
            }
        }
        reporter.begun = true;
        reporter.in_flight = true;
        reporter.sent = patch.clone();
        let key = Key::new(face.namespace(), face.name());
        let body = json!({"metadata": {"uid": face.uid()}, "status": patch});
        let client = self.shared.client.clone();
        self.work.spawn(async move {
            let written = client.patch::<Pod>(&key, &Patch::Strategic(body), Some("status")).await;
            Done::Reported(written.map(Box::new))
        });
        None
    }

    /// The moment between two images of a container is no news, if it is short.
    fn held_until(&self, now: Timestamp) -> Option<Timestamp> {
        let since = self.replacing.values().max()?;
        let until = since.checked_add(REPLACE_WAIT).ok()?;
        (until > now && self.pod.deletion().is_none()).then_some(until)
    }

    /// The object in the API that shows this pod; a static pod may have none yet.
    fn face(&self) -> Option<Arc<Pod>> {
        if statics::is_static(&self.pod) { self.mirror.clone() } else { Some(self.pod.clone()) }
    }

    pub(super) fn reported(&mut self, result: Result<Box<Pod>, client::Error>, now: Timestamp) {
        self.reporter.in_flight = false;
        match result {
            Ok(pod) => {
                self.reporter.retry = None;
                self.reporter.not_before = None;
                let sent = std::mem::take(&mut self.reporter.sent);
                self.reporter.last = Some((super::revision(&pod), sent));
                match statics::is_static(&self.pod) {
                    true => self.mirror = self.mirror.is_some().then(|| Arc::new(*pod)),
                    false if !self.orphan => self.update(Arc::new(*pod)),
                    false => {}
                }
            }
            // Deleted, or another pod has the name: the watch tells soon, or has told.
            Err(error) if matches!(error.code(), 404 | 409) => self.reporter.hold(now),
            Err(error) => {
                let text = chain(&error);
                tracing::debug!(pod = %self.pod.written(), error = text, "status not written yet");
                self.reporter.hold(now);
            }
        }
    }
}

/// What turns the old status into the new one, as a strategic merge patch; null if nothing does.
pub(crate) fn patch(old: Option<&PodStatus>, new: &PodStatus) -> Value {
    let map = |status: Option<&PodStatus>| match status.map(serde_json::to_value) {
        Some(Ok(Value::Object(map))) => map,
        _ => Map::new(),
    };
    let (old, new) = (map(old), map(Some(new)));
    let mut patch = Map::new();
    for (key, value) in &new {
        if old.get(key) == Some(value) {
            continue;
        }
        let before = old.get(key);
        let change = match key.as_str() {
            "conditions" => changed(before, value, "type"),
            "podIPs" | "hostIPs" => addresses(before, value),
            _ => value.clone(),
        };
        patch.insert(key.clone(), change);
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    if patch.is_empty() { Value::Null } else { Value::Object(patch) }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The elements that are new or differ; none is ever removed. An element is merged into the one
/// that is there, so that what it has no more must be said.
fn changed(old: Option<&Value>, new: &Value, key: &str) -> Value {
    let mut out = Vec::new();
    for item in items(Some(new)) {
        let known = items(old).iter().find(|known| known[key] == item[key]);
        if known == Some(item) {
            continue;
        }
        let mut item = item.clone();
        for name in known.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            if item.get(name).is_none() {
                item[name.as_str()] = Value::Null;
            }
        }
        out.push(item);
    }
    out.into()
}

fn addresses(old: Option<&Value>, new: &Value) -> Value {
    let kept = |ip: &Value| items(Some(new)).iter().any(|item| item["ip"] == *ip);
    let gone = items(old).iter().filter(|item| !kept(&item["ip"]));
    let gone = gone.map(|item| json!({"ip": item["ip"], "$patch": "delete"}));
    items(Some(new)).iter().cloned().chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn patches_hold_only_what_changed() {
        let old = status(json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1"}],
            "conditions": [{"type": "A", "status": "True"},
                           {"type": "B", "status": "True", "reason": "y"}]}));
        assert_eq!(patch(Some(&old), &old), Value::Null);
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "2"}],
            "conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "False"}]}));
        let want = json!({"phase": "Running", "reason": null,
            "podIPs": [{"ip": "2"}, {"ip": "1", "$patch": "delete"}],
            "conditions": [{"type": "B", "status": "False", "reason": null}]});
        assert_eq!(patch(Some(&old), &new), want);
        assert_eq!(patch(None, &status(json!({"phase": "Pending"}))), json!({"phase": "Pending"}));
    }
}
