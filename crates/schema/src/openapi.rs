//! OpenAPI documents from the graph and the rows that are served.
//!
//! Version 3 has one document a group and version, version 2 one for everything, as JSON or as the
//! protobuf that client-go asks for. What `kubectl` takes from them: descriptions, the kinds behind
//! paths, merge keys and strategies, and which queries a PATCH takes. Made on demand; the server
//! caches what it serves.
mod custom;
mod gnostic;
mod paths;

use crate::facts::VERSION;
use crate::finish::zero;
use crate::graph::{
    Descriptions, Field, Graph, ListType, Object, Omit, Scalar, Shape, TypeId, TypeRef,
};
use api::Gvk;
pub use custom::Custom;
pub use gnostic::openapi_v2_proto;
use std::collections::{BTreeMap, BTreeSet};
use value::{Map, Value, json};

/// A served resource, as the API server's table knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct PathInfo {
    pub gvk: Gvk,
    pub plural: String,
    pub namespaced: bool,
    /// `get`, `list`, `create`, `update`, `patch`, `delete`, `deletecollection`, `watch`.
    pub verbs: Vec<String>,
    pub subresources: Vec<SubPath>,
    /// Of custom resources only.
    pub custom: Option<Custom>,
}

/// A subresource, such as `status`, and the kind that it speaks.
#[derive(Debug, Clone, PartialEq)]
pub struct SubPath {
    pub name: String,
    pub gvk: Gvk,
    /// `get`, `create`, `update`, `patch`, `delete`, or `connect` for streams and proxies.
    pub verbs: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// The document of one group and version; other rows are left out.
pub fn openapi_v3(graph: &Graph, group: &str, version: &str, rows: &[PathInfo]) -> Value {
    let rows: Vec<&PathInfo> =
        rows.iter().filter(|row| row.gvk.group == group && row.gvk.version == version).collect();
    let mut writer = Writer::new(graph, Dialect::V3);
    let mut paths = writer.discovery(group, version);
    for row in rows {
        writer.row(row, &mut paths);
    }
    let schemas = writer.definitions();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version_text()},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"BearerToken": bearer()}},
    })
}

/// The one document of version 2 for all rows.
pub fn openapi_v2(graph: &Graph, rows: &[PathInfo]) -> Value {
    let mut writer = Writer::new(graph, Dialect::V2);
    let mut paths = Map::new();
    let groups: BTreeSet<(&str, &str)> =
        rows.iter().map(|row| (&*row.gvk.group, &*row.gvk.version)).collect();
    for (group, version) in groups {
        paths.extend(writer.discovery(group, version));
    }
    for row in rows {
        writer.row(row, &mut paths);
    }
    let definitions = writer.definitions();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version_text()},
        "paths": paths,
        "definitions": definitions,
        "security": [{"BearerToken": []}],
        "securityDefinitions": {"BearerToken": bearer()},
    })
}

fn version_text() -> String {
    format!("{VERSION}.0")
}

fn bearer() -> Value {
    json!({
        "type": "apiKey",
        "in": "header",
        "name": "authorization",
        "description": "Bearer Token authentication",
    })
}

/// Collects the types that paths mention, then writes their schemas.
struct Writer<'g> {
    graph: &'g Graph,
    dialect: Dialect,
    docs: std::borrow::Cow<'g, Descriptions>,
    kinds: BTreeMap<TypeId, Vec<Value>>,
    pending: Vec<TypeId>,
    seen: BTreeSet<TypeId>,
    /// The definitions of custom kinds, and their names by kind.
    definitions: Map,
    made: BTreeMap<Gvk, String>,
}

impl<'g> Writer<'g> {
    fn new(graph: &'g Graph, dialect: Dialect) -> Self {
        let mut named: Vec<(&Gvk, TypeId)> =
            graph.kinds().map(|(gvk, ty)| (gvk, ty.id())).collect();
        named.sort();
        let mut kinds: BTreeMap<TypeId, Vec<Value>> = BTreeMap::new();
        for (gvk, id) in named {
            kinds.entry(id).or_default().push(gvk_value(gvk));
        }
        let docs = graph.descriptions();
        Self {
            graph,
            dialect,
            docs,
            kinds,
            pending: Vec::new(),
            seen: BTreeSet::new(),
            definitions: Map::new(),
            made: BTreeMap::new(),
        }
    }

    fn prefix(&self) -> &'static str {
        match self.dialect {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        }
    }

    /// A reference to a type that has a definition.
    fn reference(&mut self, ty: TypeRef<'_>, model: &str) -> Value {
        let id = ty.object().and_then(|object| object.base).unwrap_or(ty.id());
        if self.seen.insert(id) {
            self.pending.push(id);
        }
        json!({"$ref": format!("{}{model}", self.prefix())})
    }

    /// The schema for a kind, wherever a path speaks of it.
    fn kind(&mut self, gvk: &Gvk) -> Value {
        match (self.made.get(gvk), self.graph.type_of(gvk)) {
            (Some(model), _) => json!({"$ref": format!("{}{model}", self.prefix())}),
            (None, Some(ty)) => self.plain(ty),
            (None, None) => json!({"type": "object"}),
        }
    }

    fn definitions(mut self) -> Map {
        let mut out = std::mem::take(&mut self.definitions);
        while let Some(id) = self.pending.pop() {
            let ty = self.graph.get(id);
            if let Some(model) = &ty.node().model {
                let definition = self.definition(ty);
                out.insert(model.to_string(), definition);
            }
        }
        out
    }

    fn definition(&mut self, ty: TypeRef<'g>) -> Value {
        let mut out = match ty.shape() {
            Shape::Object(object) => self.object(ty, object),
            Shape::Scalar(scalar) => special(scalar, self.dialect),
            _ => Map::new(),
        };
        if let Some(text) = self.docs.get(&ty.id()).and_then(|docs| docs.get("")) {
            out.insert("description", text.as_str().into());
        }
        if let Some(kinds) = self.kinds.get(&ty.id()) {
            out.insert("x-kubernetes-group-version-kind", kinds.clone().into());
        }
        Value::Object(out)
    }

    fn object(&mut self, ty: TypeRef<'g>, object: &'g Object) -> Map {
        let mut out = Map::new();
        out.insert("type", "object".into());
        let mut properties = Map::new();
        for field in &object.fields {
            properties.insert(field.name.to_string(), self.property(ty, field));
        }
        if !properties.is_empty() {
            out.insert("properties", properties.into());
        }
        let required = object.fields.iter().filter(|field| field.required);
        let required: Vec<Value> = required.map(|field| (&*field.name).into()).collect();
        if !required.is_empty() {
            out.insert("required", required.into());
        }
        if object.atomic {
            out.insert("x-kubernetes-map-type", "atomic".into());
        }
        if object.extra == crate::graph::Extra::Preserve {
            out.insert("x-kubernetes-preserve-unknown-fields", true.into());
        }
        if object.embedded_resource {
            out.insert("x-kubernetes-embedded-resource", true.into());
        }
        out
    }

    fn property(&mut self, of: TypeRef<'g>, field: &Field) -> Value {
        let ty = self.graph.get(field.ty);
        let mut out = match self.plain(ty) {
            Value::Object(map) if self.dialect == Dialect::V3 && map.contains_key("$ref") => {
                let mut out = Map::new();
                out.insert("allOf", Value::Array(vec![map.into()]));
                out
            }
            Value::Object(map) => map,
            _ => Map::new(),
        };
        if let Some(text) = self.docs.get(&of.id()).and_then(|docs| docs.get(&*field.name)) {
            out.insert("description", text.as_str().into());
        }
        if let Some(object) = ty.object().filter(|object| object.base.is_some()) {
            let kind = if object.atomic { "atomic" } else { "granular" };
            out.insert("x-kubernetes-map-type", kind.into());
        }
        if let Some(key) = &field.merge_key {
            out.insert("x-kubernetes-patch-merge-key", (&**key).into());
        }
        let strategies = field.strategies;
        let named = [
            (strategies.merge, "merge"),
            (strategies.replace, "replace"),
            (strategies.retain_keys, "retainKeys"),
        ];
        let named: Vec<&str> = named.iter().filter(|(has, _)| *has).map(|(_, n)| *n).collect();
        if !named.is_empty() {
            out.insert("x-kubernetes-patch-strategy", named.join(",").into());
        }
        let always = field.omit == Omit::Never || matches!(ty.shape(), Shape::Object(_));
        match &field.default {
            Some(default) => drop(out.insert("default", (**default).clone())),
            None if always && !field.pointer => self.zero_default(ty, &mut out),
            None => {}
        }
        out.into()
    }

    /// Version 3 says that what is no pointer in Go has its zero value when it is absent.
    fn zero_default(&self, ty: TypeRef<'_>, out: &mut Map) {
        if self.dialect == Dialect::V2 {
            return;
        }
        let default = match ty.shape() {
            Shape::Object(_) => json!({}),
            Shape::Scalar(
                Scalar::String(_) | Scalar::Bool | Scalar::Int32 | Scalar::Int64 | Scalar::Float,
            ) => zero(ty),
            _ => return,
        };
        out.insert("default", default);
    }

    /// The schema of a type as a field, element or value has it, without what the field adds.
    fn plain(&mut self, ty: TypeRef<'g>) -> Value {
        if let Some(model) = &ty.node().model {
            return self.reference(ty, model);
        }
        let mut out = match ty.shape() {
            Shape::Scalar(scalar) => plain_scalar(scalar),
            Shape::Object(object) => self.object(ty, object),
            Shape::OneOf(_) => Map::new(),
            Shape::Map(map) => {
                let mut out = Map::new();
                out.insert("type", "object".into());
                let value = self.element(self.graph.get(map.value));
                out.insert("additionalProperties", value);
                if map.atomic {
                    out.insert("x-kubernetes-map-type", "atomic".into());
                }
                out
            }
            Shape::List(list) => {
                let mut out = Map::new();
                out.insert("type", "array".into());
                out.insert("items", self.element(self.graph.get(list.elem)));
                let kind = match &list.kind {
                    ListType::Atomic => "atomic",
                    ListType::Set => "set",
                    ListType::Map(keys) => {
                        let keys: Vec<Value> = keys.iter().map(|key| (&**key).into()).collect();
                        out.insert("x-kubernetes-list-map-keys", keys.into());
                        "map"
                    }
                };
                if list.declared {
                    out.insert("x-kubernetes-list-type", kind.into());
                }
                out
            }
        };
        if ty.node().nullable {
            out.insert("nullable", true.into());
        }
        out.into()
    }

    fn element(&mut self, ty: TypeRef<'g>) -> Value {
        let Value::Object(mut out) = self.plain(ty) else { return Value::Null };
        if self.dialect == Dialect::V3 && out.contains_key("$ref") {
            if !matches!(ty.shape(), Shape::Object(_)) {
                return out.into();
            }
            let reference = Value::Object(std::mem::take(&mut out));
            out.insert("allOf", Value::Array(vec![reference]));
        }
        self.zero_default(ty, &mut out);
        out.into()
    }
}

fn gvk_value(gvk: &Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn plain_scalar(scalar: &Scalar) -> Map {
    let (kind, format) = match scalar {
        Scalar::String(_) | Scalar::Quantity | Scalar::Duration => ("string", ""),
        Scalar::Bool => ("boolean", ""),
        Scalar::Int32 => ("integer", "int32"),
        Scalar::Int64 => ("integer", "int64"),
        Scalar::Float => ("number", "double"),
        Scalar::Bytes => ("string", "byte"),
        Scalar::Time | Scalar::MicroTime => ("string", "date-time"),
        Scalar::IntOrString => ("", "int-or-string"),
        Scalar::Raw | Scalar::Fields => ("object", ""),
        Scalar::Json => ("", ""),
    };
    let mut out = Map::new();
    for (name, text) in [("type", kind), ("format", format)] {
        if !text.is_empty() {
            out.insert(name, text.into());
        }
    }
    if let Scalar::String(values) = scalar
        && !values.is_empty()
    {
        let values: Vec<Value> = values.iter().map(|value| (&**value).into()).collect();
        out.insert("enum", values.into());
    }
    out
}

/// The definitions of the types that encode themselves.
fn special(scalar: &Scalar, dialect: Dialect) -> Map {
    let mut out = plain_scalar(scalar);
    let choice = match (scalar, dialect) {
        (Scalar::Quantity, Dialect::V3) => Some(json!([{"type": "string"}, {"type": "number"}])),
        (Scalar::IntOrString, Dialect::V3) => {
            Some(json!([{"type": "integer"}, {"type": "string"}]))
        }
        (Scalar::IntOrString, Dialect::V2) => {
            out.insert("type", "string".into());
            None
        }
        _ => None,
    };
    if let Some(choice) = choice {
        out.remove("type");
        out.insert("oneOf", choice);
    }
    out
}

#[cfg(test)]
mod tests;
