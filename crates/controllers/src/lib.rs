//! Every controller, one file each. Depends on `api` and `reconcile` only.
//!
//! A controller cannot do I/O because it has nothing to do it with. Each is tested for two things
//! besides what it does: a settled world plans nothing, and a crash after any effect is made good.
mod amount;
mod cluster_role_aggregation;
mod conditions;
mod cron_job;
mod csr;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
pub mod garbage;
mod hash;
mod job;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod nodes;
mod pod_certificates;
mod pod_gc;
pub mod pods;
mod replica_set;
mod resource_quota;
mod revisions;
mod root_ca;
mod service;
mod service_account;
mod slices;
mod stateful_set;
mod storage_protection;
mod taint_eviction;
pub mod tally;
mod token_cleaner;
mod ttl_after_finished;

use reconcile::Controller;
use std::sync::Arc;

/// What controllers must be told about the cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The certificates that the API server's own are to be checked by, in PEM.
    pub ca_pem: String,
    /// Pod networks, one for each address family, of which each node gets a part.
    pub pod_cidrs: Vec<String>,
    /// The prefix length of a node's part, for IPv4.
    pub node_prefix: u8,
}

/// To add a controller: write one file, add one line.
pub const CONTROLLERS: &[fn(&Settings) -> Arc<dyn Controller>] = &[
    |_| Arc::new(replica_set::ReplicaSets),
    |_| Arc::new(replica_set::ReplicationControllers),
    |_| Arc::new(deployment::Deployments),
    |_| Arc::new(daemon_set::DaemonSets),
    |_| Arc::new(stateful_set::StatefulSets),
    |_| Arc::new(disruption::DisruptionBudgets),
    |_| Arc::new(resource_quota::ResourceQuotas),
    |_| Arc::new(job::Jobs),
    |_| Arc::new(cron_job::CronJobs),
    |_| Arc::new(ttl_after_finished::TtlAfterFinished),
    |_| Arc::new(cluster_role_aggregation::ClusterRoleAggregation),
    |_| Arc::new(endpoint_slice::EndpointSlices),
    |_| Arc::new(endpoint_slice_mirroring::Mirroring),
    |_| Arc::new(endpoints::EndpointsObjects),
    |_| Arc::new(namespace::Namespaces),
    |_| Arc::new(custom_resource_definition::Definitions),
    |_| Arc::new(csr::Approving),
    |_| Arc::new(csr::Signing),
    |_| Arc::new(csr::Cleaning),
    |_| Arc::new(pod_certificates::Cleaning),
    |settings| Arc::new(node_ipam::NodeIpam::new(&settings.pod_cidrs, settings.node_prefix)),
    |_| Arc::new(node_lifecycle::NodeHealth::default()),
    |_| Arc::new(node_lifecycle::NodeTaints),
    |_| Arc::new(token_cleaner::TokenCleaner),
    |_| Arc::new(service_account::ServiceAccounts),
    |_| Arc::new(pod_gc::PodGc),
    |_| Arc::new(taint_eviction::TaintEviction),
    |_| Arc::new(storage_protection::ClaimProtection),
    |_| Arc::new(storage_protection::VolumeProtection),
    |settings| Arc::new(root_ca::RootCa::new(&settings.ca_pem)),
];

pub fn all(settings: &Settings) -> Vec<Arc<dyn Controller>> {
    CONTROLLERS.iter().map(|make| make(settings)).collect()
}
