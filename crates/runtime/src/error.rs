//! What can go wrong, in the classes that a node must tell apart.

/// An error of the runtime. The class decides the container's waiting or terminated reason; the
/// text is what a person reads in an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be carried out here (CreateContainerConfigError).
    #[error("{0}")]
    Config(String),
    /// The container could not be made ready (CreateContainerError).
    #[error("{0}")]
    Create(String),
    /// Its program could not be executed (RunContainerError, then StartError with exit code 128).
    #[error("{0}")]
    Start(String),
    /// There is no such sandbox or container.
    #[error("{kind} {id:?} not found")]
    NotFound { kind: &'static str, id: String },
    /// The object is not in a state in which this can be done.
    #[error("{0}")]
    State(String),
    #[error("command {command:?} timed out")]
    Timeout { command: String },
    /// The pod's shim is gone.
    #[error("the shim of sandbox {0} is gone")]
    Gone(String),
    /// The machine refused: what, where, and the reason.
    #[error("{0}")]
    System(String),
}

impl Error {
    pub fn container(id: &str) -> Self {
        Error::NotFound { kind: "container", id: id.to_owned() }
    }

    pub fn sandbox(id: &str) -> Self {
        Error::NotFound { kind: "sandbox", id: id.to_owned() }
    }
}
