//! What the node's network is told, and how it fails.
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// The fixed facts of one node's network.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Short cluster id: it is part of every link's and table's name.
    pub cluster_id: String,
    /// The Node object's name.
    pub node: String,
    /// The address other nodes reach this node at.
    pub node_ip: IpAddr,
    /// This node's share of `cluster_cidr`; its first address is the node's own inside it.
    pub pod_cidr: Ipv4Net,
    /// All pods of the cluster.
    pub cluster_cidr: Ipv4Net,
    /// All ClusterIPs.
    pub service_cidr: Ipv4Net,
    /// Used for peers that are not on a network this node is on.
    pub vxlan: Vxlan,
    /// MTU of the pods' links.
    pub mtu: u32,
    /// Where the address leases are kept (`<node root>/net`).
    pub data_dir: PathBuf,
}

/// The tunnel's identity.
#[derive(Debug, Clone, Copy)]
pub struct Vxlan {
    pub vni: u32,
    pub port: u16,
}

impl Default for Vxlan {
    fn default() -> Self {
        Vxlan { vni: 4096, port: 8472 }
    }
}

/// What a pod got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNet {
    pub ip: IpAddr,
    pub gateway: IpAddr,
    /// The host's end of the pod's link.
    pub link: String,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub node: String,
    pub node_ip: IpAddr,
    pub pod_cidr: Ipv4Net,
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a request.
    #[error("{what}: {reason}")]
    Kernel { what: String, errno: i32, reason: String },
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no free pod address left in {0}: delete pods or give the node a larger pod CIDR")]
    Exhausted(Ipv4Net),
    #[error("{0}")]
    Invalid(String),
}
