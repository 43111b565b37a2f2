//! `volumeattributesclasses`: attributes of volumes that may change later.
use crate::cells::{columns, text};
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct VolumeAttributesClasses;

static INFO: Info = Info::new(
    Gvk::fixed("storage.k8s.io", "v1", "VolumeAttributesClass"),
    "volumeattributesclasses",
    Scope::Cluster,
)
.short(&["vac"])
.stored_only();

impl Resource for VolumeAttributesClasses {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let driver = root.get("driverName");
        driver.named(|text| names::qualified(&text.to_lowercase()), &mut errors);
        super::storage_class::validate_parameters(&root.get("parameters"), false, &mut errors);
        let Some(old) = old else { return errors };
        if new["driverName"] != old["driverName"] {
            let why = "updates to driverName are forbidden.";
            errors.push(FieldError::forbidden("driverName", why));
        }
        if !crate::at::same(&new["parameters"], &old["parameters"]) {
            let why = "updates to parameters are forbidden.";
            errors.push(FieldError::forbidden("parameters", why));
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("DriverName", "string", "The driver.")
            .cell(|o, _| text(o, "driverName").into()),
        Column::AGE,
    ];
}
