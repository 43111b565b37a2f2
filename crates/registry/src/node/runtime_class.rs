//! `runtimeclasses`: how the containers of a pod are run.
use crate::at::sub;
use crate::cells::{columns, text};
use crate::quantities::canonical_list;
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct RuntimeClasses;

static INFO: Info =
    Info::new(Gvk::fixed("node.k8s.io", "v1", "RuntimeClass"), "runtimeclasses", Scope::Cluster)
        .with_create_on_update()
        .conditional_update();

impl Resource for RuntimeClasses {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(fixed) = sub(object, "overhead").and_then(|o| o.get_mut("podFixed")) {
            canonical_list(fixed);
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let handler = root.get("handler");
        if let Some(old) = old {
            handler.immutable(&old["handler"], &mut errors);
            return errors;
        }
        handler.each(names::label(handler.text(), false), &mut errors);
        let selector = root.get("scheduling.nodeSelector");
        crate::meta::validate_labels(&selector, &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new("Handler", "string", "What the nodes call it.")
            .cell(|o, _| text(o, "handler").into()),
        Column::AGE,
    ];
}
