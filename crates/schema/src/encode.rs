//! JSON to protobuf, byte for byte what upstream writes.
//!
//! One seed drives every source that serde can read: stored bytes are transcoded as they stream by,
//! without a value in between. Fields come in JSON's order and are put into the order of their
//! numbers when their object ends; what is missing and not a pointer in Go is written as zero.
use crate::gotext;
use crate::graph::{Field, Graph, List, Object, OneOf, Scalar, Shape, TypeRef, Wire};
use crate::proto::PROTO_MAGIC;
use api::Gvk;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use value::Value;

/// The field of a list that its items are in, and of an envelope that its object is in.
const HELD: u32 = 2;

/// What goes after the parts: no encoding and no type of content are named.
pub const PROTO_TAIL: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("no kind \"{kind}\" is registered for version \"{version}\"")]
    Kind { version: String, kind: String },
    #[error("the type {0} has no protobuf encoding")]
    NoEncoding(String),
    #[error("{0}")]
    Value(String),
}

/// Encodes an object with its envelope.
pub fn encode_proto(graph: &Graph, gvk: &Gvk, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let ty = encodable(graph, gvk)?;
    let mut out = Vec::with_capacity(512);
    envelope(&mut out, gvk, |out| run(value, ty, out))?;
    Ok(out)
}

/// Encodes an object that is there as JSON text, with its envelope, to the end of `out`.
pub fn encode_json_as_proto(
    graph: &Graph,
    gvk: &Gvk,
    json: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let ty = encodable(graph, gvk)?;
    envelope(out, gvk, |out| encode_body(ty, json, out))
}

/// Encodes the message of a type from JSON text, without an envelope, to the end of `out`.
pub fn encode_body(ty: TypeRef<'_>, json: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    run(&mut serde_json::Deserializer::from_slice(json), ty, out)
}

/// Encodes an object from JSON text as the field of what holds it: the same bytes are an item of
/// a list and the middle of an envelope (see [`object_head`], [`list_head`] and [`PROTO_TAIL`]).
pub fn encode_part(graph: &Graph, gvk: &Gvk, json: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let ty = encodable(graph, gvk)?;
    let mut out = Vec::with_capacity(json.len());
    nested(&mut out, HELD, |out| encode_body(ty, json, out))?;
    Ok(out)
}

/// What goes before the part of one object.
pub fn object_head(gvk: &Gvk) -> Vec<u8> {
    let mut out = PROTO_MAGIC.to_vec();
    let start = {
        tag(&mut out, 1, 2);
        open(&mut out)
    };
    bytes_field(&mut out, 1, gvk.api_version().as_bytes());
    bytes_field(&mut out, 2, gvk.kind.as_bytes());
    close(&mut out, start);
    out
}

/// What goes before the parts of a list, given their length in all.
pub fn list_head(
    graph: &Graph,
    gvk: &Gvk,
    metadata: &Value,
    parts: usize,
) -> Result<Vec<u8>, EncodeError> {
    let ty = encodable(graph, gvk)?;
    let meta = ty.field("metadata").ok_or_else(|| EncodeError::NoEncoding(gvk.kind.to_string()))?.1;
    let mut head = Vec::new();
    nested(&mut head, 1, |out| run(metadata, meta, out))?;
    let mut out = object_head(gvk);
    tag(&mut out, HELD, 2);
    varint(&mut out, (head.len() + parts) as u64);
    out.extend_from_slice(&head);
    Ok(out)
}

/// Appends one event of a protobuf watch: a length, then a `WatchEvent` around an encoded object.
pub fn watch_frame(event: &str, object: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    bytes_field(out, 1, event.as_bytes());
    let raw = 1 + varint_len(object.len() as u64) + object.len();
    tag(out, 2, 2);
    varint(out, raw as u64);
    bytes_field(out, 1, object);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn encodable<'g>(graph: &'g Graph, gvk: &Gvk) -> Result<TypeRef<'g>, EncodeError> {
    let ty = graph.type_of(gvk).ok_or_else(|| EncodeError::Kind {
        version: gvk.api_version().into_owned(),
        kind: gvk.kind.to_string(),
    })?;
    match ty.object() {
        // A type whose fields are all its kind (`v1.TableOptions`) is an empty message.
        Some(object) if object.wire.is_empty() && object.fields.len() > 2 => {
            Err(EncodeError::NoEncoding(ty.node().go.to_string()))
        }
        Some(_) => Ok(ty),
        None => Err(EncodeError::NoEncoding(ty.node().go.to_string())),
    }
}

fn envelope(
    out: &mut Vec<u8>,
    gvk: &Gvk,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    out.extend_from_slice(&object_head(gvk));
    nested(out, HELD, body)?;
    out.extend_from_slice(PROTO_TAIL);
    Ok(())
}

fn run<'de, D>(from: D, ty: TypeRef<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError>
where
    D: Deserializer<'de>,
    D::Error: fmt::Display,
{
    let mut state = State { out, segments: Vec::new(), scratch: Vec::new() };
    let done = Message { ty, state: &mut state }.deserialize(from);
    done.map_err(|error| EncodeError::Value(error.to_string()))
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    varint(out, u64::from(number << 3 | wire));
}

fn bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    tag(out, number, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a length-delimited field whose length is known only afterwards.
fn nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    tag(out, number, 2);
    let start = open(out);
    body(out)?;
    close(out, start);
    Ok(())
}

/// Leaves room for a short length.
fn open(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Writes the length into that room, made larger if it must be.
fn close(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    let more = varint_len(length as u64) - 1;
    if more > 0 {
        out.resize(out.len() + more, 0);
        out.copy_within(start..start + length, start + more);
    }
    let mut value = length;
    for byte in &mut out[start - 1..start + more] {
        *byte = (value & 0x7f) as u8 | if value >= 0x80 { 0x80 } else { 0 };
        value >>= 7;
    }
}

/// Where the bytes of one field of an object are, as it was read.
#[derive(Clone, Copy)]
struct Segment {
    number: u32,
    start: usize,
    end: usize,
}

struct State<'o> {
    out: &'o mut Vec<u8>,
    segments: Vec<Segment>,
    scratch: Vec<u8>,
}

impl State<'_> {
    /// Puts the object that began at `start` into the order of its field numbers.
    fn order(&mut self, start: usize, first: usize) {
        let segments = &mut self.segments[first..];
        if !segments.is_sorted_by_key(|segment| segment.number) {
            segments.sort_by_key(|segment| segment.number);
            self.scratch.clear();
            for segment in &*segments {
                self.scratch.extend_from_slice(&self.out[segment.start..segment.end]);
            }
            self.out.truncate(start);
            self.out.extend_from_slice(&self.scratch);
        }
        self.segments.truncate(first);
    }
}

/// The body of a message: an object.
struct Message<'s, 'o, 'g> {
    ty: TypeRef<'g>,
    state: &'s mut State<'o>,
}

impl<'de> DeserializeSeed<'de> for Message<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of type {}", self.ty.node().go)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some(object) = self.ty.object() else {
            return Err(A::Error::custom(format!("{} is no object", self.ty.node().go)));
        };
        if object.wire.iter().any(|wire| matches!(wire, Wire::Embed { .. })) {
            // Few and small: volumes, probes, references. Their fields go to several messages.
            let mut value = value::Map::new();
            while let Some((key, field)) = map.next_entry::<String, Value>()? {
                value.insert(key, field);
            }
            return flat(self.ty, object, &value, self.state).map_err(A::Error::custom);
        }
        let (start, first) = (self.state.out.len(), self.state.segments.len());
        let graph = self.ty.graph();
        while let Some(place) = map.next_key_seed(Key { object })? {
            let Some((number, index)) = place else {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            };
            let start = self.state.out.len();
            let field = &object.fields[index];
            let ty = graph.get(field.ty);
            map.next_value_seed(Content { ty, number, field, state: self.state })?;
            let end = self.state.out.len();
            if end > start {
                self.state.segments.push(Segment { number, start, end });
            }
        }
        for wire in &object.wire {
            let Wire::Field { number, index } = *wire else { continue };
            if !self.state.segments[first..].iter().any(|segment| segment.number == number) {
                let start = self.state.out.len();
                zero(graph, &object.fields[index as usize], number, self.state.out);
                let end = self.state.out.len();
                if end > start {
                    self.state.segments.push(Segment { number, start, end });
                }
            }
        }
        self.state.order(start, first);
        Ok(())
    }
}

/// Writes the fields of an object that has embedded structs, in order, from a value.
fn flat(
    ty: TypeRef<'_>,
    object: &Object,
    value: &value::Map,
    state: &mut State<'_>,
) -> Result<(), serde_json::Error> {
    let graph = ty.graph();
    for wire in &object.wire {
        match *wire {
            Wire::Field { number, index } => {
                let field = &object.fields[index as usize];
                let ty = graph.get(field.ty);
                match value.get(&*field.name) {
                    Some(value) => {
                        Content { ty, number, field, state: &mut *state }.deserialize(value)?;
                    }
                    None => zero(graph, field, number, state.out),
                }
            }
            Wire::Embed { number, ty } => {
                tag(state.out, number, 2);
                let start = open(state.out);
                let ty = graph.get(ty);
                if let Some(object) = ty.object() {
                    flat(ty, object, value, state)?;
                }
                close(state.out, start);
            }
        }
    }
    Ok(())
}

/// What Go writes for a field that has its zero value.
fn zero(graph: &Graph, field: &Field, number: u32, out: &mut Vec<u8>) {
    if !field.pointer {
        zero_of(graph.get(field.ty), number, out);
    }
}

fn zero_of(ty: TypeRef<'_>, number: u32, out: &mut Vec<u8>) {
    match ty.shape() {
        Shape::Scalar(Scalar::Bytes) | Shape::Map(_) | Shape::List(_) => {}
        Shape::Scalar(Scalar::Bool | Scalar::Int32 | Scalar::Int64) => {
            tag(out, number, 0);
            out.push(0);
        }
        Shape::Scalar(Scalar::Float) => {
            tag(out, number, 1);
            out.extend_from_slice(&[0; 8]);
        }
        Shape::Scalar(scalar) => {
            tag(out, number, 2);
            let start = open(out);
            match scalar {
                Scalar::Quantity => bytes_field(out, 1, b"0"),
                Scalar::IntOrString => int_or_string(out, 0, ""),
                Scalar::Duration => out.extend_from_slice(&[8, 0]),
                _ => {}
            }
            close(out, start);
        }
        Shape::OneOf(one) => {
            tag(out, number, 2);
            let start = open(out);
            if let OneOf::Bool { .. } = one {
                out.extend_from_slice(&[8, 0]);
            }
            close(out, start);
        }
        Shape::Object(object) => {
            tag(out, number, 2);
            let start = open(out);
            zero_fields(ty, object, out);
            close(out, start);
        }
    }
}

fn zero_fields(ty: TypeRef<'_>, object: &Object, out: &mut Vec<u8>) {
    for wire in &object.wire {
        match *wire {
            Wire::Field { number, index } => {
                zero(ty.graph(), &object.fields[index as usize], number, out);
            }
            Wire::Embed { number, ty: embedded } => zero_of(ty.graph().get(embedded), number, out),
        }
    }
}

fn int_or_string(out: &mut Vec<u8>, number: i32, text: &str) {
    out.extend_from_slice(&[8, u8::from(!text.is_empty()), 16]);
    varint(out, i64::from(number) as u64);
    bytes_field(out, 3, text.as_bytes());
}

/// A key of an object: its field's number and place; none if the field is not on the wire.
struct Key<'g> {
    object: &'g Object,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<(u32, usize)>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Option<(u32, usize)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.object.index_of(name).and_then(|place| {
            let number = self.object.numbers[place];
            (number > 0).then_some((number, place))
        }))
    }
}

/// The value of a field or of an element, written with its tag.
struct Content<'s, 'o, 'g> {
    ty: TypeRef<'g>,
    number: u32,
    field: &'g Field,
    state: &'s mut State<'o>,
}

impl<'de> DeserializeSeed<'de> for Content<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match self.ty.shape() {
            Shape::Scalar(Scalar::Raw | Scalar::Fields | Scalar::Json) => {
                let value = <Value as serde::Deserialize>::deserialize(from)?;
                if value.is_null() {
                    return self.visit_unit();
                }
                let text = serde_json::to_vec(&value).map_err(D::Error::custom)?;
                self.delimited(|out| bytes_field(out, 1, &text));
                Ok(())
            }
            _ => from.deserialize_any(self),
        }
    }
}

impl Content<'_, '_, '_> {
    fn delimited(self, body: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut *self.state.out;
        tag(out, self.number, 2);
        let start = open(out);
        body(out);
        close(out, start);
    }

    fn wrong<E: Error>(&self, found: &str) -> Result<(), E> {
        let (name, go) = (&self.field.name, &self.ty.node().go);
        Err(E::custom(format!("cannot encode {found} in field {name} of type {go}")))
    }

    fn integer<E: Error>(self, n: i64) -> Result<(), E> {
        match self.ty.shape() {
            Shape::Scalar(Scalar::Int32 | Scalar::Int64) => {
                tag(self.state.out, self.number, 0);
                varint(self.state.out, n as u64);
            }
            Shape::Scalar(Scalar::Float) => return self.visit_f64(n as f64),
            Shape::Scalar(Scalar::IntOrString) => {
                self.delimited(|out| int_or_string(out, n as i32, ""));
            }
            Shape::Scalar(Scalar::Quantity) => {
                let text = n.to_string();
                self.delimited(|out| bytes_field(out, 1, text.as_bytes()));
            }
            _ => return self.wrong("a number"),
        }
        Ok(())
    }

    fn time(self, text: &str, micro: bool) -> Result<(), String> {
        let time = gotext::parse_time(text, micro)?;
        self.delimited(|out| {
            if time.seconds != gotext::ZERO_TIME {
                tag(out, 1, 0);
                varint(out, time.seconds as u64);
                tag(out, 2, 0);
                varint(out, if micro { u64::from(time.micros) * 1000 } else { 0 });
            }
        });
        Ok(())
    }

    fn elements<'de, A: SeqAccess<'de>>(self, list: &List, mut seq: A) -> Result<(), A::Error> {
        let elem = self.ty.graph().get(list.elem);
        let Self { number, field, state, .. } = self;
        let (number, start) = match list.wrapped {
            true => {
                tag(state.out, number, 2);
                (1, Some(open(state.out)))
            }
            false => (number, None),
        };
        loop {
            let before = state.out.len();
            let content = Content { ty: elem, number, field, state: &mut *state };
            if seq.next_element_seed(content)?.is_none() {
                break;
            }
            if state.out.len() == before {
                zero_of(elem, number, state.out);
            }
        }
        if let Some(start) = start {
            close(state.out, start);
        }
        Ok(())
    }

    fn entries<'de, A: MapAccess<'de>>(
        self,
        value: TypeRef<'_>,
        mut map: A,
    ) -> Result<(), A::Error> {
        let Self { number, field, state, .. } = self;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            tag(state.out, number, 2);
            let start = open(state.out);
            bytes_field(state.out, 1, key.as_bytes());
            let before = state.out.len();
            map.next_value_seed(Content { ty: value, number: 2, field, state: &mut *state })?;
            if state.out.len() == before {
                match value.shape() {
                    // Absent bytes stay absent; a list in a message is an empty message.
                    Shape::List(_) => bytes_field(state.out, 2, b""),
                    _ => zero_of(value, 2, state.out),
                }
            }
            close(state.out, start);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Content<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {}", self.ty.node().go)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        if !self.field.pointer && !matches!(self.ty.shape(), Shape::List(_) | Shape::Map(_)) {
            zero_of(self.ty, self.number, self.state.out);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.ty.shape() {
            Shape::Scalar(Scalar::Bool) => {
                tag(self.state.out, self.number, 0);
                self.state.out.push(u8::from(value));
            }
            Shape::OneOf(OneOf::Bool { .. }) => {
                self.delimited(|out| out.extend_from_slice(&[8, u8::from(value)]));
            }
            _ => return self.wrong("a boolean"),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        self.integer(n)
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        match i64::try_from(n) {
            Ok(n) => self.integer(n),
            Err(_) => self.visit_f64(n as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.ty.shape() {
            Shape::Scalar(Scalar::Float) => {
                tag(self.state.out, self.number, 1);
                self.state.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            _ => self.wrong("a fraction"),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let Shape::Scalar(scalar) = self.ty.shape() else { return self.wrong("a string") };
        match scalar {
            Scalar::String(_) => bytes_field(self.state.out, self.number, text.as_bytes()),
            Scalar::Bytes => {
                let bytes = gotext::decode_base64(text).map_err(E::custom)?;
                bytes_field(self.state.out, self.number, &bytes);
            }
            Scalar::Time => self.time(text, false).map_err(E::custom)?,
            Scalar::MicroTime => self.time(text, true).map_err(E::custom)?,
            Scalar::Duration => {
                let nanos = gotext::parse_duration(text).map_err(E::custom)?;
                self.delimited(|out| {
                    tag(out, 1, 0);
                    varint(out, nanos as u64);
                });
            }
            Scalar::Quantity => self.delimited(|out| bytes_field(out, 1, text.as_bytes())),
            Scalar::IntOrString => self.delimited(|out| {
                out.extend_from_slice(&[8, 1, 16, 0]);
                bytes_field(out, 3, text.as_bytes());
            }),
            _ => return self.wrong("a string"),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        match self.ty.shape() {
            Shape::List(list) => self.elements(list, seq),
            Shape::OneOf(OneOf::Array { array, .. } | OneOf::Strings { array, .. }) => {
                let ty = self.ty.graph().get(*array);
                let Shape::List(list) = ty.shape() else { return self.wrong("a list") };
                let Self { number, field, state, .. } = self;
                tag(state.out, number, 2);
                let start = open(state.out);
                Content { ty, number: 2, field, state: &mut *state }.elements(list, seq)?;
                close(state.out, start);
                Ok(())
            }
            _ => self.wrong("a list"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        match self.ty.shape() {
            Shape::Map(of) => {
                let value = self.ty.graph().get(of.value);
                self.entries(value, map)
            }
            Shape::Object(_) => {
                tag(self.state.out, self.number, 2);
                let start = open(self.state.out);
                Message { ty: self.ty, state: &mut *self.state }.visit_map(map)?;
                close(self.state.out, start);
                Ok(())
            }
            Shape::OneOf(one) => {
                let (schema, number) = match *one {
                    OneOf::Bool { schema } => (schema, 2),
                    OneOf::Array { schema, .. } | OneOf::Strings { schema, .. } => (schema, 1),
                };
                let ty = self.ty.graph().get(schema);
                tag(self.state.out, self.number, 2);
                let outer = open(self.state.out);
                if number == 2 {
                    self.state.out.extend_from_slice(&[8, 1]);
                }
                tag(self.state.out, number, 2);
                let inner = open(self.state.out);
                Message { ty, state: &mut *self.state }.visit_map(map)?;
                close(self.state.out, inner);
                close(self.state.out, outer);
                Ok(())
            }
            Shape::Scalar(_) | Shape::List(_) => self.wrong("an object"),
        }
    }
}

#[cfg(test)]
mod tests;
