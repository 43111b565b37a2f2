//! What is created: nodes that nobody runs, pods of each kind of constraint, small objects.
use serde_json::{Value, json};

/// The image that every node has.
pub(crate) const IMAGE: &str = "kybern.local/toolbox";
const ZONES: usize = 10;

pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// One kilobyte of data.
pub(crate) fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"value": "x".repeat(1024)},
    })
}

/// A pod that runs until it is deleted.
pub(crate) fn sleeper(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "1000000"]}],
        },
    })
}

/// A pod that no scheduler takes.
pub(crate) fn stored_pod(name: &str) -> Value {
    let mut pod = placed_pod(name, Constraint::Basic);
    pod["spec"]["schedulerName"] = json!("none");
    pod
}

/// What a pod asks of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constraint {
    Basic,
    /// Of one replica set, which is spread by default.
    OneSet,
    ZoneSpread,
    /// All in one zone.
    ZoneAffinity,
    PreferredAntiAffinity,
    /// No two on one node.
    HostAntiAffinity,
}

impl Constraint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::OneSet => "of one set",
            Self::ZoneSpread => "zone spread",
            Self::ZoneAffinity => "zone affinity",
            Self::PreferredAntiAffinity => "preferred anti-affinity",
            Self::HostAntiAffinity => "host anti-affinity",
        }
    }
}

pub(crate) fn placed_pod(name: &str, constraint: Constraint) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"containers": [{
            "name": "main", "image": IMAGE,
            "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}},
        }]},
    });
    let selector = json!({"matchLabels": {"app": "bench"}});
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": selector});
    match constraint {
        Constraint::Basic => {}
        Constraint::OneSet => {
            pod["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "bench", "uid": "bench",
                "controller": true,
            }]);
        }
        Constraint::ZoneAffinity => {
            let term =
                json!({"topologyKey": "topology.kubernetes.io/zone", "labelSelector": selector});
            pod["spec"]["affinity"] = json!({"podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [term],
            }});
        }
        Constraint::ZoneSpread => {
            pod["spec"]["topologySpreadConstraints"] = json!([{
                "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector,
            }]);
        }
        Constraint::PreferredAntiAffinity => {
            pod["spec"]["affinity"] = json!({"podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution":
                    [{"weight": 100, "podAffinityTerm": term}],
            }});
        }
        Constraint::HostAntiAffinity => {
            pod["spec"]["affinity"] = json!({"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [term],
            }});
        }
    }
    pod
}

pub(crate) fn node_name(index: usize) -> String {
    format!("hollow-{index:05}")
}

/// A node that says it is ready. Its pods' network is given, so that only scheduling is measured:
/// upstream, as it is started here, gives none.
pub(crate) fn node(index: usize, now: &str) -> Value {
    let name = node_name(index);
    let network = format!("10.{}.{}.0/24", 240 + index / 256 % 16, index % 256);
    let room = json!({"cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110"});
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "Hollow", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": format!("zone-{}", index % ZONES),
        }},
        "spec": {"podCIDR": network, "podCIDRs": [network]},
        "status": {
            "capacity": room, "allocatable": room,
            "conditions": [
                condition("Ready", "True"), condition("MemoryPressure", "False"),
                condition("DiskPressure", "False"), condition("PIDPressure", "False"),
            ],
        },
    })
}

pub(crate) fn lease(index: usize, now: &str) -> Value {
    let name = node_name(index);
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
    })
}
