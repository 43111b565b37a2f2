//! The node's network: links, addresses, routes and packet rules, over netlink only.
//!
//! Every call here blocks for at most a few milliseconds; async callers use `spawn_blocking`.
//! [`run`] is the async driver that turns API objects into packet rules.
pub mod config;
mod conntrack;
pub mod driver;
mod firewall;
mod health;
mod host;
pub mod hostlab;
mod leases;
mod names;
mod netlink;
mod nft;
pub mod node;
pub mod probe;
mod rtnl;
mod rules;

#[cfg(test)]
extern crate self as net;
#[cfg(test)]
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../tests/kernel/fixture.rs"]
mod fixture;

pub use config::{Error, NetConfig, Peer, PodNet, Result, Vxlan};
pub use driver::{LocalService, NetEvent, run};
pub use host::{HostConfig, HostNet, run_host};
pub use netplan::{HostPort, Protocol};
pub use node::{NodeNet, cleanup, free_networks, primary_address};
