//! `rolebindings`: gives a role to subjects, in a namespace.
use super::rules::{ROLE, default_binding, subjects, validate_binding};
use crate::cells::columns;
use crate::{Column, Info, Resource, Scope, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct RoleBindings;

static INFO: Info = Info::new(
    Gvk::fixed("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    "rolebindings",
    Scope::Namespaced,
)
.with_create_on_update();

impl Resource for RoleBindings {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        default_binding(object);
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        validate_binding(new, old, &["Role", "ClusterRole"])
    }
    fn validate_name(&self, name: &str, generated_prefix: bool) -> Vec<String> {
        names::path_segment(name, generated_prefix)
    }
    columns![
        Column::NAME,
        ROLE,
        Column::AGE,
        Column::new("Users", "string", "Users in the roleBinding")
            .wide()
            .cell(|o, _| subjects(o, "User").into()),
        Column::new("Groups", "string", "Groups in the roleBinding")
            .wide()
            .cell(|o, _| subjects(o, "Group").into()),
        Column::new("ServiceAccounts", "string", "ServiceAccounts in the roleBinding")
            .wide()
            .cell(|o, _| subjects(o, "ServiceAccount").into()),
    ];
}
