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
    /// Places of nodes; one whose node and pods are gone is used again.
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    free: Vec<usize>,
    /// Where each pod is, by uid.
    placed: HashMap<String, usize>,
    /// Pods that room is made for, by uid.
    nominated: BTreeMap<String, Nomination>,
    /// On how many nodes each image is.
    images: HashMap<String, usize>,
    /// Nodes with a taint that pods would rather avoid.
    shunned: usize,
    pub(crate) tallies: Tallies,
    pub(crate) namespaces: Namespaces,
    /// Which of equal nodes is taken, so that they take turns.
    pub(crate) turn: usize,
    /// Where the next search begins.
    pub(crate) start: usize,
    existing: usize,
}

/// Room is made for a pod.
#[derive(Debug)]
struct Nomination {
    pod: Arc<PodInfo>,
    node: String,
    /// By the eviction of these, by uid.
    victims: Vec<String>,
}

impl Nomination {
    /// The pod must be left the room by the other one.
    fn is_ahead_of(&self, other: &PodInfo) -> bool {
        self.pod.priority >= other.priority && self.pod.uid != other.uid
    }
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
    pub(crate) fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }
    pub(crate) fn any_shunned(&self) -> bool {
        self.shunned > 0
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let index = self.free.pop().unwrap_or(self.nodes.len());
        let info = NodeInfo { name: name.to_owned(), index, ..NodeInfo::default() };
        match self.nodes.get_mut(index) {
            Some(slot) => *slot = info,
            None => self.nodes.push(info),
        }
        self.by_name.insert(name.to_owned(), index);
        index
    }
    fn release(&mut self, at: usize) {
        let info = &self.nodes[at];
        if !info.exists && info.pods.is_empty() && self.by_name.remove(&info.name).is_some() {
            self.free.push(at);
        }
    }

    /// A node is new or has changed.
    pub fn set_node(&mut self, node: &Node) {
        let at = self.slot(&node.key().name);
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        let known = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        let images = known.flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name.clone(), size))
        });
        let images = images.collect();
        self.set_images(at, images);
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let info = &mut self.nodes[at];
        info.unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        info.allocatable = Resources::of(status.and_then(|status| status.allocatable.as_ref()));
        if info.exists && info.labels == labels && info.taints == taints {
            return;
        }
        self.existing += usize::from(!info.exists);
        self.shunned -= usize::from(info.shunned());
        info.exists = true;
        info.labels = labels;
        info.taints = taints;
        self.shunned += usize::from(info.shunned());
        self.tallies.moved(&self.namespaces, &self.nodes[at]);
    }

    fn set_images(&mut self, at: usize, images: HashMap<String, i64>) {
        let old = std::mem::replace(&mut self.nodes[at].images, images);
        if old == self.nodes[at].images {
            return;
        }
        for image in old.into_keys() {
            if let Some(n) = self.images.get_mut(&image) {
                *n -= 1;
                if *n == 0 {
                    self.images.remove(&image);
                }
            }
        }
        for image in self.nodes[at].images.keys() {
            *self.images.entry(image.clone()).or_default() += 1;
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.get(name).copied() else { return };
        self.set_images(at, HashMap::new());
        let info = &mut self.nodes[at];
        self.existing -= usize::from(info.exists);
        self.shunned -= usize::from(info.shunned());
        info.exists = false;
        info.labels.clear();
        info.taints.clear();
        self.tallies.moved(&self.namespaces, &self.nodes[at]);
        self.release(at);
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
        if self.namespaces.remove(name).is_some() {
            self.tallies.forget_by_namespace_labels();
        }
    }

    /// A pod is on a node, or assumed to be soon. Tells whether anything counts for more or less
    /// than before: to say again what is known already does no harm.
    pub fn place(&mut self, pod: &Arc<PodInfo>, node: &str) -> bool {
        self.nominated.remove(&pod.uid);
        if let Some(at) = self.placed.get(&pod.uid) {
            let info = &mut self.nodes[*at];
            let known = info.pods.get_mut(&pod.uid).filter(|known| known.counts_as(pod));
            if let Some(known) = known.filter(|_| info.name == node) {
                known.clone_from(pod);
                return false;
            }
        }
        self.remove(&pod.uid);
        let at = self.slot(node);
        self.put(pod, at);
        true
    }

    pub(crate) fn put(&mut self, pod: &Arc<PodInfo>, at: usize) {
        let info = &mut self.nodes[at];
        info.count(pod, 1);
        info.pods.insert(pod.uid.clone(), pod.clone());
        self.placed.insert(pod.uid.clone(), at);
        self.tallies.count(&self.namespaces, &self.nodes, pod, at, 1);
    }

    /// A pod has ended or is gone, or was not bound after all. Yields it and the name of its node.
    pub fn remove(&mut self, uid: &str) -> Option<(Arc<PodInfo>, String)> {
        let (pod, at) = self.take(uid)?;
        let node = self.nodes[at].name.clone();
        self.release(at);
        Some((pod, node))
    }

    /// As [`Self::remove`], but the node's place stays as it is.
    pub(crate) fn take(&mut self, uid: &str) -> Option<(Arc<PodInfo>, usize)> {
        let at = self.placed.remove(uid)?;
        let info = &mut self.nodes[at];
        let pod = info.pods.remove(uid)?;
        info.count(&pod, -1);
        self.tallies.count(&self.namespaces, &self.nodes, &pod, at, -1);
        Some((pod, at))
    }

    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// Room is made for a pod on a node, by evicting these: nothing less important may take it.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str, victims: Vec<String>) {
        if !self.is_placed(&pod.uid) {
            let nomination = Nomination { pod: pod.clone(), node: node.to_owned(), victims };
            self.nominated.insert(pod.uid.clone(), nomination);
        }
    }
    /// The pod needs no room any more; yields the node that it was on.
    pub fn withdraw(&mut self, uid: &str) -> Option<String> {
        self.nominated.remove(uid).map(|nomination| nomination.node)
    }
    /// A pod that should make room for another does not go.
    pub fn stays(&mut self, uid: &str, victim: &str) {
        if let Some(nomination) = self.nominated.get_mut(uid) {
            nomination.victims.retain(|uid| uid != victim);
        }
    }
    /// The node that room is made on for the pod.
    pub fn nominated(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(|nomination| nomination.node.as_str())
    }
    pub(crate) fn is_victim_of(&self, uid: &str, victim: &str) -> bool {
        let nomination = self.nominated.get(uid);
        nomination.is_some_and(|nomination| nomination.victims.iter().any(|uid| uid == victim))
    }
    /// Pods that room is made for on the node and that `pod` must leave it to.
    pub(crate) fn ahead_of(&self, pod: &PodInfo, node: &str) -> Vec<Arc<PodInfo>> {
        let here = self.nominated.values().filter(|nomination| nomination.node == node);
        here.filter(|nomination| nomination.is_ahead_of(pod)).map(|n| n.pod.clone()).collect()
    }
    /// The nodes where `pod` must leave room to others, by their indexes.
    pub(crate) fn reserved_from(&self, pod: &PodInfo) -> Vec<usize> {
        let ahead = self.nominated.values().filter(|nomination| nomination.is_ahead_of(pod));
        let mut at: Vec<usize> = ahead.filter_map(|n| self.by_name.get(&n.node).copied()).collect();
        at.sort_unstable();
        at.dedup();
        at
    }
    /// Pods that room is made for on the node, and that are less important than `pod`.
    pub fn outranked_by(&self, pod: &PodInfo, node: &str) -> Vec<Arc<PodInfo>> {
        let here = self.nominated.values().filter(|nomination| nomination.node == node);
        here.filter(|n| n.pod.priority < pod.priority).map(|n| n.pod.clone()).collect()
    }
}

impl NodeInfo {
    fn shunned(&self) -> bool {
        self.taints.iter().any(|taint| taint.effect == "PreferNoSchedule")
    }
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
