//! From API objects to packet rules.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::k8s::api::core::v1::{Node, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use netplan::{ServiceName, State};
use tokio::sync::mpsc;

use crate::config::{Error, Peer, Result};
use crate::firewall::Watch;
use crate::health::HealthServers;
use crate::node::{NodeNet, lock};
use crate::rules::Rules;

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

/// Applies events until the sender is dropped: packet rules of Services, and routes to the pods of
/// other Nodes (nothing else need call [`NodeNet::set_peers`]). Bursts are applied together; idle
/// costs nothing. What other programs do to packet rules is mended at once.
pub async fn run(
    net: Arc<NodeNet>,
    events: mpsc::UnboundedReceiver<NetEvent>,
    local: Vec<LocalService>,
) -> Result<()> {
    drive(net, events, local).await
}

/// Where rules are applied.
pub(crate) trait Site: Send + Sync + 'static {
    fn rules(&self) -> &Mutex<Rules>;
    fn set_peers(&self, peers: Vec<Peer>) -> Result<()>;
}

pub(crate) async fn drive(
    net: Arc<impl Site>,
    mut events: mpsc::UnboundedReceiver<NetEvent>,
    local: Vec<LocalService>,
) -> Result<()> {
    let mut health = HealthServers::default();
    let mut peers = Peers::default();
    let mut synced = false;
    let mut retry: Option<Duration> = None;
    let mut watch = Watch::open()?;
    let port;
    {
        let mut rules = lock(net.rules());
        port = rules.port()?;
        for service in local {
            let name = ServiceName { namespace: service.namespace, name: service.name };
            rules.state.set_local(name, service.port, service.address);
        }
    }
    let mut batch = Vec::new();
    // Also what was done before anybody listened.
    let mut foreign = true;
    loop {
        let pause = async { tokio::time::sleep(retry.unwrap_or_default()).await };
        tokio::select! {
            received = events.recv_many(&mut batch, BATCH) => if received == 0 {
                return Ok(());
            },
            changed = watch.changed(port) => {
                changed?;
                foreign = true;
            }
            () = pause, if retry.is_some() => {}
        }
        let first_sync = !synced && batch.iter().any(|e| matches!(e, NetEvent::Synced));
        synced |= first_sync;
        for event in &batch {
            peers.observe(event);
        }
        let routes = if synced { peers.changed() } else { None };
        let work = (net.clone(), std::mem::take(&mut batch));
        let apply = move || {
            let (net, batch) = work;
            let routed = routes.map_or(Ok(()), |peers| net.set_peers(peers));
            let mut rules = lock(net.rules());
            for event in &batch {
                observe(&mut rules.state, event);
            }
            let done = match (synced, first_sync) {
                (false, _) => Ok(()),
                (true, true) => rules.install(),
                (true, false) => rules.flush(),
            };
            let done = if foreign { done.and(rules.mend()) } else { done };
            done.and(routed).map(|()| rules.state.health_checks())
        };
        let done = tokio::task::spawn_blocking(apply)
            .await
            .unwrap_or_else(|_| Err(Error::Invalid("applying the packet rules panicked".into())));
        match done {
            Ok(checks) => {
                retry = None;
                foreign = false;
                health.set(checks);
            }
            Err(error) => {
                let delay = retry.map_or(RETRY_FIRST, |d| (d * 2).min(RETRY_MAX));
                tracing::warn!(%error, ?delay, "the network was not updated; will retry");
                retry = Some(delay);
                peers.dirty = true;
            }
        }
    }
}

/// The other nodes.
#[derive(Default)]
struct Peers {
    nodes: BTreeMap<String, Peer>,
    dirty: bool,
}

impl Peers {
    fn observe(&mut self, event: &NetEvent) {
        let (node, peer) = match event {
            NetEvent::Node(node) => (node, peer_of(node)),
            NetEvent::NodeDeleted(node) => (node, None),
            _ => return,
        };
        let name = node.metadata.name.clone().unwrap_or_default();
        let before = match &peer {
            Some(peer) => self.nodes.insert(name, peer.clone()),
            None => self.nodes.remove(&name),
        };
        self.dirty |= before != peer;
    }

    /// All of them, if there has been a change.
    fn changed(&mut self) -> Option<Vec<Peer>> {
        std::mem::take(&mut self.dirty).then(|| self.nodes.values().cloned().collect())
    }
}

/// `None` as long as the node has no address or no pod network.
fn peer_of(node: &Node) -> Option<Peer> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    Some(Peer {
        node: node.metadata.name.clone()?,
        node_ip: internal.filter_map(|a| a.address.parse().ok()).find(IpAddr::is_ipv4)?,
        pod_cidr: node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?,
    })
}

fn observe(state: &mut State, event: &NetEvent) {
    match event {
        NetEvent::Service(service) => state.upsert_service(service),
        NetEvent::ServiceDeleted(service) => state.remove_service(&ServiceName::of(service)),
        NetEvent::Slice(slice) => state.upsert_slice(slice),
        NetEvent::SliceDeleted(slice) => state.remove_slice(
            slice.metadata.namespace.as_deref().unwrap_or_default(),
            slice.metadata.name.as_deref().unwrap_or_default(),
        ),
        NetEvent::Node(node) if state.config().nodes.iter().eq(&node.metadata.name) => {
            let labels = node.metadata.labels.as_ref();
            state.set_zone(labels.and_then(|labels| labels.get(ZONE_LABEL)).cloned());
        }
        NetEvent::Node(_) | NetEvent::NodeDeleted(_) | NetEvent::Synced => {}
    }
}
