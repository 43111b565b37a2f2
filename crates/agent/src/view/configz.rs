//! `/configz`: the node's configuration, as far as the kubelet's has a name for it.
use crate::collector::{HIGH_PERCENT, LOW_PERCENT};
use crate::config::AgentConfig;
use runtime::LogPolicy;
use serde_json::{Map, Value, json};

pub(super) fn configz(config: &AgentConfig) -> Value {
    let hard = config.eviction_hard.iter();
    let hard: Map<String, Value> =
        hard.map(|t| (t.signal.name().to_owned(), json!(t.least.to_string()))).collect();
    let logs = LogPolicy::default();
    let mut shown = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": config.node_ip.to_string(),
        "port": config.port,
        "maxPods": config.max_pods,
        "clusterDomain": config.cluster_domain,
        "clusterDNS": [config.cluster_dns.to_string()],
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": config.cgroup,
        "containerLogMaxSize": api::Quantity::from_bytes(logs.max_bytes as i64).to_string(),
        "containerLogMaxFiles": logs.max_files,
        "evictionHard": hard,
        "evictionPressureTransitionPeriod": "5m0s",
        "imageGCHighThresholdPercent": HIGH_PERCENT,
        "imageGCLowThresholdPercent": LOW_PERCENT,
        "imageMinimumGCAge": "2m0s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": 40,
    });
    if let Some(folder) = &config.static_pods {
        shown["staticPodPath"] = json!(folder.display().to_string());
    }
    json!({"kubeletconfig": shown})
}
