//! What a call failed with.
use crate::BoxError;
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused, and says why.
    #[error("{0}")]
    Api(Box<ApiStatus>),
    /// No answer: it is not known whether the server acted.
    #[error("cannot reach the API server")]
    Transport(#[source] BoxError),
    #[error("the API server's answer cannot be decoded")]
    Decode(#[source] serde_json::Error),
    #[error("cannot make the request: {0}")]
    Request(String),
    #[error("client configuration: {0}")]
    Config(String),
}

/// A `metav1.Status` as received.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct ApiStatus {
    #[serde(default)]
    pub code: u16,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub details: Value,
}

impl fmt::Display for ApiStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ApiStatus {
    /// From the body of a response, which may be no `Status` at all (a proxy's page, say).
    pub fn from_body(code: u16, body: &[u8]) -> Self {
        let parsed = serde_json::from_slice::<Self>(body).ok();
        match parsed {
            Some(status) if !status.reason.is_empty() || !status.message.is_empty() => {
                Self { code: if status.code == 0 { code } else { status.code }, ..status }
            }
            _ => {
                let text: String = String::from_utf8_lossy(body).chars().take(1024).collect();
                Self {
                    code,
                    reason: String::new(),
                    message: format!("the server answered {code}: {}", text.trim()),
                    details: Value::Null,
                }
            }
        }
    }
}

impl Error {
    pub fn status(&self) -> Option<&ApiStatus> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }
    pub fn code(&self) -> u16 {
        self.status().map_or(0, |status| status.code)
    }
    fn reason_is(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }
    pub fn is_already_exists(&self) -> bool {
        self.reason_is("AlreadyExists")
    }
    pub fn is_conflict(&self) -> bool {
        self.code() == 409 && !self.is_already_exists()
    }
    /// The resource version asked for is no longer known: list again.
    pub fn is_expired(&self) -> bool {
        self.code() == 410
    }
    pub fn is_invalid(&self) -> bool {
        self.code() == 422
    }
    pub fn is_forbidden(&self) -> bool {
        self.code() == 403
    }
    pub fn is_unauthorized(&self) -> bool {
        self.code() == 401
    }
    /// Refused because the namespace is going away: nothing can be created in it any more.
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.status().and_then(|status| status.details.get("causes"));
        causes.and_then(Value::as_array).is_some_and(|causes| {
            causes.iter().any(|cause| cause["reason"] == "NamespaceTerminating")
        })
    }
    /// The same call may succeed later: nothing about it was wrong.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Api(status) => matches!(status.code, 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.details.get("retryAfterSeconds")?.as_u64()?;
        Some(Duration::from_secs(seconds.min(600)))
    }
}
