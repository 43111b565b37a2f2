//! Domains: the nodes, told apart by the value of one of their labels.
use crate::affinity::Required;
use crate::plugins::tolerated;
use crate::snapshot::NodeInfo;
use api::k8s::api::core::v1::Toleration;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The domain of a node that is in none.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Numbers of pods by domain; domains without any are not in it.
pub(crate) type Counts = HashMap<u32, i64, BuildHasherDefault<Spread>>;

/// Domains are small numbers: all that is needed is to spread them.
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }
    fn write_u32(&mut self, domain: u32) {
        self.0 = u64::from(domain).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

pub(crate) fn bump(counts: &mut Counts, domain: u32, by: i64) {
    if domain == NOWHERE || by == 0 {
        return;
    }
    let n = counts.entry(domain).or_insert(0);
    *n += by;
    if *n == 0 {
        counts.remove(&domain);
    }
}

/// The label by which nodes are told apart, and which of them count.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Over {
    pub(crate) key: String,
    pub(crate) only: Option<Only>,
}

/// The nodes that count: all of it must hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Only {
    pub(crate) labels: Vec<String>,
    pub(crate) required: Option<Required>,
    /// Of taints that keep pods away.
    pub(crate) tolerations: Option<Vec<Toleration>>,
}

impl Over {
    pub(crate) fn all(key: &str) -> Self {
        Self { key: key.to_owned(), only: None }
    }
    /// The value that the node is told apart by, if it counts.
    fn value<'a>(&self, node: &'a NodeInfo) -> Option<&'a str> {
        let value = node.labels.get(&self.key).filter(|_| node.exists)?;
        self.only.as_ref().is_none_or(|only| only.has(node)).then_some(value)
    }
}

impl Only {
    /// Nothing, if it leaves no node out.
    pub(crate) fn unless_all(self) -> Option<Self> {
        let all = self.labels.is_empty() && self.required.is_none() && self.tolerations.is_none();
        (!all).then_some(self)
    }
    fn has(&self, node: &NodeInfo) -> bool {
        let tolerated = |tolerations: &Vec<Toleration>| {
            node.taints
                .iter()
                .all(|taint| taint.effect == "PreferNoSchedule" || tolerated(tolerations, taint))
        };
        self.labels.iter().all(|key| node.labels.contains_key(key))
            && self.required.as_ref().is_none_or(|required| required.matches(node))
            && self.tolerations.as_ref().is_none_or(tolerated)
    }
}

#[derive(Debug)]
pub(crate) struct Topology {
    over: Over,
    /// By value; a domain goes with its last node, and its number is used again.
    domains: HashMap<Box<str>, u32>,
    /// How many nodes each domain has.
    nodes: Vec<u32>,
    free: Vec<u32>,
    /// By the index of the node; as long as it must be.
    of_node: Vec<u32>,
    pub(crate) users: usize,
}

impl Topology {
    pub(crate) fn new(over: Over, nodes: &[NodeInfo]) -> Self {
        let mut new = Self {
            over,
            domains: HashMap::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            of_node: Vec::new(),
            users: 0,
        };
        for node in nodes {
            new.update(node);
        }
        new
    }
    pub(crate) fn over(&self) -> &Over {
        &self.over
    }
    /// How many domains there are.
    pub(crate) fn len(&self) -> usize {
        self.domains.len()
    }
    pub(crate) fn domain(&self, node: usize) -> u32 {
        self.of_node.get(node).copied().unwrap_or(NOWHERE)
    }

    /// The node is new or has changed: the domain that it was in and the one that it is in. What
    /// its pods counted for in the former is to be moved before anything else is asked.
    pub(crate) fn update(&mut self, node: &NodeInfo) -> (u32, u32) {
        let old = self.domain(node.index);
        let value = self.over.value(node);
        let new = match value {
            None => NOWHERE,
            Some(value) => match self.domains.get(value) {
                Some(domain) => *domain,
                None => self.add(value),
            },
        };
        if old == new {
            return (old, new);
        }
        if self.of_node.len() <= node.index {
            self.of_node.resize(node.index + 1, NOWHERE);
        }
        self.of_node[node.index] = new;
        if new != NOWHERE {
            self.nodes[new as usize] += 1;
        }
        if old != NOWHERE {
            self.nodes[old as usize] -= 1;
            if self.nodes[old as usize] == 0 {
                self.domains.retain(|_, domain| *domain != old);
                self.free.push(old);
            }
        }
        (old, new)
    }

    fn add(&mut self, value: &str) -> u32 {
        let domain = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(0);
            self.nodes.len() as u32 - 1
        });
        self.domains.insert(value.into(), domain);
        domain
    }
}
