//! `statefulsets`: pods with names and storage that stay.
use super::{keep_spec, keep_status};
use crate::at::{items_mut, map_mut, set, set_default, sub};
use crate::cells::{columns, int, template_columns};
use crate::core::pod::defaults;
use crate::{Column, Info, Resource, ScalePaths, Scope, Subresource};
use api::{Gvk, Value};
use serde_json::json;

pub(crate) struct StatefulSets;

static INFO: Info =
    Info::new(Gvk::fixed("apps", "v1", "StatefulSet"), "statefulsets", Scope::Namespaced)
        .short(&["sts"])
        .categories(&["all"])
        .subresources(const { &[Subresource::SCALE, Subresource::STATUS] })
        .with_generation();

const PODS: [Column; 2] = template_columns!("spec.template.spec");

impl Resource for StatefulSets {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        defaults::template(object);
        if map_mut(object, "spec").is_none() {
            return;
        }
        let Some(spec) = sub(object, "spec") else { return };
        set_default(spec, "podManagementPolicy", "OrderedReady");
        set_default(spec, "replicas", 1);
        set_default(spec, "revisionHistoryLimit", 10);
        default_strategy(spec);
        if map_mut(spec, "persistentVolumeClaimRetentionPolicy").is_some() {
            let policy = &mut spec["persistentVolumeClaimRetentionPolicy"];
            set_default(policy, "whenDeleted", "Retain");
            set_default(policy, "whenScaled", "Retain");
        }
        for claim in items_mut(spec, "volumeClaimTemplates") {
            set_default(claim, "apiVersion", "v1");
            set_default(claim, "kind", "PersistentVolumeClaim");
            if let Some(spec) = sub(claim, "spec") {
                defaults::claim_spec(spec);
            }
            if map_mut(claim, "status").is_some() {
                set_default(&mut claim["status"], "phase", "Pending");
            }
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", json!({ "replicas": 0, "availableReplicas": 0 }));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep_status(new, old);
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        keep_spec(new, old);
    }
    fn scale(&self) -> Option<ScalePaths> {
        Some(super::deployment::SCALE)
    }
    columns![
        Column::NAME,
        Column::new("Ready", "string", "Number of the pod with ready state").cell(|o, _| {
            format!("{}/{}", int(o, "status.readyReplicas"), int(o, "spec.replicas")).into()
        }),
        Column::AGE,
        PODS[0],
        PODS[1],
    ];
}

fn default_strategy(spec: &mut Value) {
    if map_mut(spec, "updateStrategy").is_none() {
        return;
    }
    let strategy = &mut spec["updateStrategy"];
    if crate::at::is_empty(&strategy["type"]) {
        set(strategy, "type", "RollingUpdate");
        map_mut(strategy, "rollingUpdate");
    }
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = sub(strategy, "rollingUpdate")
    {
        set_default(rolling, "partition", 0);
        set_default(rolling, "maxUnavailable", 1);
    }
}
