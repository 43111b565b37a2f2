//! The table of API resources. Built-ins are static rows; CRDs add rows at run time.
//!
//! A row is pure: it has no clock, no store and no client. Everything that the API server does with
//! a kind (routing, discovery, OpenAPI, tables, selectors) it reads from the row; there are no
//! per-kind handlers. To add a kind: write one file under its group, add one line to [`RESOURCES`].
mod apps;
pub mod at;
mod cells;
mod core;
pub mod meta;
pub mod names;
mod quantities;
mod rbac;
mod row;
mod selectors;

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
    &apps::controller_revision::ControllerRevisions,
    &apps::daemon_set::DaemonSets,
    &apps::deployment::Deployments,
    &apps::replica_set::ReplicaSets,
    &apps::stateful_set::StatefulSets,
    &rbac::cluster_role::ClusterRoles,
    &rbac::cluster_role_binding::ClusterRoleBindings,
    &rbac::role::Roles,
    &rbac::role_binding::RoleBindings,
];

#[cfg(test)]
mod tests {
    use super::*;
    use api::Value;
    use serde_json::json;
    use std::collections::BTreeSet;

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
                    (convert.from_stored)((convert.to_stored)(object.clone()));
                }
            }
        }
    }
}
