//! The life of a pod on its node, decided purely: `(pod, facts, now) -> actions` and
//! `(pod, facts, now) -> status`.
//!
//! Knows no runtime, no clock and no API server: the node's shell performs the actions, records in
//! the [`Facts`] what came of them, and asks again. Asking twice without news gives the same answer
//! as long as the shell marks what it has begun.
pub mod admit;
pub mod backoff;
pub mod decide;
pub mod downward;
pub mod eviction;
pub mod expand;
pub mod facts;
pub mod pods;
pub mod probe;
pub mod resources;
pub mod status;
pub mod usage;

pub use backoff::Backoff;
pub use decide::{Action, Decision, Why, decide};
pub use facts::{
    ContainerFacts, Exit, Facts, Op, Probes, Run, Sandbox, SandboxState, StartError, Step, Verdict,
};
pub use pods::{PodExt, Role};
pub use status::{NodeFacts, status};
