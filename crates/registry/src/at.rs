//! A place in an object: the value and its field path, from which errors are made.
//!
//! Every reader is total: what is not there reads as empty, zero or false, as in upstream's types.
use api::{FieldError, FieldErrors, Value};
use std::fmt;
use std::rc::Rc;
use value::{Map, Text};

static NULL: Value = Value::Null;

/// A value and where it is.
#[derive(Debug, Clone)]
pub struct At<'a> {
    pub value: &'a Value,
    pub path: Path,
}

/// A field path, whose text is made when there is something to say of it.
#[derive(Debug, Clone)]
pub enum Path {
    From(Text),
    Below(Rc<(Path, Step)>),
}

#[derive(Debug)]
pub enum Step {
    /// Or a dotted way down.
    Field(Text),
    Index(usize),
    Key(Text),
}

impl Path {
    fn below(&self, step: Step) -> Self {
        Self::Below(Rc::new((self.clone(), step)))
    }
    /// The object itself.
    fn is_root(&self) -> bool {
        matches!(self, Self::From(text) if text.is_empty())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, step) = match self {
            Self::From(text) => return f.write_str(text),
            Self::Below(step) => &**step,
        };
        match step {
            Step::Field(field) if before.is_root() => f.write_str(field),
            Step::Field(field) => write!(f, "{before}.{field}"),
            Step::Index(index) => write!(f, "{before}[{index}]"),
            Step::Key(key) => write!(f, "{before}[{key}]"),
        }
    }
}

impl From<&Path> for String {
    fn from(path: &Path) -> Self {
        path.to_string()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.to_string()
    }
}

impl<'a> At<'a> {
    pub fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self { value, path: Path::From(path.into().into()) }
    }
    /// The object itself: the paths of its fields have no prefix.
    pub fn root(value: &'a Value) -> Self {
        Self::new(value, "")
    }
    /// The path of a field.
    pub fn child(&self, field: &str) -> String {
        self.path.below(Step::Field(field.into())).to_string()
    }
    /// A field, or a dotted way down.
    pub fn get(&self, fields: &str) -> At<'a> {
        let mut value = self.value;
        for field in fields.split('.') {
            value = value.get(field).unwrap_or(&NULL);
        }
        At { value, path: self.path.below(Step::Field(fields.into())) }
    }
    /// The value under a map's key, with the path `at[key]`.
    pub fn key(&self, key: &str) -> At<'a> {
        let value = self.value.get(key).unwrap_or(&NULL);
        At { value, path: self.path.below(Step::Key(key.into())) }
    }
    pub fn items(&self) -> impl Iterator<Item = At<'a>> + use<'a> {
        let path = self.path.clone();
        let items = self.value.as_array().map_or(&[][..], Vec::as_slice);
        let items = items.iter().enumerate();
        items.map(move |(index, value)| At { value, path: path.below(Step::Index(index)) })
    }
    /// Keys and values of a map, each at `at[key]`.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let path = self.path.clone();
        let entries = self.value.as_object().into_iter().flatten();
        entries.map(move |(key, value)| {
            (key.as_str(), At { value, path: path.below(Step::Key(key.clone())) })
        })
    }
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }
    /// The field is there.
    pub fn has(&self, field: &str) -> bool {
        self.value.get(field).is_some_and(|value| !value.is_null())
    }
    /// Missing, or an empty text, list or map.
    pub fn is_empty(&self) -> bool {
        is_empty(self.value)
    }
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }
    pub fn number(&self) -> i64 {
        self.int().unwrap_or_default()
    }
    pub fn bool(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            Value::String(text) => text.len(),
            _ => 0,
        }
    }
    pub fn texts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.value.as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    pub fn required(&self, detail: &str) -> FieldError {
        FieldError::required(self.path.clone(), detail)
    }
    pub fn invalid(&self, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(self.path.clone(), self.shown(), detail)
    }
    pub fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        FieldError::forbidden(self.path.clone(), detail)
    }
    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(self.path.clone(), self.shown())
    }
    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(self.path.clone(), self.shown(), supported)
    }
    pub fn not_found(&self) -> FieldError {
        FieldError::not_found(self.path.clone(), self.shown())
    }
    pub fn too_long(&self, max: usize) -> FieldError {
        FieldError::too_long(self.path.clone(), max)
    }
    fn shown(&self) -> Value {
        self.value.clone()
    }
    /// One error for each text of a rule.
    pub fn each(&self, texts: Vec<String>, errors: &mut FieldErrors) {
        errors.extend(texts.into_iter().map(|text| self.invalid(text)));
    }
    /// Must be there, and hold to the rule.
    pub fn named(&self, rule: impl Fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
        if self.text().is_empty() {
            errors.push(self.required(""));
        } else {
            self.each(rule(self.text()), errors);
        }
    }
    /// Must be there and not empty.
    pub fn must(&self, detail: &str, errors: &mut FieldErrors) -> bool {
        if self.is_empty() {
            errors.push(self.required(detail));
        }
        !self.is_empty()
    }
    /// If there, one of these; if not there, an error when `required`.
    pub fn one_of(&self, values: &[&str], required: bool, errors: &mut FieldErrors) {
        match self.text() {
            "" if required => errors.push(self.required("")),
            "" => {}
            text if !values.contains(&text) => errors.push(self.not_supported(values)),
            _ => {}
        }
    }
    /// If there, not negative.
    pub fn non_negative(&self, errors: &mut FieldErrors) {
        if self.int().is_some_and(|value| value < 0) {
            errors.push(self.invalid("must be greater than or equal to 0"));
        }
    }
    /// Holds to the old value, or `field is immutable`.
    pub fn immutable(&self, old: &Value, errors: &mut FieldErrors) {
        if !same(self.value, old) {
            errors.push(self.invalid("field is immutable"));
        }
    }
}

/// Missing, or an empty text, list or map.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Equal, where missing and empty are the same.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let covers = |a: &Map, b: &Map| {
                a.iter().all(|(key, value)| same(value, b.get(key).unwrap_or(&NULL)))
            };
            covers(a, b) && b.iter().all(|(key, value)| a.contains_key(key) || is_nil(value))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b || is_nil(a) && is_nil(b),
    }
}

fn is_nil(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(is_nil),
        value => is_empty(value),
    }
}

/// The map under `field`, made if it is not there.
pub fn map_mut<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Map> {
    let slot = object.as_object_mut()?.entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

/// The object under `field`, if it is there.
pub fn sub<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    object.get_mut(field).filter(|value| value.is_object())
}

/// The items of the list under `field`.
pub fn items_mut<'a>(object: &'a mut Value, field: &str) -> std::slice::IterMut<'a, Value> {
    let items = object.get_mut(field).and_then(Value::as_array_mut);
    items.map_or(&mut [][..], Vec::as_mut_slice).iter_mut()
}

/// Sets the field if it is missing, or an empty text.
pub fn set_default(object: &mut Value, field: &str, value: impl Into<Value>) {
    if object.get(field).is_none_or(|v| v.is_null() || v.as_str() == Some("")) {
        set(object, field, value);
    }
}

/// Sets the field of an object (of nothing else).
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(field.to_owned(), value.into());
    }
}

pub fn remove(object: &mut Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(field);
    }
}

/// Puts the old value of the field back, or removes it if there was none.
pub fn restore(new: &mut Value, old: &Value, field: &str) {
    match old.get(field).filter(|value| !value.is_null()) {
        Some(value) => set(new, field, value.clone()),
        None => remove(new, field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn missing_and_empty_are_the_same() {
        assert!(same(&json!({ "a": [], "b": { "c": "" } }), &json!({})));
        assert!(same(&json!({ "a": { "x": null }, "b": 1 }), &json!({ "b": 1 })));
        assert!(!same(&json!({ "a": 0 }), &json!({})));
        assert!(!same(&json!([1]), &json!([1, 2])));
    }

    #[test]
    fn paths() {
        let object = json!({ "spec": { "list": [{ "m": { "k": 1 } }] } });
        let item = At::root(&object).get("spec.list").items().next().unwrap();
        assert_eq!(item.get("m").key("k").path.to_string(), "spec.list[0].m[k]");
        assert_eq!(item.get("nothing").text(), "");
    }
}
