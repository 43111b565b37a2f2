//! `roles`: rules for a namespace.
use super::rules::validate_rule;
use crate::{At, Info, Resource, Scope, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct Roles;

static INFO: Info =
    Info::new(Gvk::fixed("rbac.authorization.k8s.io", "v1", "Role"), "roles", Scope::Namespaced)
        .with_create_on_update();

impl Resource for Roles {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for rule in At::root(new).get("rules").items() {
            validate_rule(&rule, true, &mut errors);
        }
        errors
    }
    fn validate_name(&self, name: &str, generated_prefix: bool) -> Vec<String> {
        names::path_segment(name, generated_prefix)
    }
}
