//! Why a pod fits nowhere, node by node and in one sentence.
use crate::preemption::Outcome;
use std::borrow::Cow;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// As in the event and the condition.
    pub message: String,
    /// The plugins that refused a node: a change that concerns none of them helps nothing.
    pub plugins: Vec<&'static str>,
    /// Evicting these pods (by uid) would make room on that node.
    pub preempt: Option<(String, Vec<String>)>,
    /// A node that room was made on before does the pod no good any more.
    pub give_up: bool,
}

/// Why a node does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// As counted in the message: `node(s) were unschedulable`.
    pub reason: Cow<'static, str>,
    pub more: Vec<Cow<'static, str>>,
    /// Removing other pods from the node could help.
    pub resolvable: bool,
}

impl Unfit {
    pub(crate) fn fixed(reason: &'static str) -> Self {
        Self { reason: Cow::Borrowed(reason), more: Vec::new(), resolvable: false }
    }
    pub(crate) fn resolvable(reason: &'static str) -> Self {
        Self { resolvable: true, ..Self::fixed(reason) }
    }
    pub(crate) fn reasons(self) -> impl Iterator<Item = Cow<'static, str>> {
        std::iter::once(self.reason).chain(self.more)
    }
}

/// How often each reason was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram(Vec<(Cow<'static, str>, usize)>);

impl Histogram {
    pub(crate) fn add(&mut self, reason: Cow<'static, str>, n: usize) {
        match self.0.iter_mut().find(|(have, _)| *have == reason) {
            Some((_, count)) => *count += n,
            None => self.0.push((reason, n)),
        }
    }
}

/// `1 Insufficient cpu, 2 node(s) were unschedulable`, in the order of the text.
impl std::fmt::Display for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = self.0.iter().filter(|(_, n)| *n > 0);
        let mut parts: Vec<String> = counts.map(|(reason, n)| format!("{n} {reason}")).collect();
        parts.sort();
        f.write_str(&parts.join(", "))
    }
}

/// What was said of the nodes that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    reasons: Histogram,
    plugins: Vec<&'static str>,
    /// Where evicting pods could help.
    pub(crate) candidates: Vec<usize>,
    pub(crate) hopeless: usize,
}

impl Refusals {
    pub(crate) fn add(&mut self, node: usize, plugin: &'static str, unfit: Unfit) {
        if !self.plugins.contains(&plugin) {
            self.plugins.push(plugin);
        }
        match unfit.resolvable {
            true => self.candidates.push(node),
            false => self.hopeless += 1,
        }
        for reason in unfit.reasons() {
            self.reasons.add(reason, 1);
        }
    }
    /// How many nodes were refused.
    pub(crate) fn len(&self) -> usize {
        self.candidates.len() + self.hopeless
    }

    pub(crate) fn into_refusal(self, all: usize, outcome: Outcome) -> Refusal {
        let mut message = format!("0/{all} nodes are available: {}.", self.reasons);
        let (mut preempt, mut give_up) = (None, false);
        match outcome {
            Outcome::Found { node, victims } => preempt = Some((node, victims)),
            Outcome::NotEligible(why) => {
                message += &format!(" preemption: not eligible due to {why}.");
            }
            Outcome::Useless(told) => {
                message += &format!(" preemption: 0/{all} nodes are available: {told}.");
                give_up = true;
            }
        }
        Refusal { message, plugins: self.plugins, preempt, give_up }
    }
}
