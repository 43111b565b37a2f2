//! From API objects to packet rules.
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Node, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use netplan::{ServiceName, State};
use tokio::sync::mpsc;

use crate::config::{Error, Result};
use crate::health::HealthServers;
use crate::node::{NodeNet, lock};

/// Events that are applied together at most.
const BATCH: usize = 4096;
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

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

/// A Service's port that each node answers itself, whatever the endpoints (the cluster DNS: 53).
#[derive(Debug, Clone)]
pub struct LocalService {
    pub namespace: String,
    pub name: String,
    pub port: u16,
    /// Where on this node.
    pub address: SocketAddrV4,
}

/// Applies events until the sender is dropped. Bursts are applied together; idle costs nothing.
pub async fn run(
    net: Arc<NodeNet>,
    mut events: mpsc::Receiver<NetEvent>,
    local: Vec<LocalService>,
) -> Result<()> {
    let node = net.config().node.clone();
    let mut health = HealthServers::default();
    let mut synced = false;
    let mut retry: Option<Duration> = None;
    {
        let mut rules = lock(&net.rules);
        for service in local {
            let name = ServiceName { namespace: service.namespace, name: service.name };
            rules.state.set_local(name, service.port, service.address);
        }
    }
    let mut batch = Vec::new();
    loop {
        let received = match retry {
            None => events.recv_many(&mut batch, BATCH).await,
            Some(delay) => tokio::select! {
                received = events.recv_many(&mut batch, BATCH) => received,
                () = tokio::time::sleep(delay) => usize::MAX,
            },
        };
        if received == 0 {
            return Ok(());
        }
        let first_sync = !synced && batch.iter().any(|e| matches!(e, NetEvent::Synced));
        synced |= first_sync;
        let work = (net.clone(), node.clone(), std::mem::take(&mut batch));
        let apply = move || {
            let (net, node, batch) = work;
            let mut rules = lock(&net.rules);
            for event in &batch {
                observe(&mut rules.state, &node, event);
            }
            let done = match (synced, first_sync) {
                (false, _) => Ok(()),
                (true, true) => rules.install(),
                (true, false) => rules.flush(),
            };
            done.map(|()| rules.state.health_checks())
        };
        let done = tokio::task::spawn_blocking(apply)
            .await
            .unwrap_or_else(|_| Err(Error::Invalid("applying the packet rules panicked".into())));
        match done {
            Ok(checks) => {
                retry = None;
                health.set(checks);
            }
            Err(error) => {
                let delay = retry.map_or(RETRY_FIRST, |d| (d * 2).min(RETRY_MAX));
                tracing::warn!(%error, ?delay, "packet rules were not applied; will retry");
                retry = Some(delay);
            }
        }
    }
}

fn observe(state: &mut State, own: &str, event: &NetEvent) {
    match event {
        NetEvent::Service(service) => state.upsert_service(service),
        NetEvent::ServiceDeleted(service) => state.remove_service(&ServiceName::of(service)),
        NetEvent::Slice(slice) => state.upsert_slice(slice),
        NetEvent::SliceDeleted(slice) => state.remove_slice(
            slice.metadata.namespace.as_deref().unwrap_or_default(),
            slice.metadata.name.as_deref().unwrap_or_default(),
        ),
        NetEvent::Node(node) if node.metadata.name.as_deref() == Some(own) => {
            let labels = node.metadata.labels.as_ref();
            state.set_zone(labels.and_then(|labels| labels.get(ZONE_LABEL)).cloned());
        }
        NetEvent::Node(_) | NetEvent::NodeDeleted(_) | NetEvent::Synced => {}
    }
}
