//! `mutatingadmissionpolicybindings`: puts a policy in force.
use super::policies::{self, PARAM_REF, POLICY_NAME};
use crate::cells::columns;
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct MutatingAdmissionPolicyBindings;

static INFO: Info = Info::new(
    Gvk::fixed("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding"),
    "mutatingadmissionpolicybindings",
    Scope::Cluster,
)
.categories(&["api-extensions"])
.conditional_update()
.with_generation()
.stored_only();

impl Resource for MutatingAdmissionPolicyBindings {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        policies::default_binding(object);
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        policies::validate_binding(&spec, &mut errors);
        errors
    }
    columns![Column::NAME, POLICY_NAME, PARAM_REF, Column::AGE];
}
