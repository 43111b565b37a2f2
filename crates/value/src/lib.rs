//! Objects as data: what JSON can say, made for the small maps and short texts that objects of the
//! API consist of.
//!
//! The same calls as `serde_json::Value`, which this stands for wherever objects are held, checked
//! and changed. A map is one sorted array (see [`Map`]), and short texts (23 bytes) lie in place,
//! longer ones are shared by all copies: an object takes a fraction of the memory and of the
//! allocations, and copying one is cheap.
mod index;
mod map;
mod serde;

use std::borrow::Cow;

pub use index::Index;
pub use map::{Entry, Map};
pub use serde_json::Number;
pub use smol_str::{SmolStr as Text, format_smolstr as format_text};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(Text),
    Array(Vec<Value>),
    Object(Map),
}

/// As `serde_json::json!`: JSON with expressions in it.
///
/// # Panics
/// For what cannot be said in JSON: maps with keys that are no texts.
#[macro_export]
macro_rules! json {
    (null) => { $crate::Value::Null };
    ([]) => { $crate::Value::Array(::std::vec::Vec::new()) };
    ([ $($list:tt)+ ]) => {{
        let mut list = ::std::vec::Vec::new();
        $crate::json_list!(list $($list)+);
        $crate::Value::Array(list)
    }};
    ({}) => { $crate::Value::Object($crate::Map::new()) };
    ({ $($map:tt)+ }) => {{
        let mut map = $crate::Map::new();
        $crate::json_map!(map $($map)+);
        $crate::Value::Object(map)
    }};
    ($value:expr) => { $crate::to_value(&$value).expect("it can be said in JSON") };
}

#[doc(hidden)]
#[macro_export]
macro_rules! json_list {
    ($list:ident) => {};
    ($list:ident null $(, $($rest:tt)*)?) => {
        $list.push($crate::Value::Null);
        $($crate::json_list!($list $($rest)*);)?
    };
    ($list:ident [ $($value:tt)* ] $(, $($rest:tt)*)?) => {
        $list.push($crate::json!([ $($value)* ]));
        $($crate::json_list!($list $($rest)*);)?
    };
    ($list:ident { $($value:tt)* } $(, $($rest:tt)*)?) => {
        $list.push($crate::json!({ $($value)* }));
        $($crate::json_list!($list $($rest)*);)?
    };
    ($list:ident $value:expr $(, $($rest:tt)*)?) => {
        $list.push($crate::json!($value));
        $($crate::json_list!($list $($rest)*);)?
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! json_map {
    ($map:ident) => {};
    ($map:ident $key:tt : null $(, $($rest:tt)*)?) => {
        $map.insert($key, $crate::Value::Null);
        $($crate::json_map!($map $($rest)*);)?
    };
    ($map:ident $key:tt : [ $($value:tt)* ] $(, $($rest:tt)*)?) => {
        $map.insert($key, $crate::json!([ $($value)* ]));
        $($crate::json_map!($map $($rest)*);)?
    };
    ($map:ident $key:tt : { $($value:tt)* } $(, $($rest:tt)*)?) => {
        $map.insert($key, $crate::json!({ $($value)* }));
        $($crate::json_map!($map $($rest)*);)?
    };
    ($map:ident $key:tt : $value:expr $(, $($rest:tt)*)?) => {
        $map.insert($key, $crate::json!($value));
        $($crate::json_map!($map $($rest)*);)?
    };
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
    pub fn is_boolean(&self) -> bool {
        matches!(self, Self::Bool(_))
    }
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Number(_))
    }
    pub fn is_string(&self) -> bool {
        matches!(self, Self::String(_))
    }
    pub fn is_array(&self) -> bool {
        matches!(self, Self::Array(_))
    }
    pub fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }
    pub fn is_i64(&self) -> bool {
        matches!(self, Self::Number(number) if number.is_i64())
    }
    pub fn is_u64(&self) -> bool {
        matches!(self, Self::Number(number) if number.is_u64())
    }
    pub fn is_f64(&self) -> bool {
        matches!(self, Self::Number(number) if number.is_f64())
    }
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(on) => Some(*on),
            _ => None,
        }
    }
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number()?.as_f64()
    }
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
    pub fn as_array(&self) -> Option<&Vec<Value>> {
        match self {
            Self::Array(list) => Some(list),
            _ => None,
        }
    }
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::Array(list) => Some(list),
            _ => None,
        }
    }
    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(map) => Some(map),
            _ => None,
        }
    }
    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Object(map) => Some(map),
            _ => None,
        }
    }
    /// Leaves null in its place.
    #[must_use]
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }
    /// What a JSON pointer (RFC 6901) leads to.
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        let mut value = self;
        for token in tokens(pointer)? {
            value = match value {
                Self::Object(map) => map.get(&token)?,
                Self::Array(list) => list.get(position(&token)?)?,
                _ => return None,
            };
        }
        Some(value)
    }
    pub fn pointer_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        let mut value = self;
        for token in tokens(pointer)? {
            value = match value {
                Self::Object(map) => map.get_mut(&token)?,
                Self::Array(list) => list.get_mut(position(&token)?)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

fn tokens(pointer: &str) -> Option<impl Iterator<Item = Cow<'_, str>>> {
    let mut parts = pointer.split('/');
    // What stands before the first slash: nothing, also in the pointer to all.
    parts.next().filter(|first| first.is_empty())?;
    Some(parts.map(|token| match token.contains('~') {
        true => token.replace("~1", "/").replace("~0", "~").into(),
        false => token.into(),
    }))
}

fn position(token: &str) -> Option<usize> {
    if token.starts_with('+') || (token.starts_with('0') && token.len() != 1) {
        return None;
    }
    token.parse().ok()
}

/// Compact JSON.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| std::fmt::Error)?;
        f.write_str(&text)
    }
}

impl From<bool> for Value {
    fn from(on: bool) -> Self {
        Self::Bool(on)
    }
}
impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}
/// Null for what is no number in JSON.
impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Number::from_f64(number).map_or(Self::Null, Self::Number)
    }
}
macro_rules! integers {
    ($($integer:ty)*) => { $(
        impl From<$integer> for Value {
            fn from(number: $integer) -> Self {
                Self::Number(number.into())
            }
        }
        impl PartialEq<$integer> for Value {
            fn eq(&self, other: &$integer) -> bool {
                self.as_number().is_some_and(|number| *number == Number::from(*other))
            }
        }
    )* };
}
integers!(i8 i16 i32 i64 u8 u16 u32 u64 usize);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}
impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::String(text.into())
    }
}
impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self::String(text)
    }
}
impl From<Cow<'_, str>> for Value {
    fn from(text: Cow<'_, str>) -> Self {
        Self::String(text.into())
    }
}
impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Object(map)
    }
}
impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        list.into_iter().collect()
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(list: I) -> Self {
        Self::Array(list.into_iter().map(Into::into).collect())
    }
}
impl<K: Into<Text>, V: Into<Value>> FromIterator<(K, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self::Object(entries.into_iter().map(|(key, value)| (key, value.into())).collect())
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value as From;
        match value {
            From::Null => Self::Null,
            From::Bool(on) => Self::Bool(on),
            From::Number(number) => Self::Number(number),
            From::String(text) => Self::String(text.into()),
            From::Array(list) => Self::Array(list.into_iter().map(Self::from).collect()),
            From::Object(map) => {
                Self::Object(map.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(on) => Self::Bool(on),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::String(text.into()),
            Value::Array(list) => Self::Array(list.into_iter().map(Self::from).collect()),
            Value::Object(map) => Self::Object(
                map.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            ),
        }
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}
impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == Some(other)
    }
}
impl PartialEq<String> for Value {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == Some(other)
    }
}
impl PartialEq<Value> for &str {
    fn eq(&self, other: &Value) -> bool {
        other.as_str() == Some(self)
    }
}
impl PartialEq<bool> for Value {
    fn eq(&self, other: &bool) -> bool {
        self.as_bool() == Some(*other)
    }
}
/// As `serde_json::to_value`.
///
/// # Errors
/// What cannot be said in JSON: maps with keys that are no texts.
pub fn to_value<T: ::serde::Serialize>(data: T) -> Result<Value, serde_json::Error> {
    serde_json::to_value(data).map(Value::from)
}

/// As `serde_json::from_value`.
///
/// # Errors
/// A value that is no `T`.
pub fn from_value<T: ::serde::de::DeserializeOwned>(value: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(value)
}

#[cfg(test)]
mod tests;
