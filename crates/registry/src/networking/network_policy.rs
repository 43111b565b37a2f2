//! `networkpolicies`: who may talk to the pods of a namespace, and whom they may talk to.
use crate::at::{is_empty, items_mut, map_mut, set, set_default, sub};
use crate::cells::{columns, selector_or_none};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct NetworkPolicies;

static INFO: Info = Info::new(
    Gvk::fixed("networking.k8s.io", "v1", "NetworkPolicy"),
    "networkpolicies",
    Scope::Namespaced,
)
.short(&["netpol"])
.with_generation()
.stored_only();

impl Resource for NetworkPolicies {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() {
            return;
        }
        let Some(spec) = sub(object, "spec") else { return };
        for list in ["ingress", "egress"] {
            for rule in items_mut(spec, list) {
                for port in items_mut(rule, "ports") {
                    set_default(port, "protocol", "TCP");
                }
            }
        }
        if is_empty(&spec["policyTypes"]) {
            let types = match is_empty(&spec["egress"]) {
                true => vec!["Ingress"],
                false => vec!["Ingress", "Egress"],
            };
            set(spec, "policyTypes", types);
        }
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        super::validate::policy(&At::root(new).get("spec"), &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new("Pod-Selector", "string", "Labels of the pods that the policy is for.")
            .cell(|o, _| selector_or_none(o, "spec.podSelector").into()),
        Column::AGE,
    ];
}
