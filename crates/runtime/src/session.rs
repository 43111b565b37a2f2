//! Streams into containers: `exec` and `attach`.
//!
//! The streams are the very pipes (or terminal) of the process; nothing lies between.
use std::future::Future;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Error;

/// A further process in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecConfig {
    pub args: Vec<String>,
    /// In addition to the container's.
    pub env: Vec<(String, String)>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    /// Ignored with `tty`: a terminal has one output stream.
    pub stderr: bool,
}

/// Which streams of a container to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachConfig {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

pub type Reader = Pin<Box<dyn AsyncRead + Send>>;
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;
/// Sets the size of a terminal: `(columns, rows)`.
pub type Resize = std::sync::Arc<dyn Fn(u16, u16) -> Result<(), Error> + Send + Sync>;
pub type Wait = Pin<Box<dyn Future<Output = Result<i32, Error>> + Send>>;

/// A process started by `exec`. Dropping it (with its `wait`) kills the process.
pub struct ExecSession {
    /// Dropping it closes the process's standard input.
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    /// With a terminal only.
    pub resize: Option<Resize>,
    /// The exit code, once; 128 + signal when killed by one. Output may still be unread then.
    /// Dropping it before it is done kills the process.
    pub wait: Wait,
}

/// The joined streams of a container; they end when it exits.
pub struct AttachSession {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    pub resize: Option<Resize>,
    /// Done when the container exits (its code).
    pub wait: Wait,
}
