//! Counts of placed pods by node, kept as pods come and go.
//!
//! A tally is made when a decision first asks for it, by one look at all pods, and costs one match
//! per change from then on. Tallies that nobody has asked for in a while are dropped.
use crate::affinity::{Namespaces, PodTerm, Scope};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;
use std::collections::HashMap;
use std::sync::Arc;

/// Tallies of scopes at once; the one unused for longest goes first.
const SCOPES_MAX: usize = 512;

/// Pods by the index of their node.
pub(crate) type Counts = HashMap<usize, i64>;

#[derive(Debug, Default)]
pub(crate) struct Tallies {
    /// Pods of a scope.
    scopes: Vec<ScopeTally>,
    /// Pods that hold a term of their own against or towards others, by that term.
    held: Vec<HeldTally>,
    /// Pods of one owner.
    owners: HashMap<String, Counts>,
    clock: u64,
}

#[derive(Debug)]
struct ScopeTally {
    scope: Arc<Scope>,
    counts: Counts,
    used: u64,
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

#[derive(Debug)]
pub(crate) struct HeldTally {
    pub(crate) term: PodTerm,
    pub(crate) held: Held,
    pub(crate) counts: Counts,
}

impl Tallies {
    /// A pod has come to (1) or gone from (-1) a node.
    pub(crate) fn count(&mut self, all: &Namespaces, pod: &PodInfo, node: usize, sign: i64) {
        // A pod that is going counts for what it takes, not for what is spread.
        if let Some(owner) = &pod.owner {
            let counts = self.owners.entry(owner.clone()).or_default();
            bump(counts, node, sign);
            if counts.is_empty() {
                self.owners.remove(owner);
            }
        }
        for tally in &mut self.scopes {
            if tally.scope.matches(all, &pod.namespace, &pod.labels) {
                bump(&mut tally.counts, node, sign);
            }
        }
        let anti = pod.anti_affinity.iter().map(|term| (Held::Anti, term));
        let near = pod.affinity.iter().map(|term| (Held::Near, term));
        let soft = pod.preferred.iter().map(|(weight, term)| (Held::Preferred(*weight), term));
        for (held, term) in anti.chain(near).chain(soft) {
            let found = self.held.iter_mut().find(|t| t.held == held && t.term == *term);
            match found {
                Some(tally) => bump(&mut tally.counts, node, sign),
                None if sign > 0 => {
                    let counts = Counts::from([(node, 1)]);
                    self.held.push(HeldTally { term: term.clone(), held, counts });
                }
                None => {}
            }
        }
        self.held.retain(|tally| !tally.counts.is_empty());
    }

    /// The pods of a scope by node.
    pub(crate) fn scope(
        &mut self,
        all: &Namespaces,
        nodes: &[NodeInfo],
        scope: &Arc<Scope>,
    ) -> &Counts {
        self.clock += 1;
        let found = self.scopes.iter().position(|tally| tally.scope == *scope);
        let at = found.unwrap_or_else(|| {
            if self.scopes.len() >= SCOPES_MAX {
                let oldest = (0..self.scopes.len()).min_by_key(|at| self.scopes[*at].used);
                self.scopes.swap_remove(oldest.unwrap_or(0));
            }
            let mut counts = Counts::new();
            for node in nodes {
                let own = node.pods.values();
                let n = own.filter(|p| scope.matches(all, &p.namespace, &p.labels)).count();
                if n > 0 {
                    counts.insert(node.index, n as i64);
                }
            }
            self.scopes.push(ScopeTally { scope: scope.clone(), counts, used: 0 });
            self.scopes.len() - 1
        });
        self.scopes[at].used = self.clock;
        &self.scopes[at].counts
    }

    pub(crate) fn owner(&self, owner: &str) -> Option<&Counts> {
        self.owners.get(owner)
    }
    pub(crate) fn held(&self) -> &[HeldTally] {
        &self.held
    }
    /// What was counted by labels of namespaces is counted anew when it is asked for.
    pub(crate) fn forget_by_namespace_labels(&mut self) {
        self.scopes.retain(|tally| tally.scope.namespace_selector.is_none());
    }
}

fn bump(counts: &mut Counts, node: usize, sign: i64) {
    let n = counts.entry(node).or_insert(0);
    *n += sign;
    if *n <= 0 {
        counts.remove(&node);
    }
}
