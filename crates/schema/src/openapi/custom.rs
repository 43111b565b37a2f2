//! Definitions of custom resources: what their own schemas say, in the dialect of the document.
use super::{Dialect, PathInfo, Writer, gvk_value};
use api::Gvk;
use std::sync::Arc;
use value::{Map, Text, Value, json};

/// What is known of a custom resource besides its path.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    pub list_kind: String,
    /// Changes whenever the schema may have.
    pub revision: String,
    /// `openAPIV3Schema` as it is in the definition; null while only names matter.
    pub schema: Arc<Value>,
}

const CONVENTIONS: &str =
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
/// Fields that the second version of OpenAPI has no words for.
const V3_ONLY: [&str; 5] = ["allOf", "oneOf", "anyOf", "not", "nullable"];

impl Custom {
    pub(super) fn list_gvk(&self, gvk: &Gvk) -> Gvk {
        Gvk { kind: self.list_kind.clone().into(), ..gvk.clone() }
    }
}

/// `example.com/v1, Pie` is `com.example.v1.Pie`.
pub(super) fn model(gvk: &Gvk) -> String {
    let mut parts: Vec<&str> = gvk.group.split('.').rev().collect();
    parts.extend([&*gvk.version, &*gvk.kind]);
    parts.join(".")
}

impl Writer<'_> {
    /// Makes the definitions of a row's kind and of its list.
    pub(super) fn custom(&mut self, row: &PathInfo, custom: &Custom) {
        let list = custom.list_gvk(&row.gvk);
        let (name, list_name) = (model(&row.gvk), model(&list));
        let reference = json!({ "$ref": format!("{}{name}", self.prefix()) });
        self.made.insert(row.gvk.clone(), name.clone());
        self.made.insert(list.clone(), list_name.clone());
        let kind = self.custom_kind(row, custom);
        let plural = &row.plural;
        let mut of_list = json!({
            "description": format!("{} is a list of {}", list.kind, row.gvk.kind),
            "type": "object", "required": ["items"],
            "properties": {
                "items": { "type": "array", "items": reference,
                    "description": format!("List of {plural}. More info: {CONVENTIONS}") },
            },
            "x-kubernetes-group-version-kind": [gvk_value(&list)],
        });
        let text = format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds");
        self.with_meta(&mut of_list["properties"], "List", &text);
        self.definitions.insert(name, kind);
        self.definitions.insert(list_name, of_list);
    }

    fn custom_kind(&mut self, row: &PathInfo, custom: &Custom) -> Value {
        let schema = &*custom.schema;
        let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
        let mut out = match self.dialect {
            // Clients would take what is declared for all that there may be.
            Dialect::V2 if free || !schema.is_object() => {
                let mut out = json!({ "type": "object" });
                if let Some(text) = schema.get("description") {
                    out["description"] = text.clone();
                }
                if free {
                    out = json!({ "type": "object" });
                }
                out["x-kubernetes-group-version-kind"] = json!([gvk_value(&row.gvk)]);
                return out;
            }
            Dialect::V2 => v2(schema),
            Dialect::V3 => v3(schema),
        };
        out["type"] = "object".into();
        if !out["properties"].is_object() {
            out["properties"] = json!({});
        }
        self.embedded(&mut out);
        let text = format!("Standard object's metadata. More info: {CONVENTIONS}#metadata");
        self.with_meta(&mut out["properties"], "Object", &text);
        out["x-kubernetes-group-version-kind"] = json!([gvk_value(&row.gvk)]);
        out
    }

    /// `apiVersion`, `kind` and `metadata`.
    fn with_meta(&mut self, properties: &mut Value, of: &str, text: &str) {
        let holder = Gvk::fixed("", "v1", if of == "List" { "ConfigMapList" } else { "ConfigMap" });
        let Some(holder) = self.graph.type_of(&holder) else { return };
        for name in ["apiVersion", "kind"] {
            let mut property = json!({ "type": "string" });
            if let Some(text) = self.docs.get(&holder.id()).and_then(|docs| docs.get(name)) {
                property["description"] = text.as_str().into();
            }
            properties[name] = property;
        }
        let Some((_, meta)) = holder.field("metadata") else { return };
        let mut property = match (self.plain(meta), self.dialect) {
            (reference, Dialect::V3) => json!({ "allOf": [reference] }),
            (reference, Dialect::V2) => reference,
        };
        property["description"] = text.into();
        properties["metadata"] = property;
    }

    /// Whole objects within the object say so of themselves.
    fn embedded(&mut self, schema: &mut Value) {
        let Some(map) = schema.as_object_mut() else { return };
        for (name, part) in map.iter_mut() {
            match (name.as_str(), part) {
                ("properties", Value::Object(parts)) => {
                    parts.values_mut().for_each(|part| self.embedded(part));
                }
                ("items" | "additionalProperties", part) => self.embedded(part),
                _ => {}
            }
        }
        let free = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let whole = map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        if !whole || free && self.dialect == Dialect::V2 {
            return;
        }
        let text = format!("Standard object's metadata. More info: {CONVENTIONS}#metadata");
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        self.with_meta(properties, "Object", &text);
        let required = map.entry("required").or_insert_with(|| json!([]));
        if let Some(list) = required.as_array_mut() {
            for name in ["kind", "apiVersion"] {
                if !list.iter().any(|have| have == name) {
                    list.push(name.into());
                }
            }
        }
    }
}

fn v3(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else { return json!({ "type": "object" }) };
    let mut out = map_parts(map, v3);
    let either = schema["x-kubernetes-int-or-string"] == true;
    if either && !out.contains_key("anyOf") && !out.contains_key("allOf") {
        out.insert("anyOf", json!([{ "type": "integer" }, { "type": "string" }]));
    }
    out.into()
}

/// Less precise: what the second version cannot say is left open.
fn v2(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else { return json!({}) };
    let mut out = map_parts(map, v2);
    let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let nullable = schema["nullable"] == true;
    V3_ONLY.iter().for_each(|name| drop(out.remove(*name)));
    if nullable || free {
        for name in ["items", "properties"] {
            out.remove(name);
        }
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    let no_items = kind == "array" && !out.contains_key("items");
    if nullable || no_items || free && kind == "object" {
        out.remove("type");
    }
    // What may be null may be missing.
    let may_be_null = |name: &Value| {
        let property = name.as_str().map(|name| &schema["properties"][name]);
        property.is_some_and(|property| property["nullable"] == true)
    };
    if let Some(required) = out.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !may_be_null(name));
        if required.is_empty() || schema["additionalProperties"]["nullable"] == true {
            out.remove("required");
        }
    }
    out.into()
}

fn map_parts(map: &Map, way: fn(&Value) -> Value) -> Map {
    let part = |(name, value): (&Text, &Value)| {
        let value = match (name.as_str(), value) {
            ("properties", Value::Object(parts)) => {
                parts.iter().map(|(name, part)| (name.clone(), way(part))).collect()
            }
            ("items" | "additionalProperties", Value::Object(_)) => way(value),
            _ => value.clone(),
        };
        (name.clone(), value)
    };
    map.iter().map(part).collect()
}
