//! `secrets`: small confidential data. `stringData` is for writing only.
use super::config_map::{MAX_DATA_BYTES, decoded_len, validate_immutable};
use crate::at::{map_mut, remove, set_default};
use crate::cells::{columns, len, text};
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldError, FieldErrors, Gvk, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) struct Secrets;

static INFO: Info = Info::new(Gvk::fixed("", "v1", "Secret"), "secrets", Scope::Namespaced);

impl Resource for Secrets {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        set_default(object, "type", "Opaque");
        let plain = object.get("stringData").and_then(Value::as_object).cloned();
        remove(object, "stringData");
        let Some(plain) = plain.filter(|plain| !plain.is_empty()) else { return };
        let Some(data) = map_mut(object, "data") else { return };
        for (key, value) in plain {
            let text = STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, text.into());
        }
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if text(new, "type").is_empty() {
            crate::at::restore(new, old, "type");
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        if let Some(old) = old {
            root.get("type").immutable(&old["type"], &mut errors);
            validate_immutable(new, old, &["data"], &mut errors);
        }
        let (data, mut bytes) = (root.get("data"), 0);
        for (key, value) in data.entries() {
            let each = |why| FieldError::invalid(value.path.clone(), key, why);
            errors.extend(names::config_key(key).into_iter().map(each));
            bytes += decoded_len(value.text());
        }
        if bytes > MAX_DATA_BYTES {
            errors.push(data.too_long(MAX_DATA_BYTES));
        }
        validate_type(&root, &mut errors);
        errors
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["type"]
    }
    columns![
        Column::NAME,
        Column::new("Type", "string", "What the data is for.").cell(|o, _| text(o, "type").into()),
        Column::new("Data", "string", "Number of data entries.").cell(|o, _| len(o, "data").into()),
        Column::AGE,
    ];
}

/// What must be there for each type that has a meaning.
fn validate_type(root: &At, errors: &mut FieldErrors) {
    let data = root.get("data");
    let mut need = |keys: &[&str]| {
        for key in keys {
            if data.key(key).is_empty() && (!data.has(key) || *key == "ssh-privatekey") {
                errors.push(FieldError::required(data.key(key).path, ""));
            }
        }
    };
    match root.get("type").text() {
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            let annotations = root.get("metadata.annotations");
            if annotations.key(name).text().is_empty() {
                errors.push(annotations.key(name).required(""));
            }
        }
        "kubernetes.io/dockercfg" => json_key(&data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_key(&data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !data.has("username") && !data.has("password") => {
            need(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if data.key("ssh-privatekey").is_empty() => {
            need(&["ssh-privatekey"]);
        }
        "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
        _ => {}
    }
}

fn json_key(data: &At, key: &str, errors: &mut FieldErrors) {
    let at = data.key(key);
    if !at.is_set() {
        errors.push(at.required(""));
        return;
    }
    let bytes = STANDARD.decode(at.text()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<value::Map>(&bytes) {
        errors.push(FieldError::invalid(at.path, "<secret contents redacted>", error.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn string_data_is_folded_in() {
        let mut secret = json!({ "data": { "a": "eA==" }, "stringData": { "a": "y", "b": "z" } });
        Secrets.default(&mut secret);
        assert_eq!(secret, json!({ "type": "Opaque", "data": { "a": "eQ==", "b": "eg==" } }));
    }

    #[test]
    fn types() {
        for (secret, want) in [
            (json!({ "type": "Opaque" }), vec![]),
            (
                json!({ "type": "kubernetes.io/tls", "data": { "tls.crt": "" } }),
                vec!["data[tls.key]: Required value"],
            ),
            (
                json!({ "type": "kubernetes.io/basic-auth" }),
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            (json!({ "type": "kubernetes.io/basic-auth", "data": { "username": "" } }), vec![]),
            (
                json!({ "type": "kubernetes.io/service-account-token", "metadata": {} }),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
            (
                json!({ "type": "kubernetes.io/dockerconfigjson",
                    "data": { ".dockerconfigjson": "e30=" } }),
                vec![],
            ),
        ] {
            let errors = Secrets.validate(&secret, None);
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(texts, want, "{secret}");
        }
        let errors = Secrets.validate(&json!({ "type": "a" }), Some(&json!({ "type": "b" })));
        assert_eq!(errors[0].to_string(), "type: Invalid value: \"a\": field is immutable");
    }
}
