//! What the agent and a shim say to each other: JSON messages, each after its length (four bytes,
//! little endian), with descriptors alongside.
//!
//! The shim may be older than the agent: unknown members are ignored, requests are only ever added.
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ContainerState, Error, Exit, Resources};

/// Longest message either side accepts.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) id: u64,
    /// Descriptors that belong to this message.
    #[serde(default)]
    pub(crate) fds: usize,
    pub(crate) request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// With one descriptor: the agent's mount namespace, in which sources of mounts are found.
    Hello,
    /// The configuration lies in the container's folder.
    Create {
        container: String,
    },
    Start {
        container: String,
    },
    Signal {
        container: String,
        signal: i32,
    },
    Remove {
        container: String,
    },
    Update {
        container: String,
        resources: Resources,
    },
    UpdateSandbox {
        resources: Resources,
    },
    Status,
    /// With the process's ends of the pipes that the flags name, unless `tty`.
    Exec {
        container: String,
        exec: Exec,
    },
    SignalExec {
        exec: u64,
        signal: i32,
    },
    /// With the shim's ends of the pipes that the flags name.
    Attach {
        container: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Resize {
        container: String,
        columns: u16,
        rows: u16,
    },
    Rotate {
        container: String,
    },
    /// Ends everything, the shim included.
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exec {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Message {
    Answer {
        id: u64,
        #[serde(default)]
        fds: usize,
        result: Result<Answer, Failure>,
    },
    Started {
        container: String,
        pid: i32,
    },
    Exited {
        container: String,
        exit: Exit,
    },
    ExecExited {
        exec: u64,
        code: i32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    Done,
    Started {
        pid: i32,
    },
    Status {
        containers: Vec<Status>,
    },
    /// With the terminal's master, if one was asked for.
    Exec {
        exec: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) state: ContainerState,
}

/// An [`Error`] on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FailureKind {
    Config,
    Create,
    Start,
    NoContainer,
    State,
    System,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let text = failure.message;
        match failure.kind {
            FailureKind::Config => Error::Config(text),
            FailureKind::Create => Error::Create(text),
            FailureKind::Start => Error::Start(text),
            FailureKind::NoContainer => Error::NotFound { kind: "container", id: text },
            FailureKind::State => Error::State(text),
            FailureKind::System => Error::System(text),
        }
    }
}

/// A message as it travels.
pub(crate) fn frame(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    // Plain data with string keys always has a JSON form.
    serde_json::to_writer(&mut bytes, message).expect("messages are plain data");
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Bytes and descriptors received so far.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    pub(crate) fds: VecDeque<OwnedFd>,
}

impl Inbox {
    pub(crate) fn push(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) {
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// The other side does not speak this language: hang up.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_MESSAGE {
            return Err(format!("message of {length} bytes"));
        }
        let Some(body) = self.bytes.get(4..4 + length) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some(message))
    }

    /// Takes the descriptors that belong to a message.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<OwnedFd>, String> {
        if self.fds.len() < count {
            return Err("descriptors are missing".to_owned());
        }
        Ok(self.fds.drain(..count).collect())
    }
}
