//! The node's network: links, addresses, routes and packet rules, over netlink only.
//!
//! Every call here blocks for at most a few milliseconds; async callers use `spawn_blocking`.
//! [`run`] is the async driver that turns API objects into packet rules.
pub mod config;
pub mod driver;
pub mod hostlab;
pub mod node;

pub use config::{Error, HostPort, NetConfig, Peer, PodNet, Protocol, Result, Vxlan};
pub use driver::{LocalService, NetEvent, run};
pub use node::{NodeNet, cleanup, free_networks, primary_address};
