//! Several nodes on one machine: each a network namespace on a bridge of the host's.
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use crate::config::Result;

/// A node's namespace.
#[derive(Debug, Clone)]
pub struct NodeNs {
    /// Persistent: give it to `kybern agent --netns` (or [`enter`] it).
    pub path: PathBuf,
    pub ip: Ipv4Addr,
    /// The host's address on the bridge: where the API server listens for the nodes.
    pub host_ip: Ipv4Addr,
}

/// Makes (or finds) node `index` (0, 1, ...) of the cluster: the host gets the first address of
/// `subnet` on bridge `kybn<id>`, the node the (index + 2)th.
pub fn create_node_ns(
    _cluster_id: &str,
    _data_dir: &Path,
    _node: &str,
    _index: u32,
    _subnet: Ipv4Net,
) -> Result<NodeNs> {
    todo!()
}

/// Removes a node's namespace.
pub fn delete_node_ns(_data_dir: &Path, _node: &str) -> Result<()> {
    todo!()
}

/// A subnet for the nodes that no route of the machine uses: 10.90.0.0/24 if it is free.
pub fn free_subnet() -> Result<Ipv4Net> {
    todo!()
}

/// Lets the host itself (the API server) reach `cidr` (a node's pods, or the ClusterIPs) by way
/// of a node.
pub fn route(_cluster_id: &str, _cidr: Ipv4Net, _via: Ipv4Addr) -> Result<()> {
    todo!()
}

/// Moves the calling thread into a network namespace. A process that is to be there as a whole
/// calls it before it starts any other thread.
pub fn enter(_netns: &Path) -> Result<()> {
    todo!()
}
