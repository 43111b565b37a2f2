//! What the cluster's things are called in the kernel.
//!
//! A link belongs to a cluster if its alias says so; names only have to be unique.
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::{Error, Result};

/// A link's name has 15 characters: `kyb`, the id, and up to four more.
const ID_BYTES: usize = 8;

pub(crate) fn check_id(id: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if id.is_empty() || id.len() > ID_BYTES || !id.chars().all(good) {
        let text = format!("{id:?} is no cluster id: use up to {ID_BYTES} of a-z and 0-9");
        return Err(Error::Invalid(text));
    }
    Ok(())
}

/// How the names of all clusters' tables begin.
pub(crate) const TABLES: &str = "kybern-";

pub(crate) fn table(id: &str) -> String {
    format!("{TABLES}{id}")
}

pub(crate) fn lab_table(id: &str) -> String {
    format!("{TABLES}{id}-lab")
}

pub(crate) fn host_table(id: &str) -> String {
    format!("{TABLES}{id}-host")
}

pub(crate) fn pod_link(id: &str, network: Ipv4Net, ip: Ipv4Addr) -> String {
    let offset = (u32::from(ip) - u32::from(network.network())) & 0xffff;
    format!("kyb{id}{offset:04x}")
}

pub(crate) fn tunnel_link(id: &str) -> String {
    format!("kybv{id}")
}

pub(crate) fn bridge_link(id: &str) -> String {
    format!("kybn{id}")
}

pub(crate) fn node_link(id: &str, index: u32) -> String {
    format!("kybn{id}{index:x}")
}

/// Every link of the cluster has an alias that starts so.
pub(crate) fn alias_prefix(id: &str) -> String {
    format!("kybern/{id}/")
}
