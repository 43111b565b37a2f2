//! What the scheduler writes: bindings, conditions, evictions, events.
use crate::Input;
use api::k8s::api::core::v1::{Binding, Node, ObjectReference, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::{Key, Kind};
use client::{Client, DeleteParams, Patch, Resource};
use informer::Recorder;
use placement::PodInfo;
use reconcile::{Note, NoteKind, object_reference};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

/// Bindings on their way at once.
const BINDINGS_MAX: usize = 128;

type Report = Arc<dyn Fn(Input) + Send + Sync>;

pub(crate) struct Actor {
    client: Client,
    recorder: Recorder,
    report: Report,
    busy: usize,
    freed: Notify,
}

impl Actor {
    pub(crate) fn new(client: Client, recorder: Recorder, report: Report) -> Self {
        Self { client, recorder, report, busy: 0, freed: Notify::new() }
    }
    pub(crate) fn has_room(&self) -> bool {
        self.busy < BINDINGS_MAX
    }
    /// Done once there may be room again.
    pub(crate) async fn room(&self) {
        if self.has_room() {
            return;
        }
        self.freed.notified().await;
    }
    /// One binding has been reported.
    pub(crate) fn done(&mut self) {
        self.busy -= 1;
        self.freed.notify_one();
    }

    pub(crate) fn bind(&mut self, pod: &Arc<Pod>, node: &str) {
        self.busy += 1;
        let (client, recorder, report) =
            (self.client.clone(), self.recorder.clone(), self.report.clone());
        let (pod, node) = (pod.clone(), node.to_owned());
        tokio::spawn(async move {
            let key = pod.key();
            let binding = Binding {
                metadata: ObjectMeta {
                    name: Some(key.name.clone()),
                    namespace: Some(key.namespace.clone()),
                    uid: Some(pod.uid().to_owned()),
                    ..ObjectMeta::default()
                },
                target: ObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Node".to_owned()),
                    name: Some(node.clone()),
                    ..ObjectReference::default()
                },
            };
            let resource = Resource::of::<Pod>();
            let bound = client.create_sub(&resource, &key, "binding", &binding).await;
            match &bound {
                Ok(_) => {
                    let message = format!("Successfully assigned {key} to {node}");
                    recorder.record(note(&pod, NoteKind::Normal, "Scheduled", "Binding", message));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::warn!(pod = %key, node, %error, "a binding was refused");
                    let message = format!("Binding rejected: {error}");
                    let kind = NoteKind::Warning;
                    recorder.record(note(&pod, kind, "FailedScheduling", "Scheduling", message));
                }
            }
            report(Input::Bound { uid: pod.uid().to_owned(), failed: bound.is_err() });
        });
    }

    /// `nominated` is the node that room is made on, or nothing if that has changed nothing.
    pub(crate) fn tell_refused(
        &self,
        pod: &Arc<Pod>,
        message: &str,
        nominated: Option<Option<&str>>,
    ) {
        let text = message.to_owned();
        let kind = NoteKind::Warning;
        self.recorder.record(note(pod, kind, "FailedScheduling", "Scheduling", text));
        let mut status = unschedulable(pod, "Unschedulable", message).unwrap_or_else(|| json!({}));
        let known = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
        if let Some(nominated) = nominated.filter(|nominated| *nominated != known) {
            status["nominatedNodeName"] = json!(nominated);
        }
        self.patch_status(pod, status);
    }

    pub(crate) fn tell_nominated(&self, pod: &Arc<Pod>, node: Option<&str>) {
        self.patch_status(pod, json!({"nominatedNodeName": node}));
    }

    pub(crate) fn tell_gated(&self, pod: &Arc<Pod>) {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        if let Some(status) = unschedulable(pod, "SchedulingGated", message) {
            self.patch_status(pod, status);
        }
    }

    fn patch_status(&self, pod: &Arc<Pod>, status: Value) {
        if status.as_object().is_some_and(|status| status.is_empty()) {
            return;
        }
        let (client, pod) = (self.client.clone(), pod.clone());
        tokio::spawn(async move {
            let body = json!({"metadata": {"uid": pod.uid()}, "status": status});
            let patch = Patch::Strategic(body);
            let (resource, key) = (Resource::of::<Pod>(), pod.key());
            let done = client.patch_value(&resource, &key, &patch, Some("status"));
            if let Err(error) = done.await
                && !error.is_not_found()
            {
                tracing::warn!(pod = %key, %error, "cannot tell why a pod is not scheduled");
            }
        });
    }

    /// Evicts the victims.
    pub(crate) fn preempt(&self, pod: &Arc<Pod>, node: &str, victims: Vec<Arc<PodInfo>>) {
        for victim in victims {
            let (client, recorder) = (self.client.clone(), self.recorder.clone());
            let report = self.report.clone();
            let (pod, node) = (pod.clone(), node.to_owned());
            tokio::spawn(async move {
                let key = Key::new(victim.namespace.clone(), victim.name.clone());
                let condition = json!({
                    "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                    "message": format!("{}: preempting to accommodate a higher priority pod", super::NAME),
                    "lastTransitionTime": now(),
                });
                let body =
                    json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}});
                let resource = Resource::of::<Pod>();
                let patch = Patch::Strategic(body);
                let told = client.patch_value(&resource, &key, &patch, Some("status")).await;
                let params = DeleteParams::of_uid(victim.uid.clone());
                let deleted = match told {
                    Ok(_) => client.delete_value(&resource, &key, &params).await.map(drop),
                    Err(error) => Err(error),
                };
                match deleted {
                    Ok(()) => {
                        let about = json!({
                            "apiVersion": "v1", "kind": "Pod", "namespace": victim.namespace,
                            "name": victim.name, "uid": victim.uid,
                        });
                        let message = format!("Preempted by pod {} on node {node}", pod.uid());
                        if let Ok(about) = serde_json::from_value(about) {
                            let mut note = Note::new(about, NoteKind::Normal, "Preempted", message);
                            note.action = Some("Preempting");
                            recorder.record(note);
                        }
                    }
                    Err(error) if error.is_not_found() => {}
                    Err(error) => {
                        tracing::warn!(victim = %key, %error, "cannot preempt a pod");
                        let uid = pod.uid().to_owned();
                        report(Input::Spared { uid, victim: victim.uid.clone() });
                    }
                }
            });
        }
    }
}

fn now() -> Value {
    json!(api::k8s::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A status in which `PodScheduled` is false, unless the pod says just this already.
fn unschedulable(pod: &Pod, reason: &str, message: &str) -> Option<Value> {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let known = conditions.into_iter().find(|c| c.type_ == "PodScheduled");
    let same = known.is_some_and(|known| {
        known.status == "False"
            && known.reason.as_deref() == Some(reason)
            && known.message.as_deref() == Some(message)
    });
    if same {
        return None;
    }
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
    });
    let since = known.filter(|known| known.status == "False");
    condition["lastTransitionTime"] = since
        .and_then(|known| serde_json::to_value(&known.last_transition_time).ok())
        .filter(|time| !time.is_null())
        .unwrap_or_else(now);
    Some(json!({"conditions": [condition]}))
}

fn note(
    pod: &Pod,
    kind: NoteKind,
    reason: &'static str,
    action: &'static str,
    message: String,
) -> Note {
    let mut note = Note::new(object_reference(pod), kind, reason, message);
    note.action = Some(action);
    note
}

/// Whether a pod's change is none that decisions see: what it says of itself is not.
pub(crate) fn counts_the_same(old: &Pod, new: &Pod) -> bool {
    let going = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    old.metadata.labels == new.metadata.labels && going(old) == going(new) && old.spec == new.spec
}

/// Whether a node's change is one that decisions see: a heartbeat is not.
pub(crate) fn matters(old: &Node, new: &Node) -> bool {
    let allocatable =
        |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let spec = |node: &Node| {
        node.spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable.unwrap_or(false)))
    };
    old.metadata.labels != new.metadata.labels
        || spec(old) != spec(new)
        || allocatable(old) != allocatable(new)
}
