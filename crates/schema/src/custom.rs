//! The schema of a custom resource (`openAPIV3Schema`) as a graph of the same nodes as the built-in
//! one: types for pruning, defaults and server-side apply, and beside them the rules for values.
//!
//! Equal parts are one node, and metadata is the built-in graph's own, so that a graph is small.
//! Schemas have been checked to be structural before they come here; one that is not gives a graph
//! that takes less, never a panic.
mod format;
mod pattern;
mod tree;
mod validate;

pub use pattern::PatternError;
pub use tree::{decode, decode_value, prune};
pub use validate::validate;

use crate::facts::builtin;
use crate::graph::{
    Extra, Field, Graph, GraphBuilder, List, ListType, Map, Node, Object, Omit, Scalar, Shape,
    Strategies, TypeId,
};
use api::{FieldErrors, Gvk};
use format::Format;
use pattern::Pattern;
use std::collections::HashMap;
use std::sync::Arc;
use value::Value;

/// What a value must be like, besides having a shape.
#[derive(Debug, Default)]
pub struct Rules {
    accepts: Accepts,
    format: Option<Format>,
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    multiple_of: Option<f64>,
    length: Count,
    items: Count,
    properties: Count,
    pattern: Option<Box<Pattern>>,
    values: Box<[Value]>,
    required: Box<[Arc<str>]>,
    all_of: Box<[TypeId]>,
    any_of: Box<[TypeId]>,
    one_of: Box<[TypeId]>,
    not: Option<TypeId>,
}

/// The JSON types that a schema allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Accepts {
    #[default]
    Any,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
    IntOrString,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    value: f64,
    exclusive: bool,
}

/// At least and at most so many.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    min: Option<u64>,
    max: Option<u64>,
}

impl Rules {
    /// The types that it is made of.
    pub(crate) fn parts(&self) -> impl Iterator<Item = TypeId> {
        let lists = [&self.all_of, &self.any_of, &self.one_of];
        lists.into_iter().flatten().chain(&self.not).copied()
    }
}

/// Checks that a pattern can be used.
pub fn check_pattern(text: &str) -> Result<(), PatternError> {
    Pattern::new(text).check()
}

/// What is wrong with the default that a part of a schema states, as if it stood at the root of a
/// path; the paths of what the schema would drop come with it.
pub fn check_default(schema: &Value, default: &Value) -> (FieldErrors, Vec<String>) {
    let mut compiler = Compiler::default();
    compiler.builder.custom = true;
    let part = compiler.node(schema, Level::Inner);
    compiler.builder.kind(Gvk::fixed("", "", ""), part);
    let graph = compiler.builder.build().unwrap_or_default();
    let Some(ty) = graph.root() else { return Default::default() };
    let mut value = default.clone();
    let dropped = prune(&mut value, ty).unwrap_or_default();
    crate::apply_defaults(&mut value, ty);
    (validate(&value, None, ty), dropped)
}

/// The graph of one version of a custom resource.
pub fn compile(gvk: &Gvk, schema: &Value) -> Graph {
    let mut compiler = Compiler::default();
    compiler.builder.custom = true;
    let root = compiler.node(schema, Level::Root);
    compiler.builder.kind(gvk.clone(), root);
    compiler.builder.build().unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Inner,
    /// Inside of `anyOf` and its like: says nothing about which fields there are.
    Values,
}

#[derive(Default)]
struct Compiler {
    builder: GraphBuilder,
    /// By all that a node says, as text.
    known: HashMap<String, TypeId>,
    names: HashMap<String, Arc<str>>,
}

const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn flag(schema: &Value, name: &str) -> bool {
    schema[name].as_bool() == Some(true)
}

fn texts<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    schema[name].as_array().into_iter().flatten().filter_map(Value::as_str)
}

impl Compiler {
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.names.get(text) {
            return Arc::clone(name);
        }
        let name: Arc<str> = text.into();
        self.names.insert(text.to_owned(), Arc::clone(&name));
        name
    }

    fn add(&mut self, shape: Shape, nullable: bool, rules: Option<Rules>) -> TypeId {
        let go = self.name("");
        let node = Node { go, model: None, shape, nullable, rules: rules.map(Box::new) };
        let said = format!("{node:?}");
        if let Some(known) = self.known.get(&said) {
            return *known;
        }
        let id = self.builder.add(node);
        self.known.insert(said, id);
        id
    }

    fn text(&mut self) -> TypeId {
        self.add(Shape::Scalar(Scalar::String(Box::default())), false, None)
    }

    /// What a schema that is not there lets be: anything, with nothing in it.
    fn nothing(&mut self) -> TypeId {
        let object = Object::of(Vec::new(), Extra::Prune);
        self.add(Shape::Object(object), false, Some(Rules::default()))
    }

    fn node(&mut self, schema: &Value, level: Level) -> TypeId {
        let kind = schema["type"].as_str().unwrap_or_default();
        let int_or_string = flag(schema, "x-kubernetes-int-or-string");
        let nested_list = level == Level::Values && kind.is_empty() && schema["items"].is_object();
        let (shape, implied) = match kind {
            _ if int_or_string => (Shape::Scalar(Scalar::IntOrString), Accepts::IntOrString),
            "string" => (Shape::Scalar(Scalar::String(Box::default())), Accepts::String),
            "integer" => (Shape::Scalar(Scalar::Int64), Accepts::Integer),
            "number" => (Shape::Scalar(Scalar::Float), Accepts::Number),
            "boolean" => (Shape::Scalar(Scalar::Bool), Accepts::Boolean),
            "array" => (self.list(schema, level), Accepts::Array),
            _ if nested_list => (self.list(schema, level), Accepts::Any),
            _ if has_values(schema) => (self.map(schema, level), accepts_object(kind)),
            _ => (self.object(schema, level), accepts_object(kind)),
        };
        let mut rules = self.rules(schema);
        rules.accepts = implied;
        if level == Level::Root {
            self.meta_rules(schema, &mut rules);
        }
        if nested_list && schema["properties"].is_object() {
            // Says something both of lists and of objects: two schemas in one.
            let mut rest = value::Map::new();
            rest.insert("properties".to_owned(), schema["properties"].clone());
            let rest = self.node(&rest.into(), Level::Values);
            rules.all_of = rules.all_of.iter().copied().chain([rest]).collect();
        }
        let plain = rules.is_plain() && implied != Accepts::Any;
        self.add(shape, flag(schema, "nullable"), (!plain).then_some(rules))
    }

    fn list(&mut self, schema: &Value, level: Level) -> Shape {
        let inner = if level == Level::Values { level } else { Level::Inner };
        let elem = match &schema["items"] {
            items @ Value::Object(_) => self.node(items, inner),
            _ => self.nothing(),
        };
        let declared = schema["x-kubernetes-list-type"].as_str();
        let kind = match declared {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(
                texts(schema, "x-kubernetes-list-map-keys").map(|key| self.name(key)).collect(),
            ),
            _ => ListType::Atomic,
        };
        Shape::List(List { elem, kind, declared: declared.is_some(), wrapped: false })
    }

    fn map(&mut self, schema: &Value, level: Level) -> Shape {
        let inner = if level == Level::Values { level } else { Level::Inner };
        let value = match &schema["additionalProperties"] {
            values @ Value::Object(_) => self.node(values, inner),
            _ => self.nothing(),
        };
        Shape::Map(Map { value, atomic: schema["x-kubernetes-map-type"] == "atomic" })
    }

    fn object(&mut self, schema: &Value, level: Level) -> Shape {
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        let with_meta = embedded || level == Level::Root;
        let inner = if level == Level::Values { level } else { Level::Inner };
        let mut fields = Vec::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if with_meta && META_FIELDS.contains(&name.as_str()) {
                continue;
            }
            let ty = self.node(property, inner);
            let default = match level {
                Level::Values => None,
                _ => property.get("default").filter(|value| !value.is_null()).cloned(),
            };
            fields.push(self.field(name, ty, default));
        }
        if with_meta {
            let text = self.text();
            fields.push(self.field("apiVersion", text, None));
            fields.push(self.field("kind", text, None));
            if let Some(meta) = object_meta() {
                fields.push(self.field("metadata", meta, None));
            }
        }
        let free = level == Level::Values || flag(schema, "x-kubernetes-preserve-unknown-fields");
        let mut object = Object::of(fields, if free { Extra::Preserve } else { Extra::Prune });
        object.atomic = schema["x-kubernetes-map-type"] == "atomic";
        object.embedded_resource = embedded;
        Shape::Object(object)
    }

    fn field(&mut self, name: &str, ty: TypeId, default: Option<Value>) -> Field {
        Field {
            name: self.name(name),
            ty,
            pointer: true,
            omit: Omit::Empty,
            required: false,
            merge_key: None,
            strategies: Strategies::default(),
            default: default.map(Box::new),
        }
    }

    fn rules(&mut self, schema: &Value) -> Rules {
        let bound = |value: &str, exclusive: &str| {
            let value = schema[value].as_f64()?;
            Some(Bound { value, exclusive: flag(schema, exclusive) })
        };
        let count =
            |min: &str, max: &str| Count { min: schema[min].as_u64(), max: schema[max].as_u64() };
        let mut parts = |name: &str| -> Box<[TypeId]> {
            let list = schema[name].as_array().into_iter().flatten();
            list.map(|part| self.node(part, Level::Values)).collect()
        };
        let (all_of, any_of, one_of) = (parts("allOf"), parts("anyOf"), parts("oneOf"));
        let not = schema["not"].is_object().then(|| self.node(&schema["not"], Level::Values));
        Rules {
            accepts: Accepts::Any,
            format: schema["format"].as_str().and_then(Format::named),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: schema["multipleOf"].as_f64(),
            length: count("minLength", "maxLength"),
            items: count("minItems", "maxItems"),
            properties: count("minProperties", "maxProperties"),
            pattern: schema["pattern"]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(|text| Box::new(Pattern::new(text))),
            values: schema["enum"].as_array().cloned().unwrap_or_default().into(),
            required: texts(schema, "required").map(|name| self.name(name)).collect(),
            all_of,
            any_of,
            one_of,
            not,
        }
    }

    /// What a schema says of the metadata of the object itself is a rule of its values.
    fn meta_rules(&mut self, schema: &Value, rules: &mut Rules) {
        let mut said = value::Map::new();
        for name in META_FIELDS {
            if let Some(property) = schema["properties"].get(name) {
                said.insert(name.to_owned(), property.clone());
            }
        }
        if !said.is_empty() {
            let part = value::json!({ "properties": said });
            let part = self.node(&part, Level::Values);
            rules.all_of = rules.all_of.iter().copied().chain([part]).collect();
        }
    }
}

fn has_values(schema: &Value) -> bool {
    match &schema["additionalProperties"] {
        Value::Object(_) => true,
        Value::Bool(any) => *any,
        _ => false,
    }
}

fn accepts_object(kind: &str) -> Accepts {
    if kind == "object" { Accepts::Object } else { Accepts::Any }
}

impl Rules {
    /// Nothing is said but the type.
    fn is_plain(&self) -> bool {
        let count = |count: &Count| count.min.is_none() && count.max.is_none();
        self.format.is_none()
            && self.minimum.is_none()
            && self.maximum.is_none()
            && self.multiple_of.is_none()
            && count(&self.length)
            && count(&self.items)
            && count(&self.properties)
            && self.pattern.is_none()
            && self.values.is_empty()
            && self.required.is_empty()
            && self.parts().next().is_none()
    }
}

/// `metadata` of any built-in kind.
fn object_meta() -> Option<TypeId> {
    let kind = builtin().type_of(&Gvk::fixed("", "v1", "ConfigMap"))?;
    Some(kind.field("metadata")?.1.id().built_in())
}

#[cfg(test)]
mod tests;
