//! What an agent is told once, before it starts.
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The port of the node API when nothing else is said.
pub const NODE_PORT: u16 = 10250;
/// Pods that a node runs at most when nothing else is said.
pub const MAX_PODS: u32 = 110;

#[derive(Debug, Clone)]
pub struct AgentConfig {
    pub node_name: String,
    /// `https://HOST:PORT` of the API server.
    pub server: String,
    pub ca_pem: String,
    /// Needed until the node has its own certificate.
    pub bootstrap_token: Option<String>,
    /// The node's own folder: `pki/ pods/ logs/ …`.
    pub root: PathBuf,
    /// The image store, shared by all nodes of the machine.
    pub images_dir: PathBuf,
    /// The address at which other nodes and the API server reach this one.
    pub node_ip: IpAddr,
    pub port: u16,
    pub cluster_id: String,
    pub cluster_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub mtu: u32,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<api::k8s::api::core::v1::Taint>,
    pub max_pods: u32,
    /// Manifests in this folder are pods of this node, whoever else knows of them.
    pub static_pods: Option<PathBuf>,
    /// Below these, pods are evicted.
    pub eviction_hard: Vec<podlife::eviction::Threshold>,
    /// Started as `<shim> shim …` for each pod.
    pub shim: PathBuf,
    /// The node's place in every cgroup hierarchy, such as `/kybern-ab12/node1`.
    pub cgroup: String,
}

impl AgentConfig {
    pub fn pods_dir(&self) -> PathBuf {
        self.root.join("pods")
    }
    /// On a file system in memory.
    pub fn memory_dir(&self) -> PathBuf {
        self.root.join("memory")
    }
    pub fn logs_dir(&self) -> PathBuf {
        self.root.join("logs").join("pods")
    }
}
