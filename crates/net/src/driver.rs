//! From API objects to packet rules.
use std::net::SocketAddrV4;
use std::sync::Arc;

use api::k8s::api::core::v1::{Node, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use tokio::sync::mpsc;

use crate::config::Result;
use crate::node::NodeNet;

/// One change of what the rules are made from. Deletions carry the last known object.
#[derive(Debug, Clone)]
pub enum NetEvent {
    Service(Arc<Service>),
    ServiceDeleted(Arc<Service>),
    Slice(Arc<EndpointSlice>),
    SliceDeleted(Arc<EndpointSlice>),
    Node(Arc<Node>),
    NodeDeleted(Arc<Node>),
    /// Everything that existed at the start has been sent: rules are applied from here on.
    Synced,
}

/// A Service that each node answers itself, whatever its endpoints say (the cluster DNS).
#[derive(Debug, Clone)]
pub struct LocalService {
    pub namespace: String,
    pub name: String,
    /// Where on this node; every port of the Service with the protocols UDP and TCP goes there.
    pub address: SocketAddrV4,
}

/// Applies events until the sender is dropped. Bursts are applied together; idle costs nothing.
pub async fn run(
    _net: Arc<NodeNet>,
    _events: mpsc::Receiver<NetEvent>,
    _local: Vec<LocalService>,
) -> Result<()> {
    todo!()
}
