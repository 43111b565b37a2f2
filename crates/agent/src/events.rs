//! Events about pods and the node, in upstream's words.
use api::k8s::api::core::v1::{Node, ObjectReference, Pod};
use informer::Recorder;
use podlife::{PodExt, Role};
use reconcile::{Note, NoteKind};
use std::borrow::Cow;

/// Writes events of one node. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    recorder: Option<Recorder>,
    #[cfg(test)]
    pub(crate) seen: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Events {
    pub fn new(recorder: Option<Recorder>) -> Self {
        Self {
            recorder,
            #[cfg(test)]
            seen: Default::default(),
        }
    }

    pub fn pod(&self, pod: &Pod, kind: NoteKind, reason: &'static str, message: String) {
        self.record(reference(pod), kind, reason, message);
    }

    pub fn pod_named(&self, pod: &Pod, kind: NoteKind, reason: String, message: String) {
        self.send(Note::new(reference(pod), kind, reason, message));
    }

    /// About one of the pod's containers.
    pub fn container(
        &self,
        pod: &Pod,
        container: (&str, Role),
        kind: NoteKind,
        reason: &'static str,
        message: String,
    ) {
        let (name, role) = container;
        let list = match role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::Main => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        let field_path = Some(format!("spec.{list}{{{name}}}"));
        let about = ObjectReference { field_path, ..reference(pod) };
        self.record(about, kind, reason, message);
    }

    pub fn node(
        &self,
        node: &Node,
        kind: NoteKind,
        reason: impl Into<Cow<'static, str>>,
        message: String,
    ) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: node.metadata.name.clone(),
            uid: node.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.send(Note::new(about, kind, reason, message));
    }

    fn record(
        &self,
        about: ObjectReference,
        kind: NoteKind,
        reason: &'static str,
        message: String,
    ) {
        self.send(Note::new(about, kind, reason, message));
    }

    fn send(&self, note: Note) {
        #[cfg(test)]
        if let Ok(mut seen) = self.seen.lock() {
            seen.push(format!("{} {}", note.reason, note.message));
        }
        if let Some(recorder) = &self.recorder {
            recorder.record(note);
        }
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace().to_owned()),
        name: Some(pod.name().to_owned()),
        uid: Some(pod.uid().to_owned()),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}
