//! `configmaps`: key-value data; may be made immutable.
use crate::cells::{columns, len};
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct ConfigMaps;

static INFO: Info =
    Info::new(Gvk::fixed("", "v1", "ConfigMap"), "configmaps", Scope::Namespaced).short(&["cm"]);

/// Of a config map's or a secret's values together.
pub(crate) const MAX_DATA_BYTES: usize = 1 << 20;

impl Resource for ConfigMaps {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(old) = old {
            validate_immutable(new, old, &["data", "binaryData"], &mut errors);
        }
        let (root, mut bytes) = (At::root(new), 0);
        for field in ["data", "binaryData"] {
            for (key, value) in root.get(field).entries() {
                let each = |why| FieldError::invalid(value.path.clone(), key, why);
                errors.extend(names::config_key(key).into_iter().map(each));
                if field == "data" && root.get("binaryData").has(key) {
                    let why = "duplicate of key present in binaryData";
                    errors.push(FieldError::invalid(value.path.clone(), key, why));
                }
                bytes += if field == "data" { value.len() } else { decoded_len(value.text()) };
            }
        }
        if bytes > MAX_DATA_BYTES {
            errors.push(root.too_long(MAX_DATA_BYTES));
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("Data", "string", "Number of data entries.")
            .cell(|o, _| (len(o, "data") + len(o, "binaryData")).into()),
        Column::AGE,
    ];
}

/// How many bytes a base64 text stands for.
pub(crate) fn decoded_len(text: &str) -> usize {
    let text = text.trim_end_matches('=');
    text.len() * 3 / 4
}

/// Nothing changes any more once `immutable` is set.
pub(crate) fn validate_immutable(
    new: &Value,
    old: &Value,
    fields: &[&str],
    errors: &mut FieldErrors,
) {
    let immutable = |object: &Value| object["immutable"].as_bool() == Some(true);
    if !immutable(old) {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !immutable(new) {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for field in fields {
        if !crate::at::same(&new[*field], &old[*field]) {
            errors.push(FieldError::forbidden(*field, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn texts(new: Value, old: Option<Value>) -> Vec<String> {
        let errors = ConfigMaps.validate(&new, old.as_ref());
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_and_sizes() {
        assert_eq!(texts(json!({ "data": { "a": "b" } }), None), [""; 0]);
        let clash = json!({ "data": { "a": "b" }, "binaryData": { "a": "aGk=" } });
        assert_eq!(
            texts(clash, None),
            ["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"]
        );
        assert_eq!(texts(json!({ "data": { "a/b": "" } }), None).len(), 1);
        let big = json!({ "data": { "a": "x".repeat(MAX_DATA_BYTES + 1) } });
        assert_eq!(texts(big, None), [": Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn immutable() {
        let old = json!({ "immutable": true, "data": { "a": "b" } });
        assert_eq!(
            texts(json!({ "data": { "a": "c" } }), Some(old.clone())),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
        assert_eq!(texts(old.clone(), Some(old)), [""; 0]);
    }
}
