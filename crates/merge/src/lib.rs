//! The four ways to change an object by less than a whole one: JSON patch, JSON merge patch,
//! strategic merge patch and server-side apply. Pure functions over JSON values; the last two are
//! driven by the schema graph. Knows no server and no clock.
//!
//! Whoever calls bounds the depth of what comes in (decoding does); everything here is bounded by
//! the size of its input.
pub mod apply;
mod fields;
mod json_patch;
mod managed;
mod merge_patch;
mod strategic;
mod typed;

pub use fields::{Elem, Set};
pub use json_patch::{MAX_OPERATIONS, json_patch};
pub use merge_patch::merge_patch;
pub use strategic::strategic;

/// Why a patch could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// Not a patch at all: 400.
    #[error("{0}")]
    Malformed(String),
    /// More operations than are taken: 413.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    /// A patch, but not one for this object: 422.
    #[error("{0}")]
    Unfit(String),
}

impl PatchError {
    fn malformed(message: impl Into<String>) -> PatchError {
        PatchError::Malformed(message.into())
    }

    fn unfit(message: impl Into<String>) -> PatchError {
        PatchError::Unfit(message.into())
    }
}
