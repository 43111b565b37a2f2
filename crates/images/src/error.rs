//! What can go wrong with images.
use std::io;
use std::path::Path;

use crate::RefError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Reference(#[from] RefError),
    /// There is no such image on this machine.
    #[error("image {0:?} not found")]
    NotFound(String),
    /// The registry says that there is none, or not for this machine.
    #[error("failed to pull image {image:?}: {why}")]
    Missing { image: String, why: String },
    /// The registry wants (other) credentials.
    #[error("failed to pull image {image:?}: authorization failed: {why}")]
    Unauthorized { image: String, why: String },
    /// The registry cannot be reached or misbehaves: worth trying again.
    #[error("failed to pull image {image:?}: {why}")]
    Registry { image: String, why: String },
    /// What was to be imported is no image, or a broken one.
    #[error("{0}")]
    Invalid(String),
    #[error("image {0} is in use by a container")]
    InUse(String),
    #[error("{what}: {}", sys::reason(source))]
    Io { what: String, source: io::Error },
}

impl Error {
    /// There was no room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), StorageFull | QuotaExceeded)
    }
}

/// Adds where an error happened.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let what = path.display().to_string();
    move |source| Error::Io { what, source }
}
