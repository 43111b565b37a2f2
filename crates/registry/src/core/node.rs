//! `nodes`: the machines.
use crate::at::{restore, sub};
use crate::cells::{columns, condition, text, text_or};
use crate::quantities::canonical_list;
use crate::{At, Column, Info, Resource, Scope, Subresource, names};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct Nodes;

static INFO: Info =
    Info::new(Gvk::fixed("", "v1", "Node"), "nodes", Scope::Cluster).short(&["no"]).subresources(
        const {
            &[
                Subresource::new(
                    "proxy",
                    super::pod::PROXY,
                    Some(Gvk::fixed("", "v1", "NodeProxyOptions")),
                ),
                Subresource::STATUS,
            ]
        },
    );

impl Resource for Nodes {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(spec) = sub(object, "spec") {
            let first = spec["podCIDRs"].get(0).cloned();
            match (spec.get("podCIDR").cloned(), first) {
                (Some(one), None) => crate::at::set(spec, "podCIDRs", vec![one]),
                (None, Some(first)) => crate::at::set(spec, "podCIDR", first),
                _ => {}
            }
        }
        let Some(status) = sub(object, "status") else { return };
        if let (None, Some(capacity)) = (status.get("allocatable"), status.get("capacity")) {
            let capacity = capacity.clone();
            crate::at::set(status, "allocatable", capacity);
        }
        for list in ["capacity", "allocatable"] {
            if let Some(list) = status.get_mut(list) {
                canonical_list(list);
            }
        }
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        validate_taints(&spec.get("taints"), &mut errors);
        let cidrs = spec.get("podCIDRs");
        for cidr in cidrs.items() {
            cidr.each(names::cidr(cidr.text()), &mut errors);
        }
        if cidrs.len() > 2 {
            errors.push(cidrs.invalid("may specify no more than one CIDR for each IP family"));
        }
        if let Some(old) = old {
            validate_update(new, old, &mut errors);
        }
        errors
    }
    fn validate_subresource(&self, _name: &str, new: &Value, _old: &Value) -> FieldErrors {
        let (status, mut errors) = (At::root(new).get("status"), FieldErrors::new());
        let mut seen = std::collections::BTreeSet::new();
        for address in status.get("addresses").items() {
            if !seen.insert(address.value.to_string()) {
                errors.push(address.duplicate());
            }
        }
        errors
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.unschedulable"]
    }
    fn field<'a>(&self, object: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
        let value = crate::object::field_text(object, path);
        value.or_else(|| (path == "spec.unschedulable").then(|| "false".into()))
    }
    columns![
        Column::NAME,
        Column::new("Status", "string", "The status of the node").cell(|o, _| status(o).into()),
        Column::new("Roles", "string", "The roles of the node").cell(|o, _| roles(o).into()),
        Column::AGE,
        Column::new("Version", "string", "Kubelet version reported by the node.")
            .cell(|o, _| text(o, "status.nodeInfo.kubeletVersion").into()),
        Column::new("Internal-IP", "string", "The node's address inside of the cluster.")
            .wide()
            .cell(|o, _| address(o, "InternalIP").into()),
        Column::new("External-IP", "string", "The node's address outside of the cluster.")
            .wide()
            .cell(|o, _| address(o, "ExternalIP").into()),
        Column::new("OS-Image", "string", "OS image reported by the node.")
            .wide()
            .cell(|o, _| text_or(o, "status.nodeInfo.osImage", "<unknown>").into()),
        Column::new("Kernel-Version", "string", "Kernel version reported by the node.")
            .wide()
            .cell(|o, _| kernel(o).into()),
        Column::new("Container-Runtime", "string", "Container runtime of the node.").wide().cell(
            |o, _| text_or(o, "status.nodeInfo.containerRuntimeVersion", "<unknown>").into(),
        ),
    ];
}

fn status(node: &Value) -> String {
    let ready = match condition(node, "Ready") {
        "" => "Unknown",
        "True" => "Ready",
        _ => "NotReady",
    };
    match node["spec"]["unschedulable"].as_bool() {
        Some(true) => format!("{ready},SchedulingDisabled"),
        _ => ready.to_owned(),
    }
}

fn roles(node: &Value) -> String {
    let labels = At::root(node).get("metadata.labels");
    let mut roles: Vec<&str> = labels
        .entries()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then_some(value.text()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address(node: &Value, kind: &str) -> String {
    let addresses = At::root(node).get("status.addresses");
    let found = addresses.items().find(|address| address.get("type").text() == kind);
    found.map_or("<none>", |address| address.get("address").text()).to_owned()
}

fn kernel(node: &Value) -> String {
    let version = text_or(node, "status.nodeInfo.kernelVersion", "<unknown>");
    match text(node, "status.nodeInfo.architecture").as_str() {
        "" => version,
        architecture => format!("{version} ({architecture})"),
    }
}

fn validate_taints(taints: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        key.named(names::qualified, errors);
        value.each(names::label_value(value.text()), errors);
        effect.one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], true, errors);
        let pair = (key.text(), effect.text());
        if seen.contains(&pair) {
            let why = "taints must be unique by key and effect pair";
            let mut error = taint.duplicate();
            why.clone_into(&mut error.detail);
            errors.push(error);
        }
        seen.push(pair);
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (now, was) = (At::root(new).get("spec"), At::root(old).get("spec"));
    for field in ["podCIDRs", "providerID"] {
        let (new, old) = (now.get(field), was.get(field));
        if !old.is_empty() && !crate::at::same(new.value, old.value) {
            errors.push(FieldError::forbidden(
                new.path,
                match field {
                    "providerID" => {
                        "node updates may not change providerID except from \"\" to valid"
                    }
                    _ => "node updates may not change podCIDR except from \"\" to valid",
                },
            ));
        }
    }
}
