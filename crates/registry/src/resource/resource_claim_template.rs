//! `resourceclaimtemplates`: claims to be made for pods.
use crate::at::sub;
use crate::cells::columns;
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ResourceClaimTemplates;

static INFO: Info = Info::new(
    Gvk::fixed("resource.k8s.io", "v1", "ResourceClaimTemplate"),
    "resourceclaimtemplates",
    Scope::Namespaced,
)
.stored_only();

impl Resource for ResourceClaimTemplates {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(spec) = sub(object, "spec").and_then(|spec| sub(spec, "spec")) {
            super::devices::default_spec(spec);
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        super::devices::validate_spec(&spec.get("spec"), &mut errors);
        if let Some(old) = old {
            spec.immutable(&old["spec"], &mut errors);
        }
        errors
    }
    columns![Column::NAME, Column::AGE];
}
