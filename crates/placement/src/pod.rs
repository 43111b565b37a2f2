//! A pod, read once into what decisions need.
use crate::affinity::{NodeRule, PodTerm, Required, Scope};
use crate::resources::Resources;
use crate::topology::{Only, Over};
use api::k8s::api::core::v1::{Pod, PodSpec, Toleration, TopologySpreadConstraint};
use api::{Kind, LabelSelector};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A port that a pod takes on its node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// The same port, on addresses that overlap.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

/// One `topologySpreadConstraint`.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    pub(crate) over: Over,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: Option<i64>,
    pub(crate) hard: bool,
    pub(crate) scope: Arc<Scope>,
    /// The pod itself counts.
    pub(crate) own: bool,
}

/// What is read of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodInfo {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub labels: Arc<BTreeMap<String, String>>,
    /// The set that it belongs to.
    pub owner: Option<String>,
    pub node: Option<String>,
    pub nominated: Option<String>,
    pub priority: i32,
    pub may_preempt: bool,
    pub deleting: bool,
    /// ... to make room for another.
    pub preempted: bool,
    pub started: i64,
    pub requests: Resources,
    pub ranked: (i64, i64),
    pub ports: Vec<HostPort>,
    pub tolerations: Vec<Toleration>,
    pub node_rule: NodeRule,
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
    /// With weights; negative ones keep away.
    pub preferred: Vec<(i64, PodTerm)>,
    pub spread: Vec<Spread>,
    /// By their full names.
    pub images: Vec<String>,
    pub gated: bool,
}

/// A pod that has ended takes nothing any more.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The scheduler has chosen it to make room for another.
fn made_room(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| {
        condition.type_ == "DisruptionTarget"
            && condition.status == "True"
            && condition.reason.as_deref() == Some("PreemptionByScheduler")
    })
}

impl PodInfo {
    pub fn new(pod: &Pod) -> Self {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let meta = &pod.metadata;
        let labels = Arc::new(meta.labels.clone().unwrap_or_default());
        let namespace = meta.namespace.clone().unwrap_or_default();
        let requests = Resources::of_pod(spec);
        let terms = crate::affinity::pod_terms(spec, &namespace, &labels);
        let node_rule = NodeRule::of(spec);
        let required = node_rule.required.clone();
        let owners = meta.owner_references.iter().flatten();
        let status = pod.status.as_ref();
        Self {
            uid: pod.uid().to_owned(),
            name: meta.name.clone().unwrap_or_default(),
            owner: owners.into_iter().find(|o| o.controller == Some(true)).map(|o| o.uid.clone()),
            node: spec.node_name.clone().filter(|node| !node.is_empty()),
            nominated: status.and_then(|status| status.nominated_node_name.clone()),
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            deleting: meta.deletion_timestamp.is_some(),
            preempted: meta.deletion_timestamp.is_some() && made_room(pod),
            started: status
                .and_then(|status| status.start_time.as_ref())
                .map_or(i64::MAX, |time| time.0.as_second()),
            ranked: requests.ranked(spec),
            requests,
            ports: ports(spec),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            node_rule,
            affinity: terms.affinity,
            anti_affinity: terms.anti_affinity,
            preferred: terms.preferred,
            spread: spread(spec, &namespace, &labels, &required),
            images: spec
                .containers
                .iter()
                .filter_map(|c| c.image.as_deref().map(full_name))
                .collect(),
            gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
            namespace,
            labels,
        }
    }
}

impl PodInfo {
    /// Whether it must be spread over domains or be near others.
    pub fn spreads(&self) -> bool {
        self.spread.iter().any(|spread| spread.hard) || !self.affinity.is_empty()
    }
    /// Whether it counts for the same on the same node.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        self.requests == other.requests
            && self.deleting == other.deleting
            && self.labels == other.labels
            && self.ranked == other.ranked
            && self.namespace == other.namespace
            && self.owner == other.owner
            && self.ports == other.ports
            && self.affinity == other.affinity
            && self.anti_affinity == other.anti_affinity
            && self.preferred == other.preferred
    }
}

/// Images are known by their full names.
fn full_name(image: &str) -> String {
    let tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if tagged { image.to_owned() } else { format!("{image}:latest") }
}

fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            Some(HostPort {
                ip: port.host_ip.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: number,
            })
        })
        .collect()
}

fn spread(
    spec: &PodSpec,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    required: &Option<Required>,
) -> Vec<Spread> {
    let all = || spec.topology_spread_constraints.iter().flatten();
    let hard =
        |constraint: &TopologySpreadConstraint| constraint.when_unsatisfiable == "DoNotSchedule";
    all()
        .filter_map(|constraint| {
            let mut selector = LabelSelector::from_spec(constraint.label_selector.as_ref()).ok()?;
            for key in constraint.match_label_keys.iter().flatten() {
                if let Some(value) = labels.get(key) {
                    selector.requirements.push(api::selector::Requirement {
                        key: key.clone(),
                        operator: api::selector::Operator::In,
                        values: vec![value.clone()],
                    });
                }
            }
            // Nodes count that have the labels of all constraints of the same strictness.
            let same = all().filter(|other| hard(other) == hard(constraint));
            let others = same.map(|other| &other.topology_key);
            let keys = others.filter(|key| **key != constraint.topology_key).cloned().collect();
            let honor_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
            let honor_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
            let only = Only {
                labels: keys,
                required: required.clone().filter(|_| honor_affinity),
                tolerations: honor_taints.then(|| spec.tolerations.clone().unwrap_or_default()),
            };
            Some(Spread {
                over: Over { key: constraint.topology_key.clone(), only: only.unless_all() },
                max_skew: i64::from(constraint.max_skew),
                min_domains: constraint.min_domains.map(i64::from),
                hard: hard(constraint),
                own: selector.matches(labels),
                scope: Arc::new(Scope {
                    namespaces: vec![namespace.to_owned()],
                    namespace_selector: None,
                    selector,
                }),
            })
        })
        .collect()
}
