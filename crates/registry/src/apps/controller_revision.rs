//! `controllerrevisions`: snapshots of templates, kept for going back.
use crate::cells::{columns, int, text};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct ControllerRevisions;

static INFO: Info = Info::new(
    Gvk::fixed("apps", "v1", "ControllerRevision"),
    "controllerrevisions",
    Scope::Namespaced,
);

impl Resource for ControllerRevisions {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        if root.get("data").value.is_null() {
            errors.push(FieldError::required("data", "data is mandatory"));
        }
        let revision = root.get("revision");
        revision.non_negative(&mut errors);
        if let Some(old) = old {
            root.get("data").immutable(&old["data"], &mut errors);
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("Controller", "string", "Controller of the object")
            .cell(|o, _| controller(o).into()),
        Column::new("Revision", "string", "The number of the snapshot.")
            .cell(|o, _| int(o, "revision").into()),
        Column::AGE,
    ];
}

fn controller(object: &Value) -> String {
    let owners = At::root(object).get("metadata.ownerReferences");
    let Some(owner) = owners.items().find(|owner| owner.get("controller").bool()) else {
        return "<none>".to_owned();
    };
    let group = owner.get("apiVersion").text().split_once('/').map_or("", |(group, _)| group);
    let kind = text(owner.value, "kind").to_lowercase();
    let name = owner.get("name").text();
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}
