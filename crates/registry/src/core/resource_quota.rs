//! `resourcequotas`: bounds on the sum of what a namespace's objects ask for.
pub(crate) mod limits;

use crate::at::{restore, set, sub};
use crate::cells::columns;
use crate::quantities::canonical_list;
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ResourceQuotas;

static INFO: Info =
    Info::new(Gvk::fixed("", "v1", "ResourceQuota"), "resourcequotas", Scope::Namespaced)
        .short(&["quota"])
        .subresources(const { &[Subresource::STATUS] });

impl Resource for ResourceQuotas {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        for (part, list) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
            if let Some(list) = sub(object, part).and_then(|part| part.get_mut(list)) {
                canonical_list(list);
            }
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
        limits::validate_quota(new, old)
    }
    columns![
        Column::NAME,
        Column::new("Request", "string", "What may be asked for, and is.")
            .cell(|o, _| usage(o, false).into()),
        Column::new("Limit", "string", "What may be limited to, and is.")
            .cell(|o, _| usage(o, true).into()),
        Column::AGE,
    ];
}

fn usage(quota: &Value, limits: bool) -> String {
    let status = At::root(quota).get("status");
    let rows: Vec<String> = status
        .get("hard")
        .entries()
        .filter(|(name, _)| name.starts_with("limits.") == limits)
        .map(|(name, hard)| {
            let used = status.value["used"][name].as_str().unwrap_or("0");
            format!("{name}: {used}/{}", hard.text())
        })
        .collect();
    rows.join(", ")
}
