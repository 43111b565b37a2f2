//! Lets the machine reach the pods and Services of the nodes that it keeps in network namespaces of
//! their own: the server for API proxies and webhooks, users for ports of the nodes. A node that
//! shares the machine's network does all that itself.
use crate::cluster::Cluster;
use anyhow::Context;
use api::k8s::api::core::v1::{Node, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use informer::{Caches, Change};
use ipnet::Ipv4Net;
use net::{HostConfig, HostNet, NetEvent};
use reconcile::Target;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A node's pods and the way there.
#[derive(Debug, PartialEq)]
struct Way {
    pods: Ipv4Net,
    via: Ipv4Addr,
}

/// Keeps a route to the pods of every such node. Call it before the caches start.
pub(crate) fn keep(caches: &Caches, cluster: &Cluster, subnet: Ipv4Net) {
    let id = cluster.id.clone();
    caches.listen(Target::of::<Node>(), move |_, change: &Change| {
        let way = |node: &Node| way(node, &subnet);
        let Some(new) = change.new::<Node>().and_then(|node| way(&node)) else { return };
        if change.old::<Node>().and_then(|node| way(&node)).as_ref() == Some(&new) {
            return;
        }
        if let Err(error) = net::hostlab::route(&id, new.pods, new.via) {
            tracing::warn!(pods = %new.pods, %error, "the server cannot reach a node's pods");
        }
    });
}

/// Lets programs on this machine reach Services as on a node. Call it before the caches start.
pub(crate) fn serve(caches: &Caches, cluster: &Cluster, subnet: Ipv4Net) -> anyhow::Result<()> {
    let config = HostConfig {
        cluster_id: cluster.id.clone(),
        nodes: cluster.nodes.clone(),
        subnet,
        cluster_cidr: cluster.pod_cidr.parse().context("the pods' network in cluster.json")?,
        service_cidr: cluster.service_cidr.parse().context("the Services' network")?,
    };
    let host = Arc::new(HostNet::start(&config)?);
    let (events, receiver) = mpsc::unbounded_channel();
    let rules = events.clone();
    caches.listen(Target::of::<Service>(), move |_, change: &Change| {
        let event = match (change.old::<Service>(), change.new::<Service>()) {
            (_, Some(service)) => NetEvent::Service(service),
            (Some(service), None) => NetEvent::ServiceDeleted(service),
            (None, None) => return,
        };
        let _ = rules.send(event);
    });
    let rules = events.clone();
    caches.listen(Target::of::<EndpointSlice>(), move |_, change: &Change| {
        let event = match (change.old::<EndpointSlice>(), change.new::<EndpointSlice>()) {
            (_, Some(slice)) => NetEvent::Slice(slice),
            (Some(slice), None) => NetEvent::SliceDeleted(slice),
            (None, None) => return,
        };
        let _ = rules.send(event);
    });
    let caches = caches.clone();
    tokio::spawn(async move {
        let known = async {
            caches.synced(&[Target::of::<Service>(), Target::of::<EndpointSlice>()]).await;
            let _ = events.send(NetEvent::Synced);
        };
        let (result, ()) = tokio::join!(net::run_host(host, receiver), known);
        let _ = result.inspect_err(|error| tracing::error!(%error, "this machine serves no ports"));
    });
    Ok(())
}

fn way(node: &Node, subnet: &Ipv4Net) -> Option<Way> {
    let pods = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
    let addresses = node.status.as_ref()?.addresses.iter().flatten();
    let mut own = addresses.filter(|address| address.type_ == "InternalIP");
    let via: Ipv4Addr = own.find_map(|address| address.address.parse().ok())?;
    let first = subnet.hosts().next();
    (subnet.contains(&via) && first != Some(via)).then_some(Way { pods, via })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_nodes_of_the_inner_network_with_pods_have_a_way() {
        let subnet = "10.90.0.0/24".parse().unwrap();
        let node = |ip: &str, pods: Option<&str>| {
            let node = json!({
                "metadata": {}, "spec": { "podCIDR": pods },
                "status": { "addresses": [{ "type": "InternalIP", "address": ip }] },
            });
            way(&serde_json::from_value(node).unwrap(), &subnet)
        };
        let found = node("10.90.0.3", Some("10.244.1.0/24")).unwrap();
        assert_eq!(found.pods.to_string(), "10.244.1.0/24");
        assert_eq!(found.via.to_string(), "10.90.0.3");
        assert_eq!(node("10.90.0.3", None), None);
        assert_eq!(node("192.168.1.5", Some("10.244.1.0/24")), None, "a machine of its own");
        assert_eq!(node("10.90.0.1", Some("10.244.0.0/24")), None, "the machine itself");
    }
}
