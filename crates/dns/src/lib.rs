//! The cluster's DNS, answered by each node itself (Kubernetes DNS specification 1.1.0).
use std::net::SocketAddr;
use std::sync::Arc;

use api::k8s::api::core::v1::Service;
use api::k8s::api::discovery::v1::EndpointSlice;

/// What the server is told.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// UDP and TCP are served on each.
    pub bind: Vec<SocketAddr>,
    /// Other names are asked there (see [`system_upstreams`]); empty: they are refused.
    pub upstreams: Vec<SocketAddr>,
    /// `cluster.local`.
    pub domain: String,
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

/// The cluster's records. Shared with the running server; every method is a quick in-memory update.
pub struct Zone {}

impl Zone {
    pub fn upsert_service(&self, _service: &Service) {}
    pub fn remove_service(&self, _namespace: &str, _name: &str) {}
    pub fn upsert_slice(&self, _slice: &EndpointSlice) {}
    pub fn remove_slice(&self, _namespace: &str, _name: &str) {}
}

/// A running server; it stops when this is dropped.
pub struct Server {
    zone: Arc<Zone>,
}

impl Server {
    pub async fn start(_config: DnsConfig) -> Result<Server, Error> {
        todo!()
    }

    pub fn zone(&self) -> Arc<Zone> {
        self.zone.clone()
    }
}

/// The name servers in the machine's `/etc/resolv.conf`.
pub fn system_upstreams() -> Vec<SocketAddr> {
    todo!()
}
