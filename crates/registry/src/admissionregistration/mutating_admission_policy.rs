//! `mutatingadmissionpolicies`: expressions that change objects.
use super::policies::{self, PARAM_KIND};
use crate::cells::{columns, len};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct MutatingAdmissionPolicies;

static INFO: Info = Info::new(
    Gvk::fixed("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy"),
    "mutatingadmissionpolicies",
    Scope::Cluster,
)
.categories(&["api-extensions"])
.conditional_update()
.with_generation()
.stored_only();

impl Resource for MutatingAdmissionPolicies {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        policies::default(object);
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        policies::validate(&spec, &mut errors);
        spec.get("mutations").must("mutations must contain at least one item", &mut errors);
        spec.get("reinvocationPolicy").one_of(&["IfNeeded", "Never"], true, &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new(
            "Mutations",
            "integer",
            "Mutation indicates the number of mutations rules defined in this configuration"
        )
        .cell(|o, _| len(o, "spec.mutations").into()),
        PARAM_KIND,
        Column::AGE,
    ];
}
