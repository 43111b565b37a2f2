//! The OpenAPI v2 document as protobuf (gnostic's `openapi.v2.Document`): client-go asks for it.
//!
//! Driven by a table: for each message the JSON name of a field, its number and what it holds.
use super::PathInfo;
use crate::graph::Graph;
use value::{Map, Value};

/// What a field of a message holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Bool,
    Int,
    Float,
    Any,
    Anys,
    Message(&'static Message),
    Messages(&'static Message),
    /// An object whose keys are names: a message around a list of name and value.
    Named(&'static Message),
    /// `type` and similar: a text or a list of texts in a message of its own.
    TextItem,
    /// `items`: one schema in a message of its own.
    Items,
    AdditionalProperties,
    Parameters,
    Responses,
    Paths,
    Security,
    SecurityDefinitions,
    SchemaItem,
}

struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    /// The number of the `x-` fields; 0 if there are none.
    extensions: u32,
}

use Kind::{
    AdditionalProperties, Any, Anys, Bool, Float, Int, Items, Messages, Named, Parameters, Paths,
    Responses, SchemaItem, Security, SecurityDefinitions, Text, TextItem, Texts,
};

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, Kind::Message(&INFO)),
        ("paths", 8, Paths),
        ("definitions", 9, Named(&SCHEMA)),
        ("security", 12, Security),
        ("securityDefinitions", 13, SecurityDefinitions),
    ],
    extensions: 16,
};
static INFO: Message =
    Message { fields: &[("title", 1, Text), ("version", 2, Text)], extensions: 7 };
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Float),
        ("maximum", 7, Float),
        ("exclusiveMaximum", 8, Bool),
        ("minimum", 9, Float),
        ("exclusiveMinimum", 10, Bool),
        ("maxLength", 11, Int),
        ("minLength", 12, Int),
        ("pattern", 13, Text),
        ("maxItems", 14, Int),
        ("minItems", 15, Int),
        ("uniqueItems", 16, Bool),
        ("maxProperties", 17, Int),
        ("minProperties", 18, Int),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, AdditionalProperties),
        ("type", 22, TextItem),
        ("items", 23, Items),
        ("allOf", 24, Messages(&SCHEMA)),
        ("properties", 25, Named(&SCHEMA)),
        ("example", 30, Any),
    ],
    extensions: 31,
};
static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, Kind::Message(&OPERATION)),
        ("put", 3, Kind::Message(&OPERATION)),
        ("post", 4, Kind::Message(&OPERATION)),
        ("delete", 5, Kind::Message(&OPERATION)),
        ("options", 6, Kind::Message(&OPERATION)),
        ("head", 7, Kind::Message(&OPERATION)),
        ("patch", 8, Kind::Message(&OPERATION)),
        ("parameters", 9, Parameters),
    ],
    extensions: 10,
};
static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Parameters),
        ("responses", 9, Responses),
        ("schemes", 10, Texts),
        ("deprecated", 11, Bool),
    ],
    extensions: 13,
};
static BODY: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Bool),
        ("schema", 5, Kind::Message(&SCHEMA)),
    ],
    extensions: 6,
};
static QUERY: Message = Message {
    fields: &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Bool),
    ],
    extensions: 23,
};
static PATH: Message = Message {
    fields: &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Bool),
    ],
    extensions: 22,
};
static RESPONSE: Message =
    Message { fields: &[("description", 1, Text), ("schema", 2, SchemaItem)], extensions: 5 };
static API_KEY: Message = Message {
    fields: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)],
    extensions: 5,
};

/// [`super::openapi_v2`] in protobuf.
pub fn openapi_v2_proto(graph: &Graph, rows: &[PathInfo]) -> Vec<u8> {
    encode(&super::openapi_v2(graph, rows))
}

pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&DOCUMENT, document, &mut out);
    out
}

fn message(of: &Message, value: &Value, out: &mut Vec<u8>) {
    let Value::Object(map) = value else { return };
    for (name, number, kind) in of.fields {
        if let Some(value) = map.get(*name) {
            field(*number, *kind, value, out);
        }
    }
    if of.extensions > 0 {
        for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
            named(of.extensions, name, out, |out| nested(2, out, |out| any(value, out)));
        }
    }
}

fn field(number: u32, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    match kind {
        Text => text(number, value.as_str().unwrap_or_default(), out),
        Texts => texts(number, value, out),
        Bool => {
            if value == &Value::Bool(true) {
                varint(u64::from(number << 3), out);
                out.push(1);
            }
        }
        Int => {
            varint(u64::from(number << 3), out);
            varint(value.as_i64().unwrap_or_default() as u64, out);
        }
        Float => {
            varint(u64::from(number << 3 | 1), out);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Any => nested(number, out, |out| any(value, out)),
        Anys => each(value, |value| nested(number, out, |out| any(value, out))),
        Kind::Message(of) => nested(number, out, |out| message(of, value, out)),
        Messages(of) => {
            each(value, |value| nested(number, out, |out| message(of, value, out)));
        }
        Named(of) => nested(number, out, |out| {
            members(value, |name, value| {
                named(1, name, out, |out| nested(2, out, |out| message(of, value, out)));
            });
        }),
        TextItem => nested(number, out, |out| match value {
            Value::Array(_) => texts(1, value, out),
            value => text(1, value.as_str().unwrap_or_default(), out),
        }),
        Items => nested(number, out, |out| {
            nested(1, out, |out| message(&SCHEMA, value, out));
        }),
        AdditionalProperties => nested(number, out, |out| match value {
            Value::Bool(allowed) => out.extend_from_slice(&[16, u8::from(*allowed)]),
            value => nested(1, out, |out| message(&SCHEMA, value, out)),
        }),
        Parameters => each(value, |value| nested(number, out, |out| parameter(value, out))),
        Responses => nested(number, out, |out| responses(value, out)),
        Paths => nested(number, out, |out| paths(value, out)),
        Security => each(value, |value| nested(number, out, |out| security(value, out))),
        SecurityDefinitions => nested(number, out, |out| security_definitions(value, out)),
        SchemaItem => nested(number, out, |out| {
            nested(1, out, |out| message(&SCHEMA, value, out));
        }),
    }
}

fn responses(value: &Value, out: &mut Vec<u8>) {
    members(value, |code, value| {
        named(1, code, out, |out| {
            nested(2, out, |out| nested(1, out, |out| message(&RESPONSE, value, out)));
        });
    });
}

fn paths(value: &Value, out: &mut Vec<u8>) {
    members(value, |path, value| {
        named(2, path, out, |out| nested(2, out, |out| message(&PATH_ITEM, value, out)));
    });
}

fn security(value: &Value, out: &mut Vec<u8>) {
    members(value, |name, value| {
        named(1, name, out, |out| nested(2, out, |out| texts(1, value, out)));
    });
}

fn security_definitions(value: &Value, out: &mut Vec<u8>) {
    members(value, |name, value| {
        named(1, name, out, |out| {
            nested(2, out, |out| nested(2, out, |out| message(&API_KEY, value, out)));
        });
    });
}

/// A parameter is one of several messages, each inside the ones that choose between them.
fn parameter(value: &Value, out: &mut Vec<u8>) {
    let place = value.get("in").and_then(Value::as_str).unwrap_or_default();
    nested(1, out, |out| match place {
        "body" => nested(1, out, |out| message(&BODY, value, out)),
        "path" => nested(2, out, |out| nested(4, out, |out| message(&PATH, value, out))),
        _ => nested(2, out, |out| nested(3, out, |out| message(&QUERY, value, out))),
    });
}

/// A value of no fixed type: its YAML, which JSON is.
fn any(value: &Value, out: &mut Vec<u8>) {
    text(2, &format!("{value}\n"), out);
}

fn each(value: &Value, mut with: impl FnMut(&Value)) {
    value.as_array().map_or(&[][..], Vec::as_slice).iter().for_each(&mut with);
}

fn members(value: &Value, mut with: impl FnMut(&str, &Value)) {
    let empty = Map::new();
    for (name, value) in value.as_object().unwrap_or(&empty) {
        with(name, value);
    }
}

fn named(number: u32, name: &str, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    nested(number, out, |out| {
        text(1, name, out);
        value(out);
    });
}

fn texts(number: u32, value: &Value, out: &mut Vec<u8>) {
    each(value, |value| text(number, value.as_str().unwrap_or_default(), out));
}

fn text(number: u32, text: &str, out: &mut Vec<u8>) {
    nested(number, out, |out| out.extend_from_slice(text.as_bytes()));
}

fn nested(number: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    varint(u64::from(number << 3 | 2), out);
    let start = out.len();
    body(out);
    let mut length = Vec::with_capacity(4);
    varint((out.len() - start) as u64, &mut length);
    out.splice(start..start, length);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
