//! A custom resource as it comes: read as it is, then what its schema does not know is dropped.
//!
//! That a value has the wrong type is no error here, but for metadata: validation says so.
use super::Accepts;
use crate::decode::{self, DecodeError, Decoded, State, float};
use crate::finish::zero;
use crate::graph::{Extra, TypeRef};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use value::{Map, Number, Value};

/// Decodes JSON. Depth is bounded at 128 levels.
pub fn decode(bytes: &[u8], ty: TypeRef<'_>) -> Result<Decoded, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut state = State::default();
    let value = Tree { state: &mut state }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    let value = value.map_err(|error| DecodeError::Syntax(decode::syntax(bytes, &error)))?;
    finished(value, ty, state.strict)
}

/// The same for a value that has been parsed already.
pub fn decode_value(value: &Value, ty: TypeRef<'_>) -> Result<Decoded, DecodeError> {
    finished(value.clone(), ty, Vec::new())
}

fn finished(
    mut value: Value,
    ty: TypeRef<'_>,
    mut strict: Vec<String>,
) -> Result<Decoded, DecodeError> {
    if !value.is_object() {
        let found = crate::custom::validate::type_name(&value);
        return Err(DecodeError::Type(format!(
            "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    let mut unknown = prune(&mut value, ty)?;
    unknown.sort();
    strict.extend(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
    strict.truncate(decode::MAX_STRICT);
    Ok(Decoded { value, strict })
}

/// Drops what the type does not know, and yields the paths of it. Nulls that are no value of their
/// type, and have no default to take their place, go too.
pub fn prune(value: &mut Value, ty: TypeRef<'_>) -> Result<Vec<String>, DecodeError> {
    let mut pruner = Pruner { path: String::new(), unknown: Vec::new() };
    pruner.value(value, Some(ty))?;
    Ok(pruner.unknown)
}

struct Pruner {
    path: String,
    unknown: Vec<String>,
}

impl Pruner {
    fn value(&mut self, value: &mut Value, ty: Option<TypeRef<'_>>) -> Result<(), DecodeError> {
        match value {
            Value::Object(map) => self.object(map, ty),
            Value::Array(list) => {
                let free = ty.and_then(TypeRef::object).is_some_and(|o| o.extra == Extra::Preserve);
                if free {
                    return Ok(());
                }
                let elem = ty.and_then(TypeRef::elem);
                for (index, item) in list.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.value(item, elem)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn object(&mut self, map: &mut Map, ty: Option<TypeRef<'_>>) -> Result<(), DecodeError> {
        let mut dropped: Vec<String> = Vec::new();
        for (key, value) in map.iter_mut() {
            let length = self.push(key);
            match ty.and_then(|ty| Some((ty.child(key)?, ty))) {
                Some((child, of)) if !std::ptr::eq(child.graph(), of.graph()) => {
                    if !self.metadata(value, child)? {
                        dropped.push(key.to_string());
                    }
                }
                Some((child, of)) => {
                    let default = of.field(key).is_some_and(|(field, _)| field.default.is_some());
                    if value.is_null() && !child.node().nullable && !default && !is_any(child) {
                        dropped.push(key.to_string());
                    } else {
                        self.value(value, Some(child))?;
                    }
                }
                None if keeps(ty) => {}
                None => {
                    self.unknown.push(self.path.clone());
                    dropped.push(key.to_string());
                }
            }
            self.path.truncate(length);
        }
        for key in dropped {
            map.remove(&key);
        }
        Ok(())
    }

    /// Metadata is of a built-in type; false if there is none.
    fn metadata(&mut self, value: &mut Value, ty: TypeRef<'_>) -> Result<bool, DecodeError> {
        if value.is_null() {
            return Ok(false);
        }
        let decoded = decode::decode_at(value, ty, &self.path)?;
        *value = if decoded.value.is_null() { zero(ty) } else { decoded.value };
        for text in decoded.strict {
            let path = text.strip_prefix("unknown field ");
            self.unknown.extend(path.map(|path| path.trim_matches('"').to_owned()));
        }
        Ok(true)
    }

    fn push(&mut self, key: &str) -> usize {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        length
    }
}

fn keeps(ty: Option<TypeRef<'_>>) -> bool {
    ty.and_then(TypeRef::object).is_some_and(|object| object.extra == Extra::Preserve)
}

/// Of no type at all: null is as good as anything.
fn is_any(ty: TypeRef<'_>) -> bool {
    ty.node().rules.as_deref().is_some_and(|rules| rules.accepts == Accepts::Any)
}

/// Reads any value, and reports keys that come twice.
struct Tree<'s> {
    state: &'s mut State,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).and_then(|number| number.as_f64()).map_or(Value::Null, float))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }
    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let length = self.state.push_index(list.len());
            let next = seq.next_element_seed(Tree { state: &mut *self.state });
            self.state.pop(length);
            match next? {
                Some(value) => list.push(value),
                None => return Ok(list.into()),
            }
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                self.state.report("duplicate", &key);
            }
            let length = self.state.push_key(&key);
            let value = map.next_value_seed(Tree { state: &mut *self.state })?;
            self.state.pop(length);
            out.insert(key, value);
        }
        Ok(out.into())
    }
}
