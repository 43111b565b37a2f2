//! `clusterroles`: rules for every namespace, and for what has none.
use super::rules::validate_rule;
use crate::{At, Info, Resource, Scope, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ClusterRoles;

static INFO: Info = Info::new(
    Gvk::fixed("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    "clusterroles",
    Scope::Cluster,
)
.with_create_on_update();

impl Resource for ClusterRoles {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        for rule in root.get("rules").items() {
            validate_rule(&rule, false, &mut errors);
        }
        let aggregation = root.get("aggregationRule");
        let selectors = aggregation.get("clusterRoleSelectors");
        if aggregation.is_set() && selectors.is_empty() {
            let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(selectors.required(why));
        }
        for selector in selectors.items() {
            crate::selectors::validate(&selector, &mut errors);
        }
        errors
    }
    fn validate_name(&self, name: &str, generated_prefix: bool) -> Vec<String> {
        names::path_segment(name, generated_prefix)
    }
}
