//! `configmaps`: key-value data; may be made immutable.
use crate::{Column, Info, Resource, Scope};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct ConfigMaps;

static INFO: Info =
    Info::new(Gvk::fixed("", "v1", "ConfigMap"), "configmaps", Scope::Namespaced).short(&["cm"]);

impl Resource for ConfigMaps {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let immutable = |object: &Value| object["immutable"].as_bool() == Some(true);
        let Some(old) = old.filter(|old| immutable(old)) else { return Vec::new() };
        let why = "field is immutable when `immutable` is set";
        let mut errors = Vec::new();
        if !immutable(new) {
            errors.push(FieldError::forbidden("immutable", why));
        }
        for field in ["data", "binaryData"] {
            if new[field] != old[field] {
                errors.push(FieldError::forbidden(field, why));
            }
        }
        errors
    }
    fn columns(&self) -> &[Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::new("Data", "string", "Number of data entries.").cell(|object, _| {
                Value::from((count(object, "data") + count(object, "binaryData")).to_string())
            }),
            Column::AGE,
        ];
        COLUMNS
    }
}

fn count(object: &Value, field: &str) -> usize {
    object[field].as_object().map_or(0, serde_json::Map::len)
}
