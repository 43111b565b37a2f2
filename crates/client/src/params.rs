//! What a call can be told besides its object.
use crate::path::Query;
use serde::Serialize;
use serde_json::Value;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListParams {
    pub label_selector: String,
    pub field_selector: String,
    pub limit: Option<u32>,
    pub continue_token: String,
    pub resource_version: String,
    /// `Exact` or `NotOlderThan`.
    pub resource_version_match: Option<&'static str>,
    /// Only each object's metadata (`PartialObjectMetadata`).
    pub metadata_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchParams {
    pub label_selector: String,
    pub field_selector: String,
    /// Events after this; empty or `0`: from any point, the objects that exist first.
    pub resource_version: String,
    /// The state first, as `ADDED` events that end with a bookmark.
    pub send_initial_events: bool,
    pub bookmarks: bool,
    pub timeout_seconds: Option<u32>,
    pub metadata_only: bool,
}

/// The body of a deletion.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<Propagation>,
    #[serde(skip_serializing_if = "Preconditions::is_empty")]
    pub preconditions: Preconditions,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteParams {
    pub field_manager: String,
    pub force: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    Merge(Value),
    Json(Value),
    Strategic(Value),
    Apply { object: Value, params: WriteParams },
}

impl Preconditions {
    fn is_empty(&self) -> bool {
        self.uid.is_none() && self.resource_version.is_none()
    }
}

impl DeleteParams {
    /// Only if it is still this object, and not a later one of the same name.
    #[must_use]
    pub fn of_uid(uid: impl Into<String>) -> Self {
        let preconditions = Preconditions { uid: Some(uid.into()), resource_version: None };
        Self { preconditions, ..Self::default() }
    }
    #[must_use]
    pub fn grace(self, seconds: u32) -> Self {
        Self { grace_period_seconds: Some(seconds), ..self }
    }
    #[must_use]
    pub fn propagation(self, policy: Propagation) -> Self {
        Self { propagation_policy: Some(policy), ..self }
    }
}

impl ListParams {
    pub(crate) fn query(&self) -> String {
        let mut query = Query::default();
        query.text("labelSelector", &self.label_selector);
        query.text("fieldSelector", &self.field_selector);
        query.text("continue", &self.continue_token);
        query.text("resourceVersion", &self.resource_version);
        query.text("resourceVersionMatch", self.resource_version_match.unwrap_or_default());
        if let Some(limit) = self.limit {
            query.text("limit", &limit.to_string());
        }
        query.finish()
    }
    pub(crate) fn accept(&self) -> &'static str {
        if self.metadata_only {
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        } else {
            "application/json"
        }
    }
}

impl WatchParams {
    pub(crate) fn query(&self) -> String {
        let mut query = Query::default();
        query.text("watch", "true");
        query.text("labelSelector", &self.label_selector);
        query.text("fieldSelector", &self.field_selector);
        query.text("resourceVersion", &self.resource_version);
        if self.bookmarks || self.send_initial_events {
            query.text("allowWatchBookmarks", "true");
        }
        if self.send_initial_events {
            query.text("sendInitialEvents", "true");
            query.text("resourceVersionMatch", "NotOlderThan");
        }
        if let Some(seconds) = self.timeout_seconds {
            query.text("timeoutSeconds", &seconds.to_string());
        }
        query.finish()
    }
    pub(crate) fn accept(&self) -> &'static str {
        if self.metadata_only {
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        } else {
            "application/json"
        }
    }
}

impl Patch {
    pub fn apply(object: Value, manager: &str, force: bool) -> Self {
        let params = WriteParams { field_manager: manager.to_owned(), force };
        Self::Apply { object, params }
    }
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Merge(_) => "application/merge-patch+json",
            Self::Json(_) => "application/json-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            Self::Apply { .. } => "application/apply-patch+yaml",
        }
    }
    pub(crate) fn body(&self) -> &Value {
        match self {
            Self::Merge(value) | Self::Json(value) | Self::Strategic(value) => value,
            Self::Apply { object, .. } => object,
        }
    }
    pub(crate) fn query(&self) -> String {
        let mut query = Query::default();
        if let Self::Apply { params, .. } = self {
            query.text("fieldManager", &params.field_manager);
            if params.force {
                query.text("force", "true");
            }
        }
        query.finish()
    }
}
