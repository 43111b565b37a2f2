//! One node's network.
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::Ipv4Net;

use crate::config::{HostPort, NetConfig, Peer, PodNet, Result};

/// A node's network, ready for pods. Cheap to share in an `Arc`.
pub struct NodeNet {
    config: NetConfig,
}

impl NodeNet {
    /// Makes the node's network in the calling thread's network namespace; finds what is there
    /// already as it should be.
    pub fn start(config: NetConfig) -> Result<NodeNet> {
        Ok(NodeNet { config })
    }

    pub fn config(&self) -> &NetConfig {
        &self.config
    }

    /// The node's own address inside the pod network: where node-local services (DNS) listen.
    pub fn gateway(&self) -> Ipv4Addr {
        todo!()
    }

    /// Connects a pod. `netns` is `/proc/<pid>/ns/net`. Calling it again returns the same address.
    pub fn attach_pod(&self, _uid: &str, _netns: &Path, _ports: &[HostPort]) -> Result<PodNet> {
        todo!()
    }

    /// Removes the pod's link, ports and address. A pod that is not there is not an error.
    pub fn detach_pod(&self, _uid: &str) -> Result<()> {
        todo!()
    }

    /// Frees whatever belongs to pods that are not in `live`.
    pub fn reconcile_pods(&self, _live: &BTreeSet<String>) -> Result<()> {
        todo!()
    }

    /// Makes routes to exactly these other nodes.
    pub fn set_peers(&self, _peers: Vec<Peer>) -> Result<()> {
        todo!()
    }
}

/// The source address of the default route, if there is one.
pub fn primary_address() -> Result<Option<IpAddr>> {
    todo!()
}

/// Chooses (cluster CIDR, service CIDR) that no route or address of this machine uses: the
/// defaults 10.244.0.0/16 and 10.96.0.0/16 if they are free.
pub fn free_networks() -> Result<(Ipv4Net, Ipv4Net)> {
    todo!()
}

/// Removes everything of that cluster from the calling thread's network namespace, and the node
/// namespaces kept under `<data_dir>/run/netns`. Safe to repeat.
pub fn cleanup(_cluster_id: &str, _data_dir: &Path) -> Result<()> {
    todo!()
}
