//! What the node follows of the whole cluster: Services, their endpoints and the other nodes. Feeds
//! the packet rules and the node's DNS, and tells pods of their Services.
use crate::shared::ServiceList;
use api::Key;
use api::k8s::api::core::v1::{Node, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use client::Client;
use informer::{Caches, Change};
use net::NetEvent;
use reconcile::Target;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The caches of one node.
pub struct Cluster {
    caches: Caches,
}

impl Cluster {
    /// Starts to follow; what changes goes to `zone` and `events`, and the node's own object, which
    /// others write too, to `own`.
    pub fn start(
        client: Client,
        zone: Arc<dns::Zone>,
        events: mpsc::UnboundedSender<NetEvent>,
        own: watch::Sender<Arc<Node>>,
    ) -> Self {
        let caches = Caches::new(client);
        let (names, rules) = (zone.clone(), events.clone());
        caches.listen(Target::of::<Service>(), move |_, change| {
            if let Some(event) = service(change, &names) {
                let _ = rules.send(event);
            }
        });
        let rules = events.clone();
        caches.listen(Target::of::<EndpointSlice>(), move |_, change| {
            if let Some(event) = slice(change, &zone) {
                let _ = rules.send(event);
            }
        });
        caches.listen(Target::of::<Node>(), move |_, change| {
            if let Some(node) = change.new::<Node>() {
                own.send_if_modified(|old| newer(&node, old).then(|| *old = node).is_some());
            }
            let event = match (change.old::<Node>(), change.new::<Node>()) {
                (_, Some(node)) => NetEvent::Node(node),
                (Some(node), None) => NetEvent::NodeDeleted(node),
                (None, None) => return,
            };
            let _ = events.send(event);
        });
        caches.start();
        Self { caches }
    }

    /// Returns when everything that existed at the start is known.
    pub async fn synced(&self) {
        let targets =
            [Target::of::<Service>(), Target::of::<EndpointSlice>(), Target::of::<Node>()];
        self.caches.synced(&targets).await;
    }

    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.caches.world().named::<Node>(name).cloned()
    }
}

/// Another state of the same node.
pub(crate) fn newer(node: &Node, old: &Node) -> bool {
    let revision = |node: &Node| {
        node.metadata.resource_version.as_ref().and_then(|text| text.parse::<u64>().ok())
    };
    node.metadata.name == old.metadata.name && revision(node) > revision(old)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.caches.stop();
    }
}

fn service(change: &Change, zone: &dns::Zone) -> Option<NetEvent> {
    match (change.old::<Service>(), change.new::<Service>()) {
        (_, Some(service)) => {
            zone.upsert_service(&service);
            Some(NetEvent::Service(service))
        }
        (Some(service), None) => {
            let meta = &service.metadata;
            zone.remove_service(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            );
            Some(NetEvent::ServiceDeleted(service))
        }
        (None, None) => None,
    }
}

fn slice(change: &Change, zone: &dns::Zone) -> Option<NetEvent> {
    match (change.old::<EndpointSlice>(), change.new::<EndpointSlice>()) {
        (_, Some(slice)) => {
            zone.upsert_slice(&slice);
            Some(NetEvent::Slice(slice))
        }
        (Some(slice), None) => {
            let meta = &slice.metadata;
            zone.remove_slice(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            );
            Some(NetEvent::SliceDeleted(slice))
        }
        (None, None) => None,
    }
}

impl ServiceList for Cluster {
    fn visible_to(&self, namespace: &str) -> Vec<Arc<Service>> {
        let world = self.caches.world();
        let mut found: Vec<Arc<Service>> =
            world.in_namespace::<Service>(namespace).cloned().collect();
        if namespace != "default" {
            found.extend(world.get::<Service>(&Key::new("default", "kubernetes")).cloned());
        }
        found
    }
}
