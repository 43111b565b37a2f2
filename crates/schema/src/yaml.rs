//! YAML as Kubernetes' tools read it: YAML 1.1 scalars, the first document only.
//!
//! `yes` and `on` are booleans, `017` is 15, `1_000` is 1000, the key `y:` is `"true"`, the last of
//! duplicate keys wins and all are reported. Composed from a parser's events with a bound on depth
//! and on what aliases may expand to.
pub(crate) mod write;

use crate::decode::{DecodeError, Decoded, decode_value, float};
use crate::graph::TypeRef;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use value::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    #[error("yaml: line {line}: {problem}")]
    Syntax { line: usize, problem: String },
    #[error("yaml: {0}")]
    Value(String),
}

const MAX_DEPTH: usize = 128;
/// Values and bytes that all aliases of a document may expand to.
const MAX_ALIASED: usize = 4 << 20;

/// Decodes an object of the type from YAML (or JSON, which is YAML).
pub fn decode_yaml(bytes: &[u8], ty: TypeRef<'_>) -> Result<Decoded, DecodeError> {
    let (value, duplicates) = yaml_to_json(bytes)
        .map_err(|error| DecodeError::Syntax(format!("error converting YAML to JSON: {error}")))?;
    let mut decoded = decode_value(&value, ty)?;
    if let Some(duplicates) = duplicates {
        decoded.strict.insert(0, duplicates);
    }
    Ok(decoded)
}

/// The JSON value of the first document, and what strict reading says of its duplicate keys.
pub fn yaml_to_json(bytes: &[u8]) -> Result<(Value, Option<String>), YamlError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| YamlError::Value("invalid leading UTF-8 octet".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut composer = Composer::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| YamlError::Syntax {
            line: error.marker().line(),
            problem: error.info().to_owned(),
        })?;
        if composer.event(event, span.start.line())? {
            break;
        }
    }
    let duplicates = (!composer.duplicates.is_empty())
        .then(|| format!("yaml: unmarshal errors:\n  {}", composer.duplicates.join("\n  ")));
    Ok((composer.root.unwrap_or_default(), duplicates))
}

#[derive(Default)]
struct Composer {
    open: Vec<Frame>,
    root: Option<Value>,
    anchors: HashMap<usize, Anchored>,
    aliased: usize,
    duplicates: Vec<String>,
}

struct Anchored {
    value: Value,
    size: usize,
}

/// A collection that is being read.
struct Frame {
    anchor: usize,
    line: usize,
    size: usize,
    items: Items,
}

enum Items {
    List(Vec<Value>),
    Map { map: Map, key: Option<Key> },
}

/// The key whose value comes next.
enum Key {
    Merge,
    Plain { text: String, shown: String },
}

/// A resolved scalar.
#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Null,
    Merge,
    Bool(bool),
    Int(i64),
    Large(u64),
    Float(f64),
    Text(String),
}

impl Composer {
    /// Takes one event; true at the end of the document.
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<bool, YamlError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            Event::DocumentEnd | Event::StreamEnd => return Ok(true),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = matches!(style, ScalarStyle::Plain);
                let scalar = resolve(text, plain, tag.as_deref())?;
                if self.wants_key() && anchor == 0 {
                    return self.key(scalar).map(|()| false);
                }
                let size = 1 + scalar.size();
                let value = match self.wants_key() {
                    true => Value::String(scalar.key()?.0.into()),
                    false => scalar.value()?,
                };
                self.anchor(anchor, &value, size);
                self.add(value, size, line)?;
            }
            Event::SequenceStart(anchor, _) => {
                self.start(anchor, line, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, _) => {
                self.start(anchor, line, Items::Map { map: Map::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.open.pop() else { return Ok(false) };
                let value = match frame.items {
                    Items::List(list) => Value::Array(list),
                    Items::Map { map, .. } => Value::Object(map),
                };
                self.anchor(frame.anchor, &value, frame.size);
                self.add(value, frame.size, frame.line)?;
            }
            Event::Alias(anchor) => {
                let Some(anchored) = self.anchors.get(&anchor) else {
                    return Err(error("an anchor's value contains itself"));
                };
                self.aliased += anchored.size;
                if self.aliased > MAX_ALIASED {
                    return Err(error("document contains excessive aliasing"));
                }
                let (value, size) = (anchored.value.clone(), anchored.size);
                self.add(value, size, line)?;
            }
        }
        Ok(false)
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Frame { items: Items::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, scalar: Scalar) -> Result<(), YamlError> {
        let found = match scalar {
            Scalar::Merge => Key::Merge,
            scalar => {
                let (text, shown) = scalar.key()?;
                Key::Plain { text, shown }
            }
        };
        if let Some(Frame { items: Items::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(found);
        }
        Ok(())
    }

    fn start(&mut self, anchor: usize, line: usize, items: Items) -> Result<(), YamlError> {
        if self.wants_key() {
            return Err(error("invalid map key: keys must be scalars"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(error("exceeded max depth"));
        }
        self.open.push(Frame { anchor, line, size: 1, items });
        Ok(())
    }

    fn anchor(&mut self, anchor: usize, value: &Value, size: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, Anchored { value: value.clone(), size });
        }
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, value: Value, size: usize, line: usize) -> Result<(), YamlError> {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        frame.size += size;
        match &mut frame.items {
            Items::List(list) => list.push(value),
            Items::Map { map, key } => match (key.take(), value) {
                (Some(Key::Plain { text, shown }), value) => {
                    frame.size += text.len();
                    if map.insert(text, value).is_some() {
                        self.duplicates
                            .push(format!("line {line}: key {shown} already set in map"));
                    }
                }
                (Some(Key::Merge), value) => {
                    for name in merge(map, value)? {
                        self.duplicates
                            .push(format!("line {line}: key {name:?} already set in map"));
                    }
                }
                // An alias, or an anchored scalar, as a key.
                (None, Value::String(text)) => {
                    *key = Some(Key::Plain { shown: format!("{text:?}"), text: text.to_string() });
                }
                (None, Value::Bool(_) | Value::Number(_)) => {
                    return Err(error("a key that is no text cannot be an alias"));
                }
                (None, _) => return Err(error("invalid map key: keys must be scalars")),
            },
        }
        Ok(())
    }
}

/// `<<`: takes in the entries of a map, or of several of which the first wins; says what was there.
fn merge(map: &mut Map, value: Value) -> Result<Vec<String>, YamlError> {
    let sources = match value {
        Value::Array(list) => list,
        value => vec![value],
    };
    let mut there = Vec::new();
    for source in sources.into_iter().rev() {
        let Value::Object(entries) = source else {
            return Err(error("map merge requires map or sequence of maps as the value"));
        };
        for (name, value) in entries {
            if map.insert(name.clone(), value).is_some() {
                there.push(name.to_string());
            }
        }
    }
    Ok(there)
}

fn error(text: &str) -> YamlError {
    YamlError::Value(text.to_owned())
}

impl Scalar {
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 0,
        }
    }

    fn value(self) -> Result<Value, YamlError> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Merge => "<<".into(),
            Self::Bool(value) => value.into(),
            Self::Int(n) => n.into(),
            Self::Large(n) => n.into(),
            Self::Float(n) if n.is_finite() => float(n),
            Self::Float(n) => {
                let shown = if n.is_nan() { "NaN" } else { ["-Inf", "+Inf"][usize::from(n > 0.0)] };
                return Err(YamlError::Value(format!("json: unsupported value: {shown}")));
            }
            Self::Text(text) => text.into(),
        })
    }

    /// As a key of a JSON object, and as messages show it.
    fn key(self) -> Result<(String, String), YamlError> {
        let text = match self {
            Self::Null => return Err(error("unsupported map key of type null")),
            Self::Text(text) => {
                let shown = format!("{text:?}");
                return Ok((text, shown));
            }
            Self::Merge => "<<".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Large(_) => return Err(error("unsupported map key of type uint64")),
            Self::Float(n) if n.is_nan() => ".nan".to_owned(),
            Self::Float(n) if n.is_infinite() => [".inf", "-.inf"][usize::from(n < 0.0)].to_owned(),
            Self::Float(n) => (n as f32).to_string(),
        };
        Ok((text.clone(), text))
    }
}

/// The value of a scalar by YAML 1.1, as far as Kubernetes' reader goes.
fn resolve(text: Cow<'_, str>, plain: bool, tag: Option<&Tag>) -> Result<Scalar, YamlError> {
    let tag = match tag {
        Some(tag) if tag.handle == "tag:yaml.org,2002:" || tag.handle == "!!" => &*tag.suffix,
        // A tag of one's own says nothing.
        Some(_) => "str",
        None if plain => "",
        None => "str",
    };
    let found = match tag {
        "str" => return Ok(Scalar::Text(text.into_owned())),
        "binary" => return binary(&text),
        _ => implicit(&text),
    };
    let fits = match (tag, &found) {
        ("" | "timestamp", _) => true,
        ("bool", Scalar::Bool(_))
        | ("int", Scalar::Int(_) | Scalar::Large(_))
        | ("float", Scalar::Float(_))
        | ("null", Scalar::Null) => true,
        ("float", Scalar::Int(n)) => return Ok(Scalar::Float(*n as f64)),
        ("bool" | "int" | "float" | "null", _) => false,
        _ => return Ok(Scalar::Text(text.into_owned())),
    };
    if !fits {
        let kind = found.tag();
        return Err(YamlError::Value(format!("cannot decode {kind} `{text}` as a !!{tag}")));
    }
    Ok(found)
}

impl Scalar {
    fn tag(&self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Merge => "!!merge",
            Self::Bool(_) => "!!bool",
            Self::Int(_) | Self::Large(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Text(_) => "!!str",
        }
    }
}

fn binary(text: &str) -> Result<Scalar, YamlError> {
    let bytes = crate::gotext::decode_base64(text.trim())
        .map_err(|_| error("!!binary value contains invalid base64 data"))?;
    let text = String::from_utf8(bytes).map_err(|_| error("!!binary value is not UTF-8"))?;
    Ok(Scalar::Text(text))
}

fn implicit(text: &str) -> Scalar {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        "<<" => return Scalar::Merge,
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'.') => decimal(text),
        Some(b'0'..=b'9' | b'+' | b'-') if !timestamp(text) => {
            let text = text.replace('_', "");
            integer(&text).or_else(|| decimal(&text))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

/// Four digits and a dash: a date, which stays text.
fn timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 4 && bytes[4] == b'-' && bytes[..4].iter().all(u8::is_ascii_digit)
}

fn integer(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    match i64::try_from(size) {
        Ok(n) => Some(Scalar::Int(if negative { -n } else { n })),
        Err(_) if negative => (size == 1 << 63).then_some(Scalar::Int(i64::MIN)),
        Err(_) if text.starts_with('+') => None,
        Err(_) => Some(Scalar::Large(size)),
    }
}

/// A decimal fraction, with an exponent or without.
fn decimal(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    if let Some(exponent) = exponent {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if exponent.is_empty() || !digits(exponent) {
            return None;
        }
    }
    let value: f64 = text.parse().ok()?;
    // Go refuses what is out of range; the text stays.
    value.is_finite().then_some(Scalar::Float(value))
}

#[cfg(test)]
mod tests;
