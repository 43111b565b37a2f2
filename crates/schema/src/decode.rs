//! JSON to a checked value: types, unknown and duplicate fields, Go's canonical form.
//!
//! Streams from the bytes, so that duplicates are seen and no second copy is made. Errors have the
//! wording of upstream's decoder, since `kubectl` shows them as they are.
mod syntax;

pub(crate) use syntax::syntax;

use crate::custom;
use crate::finish::{finish, zero};
use crate::gotext;
use crate::graph::{Extra, Object, OneOf, Scalar, Shape, TypeRef};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use value::{Map, Number, Value};

/// A decoded object. `strict` holds what strict decoding refuses, in upstream's wording
/// (`unknown field "spec.foo"`), and what lenient decoding can warn of.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    pub strict: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// JSON, but not of this type.
    #[error("{0}")]
    Type(String),
}

/// Upstream reports no more than this.
pub(crate) const MAX_STRICT: usize = 100;

/// Decodes an object of the type. Depth is bounded at 128 levels.
pub fn decode_json(bytes: &[u8], ty: TypeRef<'_>) -> Result<Decoded, DecodeError> {
    if ty.graph().is_custom() {
        return custom::decode(bytes, ty);
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut state = State::default();
    let value = Seed { ty, state: &mut state }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(value) => finish_decode(value, ty, state),
        Err(error) => Err(match state.error {
            Some(error) => DecodeError::Type(error),
            None => DecodeError::Syntax(syntax(bytes, &error)),
        }),
    }
}

/// The same for a value that has been parsed already; duplicates can no longer be seen.
pub fn decode_value(value: &Value, ty: TypeRef<'_>) -> Result<Decoded, DecodeError> {
    if ty.graph().is_custom() {
        return custom::decode_value(value, ty);
    }
    decode_at(value, ty, "")
}

/// A value that stands at a path of another.
pub(crate) fn decode_at(
    value: &Value,
    ty: TypeRef<'_>,
    path: &str,
) -> Result<Decoded, DecodeError> {
    let mut state = State { path: path.to_owned(), ..State::default() };
    let decoded = Seed { ty, state: &mut state }.deserialize(value);
    match decoded {
        Ok(value) => finish_decode(value, ty, state),
        Err(error) => {
            let text = state.error.unwrap_or_else(|| error.to_string());
            Err(DecodeError::Type(text))
        }
    }
}

fn finish_decode(
    value: Option<Value>,
    ty: TypeRef<'_>,
    state: State,
) -> Result<Decoded, DecodeError> {
    match state.error {
        Some(error) => Err(DecodeError::Type(error)),
        None => Ok(Decoded { value: value.unwrap_or_else(|| zero(ty)), strict: state.strict }),
    }
}

/// The one message for all that strict decoding refuses.
pub fn strict_error(strict: &[String]) -> String {
    format!("strict decoding error: {}", strict.join(", "))
}

#[derive(Default)]
pub(crate) struct State {
    /// The path as strict errors show it: `spec.containers[0].name`.
    path: String,
    /// The JSON names of the fields on the way, as type errors show them.
    fields: Vec<String>,
    /// The Go struct that the innermost field is in.
    structs: Vec<String>,
    pub(crate) strict: Vec<String>,
    seen: HashSet<String>,
    /// Inside a type that upstream decodes on its own, leniently.
    lenient: u32,
    /// The first type error; decoding goes on, as it does upstream.
    error: Option<String>,
}

impl State {
    pub(crate) fn report(&mut self, what: &str, name: &str) {
        if self.lenient > 0 || self.strict.len() >= MAX_STRICT {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        let message = format!("{what} field {:?}", format!("{}{dot}{name}", self.path));
        if self.seen.insert(message.clone()) {
            self.strict.push(message);
        }
    }
    pub(crate) fn push_key(&mut self, name: &str) -> usize {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        length
    }
    pub(crate) fn push_index(&mut self, index: usize) -> usize {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        length
    }
    pub(crate) fn pop(&mut self, length: usize) {
        self.path.truncate(length);
    }
    fn fail(&mut self, message: impl FnOnce(&Self) -> String) {
        if self.error.is_none() {
            self.error = Some(message(self));
        }
    }
    fn mismatch(&mut self, found: &str, ty: TypeRef<'_>) {
        let go = &ty.node().go;
        self.fail(|state| match state.structs.last() {
            Some(of) => format!(
                "json: cannot unmarshal {found} into Go struct field {of}.{} of type {go}",
                state.fields.join(".")
            ),
            None => format!("json: cannot unmarshal {found} into Go value of type {go}"),
        });
    }
}

/// Decodes one value of a type; none for null.
struct Seed<'s, 'g> {
    ty: TypeRef<'g>,
    state: &'s mut State,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        if matches!(self.ty.shape(), Shape::OneOf(OneOf::Bool { .. })) {
            return Ok(None);
        }
        Ok(if self.ty.node().nullable { Some(Value::Null) } else { None })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        match self.ty.shape() {
            Shape::Scalar(Scalar::Bool | Scalar::Raw | Scalar::Fields | Scalar::Json)
            | Shape::OneOf(OneOf::Bool { .. }) => Ok(Some(value.into())),
            Shape::OneOf(_) => Ok(None),
            Shape::Scalar(Scalar::Quantity) => self.quantity(if value { "true" } else { "false" }),
            _ => self.wrong("bool"),
        }
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        self.number(Number::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        self.number(Number::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => self.wrong("number"),
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let Shape::Scalar(scalar) = self.ty.shape() else {
            return match self.ty.shape() {
                Shape::OneOf(OneOf::Bool { .. }) => self.refuse(ONE_OF_BOOL.to_owned()),
                Shape::OneOf(_) => Ok(None),
                _ => self.wrong("string"),
            };
        };
        match scalar {
            Scalar::String(_)
            | Scalar::IntOrString
            | Scalar::Raw
            | Scalar::Fields
            | Scalar::Json => Ok(Some(text.into())),
            Scalar::Bytes => match gotext::decode_base64(text) {
                Ok(bytes) => Ok(Some(gotext::encode_base64(&bytes).into())),
                Err(error) => self.refuse(error),
            },
            Scalar::Time | Scalar::MicroTime => {
                let micro = *scalar == Scalar::MicroTime;
                match gotext::parse_time(text, micro) {
                    Ok(time) => Ok(gotext::format_time(time, micro).map(Value::from)),
                    Err(error) => self.refuse(error),
                }
            }
            Scalar::Duration => match gotext::parse_duration(text) {
                Ok(nanos) => Ok(Some(gotext::format_duration(nanos).into())),
                Err(error) => self.refuse(error),
            },
            Scalar::Quantity => self.quantity(text),
            Scalar::Bool | Scalar::Int32 | Scalar::Int64 | Scalar::Float => self.wrong("string"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        match self.ty.shape() {
            Shape::List(list) => {
                let elem = self.ty.graph().get(list.elem);
                self.list(elem, seq)
            }
            Shape::OneOf(OneOf::Array { array, .. } | OneOf::Strings { array, .. }) => {
                let ty = self.ty.graph().get(*array);
                let elem = ty.elem().unwrap_or(ty);
                self.state.lenient += 1;
                let state = self.state;
                let list = Seed { ty, state: &mut *state }.list(elem, seq);
                state.lenient -= 1;
                Ok(list?.filter(|list| list.as_array().is_some_and(|list| !list.is_empty())))
            }
            Shape::Scalar(Scalar::Raw | Scalar::Fields | Scalar::Json) => {
                let mut list = Vec::new();
                while let Some(value) = seq.next_element::<Value>()? {
                    list.push(value);
                }
                Ok(Some(list.into()))
            }
            shape => {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                match shape {
                    Shape::OneOf(_) => self.refuse(ONE_OF_BOOL.to_owned()),
                    Shape::Scalar(Scalar::Quantity) => self.quantity("["),
                    Shape::Scalar(Scalar::Time | Scalar::MicroTime | Scalar::Duration) => {
                        self.foreign("array", "string")
                    }
                    Shape::Scalar(Scalar::IntOrString) => self.foreign("array", "int32"),
                    _ => self.wrong("array"),
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        match self.ty.shape() {
            Shape::Object(object) => self.object(object, map),
            Shape::Map(of) => {
                let value = self.ty.graph().get(of.value);
                self.map(value, map)
            }
            Shape::OneOf(
                OneOf::Bool { schema }
                | OneOf::Array { schema, .. }
                | OneOf::Strings { schema, .. },
            ) => {
                let ty = self.ty.graph().get(*schema);
                self.state.lenient += 1;
                let state = self.state;
                let value = Seed { ty, state: &mut *state }.visit_map(map);
                state.lenient -= 1;
                value
            }
            Shape::Scalar(Scalar::Raw | Scalar::Fields | Scalar::Json) => {
                let mut out = Map::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    out.insert(key, value);
                }
                Ok(Some(out.into()))
            }
            shape => {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                match shape {
                    Shape::Scalar(Scalar::Quantity) => self.quantity("{"),
                    Shape::Scalar(Scalar::Time | Scalar::MicroTime | Scalar::Duration) => {
                        self.foreign("object", "string")
                    }
                    Shape::Scalar(Scalar::IntOrString) => self.foreign("object", "int32"),
                    _ => self.wrong("object"),
                }
            }
        }
    }
}

const ONE_OF_BOOL: &str = "boolean or JSON schema expected";

impl Seed<'_, '_> {
    fn wrong<E>(self, found: &str) -> Result<Option<Value>, E> {
        match self.ty.shape() {
            Shape::OneOf(OneOf::Bool { .. }) => self.refuse(ONE_OF_BOOL.to_owned()),
            Shape::OneOf(_) => Ok(None),
            Shape::Scalar(Scalar::Time | Scalar::MicroTime | Scalar::Duration) => {
                self.foreign(found, "string")
            }
            Shape::Scalar(Scalar::IntOrString) => self.foreign(found, "int32"),
            _ => {
                self.state.mismatch(found, self.ty);
                Ok(None)
            }
        }
    }

    fn refuse<E>(self, message: String) -> Result<Option<Value>, E> {
        self.state.fail(|_| message);
        Ok(None)
    }

    /// A type error inside a type that decodes itself upstream, where the field is not known.
    fn foreign<E>(self, found: &str, go: &str) -> Result<Option<Value>, E> {
        self.refuse(format!("json: cannot unmarshal {found} into Go value of type {go}"))
    }

    fn quantity<E>(self, text: &str) -> Result<Option<Value>, E> {
        match gotext::quantity(text.trim()) {
            Ok(text) => Ok(Some(text.into())),
            Err(error) => self.refuse(error),
        }
    }

    fn number<E>(self, number: Number) -> Result<Option<Value>, E> {
        let Shape::Scalar(scalar) = self.ty.shape() else { return self.wrong("number") };
        let fits = match scalar {
            Scalar::Int32 | Scalar::IntOrString => {
                number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
            }
            Scalar::Int64 => number.as_i64().is_some(),
            Scalar::Float | Scalar::Raw | Scalar::Fields | Scalar::Json => true,
            Scalar::Quantity => return self.quantity(&number.to_string()),
            _ => return self.wrong("number"),
        };
        match (fits, scalar) {
            (true, Scalar::Float) => Ok(number.as_f64().map(float)),
            (true, _) => Ok(Some(Value::Number(number))),
            (false, _) => self.wrong(&format!("number {number}")),
        }
    }

    fn list<'de, A: SeqAccess<'de>>(
        self,
        elem: TypeRef<'_>,
        mut seq: A,
    ) -> Result<Option<Value>, A::Error> {
        let mut list = Vec::new();
        let length = self.state.path.len();
        loop {
            self.state.push_index(list.len());
            let next = seq.next_element_seed(Seed { ty: elem, state: self.state });
            self.state.path.truncate(length);
            match next? {
                Some(value) => list.push(value.unwrap_or_else(|| zero(elem))),
                None => return Ok(Some(list.into())),
            }
        }
    }

    fn map<'de, A: MapAccess<'de>>(
        self,
        ty: TypeRef<'_>,
        mut map: A,
    ) -> Result<Option<Value>, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                self.state.report("duplicate", &key);
            }
            let length = self.state.push_key(&key);
            let value = map.next_value_seed(Seed { ty, state: self.state })?;
            self.state.path.truncate(length);
            out.insert(key, value.unwrap_or_else(|| zero(ty)));
        }
        Ok(Some(out.into()))
    }

    fn object<'de, A: MapAccess<'de>>(
        mut self,
        object: &Object,
        mut map: A,
    ) -> Result<Option<Value>, A::Error> {
        let graph = self.ty.graph();
        let mut out = Map::new();
        let mut seen = vec![false; object.fields.len()];
        self.state.structs.push(self.ty.go_struct().to_owned());
        while let Some(key) = map.next_key::<String>()? {
            let Some(index) = object.index_of(&key) else {
                self.unknown(object, key, &mut map, &mut out)?;
                continue;
            };
            if std::mem::replace(&mut seen[index], true) {
                self.state.report("duplicate", &key);
            }
            let length = self.state.push_key(&key);
            self.state.fields.push(key);
            let ty = graph.get(object.fields[index].ty);
            let value = map.next_value_seed(Seed { ty, state: self.state })?;
            self.state.path.truncate(length);
            let key = self.state.fields.pop().unwrap_or_default();
            match value {
                Some(value) => out.insert(key, value),
                None => out.remove(&key),
            };
        }
        self.state.structs.pop();
        finish(graph, object, &mut out);
        Ok(Some(out.into()))
    }

    fn unknown<'de, A: MapAccess<'de>>(
        &mut self,
        object: &Object,
        key: String,
        map: &mut A,
        out: &mut Map,
    ) -> Result<(), A::Error> {
        match object.extra {
            Extra::Prune => {
                self.state.report("unknown", &key);
                map.next_value::<serde::de::IgnoredAny>()?;
            }
            Extra::Preserve => {
                if out.contains_key(&key) {
                    self.state.report("duplicate", &key);
                }
                out.insert(key, map.next_value()?);
            }
        }
        Ok(())
    }
}

/// Go writes a float that is whole without a point.
pub(crate) fn float(value: f64) -> Value {
    let whole = value as i64;
    let is_whole = whole as f64 == value && value.abs() < 9e18;
    let is_negative_zero = value == 0.0 && value.is_sign_negative();
    if is_whole && !is_negative_zero { whole.into() } else { value.into() }
}

#[cfg(test)]
mod tests;
