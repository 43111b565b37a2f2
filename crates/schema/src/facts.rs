//! Reads the committed facts into the graph of the built-in kinds, once, on first use.
//!
//! `tools/apifacts` writes the facts and documents their format; they are trusted: a line that does
//! not read is a defect of the build, found by any test.
use crate::graph::{
    Descriptions, Docs, Extra, Field, Graph, GraphBuilder, List, ListType, Map, Node, Object, Omit,
    OneOf, Scalar, Shape, Strategies, TypeId, Wire,
};
use api::Gvk;
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, OnceLock};

/// The Kubernetes version that the built-in graph describes.
pub const VERSION: &str = "v1.37";

static GRAPH: &str = include_str!("../facts/graph.txt");
static DOCS: &[u8] = include_bytes!("../facts/docs.json.gz");

/// The graph of the built-in kinds.
pub fn builtin() -> &'static Graph {
    static BUILTIN: OnceLock<Graph> = OnceLock::new();
    BUILTIN.get_or_init(|| read(GRAPH).expect("the committed facts are well formed"))
}

fn descriptions() -> Descriptions {
    let mut text = Vec::new();
    let read = flate2::read::GzDecoder::new(DOCS).read_to_end(&mut text);
    read.expect("the committed descriptions are well formed");
    let docs: HashMap<String, HashMap<String, String>> =
        serde_json::from_slice(&text).expect("the committed descriptions are well formed");
    docs.into_iter().filter_map(|(id, docs)| Some((TypeId(id.parse().ok()?), docs))).collect()
}

#[derive(Default)]
struct Reader<'t> {
    builder: GraphBuilder,
    names: HashMap<&'t str, Arc<str>>,
    object: Option<(TypeId, Open)>,
}

/// An object whose fields are still being read.
struct Open {
    node: Node,
    fields: Vec<(Field, u32)>,
    embeds: Vec<Wire>,
}

fn read(text: &str) -> Result<Graph, String> {
    let mut reader = Reader::default();
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('\t').collect();
        reader.line(&cells).ok_or_else(|| format!("facts line {}: {line}", number + 1))?;
    }
    reader.close();
    reader.builder.docs = Docs::Packed(descriptions);
    reader.builder.build().map_err(|error| error.to_string())
}

impl<'t> Reader<'t> {
    fn line(&mut self, cells: &[&'t str]) -> Option<()> {
        match *cells {
            ["f", ..] => return self.field(cells),
            ["e", number, node] => {
                let wire = Wire::Embed { number: number.parse().ok()?, ty: id(node)? };
                self.object.as_mut()?.1.embeds.push(wire);
                return Some(());
            }
            ["G", group, version, kind, node] => {
                let gvk = Gvk { group: owned(group), version: owned(version), kind: owned(kind) };
                self.builder.kind(gvk, id(node)?);
                return Some(());
            }
            _ => {}
        }
        self.close();
        let place = self.builder.reserve();
        let (go, model) = (self.name(cells.get(1)?), cells.get(2)?);
        let node = |shape, model| Node { go, model, shape, nullable: false, rules: None };
        match *cells {
            ["S", _, _, code, values] => {
                let values = values.split(' ').filter_map(|v| serde_json::from_str(v).ok());
                let values = values.map(|value: String| Arc::from(value));
                let shape = Shape::Scalar(scalar(code, values.collect())?);
                let model = self.optional(model);
                self.builder.define(place, node(shape, model));
            }
            ["L", _, elem, kind, keys, wrapped] => {
                let kind_of = match kind {
                    "s" => ListType::Set,
                    "m" => ListType::Map(keys.split(',').map(|key| self.name(key)).collect()),
                    _ => ListType::Atomic,
                };
                let (elem, wrapped) = (id(elem)?, wrapped == "w");
                let list = List { elem, kind: kind_of, declared: kind != "-", wrapped };
                self.builder.define(place, node(Shape::List(list), None));
            }
            ["M", _, value, kind] => {
                let map = Map { value: id(value)?, atomic: kind == "a" };
                self.builder.define(place, node(Shape::Map(map), None));
            }
            ["U", _, _, which, schema, array] => {
                let schema = id(schema)?;
                let one = match which {
                    "b" => OneOf::Bool { schema },
                    "a" => OneOf::Array { schema, array: id(array)? },
                    _ => OneOf::Strings { schema, array: id(array)? },
                };
                let model = self.optional(model);
                self.builder.define(place, node(Shape::OneOf(one), model));
            }
            ["O", _, _, kind, base] => {
                let object = Object {
                    fields: Vec::new(),
                    wire: Vec::new(),
                    numbers: Vec::new(),
                    atomic: kind == "a",
                    base: id(base),
                    extra: Extra::Prune,
                    embedded_resource: false,
                };
                let model = self.optional(model);
                let node = node(Shape::Object(object), model);
                let open = Open { node, fields: Vec::new(), embeds: Vec::new() };
                self.object = Some((place, open));
            }
            _ => return None,
        }
        Some(())
    }

    fn field(&mut self, cells: &[&'t str]) -> Option<()> {
        let [_, name, number, node, flags, key, strategies, default] = *cells else {
            return None;
        };
        let has = |name| strategies.split(',').any(|strategy| strategy == name);
        let omit = match flags {
            _ if flags.contains('z') => Omit::Zero,
            _ if flags.contains('o') => Omit::Empty,
            _ => Omit::Never,
        };
        let field = Field {
            name: self.name(name),
            ty: id(node)?,
            pointer: flags.contains('p'),
            omit,
            required: flags.contains('r'),
            merge_key: self.optional(key),
            strategies: Strategies {
                merge: has("merge"),
                replace: has("replace"),
                retain_keys: has("retainKeys"),
            },
            default: match default {
                "-" => None,
                text => Some(Box::new(serde_json::from_str(text).ok()?)),
            },
        };
        self.object.as_mut()?.1.fields.push((field, number.parse().ok()?));
        Some(())
    }

    /// Ends the object that is being read, if one is.
    fn close(&mut self) {
        let Some((place, mut open)) = self.object.take() else { return };
        open.fields.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let mut wire = open.embeds;
        for (index, (_, number)) in open.fields.iter().enumerate() {
            if *number > 0 {
                wire.push(Wire::Field { number: *number, index: index as u32 });
            }
        }
        wire.sort_by_key(Wire::number);
        if let Shape::Object(object) = &mut open.node.shape {
            object.numbers = open.fields.iter().map(|(_, number)| *number).collect();
            object.fields = open.fields.into_iter().map(|(field, _)| field).collect();
            object.wire = wire;
        }
        self.builder.define(place, open.node);
    }

    fn name(&mut self, text: &'t str) -> Arc<str> {
        Arc::clone(self.names.entry(text).or_insert_with(|| Arc::from(text)))
    }

    fn optional(&mut self, text: &'t str) -> Option<Arc<str>> {
        (text != "-").then(|| self.name(text))
    }
}

fn owned(text: &str) -> std::borrow::Cow<'static, str> {
    std::borrow::Cow::Owned(text.to_owned())
}

fn id(text: &str) -> Option<TypeId> {
    text.parse().ok().map(TypeId)
}

fn scalar(code: &str, values: Box<[Arc<str>]>) -> Option<Scalar> {
    Some(match code {
        "s" => Scalar::String(values),
        "b" => Scalar::Bool,
        "i" => Scalar::Int32,
        "l" => Scalar::Int64,
        "d" => Scalar::Float,
        "B" => Scalar::Bytes,
        "T" => Scalar::Time,
        "M" => Scalar::MicroTime,
        "D" => Scalar::Duration,
        "Q" => Scalar::Quantity,
        "I" => Scalar::IntOrString,
        "R" => Scalar::Raw,
        "F" => Scalar::Fields,
        "J" | "A" => Scalar::Json,
        _ => return None,
    })
}
