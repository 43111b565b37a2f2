//! The nodes with what is placed on them, kept up to date one change at a time.
use crate::affinity::Namespaces;
use crate::pod::{HostPort, PodInfo};
use crate::resources::Resources;
use crate::tally::Tallies;
use api::Kind;
use api::k8s::api::core::v1::{Namespace, Node, Taint};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A node as decisions see it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    pub name: String,
    /// There is a Node object; pods may be seen before it.
    pub exists: bool,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub requested: Resources,
    /// CPU and memory as they count in ranking.
    pub ranked: (i64, i64),
    /// Sizes by name, of the images that are there.
    pub images: HashMap<String, i64>,
    pub pods: HashMap<String, Arc<PodInfo>>,
    pub(crate) ports: Vec<(HostPort, u32)>,
    pub(crate) index: usize,
}

/// Everything that a decision looks at.
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// Where each pod is, by uid.
    placed: HashMap<String, usize>,
    pub(crate) tallies: Tallies,
    pub(crate) namespaces: Namespaces,
    /// Where the next search begins, so that equal nodes take turns.
    pub(crate) turn: usize,
    existing: usize,
}

impl Snapshot {
    /// Nodes that have a Node object.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|node| node.exists)
    }
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).map(|at| &self.nodes[*at]).filter(|node| node.exists)
    }
    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.existing
    }
    pub fn is_empty(&self) -> bool {
        self.existing == 0
    }
    pub(crate) fn slots(&self) -> &[NodeInfo] {
        &self.nodes
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let index = self.nodes.len();
        self.nodes.push(NodeInfo { name: name.to_owned(), index, ..NodeInfo::default() });
        self.by_name.insert(name.to_owned(), index);
        index
    }

    /// A node is new or has changed.
    pub fn set_node(&mut self, node: &Node) {
        let at = self.slot(&node.key().name);
        let info = &mut self.nodes[at];
        self.existing += usize::from(!info.exists);
        info.exists = true;
        info.labels = node.metadata.labels.clone().unwrap_or_default();
        let spec = node.spec.as_ref();
        info.taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        info.unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let status = node.status.as_ref();
        info.allocatable = Resources::of(status.and_then(|status| status.allocatable.as_ref()));
        info.images.clear();
        for image in status.and_then(|status| status.images.as_ref()).into_iter().flatten() {
            for name in image.names.iter().flatten() {
                info.images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(at) = self.by_name.get(name) {
            let info = &mut self.nodes[*at];
            self.existing -= usize::from(info.exists);
            info.exists = false;
            info.labels.clear();
        }
    }

    pub fn set_namespace(&mut self, namespace: &Namespace) {
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        let name = namespace.key().name;
        if self.namespaces.get(&name) != Some(&labels) {
            self.namespaces.insert(name, labels);
            self.tallies.forget_by_namespace_labels();
        }
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// A pod is on a node, or assumed to be soon. Says again what is known already: no harm.
    pub fn place(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.remove(&pod.uid);
        let at = self.slot(node);
        let info = &mut self.nodes[at];
        info.count(pod, 1);
        info.pods.insert(pod.uid.clone(), pod.clone());
        self.placed.insert(pod.uid.clone(), at);
        self.tallies.count(&self.namespaces, pod, at, 1);
    }

    /// A pod has ended or is gone, or was not bound after all.
    pub fn remove(&mut self, uid: &str) {
        let Some(at) = self.placed.remove(uid) else { return };
        let info = &mut self.nodes[at];
        let Some(pod) = info.pods.remove(uid) else { return };
        info.count(&pod, -1);
        self.tallies.count(&self.namespaces, &pod, at, -1);
    }

    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }
}

impl NodeInfo {
    pub(crate) fn count(&mut self, pod: &PodInfo, sign: i64) {
        self.requested.add(&pod.requests, sign);
        self.ranked.0 += sign * pod.ranked.0;
        self.ranked.1 += sign * pod.ranked.1;
        for port in &pod.ports {
            let known = self.ports.iter().position(|(have, _)| have == port);
            match (known, sign > 0) {
                (Some(at), true) => self.ports[at].1 += 1,
                (None, true) => self.ports.push((port.clone(), 1)),
                (Some(at), false) => {
                    self.ports[at].1 -= 1;
                    if self.ports[at].1 == 0 {
                        self.ports.swap_remove(at);
                    }
                }
                (None, false) => {}
            }
        }
    }
}
