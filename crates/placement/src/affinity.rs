//! Node selectors and the terms of pod affinity, compiled.
use crate::snapshot::NodeInfo;
use api::LabelSelector;
use api::k8s::api::core::v1::{NodeSelectorTerm, PodAffinityTerm, PodSpec};
use api::selector::{Operator, Requirement};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `nodeSelector` and node affinity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeRule {
    /// `None` if nothing is required.
    pub(crate) required: Option<Required>,
    pub(crate) preferred: Vec<(i64, Term)>,
}

/// What a node must be like.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Required {
    selector: Vec<(String, String)>,
    /// Any of them must match.
    terms: Option<Vec<Term>>,
}

/// All of it must match.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Term {
    labels: Vec<Requirement>,
    /// `metadata.name` is the only field there is.
    names: Vec<Requirement>,
}

impl NodeRule {
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let terms = affinity
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
            .map(|required| required.node_selector_terms.iter().filter_map(Term::of).collect());
        let preferred = affinity
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|p| Some((i64::from(p.weight), Term::of(&p.preference)?)))
            .collect();
        let selector: Vec<(String, String)> =
            spec.node_selector.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let anything = selector.is_empty() && terms.is_none();
        Self { required: (!anything).then_some(Required { selector, terms }), preferred }
    }
    pub(crate) fn matches(&self, node: &NodeInfo) -> bool {
        self.required.as_ref().is_none_or(|required| required.matches(node))
    }
    /// The only nodes that can match, where the rule names them.
    pub(crate) fn named(&self) -> Option<Vec<&str>> {
        let terms = self.required.as_ref()?.terms.as_ref()?;
        let mut names = Vec::new();
        for term in terms {
            let only = term.names.iter().find(|r| r.operator == Operator::In)?;
            names.extend(only.values.iter().map(String::as_str));
        }
        Some(names)
    }
}

impl Required {
    pub(crate) fn matches(&self, node: &NodeInfo) -> bool {
        self.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            && self.terms.as_ref().is_none_or(|any| any.iter().any(|term| term.matches(node)))
    }
}

impl Term {
    /// A term without requirements matches nothing.
    fn of(term: &NodeSelectorTerm) -> Option<Self> {
        let read = |list: &Option<Vec<api::k8s::api::core::v1::NodeSelectorRequirement>>| {
            list.iter()
                .flatten()
                .filter_map(|r| {
                    Some(Requirement {
                        key: r.key.clone(),
                        operator: match r.operator.as_str() {
                            "In" => Operator::In,
                            "NotIn" => Operator::NotIn,
                            "Exists" => Operator::Exists,
                            "DoesNotExist" => Operator::DoesNotExist,
                            "Gt" => Operator::Gt,
                            "Lt" => Operator::Lt,
                            _ => return None,
                        },
                        values: r.values.clone().unwrap_or_default(),
                    })
                })
                .collect::<Vec<_>>()
        };
        let found = Self { labels: read(&term.match_expressions), names: read(&term.match_fields) };
        (!found.labels.is_empty() || !found.names.is_empty()).then_some(found)
    }
    pub(crate) fn matches(&self, node: &NodeInfo) -> bool {
        self.labels.iter().all(|r| r.matches(node.labels.get(&r.key).map(String::as_str)))
            && self.names.iter().all(|r| r.key == "metadata.name" && r.matches(Some(&node.name)))
    }
}

/// Which pods a term is about, and over which topology. Equal terms are counted once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTerm {
    pub(crate) key: String,
    pub(crate) scope: Arc<Scope>,
}

/// The labels of every namespace, by name.
pub(crate) type Namespaces = std::collections::HashMap<String, BTreeMap<String, String>>;

/// A set of pods: those of some namespaces that a selector matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) namespaces: Vec<String>,
    /// Further namespaces, by their labels.
    pub(crate) namespace_selector: Option<LabelSelector>,
    pub(crate) selector: LabelSelector,
}

impl Scope {
    pub(crate) fn matches(
        &self,
        all: &Namespaces,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        let by_labels = |selector: &LabelSelector| {
            selector.is_everything() || all.get(namespace).is_some_and(|own| selector.matches(own))
        };
        (self.namespaces.iter().any(|name| name == namespace)
            || self.namespace_selector.as_ref().is_some_and(by_labels))
            && self.selector.matches(labels)
    }
}

#[derive(Default)]
pub(crate) struct Terms {
    pub(crate) affinity: Vec<PodTerm>,
    pub(crate) anti_affinity: Vec<PodTerm>,
    pub(crate) preferred: Vec<(i64, PodTerm)>,
}

pub(crate) fn pod_terms(
    spec: &PodSpec,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Terms {
    let Some(affinity) = &spec.affinity else { return Terms::default() };
    let term = |term: &PodAffinityTerm| pod_term(term, namespace, labels);
    let mut all = Terms::default();
    if let Some(near) = &affinity.pod_affinity {
        let required = near.required_during_scheduling_ignored_during_execution.iter().flatten();
        all.affinity = required.filter_map(term).collect();
        let soft = near.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let soft = soft.filter_map(|p| Some((i64::from(p.weight), term(&p.pod_affinity_term)?)));
        all.preferred.extend(soft);
    }
    if let Some(apart) = &affinity.pod_anti_affinity {
        let required = apart.required_during_scheduling_ignored_during_execution.iter().flatten();
        all.anti_affinity = required.filter_map(term).collect();
        let soft = apart.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let soft = soft.filter_map(|p| Some((-i64::from(p.weight), term(&p.pod_affinity_term)?)));
        all.preferred.extend(soft);
    }
    all
}

fn pod_term(
    term: &PodAffinityTerm,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Option<PodTerm> {
    let mut selector = LabelSelector::from_spec(term.label_selector.as_ref()).ok()?;
    for (keys, operator) in
        [(&term.match_label_keys, Operator::In), (&term.mismatch_label_keys, Operator::NotIn)]
    {
        for key in keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                let values = vec![value.clone()];
                selector.requirements.push(Requirement { key: key.clone(), operator, values });
            }
        }
    }
    let mut namespaces = term.namespaces.clone().unwrap_or_default();
    let namespace_selector = match &term.namespace_selector {
        None => None,
        given => Some(LabelSelector::from_spec(given.as_ref()).ok()?),
    };
    if namespaces.is_empty() && namespace_selector.is_none() {
        namespaces.push(namespace.to_owned());
    }
    namespaces.sort();
    namespaces.dedup();
    let scope = Arc::new(Scope { namespaces, namespace_selector, selector });
    Some(PodTerm { key: term.topology_key.clone(), scope })
}
