//! `csinodes`: the CSI drivers on a node.
use crate::cells::{columns, len};
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct CsiNodes;

static INFO: Info =
    Info::new(Gvk::fixed("storage.k8s.io", "v1", "CSINode"), "csinodes", Scope::Cluster)
        .conditional_update()
        .stored_only();

impl Resource for CsiNodes {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (mut errors, mut seen) = (FieldErrors::new(), Vec::new());
        for driver in At::root(new).get("spec.drivers").items() {
            let (name, node) = (driver.get("name"), driver.get("nodeID"));
            name.named(|text| names::subdomain(&text.to_lowercase(), false), &mut errors);
            if seen.contains(&name.text()) {
                errors.push(name.duplicate());
            }
            seen.push(name.text());
            node.must("", &mut errors);
            let mut keys = Vec::new();
            for key in driver.get("topologyKeys").items() {
                key.named(names::qualified, &mut errors);
                if keys.contains(&key.text()) {
                    errors.push(key.duplicate());
                }
                keys.push(key.text());
            }
            driver.get("allocatable.count").non_negative(&mut errors);
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new(
            "Drivers",
            "integer",
            "Drivers indicates the number of CSI drivers registered on the node",
        )
        .cell(|o, _| len(o, "spec.drivers").into()),
        Column::AGE,
    ];
}
