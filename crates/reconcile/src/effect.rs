//! Everything a controller can do, as values. Carried out in exactly one place, by the shell.
use crate::{Target, merge_diff, meta};
use api::k8s::api::core::v1::ObjectReference;
use api::{Key, Kind};
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Create {
        target: Target,
        object: Value,
        notes: Option<Box<Notes>>,
    },
    /// A merge patch. A resource version or uid in its metadata is a precondition.
    Patch {
        target: Target,
        key: Key,
        patch: Value,
        subresource: Option<&'static str>,
        notes: Option<Box<Notes>>,
    },
    /// Replaces a subresource, such as a namespace's `finalize`.
    PutSub {
        target: Target,
        key: Key,
        subresource: &'static str,
        object: Value,
    },
    /// Creates a subresource, such as a pod's `binding`.
    PostSub {
        target: Target,
        key: Key,
        subresource: &'static str,
        object: Value,
    },
    /// Only of the object with this uid.
    Delete {
        target: Target,
        key: Key,
        uid: String,
        grace_seconds: Option<u32>,
        notes: Option<Box<Notes>>,
    },
    Event(Box<Note>),
    /// Signs a certificate request and puts the certificate into its status.
    Sign(Box<SignRequest>),
    /// Carried out only if the server says that `review` (the `spec` of a `SubjectAccessReview`)
    /// is allowed.
    IfAllowed {
        review: Value,
        then: Box<Effect>,
    },
    /// Deletes whatever is left in a namespace, or of a custom resource's objects, that is being
    /// deleted, and lets it go when nothing is. Fails while something is left.
    Empty {
        target: Target,
        key: Key,
        uid: String,
    },
}

/// A certificate signing request that has been approved.
#[derive(Debug, Clone, PartialEq)]
pub struct SignRequest {
    pub key: Key,
    pub uid: String,
    pub signer_name: String,
    /// The request in PEM.
    pub request: Vec<u8>,
    pub usages: Vec<String>,
    pub expiration_seconds: Option<u32>,
}

/// Holds the key of a certificate authority; given to the shell.
pub trait Signer: Send + Sync {
    /// The certificate (and what leads to its authority) in PEM, or why there is none.
    fn sign(&self, request: &SignRequest) -> Result<Vec<u8>, String>;
}

/// An event about an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub about: ObjectReference,
    pub kind: NoteKind,
    pub reason: Cow<'static, str>,
    pub message: String,
    /// What was done, for components that report through `events.k8s.io`.
    pub action: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoteKind {
    Normal,
    Warning,
}

/// The events that tell how an effect went: `{name}` stands for the object's name, which may be
/// known only then, `{about}` for the name of what the event is about, and `{error}` for what the
/// API said.
#[derive(Debug, Clone, PartialEq)]
pub struct Notes {
    pub about: ObjectReference,
    pub done: Option<(&'static str, &'static str)>,
    pub failed: Option<(&'static str, &'static str)>,
}

impl Note {
    pub fn new(
        about: ObjectReference,
        kind: NoteKind,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { about, kind, reason: reason.into(), message: message.into(), action: None }
    }
}

impl Notes {
    pub fn on_done(&self, name: &str) -> Option<Note> {
        let (reason, message) = self.done?;
        let message = self.fill(message, name);
        Some(Note::new(self.about.clone(), NoteKind::Normal, reason, message))
    }
    pub fn on_failed(&self, name: &str, error: &str) -> Option<Note> {
        let (reason, message) = self.failed?;
        let message = self.fill(message, name).replace("{error}", error);
        Some(Note::new(self.about.clone(), NoteKind::Warning, reason, message))
    }
    fn fill(&self, message: &str, name: &str) -> String {
        let about = self.about.name.as_deref().unwrap_or_default();
        message.replace("{name}", name).replace("{about}", about)
    }
}

impl Effect {
    pub fn create<K: Kind>(object: &K) -> Self {
        let object = serde_json::to_value(object).expect("kinds always serialize");
        Self::Create { target: Target::of::<K>(), object, notes: None }
    }
    /// Patches the status if `new` differs from the object that was seen.
    pub fn status<K: Kind>(old: &K, new: &K) -> Option<Self> {
        Self::difference(old, new, Some("status"))
    }
    /// Patches what differs from the object that was seen.
    pub fn update<K: Kind>(old: &K, new: &K) -> Option<Self> {
        Self::difference(old, new, None)
    }
    fn difference<K: Kind>(old: &K, new: &K, subresource: Option<&'static str>) -> Option<Self> {
        let value = |object: &K| serde_json::to_value(object).expect("kinds always serialize");
        let mut patch = merge_diff(&value(old), &value(new))?;
        let meta = old.metadata();
        patch["metadata"]["uid"] = json!(meta::uid(meta));
        patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
        let (target, key) = (Target::of::<K>(), old.key());
        Some(Self::Patch { target, key, patch, subresource, notes: None })
    }
    /// A merge patch of an object of known uid, whatever else has changed about it.
    pub fn patch<K: Kind>(object: &K, mut patch: Value, subresource: Option<&'static str>) -> Self {
        patch["metadata"]["uid"] = json!(meta::uid(object.metadata()));
        let (target, key) = (Target::of::<K>(), object.key());
        Self::Patch { target, key, patch, subresource, notes: None }
    }
    pub fn delete<K: Kind>(object: &K) -> Self {
        Self::Delete {
            target: Target::of::<K>(),
            key: object.key(),
            uid: object.uid().to_owned(),
            grace_seconds: None,
            notes: None,
        }
    }
    pub fn event<K: Kind>(
        about: &K,
        kind: NoteKind,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self::Event(Box::new(Note::new(object_reference(about), kind, reason, message)))
    }
    #[must_use]
    pub fn with_notes(mut self, given: Notes) -> Self {
        match &mut self {
            Self::Create { notes, .. } | Self::Delete { notes, .. } | Self::Patch { notes, .. } => {
                *notes = Some(Box::new(given))
            }
            _ => {}
        }
        self
    }
    /// The kind whose cache must show this write before its key is looked at again.
    pub fn target(&self) -> Option<Target> {
        match self {
            Self::Create { target, .. }
            | Self::Patch { target, .. }
            | Self::PutSub { target, .. }
            | Self::PostSub { target, .. }
            | Self::Delete { target, .. }
            | Self::Empty { target, .. } => Some(*target),
            Self::Sign(_) => {
                Some(Target::of::<api::k8s::api::certificates::v1::CertificateSigningRequest>())
            }
            Self::IfAllowed { then, .. } => then.target(),
            Self::Event(_) => None,
        }
    }
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Patch { .. } => "patch",
            Self::PutSub { .. } => "update",
            Self::PostSub { .. } => "post",
            Self::Delete { .. } => "delete",
            Self::Sign(_) => "sign",
            Self::IfAllowed { then, .. } => then.verb(),
            Self::Empty { .. } => "empty",
            Self::Event(_) => "event",
        }
    }
}

pub fn object_reference<K: Kind>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
