//! The shell around pure controllers: reflectors, shared caches, queues, the gate that lets a
//! controller see its own writes first, and the one place that writes.
//!
//! Nothing here polls: every turn is caused by a change, or by a time that a plan asked for.
mod backoff;
mod caches;
mod correlate;
mod definition;
mod execute;
mod gate;
mod namespace;
mod queue;
mod recorder;
mod reflector;
mod shell;
mod signer;

pub use backoff::Backoff;
pub use caches::{Caches, Change};
pub use queue::Queue;
pub use recorder::Recorder;
pub use reflector::{Reflector, Step};
pub use shell::{Manager, Running};
pub use signer::ClusterSigner;

#[cfg(test)]
mod tests;
