//! `resourceslices`: devices that a driver has on a node.
use crate::cells::{columns, text};
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ResourceSlices;

static INFO: Info = Info::new(
    Gvk::fixed("resource.k8s.io", "v1", "ResourceSlice"),
    "resourceslices",
    Scope::Cluster,
)
.with_generation()
.stored_only();

impl Resource for ResourceSlices {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        let driver = spec.get("driver");
        driver.named(|text| names::subdomain(text, false), &mut errors);
        spec.get("pool.name").must("", &mut errors);
        if let Some(old) = old {
            for field in ["driver", "nodeName"] {
                spec.get(field).immutable(&old["spec"][field], &mut errors);
            }
            spec.get("pool.name").immutable(&old["spec"]["pool"]["name"], &mut errors);
        }
        errors
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.nodeName", "spec.driver", "spec.pool.name"]
    }
    columns![
        Column::NAME,
        Column::new("Node", "string", "The node.").cell(|o, _| text(o, "spec.nodeName").into()),
        Column::new("Driver", "string", "The driver.").cell(|o, _| text(o, "spec.driver").into()),
        Column::new("Pool", "string", "The pool.").cell(|o, _| text(o, "spec.pool.name").into()),
        Column::AGE,
    ];
}
