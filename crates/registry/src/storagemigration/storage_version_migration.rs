//! `storageversionmigrations`: rewrites all objects of a resource.
use crate::at::{restore, set};
use crate::cells::{columns, text};
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct StorageVersionMigrations;

static INFO: Info = Info::new(
    Gvk::fixed("storagemigration.k8s.io", "v1", "StorageVersionMigration"),
    "storageversionmigrations",
    Scope::Cluster,
)
.subresources(const { &[Subresource::STATUS] })
.conditional_update()
.stored_only();

impl Resource for StorageVersionMigrations {
    fn info(&self) -> &Info {
        &INFO
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
        spec.get("resource.resource").must("resource is required", &mut errors);
        if let Some(old) = old {
            spec.get("resource").immutable(&old["spec"]["resource"], &mut errors);
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("Resource", "string", "GroupResource to migrate").cell(|o, _| {
            let (name, group) = (text(o, "spec.resource.resource"), text(o, "spec.resource.group"));
            if group.is_empty() { name.into() } else { format!("{name}.{group}").into() }
        }),
        Column::new("Status", "string", "Status of the migration").cell(|o, _| state(o).into()),
    ];
}

fn state(migration: &Value) -> &'static str {
    let conditions = At::root(migration).get("status.conditions");
    let known = ["Running", "Failed", "Succeeded"];
    let true_ones = conditions.items().filter(|c| c.get("status").text() == "True");
    let last = true_ones
        .filter_map(|c| known.into_iter().find(|kind| *kind == c.get("type").text()))
        .last();
    last.unwrap_or("Unknown")
}
