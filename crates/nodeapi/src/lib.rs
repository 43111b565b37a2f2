//! The node's own API: logs, exec, attach, port-forward, and what the node tells about itself.
//!
//! The API server is its only usual client. Whoever calls is known by a client certificate of the
//! cluster's authority or by a token that the API server vouches for, and is asked about by
//! [`Node::authorize`]; nothing is answered to strangers. Knows pods only through [`Node`].
mod auth;
mod forward;
mod handler;
mod logs;
mod path;
mod serve;
mod sessions;

pub use auth::Caller;
pub use logs::{LogOptions, LogStream};
pub use serve::{Credentials, serve};

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Why a request is not answered, with the words that the client shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

/// A container as the URL names it. Containers of all three lists are found by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub namespace: String,
    pub pod: String,
    /// If given, the pod must have it.
    pub uid: Option<String>,
    /// Empty where a pod as a whole is meant.
    pub container: String,
}

/// Where a container's log is.
#[derive(Debug, Clone)]
pub struct LogTarget {
    /// The file that is written now; rotated ones lie beside it as `NAME.TIMESTAMP`.
    pub file: PathBuf,
    /// Turns true when nothing more will be written.
    pub ended: watch::Receiver<bool>,
}

/// What the API needs of the node.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// The runtime's id of a running container.
    async fn running(&self, named: &Named) -> Result<String, Refusal>;
    /// The same for a client that wants to join its streams; `None` if it has ended a moment ago.
    async fn attachable(&self, named: &Named) -> Result<Option<String>, Refusal>;
    /// The log of the current or, with `previous`, of the last ended instance.
    async fn log(&self, named: &Named, previous: bool) -> Result<LogTarget, Refusal>;
    /// The network namespace of a running pod; `None` if it has the node's.
    async fn netns(&self, named: &Named) -> Result<Option<PathBuf>, Refusal>;
    /// A document of the node: `/pods`, `/metrics`, `/metrics/resource`, `/stats/summary`,
    /// `/configz`. `None` for what is not served.
    async fn document(
        &self,
        path: &str,
        query: &[(String, String)],
    ) -> Option<(&'static str, Bytes)>;
    /// Who a bearer token belongs to.
    async fn authenticate(&self, token: &str) -> Option<Caller>;
    /// May the caller `verb` this subresource of this node (`proxy`, `log`, `stats`, `metrics`)?
    async fn authorize(&self, caller: &Caller, verb: &str, subresource: &str) -> bool;
    fn runtime(&self) -> Arc<dyn runtime::Runtime>;
}
