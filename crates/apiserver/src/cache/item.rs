//! One object as the cache holds it: encoded bytes and what selectors look at.
//!
//! Stored bytes are canonical: `{"apiVersion":…,"kind":…,"metadata":{…},…`, so the resource version
//! can be put in by position, without decoding.
use crate::table::Row;
use api::{FieldSelector, LabelSelector, Value};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::{Arc, OnceLock};

const METADATA: &[u8] = b"\"metadata\":{";

#[derive(Debug)]
pub struct Item {
    /// `namespace/name`, or the name alone.
    pub key: Arc<str>,
    /// JSON, with the resource version.
    pub json: Bytes,
    pub revision: u64,
    /// What is stored is not quite this: it was written under an earlier definition.
    pub outdated: bool,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// In the order of the row's selectable fields.
    fields: Box<[Box<str>]>,
    /// The object in protobuf, as it is in a list; once someone has listed it so.
    part: OnceLock<Bytes>,
    /// The object, decoded; once someone has judged by it.
    decoded: OnceLock<Arc<Value>>,
}

/// Labels and fields that an object must have.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub labels: LabelSelector,
    /// `None` is the name, `Some` an index of the row's selectable fields.
    pub fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: Field,
    pub equal: bool,
    pub value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Name,
    Namespace,
    Row(usize),
}

impl Item {
    /// `stored` is without a resource version, as the store has it.
    pub fn new(key: Arc<str>, stored: &[u8], revision: u64, row: &Row, value: &Value) -> Self {
        let labels = value["metadata"]["labels"].as_object();
        let mut labels: Vec<(Box<str>, Box<str>)> = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())))
            .collect();
        labels.sort();
        let field = |path: &&str| row.field(value, path).unwrap_or_default().as_ref().into();
        Self {
            key,
            json: with_revision(stored, revision),
            revision,
            outdated: false,
            labels: labels.into(),
            fields: row.fields().iter().map(field).collect(),
            part: OnceLock::new(),
            decoded: OnceLock::new(),
        }
    }

    /// The object in protobuf; `encode` makes it the first time.
    pub fn part<E>(&self, encode: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        match self.part.get() {
            Some(part) => Ok(part.clone()),
            None => encode().map(|part| self.part.get_or_init(|| part).clone()),
        }
    }

    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }
    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }
    /// The object, decoded.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
    /// As [`Item::value`], and kept from then on.
    pub fn decoded(&self) -> Arc<Value> {
        self.decoded.get_or_init(|| Arc::new(self.value())).clone()
    }
    pub fn field(&self, field: Field) -> &str {
        match field {
            Field::Name => self.name(),
            Field::Namespace => self.namespace(),
            Field::Row(index) => self.fields.get(index).map_or("", AsRef::as_ref),
        }
    }
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(have, _)| have.as_ref().cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }
}

impl Filter {
    /// The second is the first field that the row does not let select by.
    pub fn new(row: &Row, labels: LabelSelector, fields: &FieldSelector) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in &fields.terms {
            let field = match term.path.as_str() {
                "metadata.name" => Field::Name,
                "metadata.namespace" if row.info().namespaced() => Field::Namespace,
                path => match row.fields().iter().position(|have| *have == path) {
                    Some(index) => Field::Row(index),
                    None => return Err(path.to_owned()),
                },
            };
            terms.push(FieldTerm { field, equal: term.equal, value: term.value.clone() });
        }
        Ok(Self { labels, fields: terms })
    }
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }
    pub fn matches(&self, item: &Item) -> bool {
        self.fields.iter().all(|term| (item.field(term.field) == term.value) == term.equal)
            && (self.labels.is_everything() || self.labels.matches_with(|key| item.label(key)))
    }
    /// The one name that can match, if there is only one.
    pub fn name(&self) -> Option<&str> {
        let named = |term: &&FieldTerm| term.equal && term.field == Field::Name;
        self.fields.iter().find(named).map(|term| term.value.as_str())
    }
}

/// Puts the resource version into canonical bytes, replacing one that is there.
pub fn with_revision(stored: &[u8], revision: u64) -> Bytes {
    let Some(at) = stored.windows(METADATA.len()).position(|part| part == METADATA) else {
        return Bytes::copy_from_slice(stored);
    };
    let (head, mut tail) = stored.split_at(at + METADATA.len());
    const VERSION: &[u8] = b"\"resourceVersion\":\"";
    if let Some(rest) = tail.strip_prefix(VERSION) {
        let end = rest.iter().position(|b| *b == b'"').map_or(rest.len(), |end| end + 1);
        tail = rest.get(end..).unwrap_or_default();
        tail = tail.strip_prefix(b",").unwrap_or(tail);
    }
    let mut out = BytesMut::with_capacity(stored.len() + 40);
    out.put_slice(head);
    out.put_slice(VERSION);
    out.put_slice(revision.to_string().as_bytes());
    out.put_slice(if tail.first() == Some(&b'}') { b"\"" } else { b"\"," });
    out.put_slice(tail);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_goes_in_by_position() {
        let stored = br#"{"apiVersion":"v1","kind":"X","metadata":{"name":"a"},"data":1}"#;
        let want = r#"{"apiVersion":"v1","kind":"X","metadata":{"resourceVersion":"7","name":"a"},"data":1}"#;
        let once = with_revision(stored, 7);
        assert_eq!(once, want);
        assert_eq!(with_revision(&once, 123), want.replace('7', "123"));
    }
}
