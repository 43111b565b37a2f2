//! Protobuf to the value that the same object in JSON decodes to.
//!
//! The wire: `k8s\0`, then a `runtime.Unknown` with the kind and the object's own message. Unknown
//! field numbers are skipped, as every protobuf reader does.
use crate::decode::float;
use crate::finish::finish;
use crate::gotext::{self, Instant};
use crate::graph::{Graph, Object, OneOf, Scalar, Shape, TypeRef, Wire};
use api::Gvk;
use value::{Map, Value};

/// The first bytes of every protobuf body.
pub const PROTO_MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Magic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: {go}: wiretype {wire} for field number {number}")]
    WireType { go: String, number: u32, wire: u32 },
    #[error("proto: illegal tag or wire type in {0}")]
    Tag(String),
    #[error("proto: messages are nested deeper than {MAX_DEPTH} levels")]
    Depth,
    #[error("proto: a string of {0} is not UTF-8")]
    Utf8(String),
    #[error("proto: {go}: {problem}")]
    Value { go: String, problem: String },
    #[error("no kind \"{kind}\" is registered for version \"{version}\"")]
    Kind { version: String, kind: String },
    #[error("the type {0} has no protobuf encoding")]
    NoEncoding(String),
}

/// Decodes a body with its envelope.
pub fn decode_proto(graph: &Graph, bytes: &[u8]) -> Result<(Gvk, Value), ProtoError> {
    decode_at(graph, bytes, 0)
}

fn decode_at(graph: &Graph, bytes: &[u8], depth: u32) -> Result<(Gvk, Value), ProtoError> {
    let envelope = Envelope::read(bytes)?;
    let gvk = Gvk::new(&envelope.version, &envelope.kind);
    let ty = graph.type_of(&gvk).ok_or(ProtoError::Kind {
        version: envelope.version.clone(),
        kind: envelope.kind.clone(),
    })?;
    let mut value = body_at(ty, envelope.raw, depth)?;
    if let (Some(object), Some(map)) = (ty.object(), value.as_object_mut()) {
        for (name, text) in [("apiVersion", &envelope.version), ("kind", &envelope.kind)] {
            if object.field(name).is_some() && !text.is_empty() {
                map.insert(name.to_owned(), text.as_str().into());
            }
        }
    }
    Ok((gvk, value))
}

/// Decodes a message of a known type, without an envelope.
pub fn decode_proto_body(ty: TypeRef<'_>, bytes: &[u8]) -> Result<Value, ProtoError> {
    body_at(ty, bytes, 0)
}

fn body_at(ty: TypeRef<'_>, bytes: &[u8], depth: u32) -> Result<Value, ProtoError> {
    let Some(object) = ty.object() else {
        return Err(ProtoError::NoEncoding(ty.node().go.to_string()));
    };
    if object.wire.is_empty() && !object.fields.is_empty() && !bytes.is_empty() {
        return Err(ProtoError::NoEncoding(ty.node().go.to_string()));
    }
    Decoder { graph: ty.graph() }.object(ty, bytes, depth)
}

struct Envelope<'b> {
    version: String,
    kind: String,
    raw: &'b [u8],
}

impl<'b> Envelope<'b> {
    fn read(bytes: &'b [u8]) -> Result<Self, ProtoError> {
        let body = bytes.strip_prefix(PROTO_MAGIC).ok_or(ProtoError::Magic)?;
        let mut envelope = Self { version: String::new(), kind: String::new(), raw: &[] };
        let mut reader = Reader { rest: body, go: "runtime.Unknown" };
        while let Some((number, item)) = reader.next()? {
            match (number, item) {
                (1, Item::Bytes(meta)) => {
                    let mut reader = Reader { rest: meta, go: "runtime.TypeMeta" };
                    while let Some((number, item)) = reader.next()? {
                        match (number, item) {
                            (1, Item::Bytes(text)) => envelope.version = reader.text(text)?,
                            (2, Item::Bytes(text)) => envelope.kind = reader.text(text)?,
                            _ => {}
                        }
                    }
                }
                (2, Item::Bytes(raw)) => envelope.raw = raw,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// What follows a tag.
#[derive(Debug, Clone, Copy)]
enum Item<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'b [u8]),
    Group,
}

impl Item<'_> {
    fn wire(&self) -> u32 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Group => 3,
            Self::Fixed32 => 5,
        }
    }
}

struct Reader<'b, 'n> {
    rest: &'b [u8],
    go: &'n str,
}

impl<'b> Reader<'b, '_> {
    fn next(&mut self) -> Result<Option<(u32, Item<'b>)>, ProtoError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|&n| n > 0 && n < 1 << 29);
        let number = number.ok_or_else(|| ProtoError::Tag(self.go.to_owned()))?;
        let item = match tag & 7 {
            0 => Item::Varint(self.varint()?),
            1 => Item::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| ProtoError::Overflow)?;
                Item::Bytes(self.take(length)?)
            }
            3 => {
                self.skip_group(number)?;
                Item::Group
            }
            5 => {
                self.take(4)?;
                Item::Fixed32
            }
            _ => return Err(ProtoError::Tag(self.go.to_owned())),
        };
        Ok(Some((number, item)))
    }

    /// Skips an (obsolete) group with all that it nests.
    fn skip_group(&mut self, number: u32) -> Result<(), ProtoError> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let tag = self.varint()?;
            match tag & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = self.varint()?;
                    let length = usize::try_from(length).map_err(|_| ProtoError::Overflow)?;
                    self.take(length)?;
                }
                3 if open.len() < MAX_DEPTH as usize => {
                    let number = u32::try_from(tag >> 3);
                    open.push(number.map_err(|_| ProtoError::Tag(self.go.to_owned()))?);
                }
                3 => return Err(ProtoError::Depth),
                4 if tag >> 3 == u64::from(innermost) => drop(open.pop()),
                5 => drop(self.take(4)?),
                _ => return Err(ProtoError::Tag(self.go.to_owned())),
            }
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(ProtoError::Truncated)?;
            self.rest = rest;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtoError::Overflow)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], ProtoError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtoError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        self.take(N)?.try_into().map_err(|_| ProtoError::Truncated)
    }

    fn text(&self, bytes: &[u8]) -> Result<String, ProtoError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(ProtoError::Utf8(self.go.to_owned())),
        }
    }
}

struct Decoder<'g> {
    graph: &'g Graph,
}

impl<'g> Decoder<'g> {
    fn object(&self, ty: TypeRef<'g>, bytes: &[u8], depth: u32) -> Result<Value, ProtoError> {
        let Some(object) = ty.object() else {
            return Err(ProtoError::NoEncoding(ty.node().go.to_string()));
        };
        let mut map = Map::new();
        self.fields(ty, object, bytes, &mut map, depth)?;
        finish(self.graph, object, &mut map);
        Ok(Value::Object(map))
    }

    /// Adds a message's fields to the JSON object that they are in.
    fn fields(
        &self,
        ty: TypeRef<'g>,
        object: &Object,
        bytes: &[u8],
        map: &mut Map,
        depth: u32,
    ) -> Result<(), ProtoError> {
        if depth > MAX_DEPTH {
            return Err(ProtoError::Depth);
        }
        let go = &ty.node().go;
        let mut reader = Reader { rest: bytes, go };
        while let Some((number, item)) = reader.next()? {
            match object.wire_of(number) {
                None => {}
                Some(Wire::Embed { ty: embedded, .. }) => {
                    let Item::Bytes(bytes) = item else { return Err(wrong(ty, number, item)) };
                    let embedded = self.graph.get(embedded);
                    if let Some(object) = embedded.object() {
                        self.fields(embedded, object, bytes, map, depth + 1)?;
                    }
                }
                Some(Wire::Field { index, .. }) => {
                    let field = &object.fields[index as usize];
                    let of = self.graph.get(field.ty);
                    self.field(of, &field.name, (number, item), map, (ty, depth))?;
                }
            }
        }
        Ok(())
    }

    fn field(
        &self,
        of: TypeRef<'g>,
        name: &str,
        (number, item): (u32, Item<'_>),
        map: &mut Map,
        (ty, depth): (TypeRef<'g>, u32),
    ) -> Result<(), ProtoError> {
        match of.shape() {
            Shape::List(list) if !list.wrapped => {
                let elem = self.graph.get(list.elem);
                let entry = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(out) = entry else { return Ok(()) };
                match (elem.shape(), item) {
                    (
                        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool),
                        Item::Bytes(packed),
                    ) => {
                        let mut reader = Reader { rest: packed, go: &ty.node().go };
                        while !reader.rest.is_empty() {
                            let item = Item::Varint(reader.varint()?);
                            out.push(
                                self.value(elem, item, (ty, number), depth)?.unwrap_or_default(),
                            );
                        }
                    }
                    _ => {
                        let value = self.value(elem, item, (ty, number), depth)?;
                        out.push(value.unwrap_or_else(|| crate::finish::zero(elem)));
                    }
                }
            }
            Shape::Map(of) => {
                let Item::Bytes(bytes) = item else { return Err(wrong(ty, number, item)) };
                let entry = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(out) = entry else { return Ok(()) };
                let value = self.graph.get(of.value);
                self.entry(value, bytes, out, (ty, number), depth)?;
            }
            _ => {
                // An explicit zero is kept here: only pointers keep it when the object is finished.
                match self.value(of, item, (ty, number), depth)? {
                    Some(value) => map.insert(name.to_owned(), value),
                    None => map.remove(name),
                };
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        value_type: TypeRef<'g>,
        bytes: &[u8],
        out: &mut Map,
        (ty, number): (TypeRef<'g>, u32),
        depth: u32,
    ) -> Result<(), ProtoError> {
        let mut reader = Reader { rest: bytes, go: &ty.node().go };
        let mut key = String::new();
        let mut value = None;
        while let Some((part, item)) = reader.next()? {
            match (part, item) {
                (1, Item::Bytes(text)) => key = reader.text(text)?,
                (2, item) => value = self.value(value_type, item, (ty, number), depth)?,
                _ => {}
            }
        }
        let missing = || match value_type.shape() {
            Shape::Scalar(Scalar::Bytes) => "".into(),
            _ => crate::finish::zero(value_type),
        };
        out.insert(key, value.unwrap_or_else(missing));
        Ok(())
    }

    /// One value; none for what is null in JSON.
    fn value(
        &self,
        of: TypeRef<'g>,
        item: Item<'_>,
        at: (TypeRef<'g>, u32),
        depth: u32,
    ) -> Result<Option<Value>, ProtoError> {
        let error = || wrong(at.0, at.1, item);
        let go = &*of.node().go;
        match of.shape() {
            Shape::Scalar(Scalar::Bool | Scalar::Int32 | Scalar::Int64) => {
                let Item::Varint(n) = item else { return Err(error()) };
                Ok(Some(match of.shape() {
                    Shape::Scalar(Scalar::Bool) => (n != 0).into(),
                    Shape::Scalar(Scalar::Int32) => (n as i32).into(),
                    _ => (n as i64).into(),
                }))
            }
            Shape::Scalar(Scalar::Float) => match item {
                Item::Fixed64(bits) => Ok(Some(float(f64::from_bits(bits)))),
                _ => Err(error()),
            },
            shape => {
                let Item::Bytes(bytes) = item else { return Err(error()) };
                match shape {
                    Shape::Scalar(Scalar::Raw) => self.raw(bytes, go, depth + 1),
                    Shape::Scalar(scalar) => scalar_of(scalar, bytes, go),
                    Shape::Object(_) => self.object(of, bytes, depth + 1).map(Some),
                    Shape::OneOf(one) => self.one_of(*one, bytes, go, depth + 1),
                    Shape::List(list) => {
                        let elem = self.graph.get(list.elem);
                        let mut out = Vec::new();
                        let mut reader = Reader { rest: bytes, go };
                        while let Some((number, item)) = reader.next()? {
                            if number == 1 {
                                let value = self.value(elem, item, (of, number), depth + 1)?;
                                out.push(value.unwrap_or_default());
                            }
                        }
                        Ok(Some(out.into()))
                    }
                    Shape::Map(_) => Err(ProtoError::NoEncoding(go.to_owned())),
                }
            }
        }
    }

    /// Raw JSON, or a whole object in protobuf as upstream nests it.
    fn raw(&self, bytes: &[u8], go: &str, depth: u32) -> Result<Option<Value>, ProtoError> {
        let mut reader = Reader { rest: bytes, go };
        let mut raw: &[u8] = &[];
        while let Some((number, item)) = reader.next()? {
            if let (1, Item::Bytes(bytes)) = (number, item) {
                raw = bytes;
            }
        }
        if raw.starts_with(PROTO_MAGIC) {
            if depth > MAX_DEPTH {
                return Err(ProtoError::Depth);
            }
            return decode_at(self.graph, raw, depth).map(|(_, value)| Some(value));
        }
        if raw.is_empty() {
            return Ok(None);
        }
        let value = |problem| ProtoError::Value { go: go.to_owned(), problem };
        raw_value(raw).map_err(value)
    }

    fn one_of(
        &self,
        one: OneOf,
        bytes: &[u8],
        go: &str,
        depth: u32,
    ) -> Result<Option<Value>, ProtoError> {
        let (schema_type, schema_number) = match one {
            OneOf::Bool { schema } => (schema, 2),
            OneOf::Array { schema, .. } | OneOf::Strings { schema, .. } => (schema, 1),
        };
        let (mut schema, mut allows, mut list) = (None, false, Vec::new());
        let mut reader = Reader { rest: bytes, go };
        while let Some((number, item)) = reader.next()? {
            match (item, one) {
                (Item::Varint(n), OneOf::Bool { .. }) if number == 1 => allows = n != 0,
                (Item::Bytes(bytes), _) if number == schema_number => {
                    schema = Some(self.object(self.graph.get(schema_type), bytes, depth)?);
                }
                (Item::Bytes(bytes), OneOf::Array { schema, .. }) if number == 2 => {
                    list.push(self.object(self.graph.get(schema), bytes, depth)?);
                }
                (Item::Bytes(text), OneOf::Strings { .. }) if number == 2 => {
                    list.push(reader.text(text)?.into());
                }
                _ => {}
            }
        }
        Ok(match one {
            OneOf::Bool { .. } => Some(schema.unwrap_or(Value::Bool(allows))),
            _ if list.is_empty() => schema,
            _ => Some(list.into()),
        })
    }
}

fn wrong(ty: TypeRef<'_>, number: u32, item: Item<'_>) -> ProtoError {
    ProtoError::WireType { go: ty.node().go.to_string(), number, wire: item.wire() }
}

/// The scalars that are length-delimited: text, bytes and small messages.
fn scalar_of(scalar: &Scalar, bytes: &[u8], go: &str) -> Result<Option<Value>, ProtoError> {
    let mut reader = Reader { rest: bytes, go };
    let value = |problem: String| ProtoError::Value { go: go.to_owned(), problem };
    match scalar {
        Scalar::String(_) => return Ok(Some(reader.text(bytes)?.into())),
        Scalar::Bytes => return Ok(Some(gotext::encode_base64(bytes).into())),
        Scalar::Time | Scalar::MicroTime if bytes.is_empty() => return Ok(None),
        _ => {}
    }
    let (mut numbers, mut texts) = ([0u64; 4], [None; 4]);
    while let Some((number, item)) = reader.next()? {
        match item {
            Item::Varint(n) if number < 4 => numbers[number as usize] = n,
            Item::Bytes(bytes) if number < 4 => texts[number as usize] = Some(bytes),
            _ => {}
        }
    }
    match scalar {
        Scalar::Time | Scalar::MicroTime => {
            let micro = *scalar == Scalar::MicroTime;
            let micros = if micro { numbers[2] as u32 / 1000 } else { 0 };
            let time = Instant { seconds: numbers[1] as i64, micros: micros.min(999_999) };
            if !(gotext::ZERO_TIME..253_402_300_800).contains(&time.seconds) {
                return Err(value("year outside of range [0,9999]".to_owned()));
            }
            Ok(gotext::format_time(time, micro).map(Value::from))
        }
        Scalar::Duration => Ok(Some(gotext::format_duration(numbers[1] as i64).into())),
        Scalar::Quantity => {
            let text = reader.text(texts[1].unwrap_or_default())?;
            // Go reads an absent string as zero.
            let text = if text.is_empty() { "0" } else { &text };
            gotext::quantity(text).map(|text| Some(text.into())).map_err(value)
        }
        Scalar::IntOrString => Ok(Some(match numbers[1] {
            0 => (numbers[2] as i32).into(),
            1 => reader.text(texts[3].unwrap_or_default())?.into(),
            n => return Err(value(format!("impossible IntOrString.Type {n}"))),
        })),
        _ => match texts[1] {
            None | Some(b"") => Ok(None),
            Some(raw) => raw_value(raw).map_err(value),
        },
    }
}

/// The JSON that a raw field holds; none for null.
fn raw_value(raw: &[u8]) -> Result<Option<Value>, String> {
    match serde_json::from_slice(raw) {
        Ok(Value::Null) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(format!("raw value is not JSON: {error}")),
    }
}
