//! The image store: content-addressed, unpacked once per layer, shared by all nodes of a machine.
//!
//! Knows nothing of containers or the API. Everything but [`Images::pull`] blocks and is quick,
//! imports and builds aside: call those from a thread that may wait.
mod collect;
pub mod error;
pub mod image;
mod import;
mod manifest;
mod pull;
pub mod reference;
mod registry;
mod store;
mod toolbox;
mod unpack;

pub use collect::Freed;
pub use error::Error;
pub use image::{Auth, BuildSpec, Image, ImageConfig, Progress, PullOptions};
pub use pull::ProgressFn;
pub use reference::{ImageRef, RefError};
pub use store::Images;
pub use toolbox::TOOLBOX;
