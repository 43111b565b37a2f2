//! `validatingadmissionpolicies`: expressions that let in or refuse objects.
use super::policies::{self, PARAM_KIND};
use crate::cells::{columns, len};
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ValidatingAdmissionPolicies;

static INFO: Info = Info::new(
    Gvk::fixed("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"),
    "validatingadmissionpolicies",
    Scope::Cluster,
)
.categories(&["api-extensions"])
.subresources(const { &[Subresource::STATUS] })
.conditional_update()
.with_generation()
.stored_only();

impl Resource for ValidatingAdmissionPolicies {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        policies::default(object);
    }
    fn prepare_create(&self, new: &mut Value) {
        crate::at::set(new, "status", value::json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        crate::at::restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        crate::at::restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        policies::validate(&spec, &mut errors);
        if spec.get("validations").is_empty() && spec.get("auditAnnotations").is_empty() {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(spec.get("validations").required(why));
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new(
            "Validations",
            "integer",
            "Validations indicates the number of validation rules defined in this configuration"
        )
        .cell(|o, _| len(o, "spec.validations").into()),
        PARAM_KIND,
        Column::AGE,
    ];
}
