//! Pods that want to be, or must not be, near others; and others that mind having this one near.
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::tally::{Domains, Held, Subject, Tallies};
use crate::topology::Over;
use crate::{Cycle, FULL, NodeInfo, Plugin, Unfit};

pub(crate) struct InterPodAffinity;

/// The numbers of the tallies of the pod's own terms.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    near: Vec<usize>,
    apart: Vec<usize>,
    preferred: Vec<usize>,
}

#[cfg(test)]
impl Asked {
    pub(crate) fn all(&self) -> impl Iterator<Item = &usize> {
        self.near.iter().chain(&self.apart).chain(&self.preferred)
    }
}

#[derive(Debug, Default)]
pub(crate) struct State<'a> {
    near: Vec<Domains<'a>>,
    /// Nobody matches yet, and the pod matches its own terms: the first of its kind goes anywhere.
    first: bool,
    apart: Vec<Domains<'a>>,
    /// Where others keep this pod away.
    barred: Vec<Domains<'a>>,
    /// With their weights.
    ranks: Vec<(i64, Domains<'a>)>,
}

pub(crate) fn ask(tallies: &mut Tallies, snapshot: &Snapshot, pod: &PodInfo) -> Asked {
    let mut ask = |key: &str, subject: &Subject| {
        tallies.ask(&snapshot.namespaces, snapshot.slots(), &Over::all(key), subject)
    };
    // Whom a pod wants to be near must be what all of its terms ask for.
    let all = Subject::All(pod.affinity.iter().map(|term| term.scope.clone()).collect());
    let near = pod.affinity.iter().map(|term| ask(&term.key, &all)).collect();
    let mut one =
        |term: &crate::affinity::PodTerm| ask(&term.key, &Subject::All(vec![term.scope.clone()]));
    let apart = pod.anti_affinity.iter().map(&mut one).collect();
    let preferred = pod.preferred.iter().map(|(_, term)| one(term)).collect();
    Asked { near, apart, preferred }
}

impl<'a> State<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, pod: &PodInfo, asked: &Asked) -> Self {
        let (tallies, all) = (&snapshot.tallies, &snapshot.namespaces);
        let counted = |at: &usize| tallies.asked(*at);
        let mut state = Self {
            near: asked.near.iter().map(counted).collect(),
            apart: asked.apart.iter().map(counted).collect(),
            ..Self::default()
        };
        let weights = pod.preferred.iter().map(|(weight, _)| *weight);
        state.ranks = weights.zip(asked.preferred.iter().map(counted)).collect();
        if !tallies.holds_none() {
            for (held, domains) in tallies.held(all, pod) {
                match held {
                    Held::Anti => state.barred.push(domains),
                    Held::Near => state.ranks.push((1, domains)),
                    Held::Preferred(weight) => state.ranks.push((weight, domains)),
                }
            }
        }
        state.first = state.near.iter().all(Domains::is_empty)
            && pod.affinity.iter().all(|t| t.scope.matches(all, &pod.namespace, &pod.labels));
        state
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }
    fn filters(&self, cycle: &Cycle<'_>) -> bool {
        let state = &cycle.affinity;
        !(state.near.is_empty() && state.apart.is_empty() && state.barred.is_empty())
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        let state = &cycle.affinity;
        let any = |domains: &Domains<'_>| domains.at(node).is_some_and(|n| n > 0);
        let may_be_first = || state.first && state.near.iter().all(|d| d.at(node).is_some());
        if !state.near.iter().all(any) && !may_be_first() {
            return Err(Unfit::fixed("node(s) didn't match pod affinity rules"));
        }
        if state.apart.iter().any(any) {
            return Err(Unfit::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if state.barred.iter().any(any) {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Unfit::resolvable(reason));
        }
        Ok(())
    }
    fn weight(&self) -> i64 {
        2
    }
    fn scores(&self, cycle: &Cycle<'_>) -> bool {
        !cycle.affinity.ranks.is_empty()
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let ranks = &cycle.affinity.ranks;
        super::mark(nodes, scores, |node| {
            ranks.iter().map(|(weight, domains)| weight * domains.at(node).unwrap_or(0)).sum()
        });
        let least = scores.iter().copied().min().unwrap_or(0);
        let span = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            *score = if span == 0 { 0 } else { (*score - least) * FULL / span };
        }
    }
}
