//! Pods that want to be, or must not be, near others; and others that mind having this one near.
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::tally::{Counts, Held};
use crate::{Cycle, FULL, NodeInfo, Plugin, Unfit};
use std::collections::HashMap;

pub(crate) struct InterPodAffinity;

/// Pods by the value of one label of their nodes.
#[derive(Debug, Default)]
struct Domain {
    key: String,
    by_value: HashMap<String, i64>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    near: Vec<Domain>,
    /// Nobody matches yet, and the pod matches its own terms: the first of its kind goes anywhere.
    first: bool,
    apart: Vec<Domain>,
    /// Values of labels where others keep this pod away.
    barred: Vec<Domain>,
    /// Weighted.
    ranks: Vec<Domain>,
}

impl State {
    pub(crate) fn new(snapshot: &mut Snapshot, pod: &PodInfo) -> Self {
        let held = snapshot.tallies.held();
        let quiet = pod.affinity.is_empty()
            && pod.anti_affinity.is_empty()
            && pod.preferred.is_empty()
            && held.is_empty();
        if quiet {
            return Self::default();
        }
        let mut tallies = std::mem::take(&mut snapshot.tallies);
        let mut state = Self::default();
        let all = &snapshot.namespaces;
        for term in &pod.affinity {
            let counts = tallies.scope(all, snapshot.slots(), &term.scope);
            state.near.push(domain(snapshot, &term.key, counts, 1));
        }
        for term in &pod.anti_affinity {
            let counts = tallies.scope(all, snapshot.slots(), &term.scope);
            state.apart.push(domain(snapshot, &term.key, counts, 1));
        }
        for (weight, term) in &pod.preferred {
            let counts = tallies.scope(all, snapshot.slots(), &term.scope);
            state.ranks.push(domain(snapshot, &term.key, counts, *weight));
        }
        for tally in tallies.held() {
            if !tally.term.scope.matches(all, &pod.namespace, &pod.labels) {
                continue;
            }
            let found = |weight| domain(snapshot, &tally.term.key, &tally.counts, weight);
            match tally.held {
                Held::Anti => state.barred.push(found(1)),
                Held::Near => state.ranks.push(found(1)),
                Held::Preferred(weight) => state.ranks.push(found(weight)),
            }
        }
        let own =
            |term: &crate::affinity::PodTerm| term.scope.matches(all, &pod.namespace, &pod.labels);
        state.first = state.near.iter().all(|domain| domain.by_value.is_empty())
            && pod.affinity.iter().all(own);
        snapshot.tallies = tallies;
        state
    }
}

fn domain(snapshot: &Snapshot, key: &str, counts: &Counts, weight: i64) -> Domain {
    let mut by_value = HashMap::new();
    for (index, n) in counts {
        let node = &snapshot.slots()[*index];
        if let Some(value) = node.labels.get(key) {
            *by_value.entry(value.clone()).or_insert(0) += n * weight;
        }
    }
    Domain { key: key.to_owned(), by_value }
}

impl Domain {
    fn at(&self, node: &NodeInfo) -> i64 {
        let value = node.labels.get(&self.key);
        value.and_then(|value| self.by_value.get(value)).copied().unwrap_or(0)
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Unfit> {
        let state = &cycle.affinity;
        let labelled = |domain: &Domain| node.labels.contains_key(&domain.key);
        let near = state.near.iter().all(|domain| domain.at(node) > 0);
        let may_be_first = state.first && state.near.iter().all(labelled);
        if !near && !may_be_first {
            return Err(Unfit::fixed("node(s) didn't match pod affinity rules"));
        }
        if state.apart.iter().any(|domain| domain.at(node) > 0) {
            return Err(Unfit::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if state.barred.iter().any(|domain| domain.at(node) > 0) {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Unfit::resolvable(reason));
        }
        Ok(())
    }
    fn weight(&self) -> i64 {
        2
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
        let ranks = &cycle.affinity.ranks;
        if ranks.is_empty() {
            return vec![0; nodes.len()];
        }
        let sum = |node: &&NodeInfo| ranks.iter().map(|domain| domain.at(node)).sum();
        let mut scores: Vec<i64> = nodes.iter().map(sum).collect();
        let least = scores.iter().copied().min().unwrap_or(0);
        let span = scores.iter().copied().max().unwrap_or(0) - least;
        for score in &mut scores {
            *score = if span == 0 { 0 } else { (*score - least) * FULL / span };
        }
        scores
    }
}
