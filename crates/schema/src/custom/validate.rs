//! Whether a custom resource holds to its schema, in the words of upstream's validator.
//!
//! What an update leaves as it was is not looked at again (KEP-4008), so that a schema may become
//! stricter than objects that are there.
use super::{Accepts, Bound, Count, Rules};
use crate::graph::{List, ListType, Scalar, Shape, TypeRef};
use api::{FieldError, FieldErrors};
use std::collections::HashSet;
use value::{Map, Value, json};

/// No more than this is told of one object.
const MAX_ERRORS: usize = 100;

/// What is wrong with the object; `old` is what it was before, if it is not new.
pub fn validate(value: &Value, old: Option<&Value>, ty: TypeRef<'_>) -> FieldErrors {
    let mut checker = Checker { path: String::new(), errors: Vec::new() };
    checker.value(value, old, ty);
    checker.errors
}

struct Checker {
    path: String,
    errors: FieldErrors,
}

/// A value's JSON type, as upstream's messages have it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The types that a node of this shape allows if no rule says so.
fn accepts(ty: TypeRef<'_>) -> Accepts {
    match (&ty.node().rules, ty.shape()) {
        (Some(rules), _) => rules.accepts,
        (None, Shape::Scalar(scalar)) => match scalar {
            Scalar::Bool => Accepts::Boolean,
            Scalar::Int32 | Scalar::Int64 => Accepts::Integer,
            Scalar::Float => Accepts::Number,
            Scalar::IntOrString => Accepts::IntOrString,
            Scalar::String(_) => Accepts::String,
            _ => Accepts::Any,
        },
        (None, Shape::List(_)) => Accepts::Array,
        (None, Shape::Object(_) | Shape::Map(_)) => Accepts::Object,
        (None, Shape::OneOf(_)) => Accepts::Any,
    }
}

impl Accepts {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
            Self::IntOrString => "integer,string",
        }
    }
    fn takes(self, value: &Value) -> bool {
        let whole = || match value {
            Value::Number(number) => {
                !number.is_f64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
            }
            _ => false,
        };
        match self {
            Self::Any => true,
            Self::Boolean => value.is_boolean(),
            Self::Integer => whole(),
            Self::Number => value.is_number(),
            Self::String => value.is_string(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
            Self::IntOrString => value.is_string() || whole(),
        }
    }
}

impl Checker {
    fn push(&mut self, error: FieldError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }
    fn invalid(&mut self, shown: Value, why: &str) {
        let text = format!("{} in body {why}", self.path);
        self.push(FieldError::invalid(self.path.clone(), shown, text));
    }
    fn wrong_type(&mut self, wanted: &str, found: &str) {
        let text = format!("{} in body must be of type {wanted}: {found:?}", self.path);
        self.push(FieldError::type_invalid(self.path.clone(), found, text));
    }
    /// What only says that some of several schemas do not fit is told of no field.
    fn composite(&mut self, why: &str) {
        let text = format!("{:?} {why}", self.path);
        self.push(FieldError::invalid("<nil>", "", text));
    }

    fn value(&mut self, value: &Value, old: Option<&Value>, ty: TypeRef<'_>) {
        if !ty.graph().is_custom() || old == Some(value) || self.errors.len() >= MAX_ERRORS {
            return;
        }
        let (accepts, rules) = (accepts(ty), ty.node().rules.as_deref());
        if value.is_null() {
            if accepts != Accepts::Any && !ty.node().nullable {
                self.wrong_type(accepts.name(), "null");
            }
            rules.into_iter().for_each(|rules| self.one_of_values(value, rules));
            return;
        }
        if !accepts.takes(value) {
            self.wrong_type(accepts.name(), type_name(value));
        }
        if let Some(rules) = rules {
            self.combined(value, ty, rules);
            match value {
                Value::String(text) => self.text(text, rules),
                Value::Number(_) => self.number(value, rules),
                Value::Array(list) => self.counted(list.len(), rules.items, "items"),
                _ => {}
            }
            self.one_of_values(value, rules);
            if let Value::Object(map) = value {
                self.counted(map.len(), rules.properties, "properties");
            }
        }
        match (value, ty.shape()) {
            (Value::Array(items), Shape::List(list)) => self.list(items, old, ty, list),
            (Value::Object(map), _) => self.object(map, old, ty, rules),
            _ => {}
        }
    }

    fn list(&mut self, items: &[Value], old: Option<&Value>, ty: TypeRef<'_>, list: &List) {
        let elem = ty.graph().get(list.elem);
        let before = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        // Only elements that have keys can be told to be the same ones as before.
        let same = |item: &Value| match &list.kind {
            ListType::Map(keys) => {
                before.iter().find(|old| keys.iter().all(|key| old.get(&**key) == item.get(&**key)))
            }
            _ => None,
        };
        for (index, item) in items.iter().enumerate() {
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            self.value(item, same(item), elem);
            self.path.truncate(length);
        }
        self.unique(items, &list.kind);
    }

    fn unique(&mut self, items: &[Value], kind: &ListType) {
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let shown = match kind {
                ListType::Atomic => return,
                ListType::Set => item.clone(),
                ListType::Map(keys) => {
                    let keys = keys
                        .iter()
                        .filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())));
                    Value::Object(keys.collect())
                }
            };
            if !seen.insert(shown.to_string()) {
                self.push(FieldError::duplicate(format!("{}[{index}]", self.path), shown));
            }
        }
    }

    fn object(&mut self, map: &Map, old: Option<&Value>, ty: TypeRef<'_>, rules: Option<&Rules>) {
        for (key, value) in map {
            if let Some(child) = ty.child(key) {
                let length = self.enter(key);
                self.value(value, old.and_then(|old| old.get(key)), child);
                self.path.truncate(length);
            }
        }
        if ty.object().is_some_and(|object| object.embedded_resource) {
            for key in ["apiVersion", "kind"] {
                if map.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
                    let length = self.enter(key);
                    self.push(FieldError::required(self.path.clone(), "must not be empty"));
                    self.path.truncate(length);
                }
            }
        }
        for key in rules.into_iter().flat_map(|rules| &rules.required) {
            if !map.contains_key(&**key) {
                let length = self.enter(key);
                self.push(FieldError::required(self.path.clone(), ""));
                self.path.truncate(length);
            }
        }
    }

    fn enter(&mut self, key: &str) -> usize {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        length
    }

    /// What one of several schemas says of the value, by itself.
    fn alone(&mut self, value: &Value, ty: TypeRef<'_>) -> FieldErrors {
        let before = std::mem::take(&mut self.errors);
        self.value(value, None, ty);
        std::mem::replace(&mut self.errors, before)
    }

    fn combined(&mut self, value: &Value, ty: TypeRef<'_>, rules: &Rules) {
        let graph = ty.graph();
        for (parts, exactly_one) in [(&rules.any_of, false), (&rules.one_of, true)] {
            if parts.is_empty() {
                continue;
            }
            let results: Vec<FieldErrors> =
                parts.iter().map(|part| self.alone(value, graph.get(*part))).collect();
            let good = results.iter().filter(|errors| errors.is_empty()).count();
            match (good, exactly_one) {
                (1, _) => continue,
                (0, true) => {
                    self.composite(
                        "must validate one and only one schema (oneOf). Found none valid",
                    );
                }
                (0, false) => self.composite("must validate at least one schema (anyOf)"),
                (many, true) => self.composite(&format!(
                    "must validate one and only one schema (oneOf). Found {many} valid alternatives"
                )),
                (_, false) => continue,
            }
            // The nearest miss says most.
            let nearest = results.into_iter().filter(|errors| !errors.is_empty());
            if good == 0
                && let Some(errors) = nearest.min_by_key(Vec::len)
            {
                errors.into_iter().for_each(|error| self.push(error));
            }
        }
        let (mut failed, mut good) = (Vec::new(), 0);
        for part in &rules.all_of {
            let errors = self.alone(value, graph.get(*part));
            good += usize::from(errors.is_empty());
            failed.extend(errors);
        }
        if !failed.is_empty() {
            failed.into_iter().for_each(|error| self.push(error));
            let none = if good == 0 { ". None validated" } else { "" };
            self.composite(&format!("must validate all the schemas (allOf){none}"));
        }
        if let Some(part) = rules.not
            && self.alone(value, graph.get(part)).is_empty()
        {
            self.composite("must not validate the schema (not)");
        }
    }

    fn text(&mut self, text: &str, rules: &Rules) {
        let length = text.chars().count() as u64;
        if let Some(max) = rules.length.max.filter(|max| length > *max) {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            self.push(FieldError::too_long(self.path.clone(), max));
        }
        if let Some(min) = rules.length.min.filter(|min| length < *min) {
            self.invalid(text.into(), &format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = rules.pattern.as_deref().filter(|pattern| !pattern.matches(text)) {
            self.invalid(text.into(), &format!("should match '{}'", pattern.text()));
        }
        if let Some(format) = rules.format.filter(|format| !format.fits(text)) {
            self.wrong_type(format.name(), text);
        }
    }

    fn number(&mut self, value: &Value, rules: &Rules) {
        let Some(number) = value.as_f64() else { return };
        if let Some((low, high)) = rules.format.and_then(super::Format::range)
            && !(low..=high).contains(&number)
        {
            let (kind, format) = (rules.accepts.name(), rules.format.map_or("", |f| f.name()));
            let why = format!("Checked value must be of type {kind} with format {format}");
            self.push(FieldError::invalid("<nil>", "", format!("{} in body {why}", self.path)));
        }
        if let Some(factor) = rules.multiple_of.filter(|factor| *factor > 0.0) {
            let times = number / factor;
            if times.fract() != 0.0 {
                self.invalid(value.clone(), &format!("should be a multiple of {factor}"));
            }
        }
        let out = |bound: &Bound, beyond: bool| beyond || bound.exclusive && number == bound.value;
        if let Some(bound) = rules.maximum.filter(|bound| out(bound, number > bound.value)) {
            let words = if bound.exclusive { "less than" } else { "less than or equal to" };
            self.invalid(value.clone(), &format!("should be {words} {}", bound.value));
        }
        if let Some(bound) = rules.minimum.filter(|bound| out(bound, number < bound.value)) {
            let words = if bound.exclusive { "greater than" } else { "greater than or equal to" };
            self.invalid(value.clone(), &format!("should be {words} {}", bound.value));
        }
    }

    fn counted(&mut self, count: usize, bounds: Count, noun: &str) {
        if let Some(max) = bounds.max.filter(|max| count as u64 > *max) {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            self.push(FieldError::too_many(self.path.clone(), count, max));
        }
        if let Some(min) = bounds.min.filter(|min| (count as u64) < *min) {
            self.invalid(json!(count), &format!("should have at least {min} {noun}"));
        }
    }

    fn one_of_values(&mut self, value: &Value, rules: &Rules) {
        let equal = |known: &Value| {
            known == value
                || known.is_number() && value.is_number() && known.as_f64() == value.as_f64()
        };
        if rules.values.is_empty() || rules.values.iter().any(equal) {
            return;
        }
        let texts: Vec<String> = rules
            .values
            .iter()
            .map(|known| known.as_str().map_or_else(|| known.to_string(), str::to_owned))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.push(FieldError::not_supported(self.path.clone(), value.clone(), &texts));
    }
}
