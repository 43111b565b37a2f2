//! What the node's packet rules should be, as a pure function of the Services and their endpoints.
//!
//! Knows no kernel, no clock and no client: the `net` crate makes a kernel of what is planned here.
//! [`State`] holds the observed facts in indexes; [`plan`] makes the whole [`Ruleset`] of them, and
//! [`State::plan_changes`] only what differs, at a cost that depends on what changed and not on how
//! many Services there are.
pub mod base;
pub mod facts;
pub mod rule;
pub mod ruleset;
pub mod service;
mod slots;
pub mod state;

pub use facts::{HostPort, Protocol, ServiceName};
pub use rule::{Chain, Hook, KeyPart, MapKey, Pool, Rule, Stmt, Value};
pub use ruleset::{Changes, Fragment, FragmentKey, Op, Ruleset, SetKind, UdpFrontend};
pub use state::{Config, HealthCheck, State, plan};

#[cfg(test)]
mod tests;
