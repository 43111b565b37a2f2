//! The Node object: registration, status and lease.
pub mod machine;

use crate::config::AgentConfig;
use crate::events::Events;
use crate::seams::{Images, chain};
use api::Key;
use api::k8s::api::coordination::v1::Lease;
use api::k8s::api::core::v1::{
    ContainerImage, Node, NodeCondition, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use client::{Client, Error, Patch};
use jiff::Timestamp;
use machine::Machine;
use podlife::eviction::Condition;
use reconcile::NoteKind;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const LEASE_INTERVAL: Duration = Duration::from_secs(10);
/// Without a change the status is written this often.
const STATUS_INTERVAL: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(2);
/// Images that the status names at most.
const MAX_IMAGES: usize = 50;
/// Names of each of them.
const MAX_NAMES: usize = 5;
/// Names under which this node's runtime is known to runtime classes.
pub const HANDLERS: &[&str] = &["kybern", "runc"];

/// Reason and message, each after the name of who says it.
type Words = (&'static str, &'static str);
/// A condition with what is said when it holds and when it does not.
type Told = (Condition, Words, Words);
const TOLD: [Told; 3] = [
    (
        Condition::Memory,
        ("HasInsufficientMemory", "insufficient memory available"),
        ("HasSufficientMemory", "sufficient memory available"),
    ),
    (
        Condition::Disk,
        ("HasDiskPressure", "disk pressure"),
        ("HasNoDiskPressure", "no disk pressure"),
    ),
    (
        Condition::Pid,
        ("HasInsufficientPID", "insufficient PID available"),
        ("HasSufficientPID", "sufficient PID available"),
    ),
];

/// Keeps the Node object true.
pub struct NodeKeeper {
    pub config: AgentConfig,
    pub client: Client,
    pub machine: Machine,
    pub images: Arc<dyn Images>,
    pub events: Events,
}

/// The node's own health, as conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Why the node is not ready; `None`: it is.
    pub not_ready: Option<String>,
    /// What it is short of.
    pub conditions: BTreeSet<Condition>,
}

impl NodeKeeper {
    /// Creates the Node, or makes an old one fit. Tries until it is done.
    pub async fn register(&self) -> Node {
        loop {
            match self.try_register().await {
                Ok(node) => return node,
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(node = self.config.node_name, error, "cannot register yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_register(&self) -> Result<Node, Error> {
        let health = Health::starting();
        let mut node = Node::default();
        node.metadata.name = Some(self.config.node_name.clone());
        node.metadata.labels = Some(self.labels());
        let annotation = "volumes.kubernetes.io/controller-managed-attach-detach".to_owned();
        node.metadata.annotations = Some(BTreeMap::from([(annotation, "true".to_owned())]));
        let mut spec = api::k8s::api::core::v1::NodeSpec::default();
        spec.taints = Some(self.config.taints.clone()).filter(|taints| !taints.is_empty());
        node.spec = Some(spec);
        node.status = Some(self.status(None, &health).await);
        match self.client.create(&node).await {
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
            Ok(made) => {
                self.announce(None, &made);
                return Ok(made);
            }
        }
        let key = self.key();
        let old: Node = self.client.get(&key).await?;
        let mut labels = json!({});
        for (name, value) in self.labels() {
            if old.metadata.labels.as_ref().and_then(|l| l.get(&name)) != Some(&value) {
                labels[name] = json!(value);
            }
        }
        let old = match labels == json!({}) {
            true => old,
            false => {
                let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
                self.client.patch(&key, &patch, None).await?
            }
        };
        self.write_status(&old, &health).await.map(|written| written.unwrap_or(old))
    }

    fn key(&self) -> Key {
        Key::new("", self.config.node_name.as_str())
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let (os, arch) = ("linux".to_owned(), machine::architecture().to_owned());
        let mut labels = BTreeMap::from([
            ("kubernetes.io/hostname".to_owned(), self.config.node_name.clone()),
            ("kubernetes.io/os".to_owned(), os.clone()),
            ("kubernetes.io/arch".to_owned(), arch.clone()),
            ("beta.kubernetes.io/os".to_owned(), os),
            ("beta.kubernetes.io/arch".to_owned(), arch),
        ]);
        labels.extend(self.config.labels.clone());
        labels
    }

    async fn status(&self, old: Option<&Node>, health: &Health) -> NodeStatus {
        let old = old.and_then(|node| node.status.clone()).unwrap_or_default();
        let mut images = self.images.list().await;
        images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
        images.truncate(MAX_IMAGES);
        let images = images.iter().map(|image| ContainerImage {
            names: Some(image.names.iter().take(MAX_NAMES).cloned().collect()),
            size_bytes: Some(image.size_bytes),
        });
        let (capacity, allocatable) = self.machine.resources(&self.config);
        NodeStatus {
            addresses: Some(self.machine.addresses(&self.config)),
            capacity: Some(capacity),
            allocatable: Some(allocatable),
            daemon_endpoints: serde_json::from_value(json!({
                "kubeletEndpoint": {"Port": self.config.port},
            }))
            .ok(),
            node_info: Some(self.machine.info()),
            conditions: Some(conditions(&old, health, Timestamp::now())),
            images: Some(images.collect()),
            runtime_handlers: Some(
                std::iter::once("").chain(HANDLERS.iter().copied()).map(runtime_handler).collect(),
            ),
            features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
            ..old
        }
    }

    /// Writes what differs; `None` if nothing does.
    async fn write_status(&self, old: &Node, health: &Health) -> Result<Option<Node>, Error> {
        let new = self.status(Some(old), health).await;
        let patch = status_patch(old.status.as_ref(), &new);
        if patch.is_null() {
            return Ok(None);
        }
        let body = json!({"metadata": {"uid": old.metadata.uid}, "status": patch});
        let body = Patch::Strategic(body);
        let written: Node = self.client.patch(&self.key(), &body, Some("status")).await?;
        self.announce(old.status.as_ref(), &written);
        Ok(Some(written))
    }

    /// Tells of conditions that have changed.
    fn announce(&self, old: Option<&NodeStatus>, node: &Node) {
        let Some(new) = &node.status else { return };
        for reason in changes(old, new) {
            let message = format!("Node {} status is now: {reason}", self.config.node_name);
            self.events.node(node, NoteKind::Normal, reason, message);
        }
    }

    /// Keeps status and lease fresh. `health` changes are written at once.
    pub async fn keep(
        &self,
        mut node: Node,
        mut health: watch::Receiver<Health>,
        seen: watch::Sender<Arc<Node>>,
    ) {
        let mut lease = Instant::now();
        let mut status = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(lease) => {
                    let renewed = self.renew_lease(&node).await;
                    if let Err(error) = &renewed {
                        tracing::warn!(error = chain(error), "cannot renew the node's lease");
                    }
                    let wait = if renewed.is_ok() { LEASE_INTERVAL } else { RETRY };
                    lease = Instant::now() + wait;
                    continue;
                }
                () = tokio::time::sleep_until(status) => {}
                changed = health.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            let now_healthy = health.borrow_and_update().clone();
            status = Instant::now() + STATUS_INTERVAL;
            match self.update(&now_healthy).await {
                Ok(new) => node = new,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot write the node's status");
                    status = Instant::now() + RETRY;
                    continue;
                }
            }
            let written = Arc::new(node.clone());
            seen.send_if_modified(|old| {
                crate::cluster::newer(&written, old).then(|| *old = written).is_some()
            });
        }
    }

    async fn update(&self, health: &Health) -> Result<Node, Error> {
        let old: Node = match self.client.get(&self.key()).await {
            Ok(node) => node,
            // Somebody deleted it: a node that runs is there.
            Err(error) if error.is_not_found() => self.try_register().await?,
            Err(error) => return Err(error),
        };
        Ok(self.write_status(&old, health).await?.unwrap_or(old))
    }

    async fn renew_lease(&self, node: &Node) -> Result<(), Error> {
        let key = Key::new(LEASE_NAMESPACE, self.config.node_name.as_str());
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let spec = json!({
            "holderIdentity": self.config.node_name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": time,
        });
        let patch = Patch::Merge(json!({"spec": spec}));
        match self.client.patch::<Lease>(&key, &patch, None).await {
            Err(error) if error.is_not_found() => {}
            other => return other.map(drop),
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.config.node_name,
                "namespace": LEASE_NAMESPACE,
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Node", "name": self.config.node_name,
                    "uid": node.metadata.uid,
                }],
            },
            "spec": spec,
        });
        let resource = client::Resource::of::<Lease>();
        self.client.create_value(&resource, Some(LEASE_NAMESPACE), &lease).await.map(drop)
    }
}

impl Health {
    /// Before the network and the runtime are known to work.
    pub fn starting() -> Self {
        Self {
            not_ready: Some("[container runtime status check may not have completed yet]".into()),
            conditions: BTreeSet::new(),
        }
    }
}

/// What the runtime can do; the empty name is that of pods without a runtime class.
fn runtime_handler(name: &str) -> NodeRuntimeHandler {
    NodeRuntimeHandler {
        name: Some(name.to_owned()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(true),
            user_namespaces: Some(false),
        }),
    }
}

fn conditions(old: &NodeStatus, health: &Health, now: Timestamp) -> Vec<NodeCondition> {
    // Whole seconds, as every client writes them.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let pressure = |(condition, has, has_not): &Told| {
        let on = health.conditions.contains(condition);
        let (reason, message) = if on { has } else { has_not };
        let status = if on { "True" } else { "False" };
        let (reason, message) = (format!("Kubelet{reason}"), format!("kubelet has {message}"));
        (condition.name().to_owned(), status, reason, message)
    };
    let list = [
        pressure(&TOLD[0]),
        pressure(&TOLD[1]),
        pressure(&TOLD[2]),
        match &health.not_ready {
            None => (
                "Ready".to_owned(),
                "True",
                "KubeletReady".to_owned(),
                "kubelet is posting ready status".to_owned(),
            ),
            Some(why) => ("Ready".to_owned(), "False", "KubeletNotReady".to_owned(), why.clone()),
        },
    ];
    let before = old.conditions.clone().unwrap_or_default();
    let mut out: Vec<NodeCondition> = list
        .into_iter()
        .map(|(type_, status, reason, message)| {
            let since = before
                .iter()
                .find(|condition| condition.type_ == type_ && condition.status == status)
                .and_then(|condition| condition.last_transition_time.clone());
            NodeCondition {
                type_,
                status: status.to_owned(),
                reason: Some(reason),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: Some(since.unwrap_or(Time(now))),
            }
        })
        .collect();
    let own: Vec<String> = out.iter().map(|condition| condition.type_.clone()).collect();
    out.extend(before.into_iter().filter(|condition| !own.contains(&condition.type_)));
    out
}

/// What has changed of the conditions, as reasons of events.
fn changes(old: Option<&NodeStatus>, new: &NodeStatus) -> Vec<String> {
    let status = |of: &NodeStatus, kind: &str| {
        let mut all = of.conditions.iter().flatten();
        all.find(|condition| condition.type_ == kind).map(|condition| condition.status.clone())
    };
    let reason = |kind: &str, on: &str, off: &str| {
        let now = status(new, kind)?;
        let changed = old.and_then(|old| status(old, kind)).as_ref() != Some(&now);
        changed.then(|| format!("Node{}", if now == "True" { on } else { off }))
    };
    let pressures = TOLD
        .iter()
        .filter_map(|(condition, has, has_not)| reason(condition.name(), has.0, has_not.0));
    pressures.chain(reason("Ready", "Ready", "NotReady")).collect()
}

/// The changed parts of the status, as a strategic merge patch. What others keep in it is left out.
fn status_patch(old: Option<&NodeStatus>, new: &NodeStatus) -> Value {
    let value = |status: Option<&NodeStatus>| {
        status.and_then(|status| serde_json::to_value(status).ok()).unwrap_or(Value::Null)
    };
    let (old, new) = (value(old), value(Some(new)));
    let mut patch = serde_json::Map::new();
    for (key, value) in new.as_object().into_iter().flatten() {
        if old.get(key) == Some(value) {
            continue;
        }
        let mut value = value.clone();
        if key == "addresses" {
            // Merged by type: what is gone must be said.
            let kept: Vec<Value> = value.as_array().cloned().unwrap_or_default();
            let before = old[key].as_array().cloned().unwrap_or_default();
            let gone = before.iter().filter(|a| !kept.iter().any(|b| b["type"] == a["type"]));
            let gone = gone.map(|a| json!({"type": a["type"], "$patch": "delete"}));
            value = kept.iter().cloned().chain(gone).collect();
        }
        patch.insert(key.clone(), value);
    }
    if patch.is_empty() { Value::Null } else { Value::Object(patch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_in_upstreams_words() {
        let first = Timestamp::from_second(100).unwrap();
        let status = NodeStatus {
            conditions: Some(conditions(&NodeStatus::default(), &Health::starting(), first)),
            ..NodeStatus::default()
        };
        let later = Timestamp::from_second(200).unwrap();
        let conditions = BTreeSet::from([Condition::Memory, Condition::Disk]);
        let health = Health { conditions, not_ready: None };
        let after = NodeStatus {
            conditions: Some(self::conditions(&status, &health, later)),
            ..NodeStatus::default()
        };
        let shown: Vec<String> = after
            .conditions
            .iter()
            .flatten()
            .map(|c| {
                let since = c.last_transition_time.as_ref().unwrap().0.as_second();
                let (reason, message) = (c.reason.clone().unwrap(), c.message.clone().unwrap());
                format!("{}={}@{since} {reason}: {message}", c.type_, c.status)
            })
            .collect();
        let want = [
            "MemoryPressure=True@200 KubeletHasInsufficientMemory: kubelet has insufficient \
             memory available",
            "DiskPressure=True@200 KubeletHasDiskPressure: kubelet has disk pressure",
            "PIDPressure=False@100 KubeletHasSufficientPID: kubelet has sufficient PID available",
            "Ready=True@200 KubeletReady: kubelet is posting ready status",
        ];
        assert_eq!(shown, want);
        let told = ["NodeHasInsufficientMemory", "NodeHasDiskPressure", "NodeReady"];
        assert_eq!(changes(Some(&status), &after), told);
        let told = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"];
        assert_eq!(changes(None, &status)[..3], told);
        assert!(changes(Some(&after), &after).is_empty());
    }

    #[test]
    fn patches_name_addresses_that_are_gone() {
        let status = |list: Value| -> NodeStatus {
            serde_json::from_value(json!({"addresses": list})).unwrap()
        };
        let old = status(json!([{"type": "InternalIP", "address": "1"},
            {"type": "Hostname", "address": "h"}]));
        let new = status(json!([{"type": "InternalIP", "address": "2"}]));
        let want = json!({"addresses": [{"type": "InternalIP", "address": "2"},
            {"type": "Hostname", "$patch": "delete"}]});
        assert_eq!(status_patch(Some(&old), &new), want);
        assert_eq!(status_patch(Some(&new), &new), Value::Null);
    }
}
