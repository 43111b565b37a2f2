//! The table of API resources. Built-ins are static rows; CRDs add rows at run time.
//!
//! A row is pure: it has no clock, no store and no client. Everything that the API server does with
//! a kind (routing, discovery, OpenAPI, tables, selectors) it reads from the row; there are no
//! per-kind handlers. To add a kind: write one file under its group, add one line to [`RESOURCES`].
mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
pub mod at;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod cells;
mod certificates;
mod coordination;
mod core;
pub mod custom;
mod discovery;
mod events;
mod flowcontrol;
mod ints;
pub mod meta;
pub mod names;
mod networking;
mod node;
mod policy;
mod quantities;
mod rbac;
mod resource;
mod row;
mod scheduling;
mod selectors;
mod storage;
mod storagemigration;
pub mod versions;
mod workload;

pub use at::At;

pub use row::{
    Column, Convert, Deletion, Info, Resource, ScalePaths, Scope, Subresource, Verbs, object,
};

/// Every built-in resource.
pub static RESOURCES: &[&dyn Resource] = &[
    &core::binding::Bindings,
    &core::component_status::ComponentStatuses,
    &core::config_map::ConfigMaps,
    &core::endpoints::Endpoints,
    &core::event::Events,
    &core::limit_range::LimitRanges,
    &core::namespace::Namespaces,
    &core::node::Nodes,
    &core::persistent_volume::PersistentVolumes,
    &core::persistent_volume_claim::PersistentVolumeClaims,
    &core::pod::Pods,
    &core::pod_template::PodTemplates,
    &core::replication_controller::ReplicationControllers,
    &core::resource_quota::ResourceQuotas,
    &core::secret::Secrets,
    &core::service::Services,
    &core::service_account::ServiceAccounts,
    &admissionregistration::mutating_admission_policy::MutatingAdmissionPolicies,
    &admissionregistration::mutating_admission_policy_binding::MutatingAdmissionPolicyBindings,
    &admissionregistration::mutating_webhook_configuration::MutatingWebhookConfigurations,
    &admissionregistration::validating_admission_policy::ValidatingAdmissionPolicies,
    &admissionregistration::validating_admission_policy_binding::ValidatingAdmissionPolicyBindings,
    &admissionregistration::validating_webhook_configuration::ValidatingWebhookConfigurations,
    &apiextensions::custom_resource_definition::CustomResourceDefinitions,
    &apiregistration::api_service::ApiServices,
    &apps::controller_revision::ControllerRevisions,
    &apps::daemon_set::DaemonSets,
    &apps::deployment::Deployments,
    &apps::replica_set::ReplicaSets,
    &apps::stateful_set::StatefulSets,
    &authentication::self_subject_review::SelfSubjectReviews,
    &authentication::token_review::TokenReviews,
    &authorization::local_subject_access_review::LocalSubjectAccessReviews,
    &authorization::self_subject_access_review::SelfSubjectAccessReviews,
    &authorization::self_subject_rules_review::SelfSubjectRulesReviews,
    &authorization::subject_access_review::SubjectAccessReviews,
    &autoscaling::horizontal_pod_autoscaler::HorizontalPodAutoscalers,
    &autoscaling::horizontal_pod_autoscaler_v1::HorizontalPodAutoscalersV1,
    &batch::cron_job::CronJobs,
    &batch::job::Jobs,
    &certificates::certificate_signing_request::CertificateSigningRequests,
    &certificates::cluster_trust_bundle::ClusterTrustBundles,
    &certificates::pod_certificate_request::PodCertificateRequests,
    &coordination::lease::Leases,
    &discovery::endpoint_slice::EndpointSlices,
    &events::event::Events,
    &flowcontrol::flow_schema::FlowSchemas,
    &flowcontrol::priority_level_configuration::PriorityLevelConfigurations,
    &networking::ingress::Ingresses,
    &networking::ingress_class::IngressClasses,
    &networking::ip_address::IpAddresses,
    &networking::network_policy::NetworkPolicies,
    &networking::service_cidr::ServiceCidrs,
    &node::runtime_class::RuntimeClasses,
    &policy::pod_disruption_budget::PodDisruptionBudgets,
    &rbac::cluster_role::ClusterRoles,
    &rbac::cluster_role_binding::ClusterRoleBindings,
    &rbac::role::Roles,
    &rbac::role_binding::RoleBindings,
    &resource::device_class::DeviceClasses,
    &resource::device_taint_rule::DeviceTaintRules,
    &resource::resource_claim::ResourceClaims,
    &resource::resource_claim_template::ResourceClaimTemplates,
    &resource::resource_slice::ResourceSlices,
    &scheduling::priority_class::PriorityClasses,
    &storage::csi_driver::CsiDrivers,
    &storage::csi_node::CsiNodes,
    &storage::csi_storage_capacity::CsiStorageCapacities,
    &storage::storage_class::StorageClasses,
    &storage::volume_attachment::VolumeAttachments,
    &storage::volume_attributes_class::VolumeAttributesClasses,
    &storagemigration::storage_version_migration::StorageVersionMigrations,
];

#[cfg(test)]
mod tests {
    use super::*;
    use api::Value;
    use std::collections::BTreeSet;
    use value::json;

    #[test]
    fn rows_are_unique() {
        let mut seen = BTreeSet::new();
        for row in RESOURCES {
            let info = row.info();
            let gvk = &info.gvk;
            assert!(
                seen.insert((gvk.group.clone(), gvk.version.clone(), info.plural.clone())),
                "duplicate {}",
                info.plural
            );
        }
    }

    /// What a row does with an object that has nothing in it.
    fn objects() -> Vec<Value> {
        vec![
            json!({}),
            json!({ "metadata": {}, "spec": {}, "status": {} }),
            json!({ "spec": { "template": { "spec": {} }, "rules": [{}], "ports": [{}] } }),
            json!({ "subsets": [{}], "webhooks": [{}], "subjects": [{}], "endpoints": [{}] }),
        ]
    }

    #[test]
    fn every_row_takes_an_empty_object() {
        for row in RESOURCES {
            for object in objects() {
                let mut once = object.clone();
                row.default(&mut once);
                let mut twice = once.clone();
                row.default(&mut twice);
                assert_eq!(once, twice, "{}", row.info().plural);
                for column in row.columns() {
                    for object in [&object, &once] {
                        let cell = (column.cell)(object, 0);
                        assert!(!cell.is_object(), "{} {}", row.info().plural, column.name);
                    }
                }
                let mut made = once.clone();
                row.prepare_create(&mut made);
                row.validate(&made, None);
                row.warnings(&made, None);
                let mut written = once.clone();
                row.prepare_update(&mut written, &made);
                row.validate(&written, Some(&made));
                for part in row.info().subresources {
                    let mut written = once.clone();
                    row.prepare_subresource(part.name, &mut written, &made);
                    row.validate_subresource(part.name, &written, &made);
                }
                for field in row.selectable_fields() {
                    row.field(&object, field);
                }
                row.deletion(&object, None);
                if let Some(convert) = row.convert() {
                    convert.to_own(convert.to_stored(object.clone()));
                }
            }
        }
    }

    #[test]
    fn writers_are_told_what_nothing_acts_on() {
        let row = RESOURCES.iter().find(|row| row.info().plural == "networkpolicies").unwrap();
        assert_eq!(
            row.warnings(&json!({}), None),
            [
                "Kybern does not act on networking.k8s.io/v1 NetworkPolicy yet: the object is stored \
              only"
            ]
        );
        for row in RESOURCES.iter().filter(|row| !row.info().acted_on) {
            assert!(!row.warnings(&json!({}), None).is_empty(), "{}", row.info().plural);
        }
    }
}
