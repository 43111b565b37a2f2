//! `statefulsets`: pods with names and storage that stay.
use super::{keep_spec, keep_status};
use crate::at::{items_mut, map_mut, set, set_default, sub};
use crate::cells::{columns, int, template_columns};
use crate::core::pod::defaults;
use crate::{At, Column, Info, Resource, ScalePaths, Scope, Subresource};
use crate::{ints, names, workload};
use api::{FieldErrors, Gvk, Value};
use value::json;

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
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        validate_spec(&spec, &mut errors);
        if let Some(old) = old {
            validate_update(&spec, old, &mut errors);
        }
        errors
    }
    fn validate_subresource(&self, _name: &str, new: &Value, old: &Value) -> FieldErrors {
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        workload::status(new, old, "replicas", &parts)
    }
    /// The names of its pods, which are made from it, must be DNS labels.
    fn validate_name(&self, name: &str, generated_prefix: bool) -> Vec<String> {
        names::subdomain(name, generated_prefix)
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

fn validate_spec(spec: &At, errors: &mut FieldErrors) {
    let policy = spec.get("podManagementPolicy");
    match policy.text() {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(policy.required("")),
        _ => errors.push(policy.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "" => errors.push(strategy.required("")),
        "OnDelete" if rolling.is_set() => {
            errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            rolling.get("partition").non_negative(errors);
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_set() {
                workload::int_or_percent(&unavailable, errors);
                if ints::is_zero(&unavailable) {
                    errors.push(unavailable.invalid("cannot be 0"));
                }
                ints::at_most_all(&unavailable, errors);
            }
        }
        _ => errors.push(strategy.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        retention.get(field).one_of(&["Retain", "Delete"], true, errors);
    }
    for claim in spec.get("volumeClaimTemplates").items() {
        crate::core::persistent_volume_claim::claim_spec(&claim.get("spec"), errors);
    }
    workload::non_negative(spec, &["replicas", "minReadySeconds", "ordinals.start"], errors);
    workload::selector(spec, "statefulset", errors);
    workload::matches(spec, errors);
    // Volumes of the claims stand among those of the pod.
    let mut filled = spec.value.clone();
    add_claim_volumes(&mut filled);
    let filled = At::new(&filled, spec.path.clone());
    workload::lasting_template(&filled, "StatefulSet", errors);
}

fn add_claim_volumes(spec: &mut Value) {
    let claims: Vec<Value> = spec["volumeClaimTemplates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|claim| claim["metadata"].get("name").cloned())
        .collect();
    let Some(pod) = sub(spec, "template").and_then(|template| sub(template, "spec")) else {
        return;
    };
    let mut volumes = pod["volumes"].as_array().cloned().unwrap_or_default();
    for name in claims {
        volumes.retain(|volume| volume["name"] != name);
        volumes.push(json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }));
    }
    if !volumes.is_empty() {
        set(pod, "volumes", volumes);
    }
}

/// What the pods and their claims are bound to stays.
fn validate_update(spec: &At, old: &Value, errors: &mut FieldErrors) {
    for field in ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"] {
        spec.get(field).immutable(&old["spec"][field], errors);
    }
}
