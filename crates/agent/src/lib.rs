//! The node: runs the pods that are bound to it.
//!
//! `podlife` decides, `runtime` and `volume` do; this is the shell between them and the API.
//! Nothing is polled: workers wake for changes of objects, for events of the runtime and for their
//! own timers. Everything that must survive a restart of this process is in the runtime's list or
//! in the API, so a new process takes over what an old one started.
pub mod act;
pub(crate) mod certificates;
pub mod cluster;
pub mod collector;
pub mod config;
pub mod events;
pub mod eviction;
pub mod gauges;
pub mod hosts;
pub mod manager;
pub mod node;
pub mod objects;
pub mod pull;
pub mod run;
pub mod seams;
pub mod shared;
pub mod statics;
pub mod stats;
pub mod store;
pub mod translate;
pub mod view;
pub mod worker;

pub use config::AgentConfig;
pub use run::{Error, run};
