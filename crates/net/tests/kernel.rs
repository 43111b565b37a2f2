//! The node's network against the real kernel, in network namespaces of its own.
//!
//! Needs root; without it every test says so and passes.
#![allow(clippy::unwrap_used)]

mod kernel {
    mod driver;
    pub(crate) mod fixture;
    mod scale;
    mod services;
    mod topology;
}
