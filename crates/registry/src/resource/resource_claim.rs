//! `resourceclaims`: a request for devices.
use crate::at::{restore, set, sub};
use crate::cells::{columns, find, len};
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ResourceClaims;

static INFO: Info = Info::new(
    Gvk::fixed("resource.k8s.io", "v1", "ResourceClaim"),
    "resourceclaims",
    Scope::Namespaced,
)
.subresources(const { &[Subresource::STATUS] })
.stored_only();

impl Resource for ResourceClaims {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(spec) = sub(object, "spec") {
            super::devices::default_spec(spec);
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        super::devices::validate_spec(&spec, &mut errors);
        if let Some(old) = old {
            spec.immutable(&old["spec"], &mut errors);
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new(
            "State",
            "string",
            "A summary of the current state (allocated, pending, reserved, etc.).",
        )
        .cell(|o, _| state(o).into()),
        Column::AGE,
    ];
}

fn state(claim: &Value) -> String {
    let deleted = !find(claim, "metadata.deletionTimestamp").is_null();
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if !find(claim, "status.allocation").is_null() {
        states.push("allocated");
        if len(claim, "status.reservedFor") > 0 {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",")
}
