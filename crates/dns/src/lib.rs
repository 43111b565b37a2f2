//! The cluster's DNS, answered by each node itself (Kubernetes DNS specification 1.1.0).
//!
//! A [`Zone`] holds the records and is told of Services and EndpointSlices as they change. A
//! [`Server`] answers from it over UDP and TCP and asks the machine's own name servers for the
//! rest.
mod forward;
mod server;
#[cfg(test)]
mod tests;
mod zone;

use std::net::{IpAddr, SocketAddr};

use ipnet::Ipv4Net;

pub use server::Server;
pub use zone::Zone;

/// What the server is told.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// UDP and TCP are served on each.
    pub bind: Vec<SocketAddr>,
    /// Other names are asked there (see [`system_upstreams`]); empty: they are refused.
    pub upstreams: Vec<SocketAddr>,
    /// `cluster.local`.
    pub domain: String,
    /// Pods' and Services' addresses: what is not known of them is not asked anywhere else.
    pub networks: Vec<Ipv4Net>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for DNS on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("{0:?} is not a DNS domain: give one like cluster.local")]
    Domain(String),
}

/// The name servers of the machine. Where a local stub is configured, those behind it.
pub fn system_upstreams() -> Vec<SocketAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let configured = parse_resolv_conf(&read("/etc/resolv.conf"));
    if !configured.iter().all(|server| server.ip().is_loopback()) {
        return configured;
    }
    match parse_resolv_conf(&read("/run/systemd/resolve/resolv.conf")) {
        behind if behind.is_empty() => configured,
        behind => behind,
    }
}

fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        words.next()?.parse::<IpAddr>().ok()
    });
    servers.map(|ip| SocketAddr::new(ip, 53)).collect()
}
