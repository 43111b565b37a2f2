//! Counts of placed pods by domain, kept as pods and nodes come and go.
//!
//! A tally is made when a decision first asks for it, by one look at all pods, and costs one match
//! per change from then on. Tallies that nobody has asked for in a while are dropped.
use crate::affinity::{Namespaces, PodTerm, Scope};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;
use crate::topology::{Counts, NOWHERE, Over, Topology, bump};
use std::collections::HashMap;
use std::sync::Arc;

/// Tallies that decisions have asked for; the one unused for longest goes first.
const ASKED_MAX: usize = 256;

/// The default constraints, for the pods of one set: label and skew, both soft.
pub(crate) const DEFAULTS: [(&str, i64); 2] =
    [("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5)];

#[derive(Debug)]
pub(crate) struct Tallies {
    topologies: Vec<Topology>,
    /// What decisions have asked for.
    asked: Vec<Tally>,
    /// Pods that hold a term of their own against or towards others, by that term.
    held: Vec<Tally>,
    /// Pods of one owner, over each of the [`DEFAULTS`]: the first topologies.
    owners: HashMap<String, [Counts; 2]>,
    clock: u64,
}

#[derive(Debug)]
pub(crate) struct Tally {
    topology: usize,
    subject: Subject,
    counts: Counts,
    /// When it was asked for last.
    used: u64,
    /// How many pods hold the term.
    holders: usize,
}

/// Whom a tally counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Subject {
    /// Whoever all of the scopes have in common.
    All(Vec<Arc<Scope>>),
    /// Those of a scope that are to stay.
    Staying(Arc<Scope>),
    /// Whoever holds a term of this scope.
    Holders(Held, Arc<Scope>),
}

/// Which of its terms a pod is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Required anti-affinity: others must keep away.
    Anti,
    /// Required affinity: others are drawn, as upstream's hard affinity weight of 1 has it.
    Near,
    /// Preferred, with this weight.
    Preferred(i64),
}

/// A tally, as a decision looks at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Domains<'a> {
    topology: &'a Topology,
    counts: &'a Counts,
}

impl Domains<'_> {
    /// The pods in the node's domain; `None` if it is in none.
    pub(crate) fn at(&self, node: &NodeInfo) -> Option<i64> {
        match self.topology.domain(node.index) {
            NOWHERE => None,
            domain => Some(self.counts.get(&domain).copied().unwrap_or(0)),
        }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
    pub(crate) fn len(&self) -> usize {
        self.topology.len()
    }
    /// The pods in the domain that has the fewest.
    pub(crate) fn least(&self) -> i64 {
        if self.counts.len() < self.topology.len() {
            return 0;
        }
        self.counts.values().copied().min().unwrap_or(0)
    }
}

impl PodInfo {
    /// The terms that others are counted by, as they meet this pod.
    fn terms(&self) -> impl Iterator<Item = (Held, &PodTerm)> {
        let anti = self.anti_affinity.iter().map(|term| (Held::Anti, term));
        let near = self.affinity.iter().map(|term| (Held::Near, term));
        let soft = self.preferred.iter().map(|(weight, term)| (Held::Preferred(*weight), term));
        anti.chain(near).chain(soft)
    }
}

impl Subject {
    /// How often the pod counts.
    fn count(&self, all: &Namespaces, pod: &PodInfo) -> i64 {
        let within = |scope: &Arc<Scope>| scope.matches(all, &pod.namespace, &pod.labels);
        match self {
            Self::All(scopes) => i64::from(scopes.iter().all(within)),
            Self::Staying(scope) => i64::from(!pod.deleting && within(scope)),
            Self::Holders(held, scope) => {
                pod.terms().filter(|(h, term)| h == held && term.scope == *scope).count() as i64
            }
        }
    }
}

impl Default for Tallies {
    fn default() -> Self {
        let defaults = DEFAULTS.iter().map(|(key, _)| {
            let mut topology = Topology::new(Over::all(key), &[]);
            topology.users = 1;
            topology
        });
        Self {
            topologies: defaults.collect(),
            asked: Vec::new(),
            held: Vec::new(),
            owners: HashMap::new(),
            clock: 0,
        }
    }
}

impl Tallies {
    /// A pod has come to (1) or gone from (-1) a node.
    pub(crate) fn count(
        &mut self,
        all: &Namespaces,
        nodes: &[NodeInfo],
        pod: &PodInfo,
        at: usize,
        sign: i64,
    ) {
        if let Some(owner) = pod.owner.as_ref().filter(|_| !pod.deleting) {
            self.count_owned(owner, at, sign);
        }
        for tally in &mut self.asked {
            let domain = self.topologies[tally.topology].domain(at);
            if domain != NOWHERE {
                bump(&mut tally.counts, domain, sign * tally.subject.count(all, pod));
            }
        }
        for (held, term) in pod.terms() {
            let found = self.held.iter().position(|tally| {
                tally.holds(held, &term.scope)
                    && self.topologies[tally.topology].over().key == term.key
            });
            let found = match found {
                Some(found) => found,
                None if sign < 0 => continue,
                None => {
                    let topology = self.topology(nodes, &Over::all(&term.key));
                    let subject = Subject::Holders(held, term.scope.clone());
                    self.held.push(Tally::new(topology, subject));
                    self.held.len() - 1
                }
            };
            let tally = &mut self.held[found];
            bump(&mut tally.counts, self.topologies[tally.topology].domain(at), sign);
            tally.holders = tally.holders.saturating_add_signed(sign as isize);
            if tally.holders == 0 {
                let gone = self.held.swap_remove(found);
                self.topologies[gone.topology].users -= 1;
            }
        }
    }

    fn count_owned(&mut self, owner: &str, at: usize, sign: i64) {
        let known = self.owners.get_mut(owner);
        let counts = match known {
            Some(counts) => counts,
            None => self.owners.entry(owner.to_owned()).or_default(),
        };
        for (counts, topology) in counts.iter_mut().zip(&self.topologies) {
            bump(counts, topology.domain(at), sign);
        }
        if counts.iter().all(Counts::is_empty) {
            self.owners.remove(owner);
        }
    }

    /// A node is new, has changed or is gone: its pods count for the domains that it is in now.
    pub(crate) fn moved(&mut self, all: &Namespaces, node: &NodeInfo) {
        for (index, topology) in self.topologies.iter_mut().enumerate() {
            if topology.users == 0 {
                continue;
            }
            let (old, new) = topology.update(node);
            if old == new || node.pods.is_empty() {
                continue;
            }
            let tallies = self.asked.iter_mut().chain(&mut self.held);
            for tally in tallies.filter(|tally| tally.topology == index) {
                let n: i64 = node.pods.values().map(|pod| tally.subject.count(all, pod)).sum();
                bump(&mut tally.counts, old, -n);
                bump(&mut tally.counts, new, n);
            }
            let staying = node.pods.values().filter(|pod| index < DEFAULTS.len() && !pod.deleting);
            for owner in staying.filter_map(|pod| pod.owner.as_ref()) {
                let counts = self.owners.entry(owner.clone()).or_default();
                bump(&mut counts[index], old, -1);
                bump(&mut counts[index], new, 1);
                if counts.iter().all(Counts::is_empty) {
                    self.owners.remove(owner);
                }
            }
        }
    }

    /// To be called before a decision asks: drops what has not been asked for in a long time.
    pub(crate) fn trim(&mut self) {
        self.clock += 1;
        while self.asked.len() > ASKED_MAX {
            let oldest = (0..self.asked.len()).min_by_key(|at| self.asked[*at].used);
            let gone = self.asked.swap_remove(oldest.unwrap_or(0));
            self.topologies[gone.topology].users -= 1;
        }
    }

    /// The number of a tally, until the next [`Self::trim`].
    pub(crate) fn ask(
        &mut self,
        all: &Namespaces,
        nodes: &[NodeInfo],
        over: &Over,
        subject: &Subject,
    ) -> usize {
        let found = self.asked.iter().position(|tally| {
            tally.subject == *subject && self.topologies[tally.topology].over() == over
        });
        let at = found.unwrap_or_else(|| {
            let topology = self.topology(nodes, over);
            let mut tally = Tally::new(topology, subject.clone());
            for node in nodes {
                let domain = self.topologies[topology].domain(node.index);
                if domain != NOWHERE {
                    let n = node.pods.values().map(|pod| subject.count(all, pod)).sum();
                    bump(&mut tally.counts, domain, n);
                }
            }
            self.asked.push(tally);
            self.asked.len() - 1
        });
        self.asked[at].used = self.clock;
        at
    }

    /// The topology, with one user more.
    fn topology(&mut self, nodes: &[NodeInfo], over: &Over) -> usize {
        let same = |topology: &Topology| topology.users > 0 && topology.over() == over;
        let at = self.topologies.iter().position(same).unwrap_or_else(|| {
            let new = Topology::new(over.clone(), nodes);
            match self.topologies.iter().position(|topology| topology.users == 0) {
                Some(free) => {
                    self.topologies[free] = new;
                    free
                }
                None => {
                    self.topologies.push(new);
                    self.topologies.len() - 1
                }
            }
        });
        self.topologies[at].users += 1;
        at
    }

    pub(crate) fn asked(&self, at: usize) -> Domains<'_> {
        self.domains(&self.asked[at])
    }
    /// Pods of the owner, over each of the [`DEFAULTS`].
    pub(crate) fn owned<'a>(&'a self, owner: &str, none: &'a Counts) -> [Domains<'a>; 2] {
        let counts = self.owners.get(owner);
        [0, 1].map(|at| Domains {
            topology: &self.topologies[at],
            counts: counts.map_or(none, |counts| &counts[at]),
        })
    }
    pub(crate) fn holds_none(&self) -> bool {
        self.held.is_empty()
    }
    /// The terms that concern a pod.
    pub(crate) fn held<'a>(
        &'a self,
        all: &Namespaces,
        pod: &PodInfo,
    ) -> impl Iterator<Item = (Held, Domains<'a>)> {
        self.held.iter().filter_map(move |tally| match &tally.subject {
            Subject::Holders(held, scope) => scope
                .matches(all, &pod.namespace, &pod.labels)
                .then(|| (*held, self.domains(tally))),
            _ => None,
        })
    }
    fn domains<'a>(&'a self, tally: &'a Tally) -> Domains<'a> {
        Domains { topology: &self.topologies[tally.topology], counts: &tally.counts }
    }

    /// What was counted by labels of namespaces is counted anew when it is asked for.
    pub(crate) fn forget_by_namespace_labels(&mut self) {
        let (topologies, asked) = (&mut self.topologies, &mut self.asked);
        asked.retain(|tally| {
            let by_labels = tally.subject.scopes().any(|scope| scope.namespace_selector.is_some());
            topologies[tally.topology].users -= usize::from(by_labels);
            !by_labels
        });
    }
}

impl Subject {
    fn scopes(&self) -> impl Iterator<Item = &Arc<Scope>> {
        match self {
            Self::All(scopes) => scopes.iter(),
            Self::Staying(scope) | Self::Holders(_, scope) => std::slice::from_ref(scope).iter(),
        }
    }
}

impl Tally {
    fn new(topology: usize, subject: Subject) -> Self {
        Self { topology, subject, counts: Counts::default(), used: 0, holders: 0 }
    }
    fn holds(&self, held: Held, scope: &Arc<Scope>) -> bool {
        matches!(&self.subject, Subject::Holders(h, s) if *h == held && s == scope)
    }
}
