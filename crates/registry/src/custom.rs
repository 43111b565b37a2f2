//! Rows of custom resources: made at run time, one for each version that a definition serves.
mod jsonpath;
mod read;

pub use read::Definition;

use crate::at::{At, is_empty};
use crate::row::{Convert, object};
use crate::{Info, Resource, ScalePaths};
use api::{FieldError, FieldErrors, LabelSelector, Value};
use jsonpath::JsonPath;
use schema::{Graph, TypeRef};
use std::borrow::Cow;
use std::sync::Arc;
use value::json;

/// One version of a custom resource.
pub struct CustomResource {
    info: Info,
    list_kind: String,
    graph: Arc<Graph>,
    short_names: Box<[String]>,
    categories: Box<[String]>,
    columns: Box<[Heading]>,
    /// Dotted paths.
    fields: Box<[String]>,
    scale: Option<ScalePaths>,
    deprecation: Option<String>,
    /// `group/version` of what is stored, if it is another version than this.
    stored: Option<String>,
    origin: Origin,
}

/// The definition that a row was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub definition: String,
    pub uid: String,
    /// A digest of what it says.
    pub spec: u64,
}

/// A column of `additionalPrinterColumns`.
struct Heading {
    name: String,
    kind: &'static str,
    format: String,
    description: String,
    priority: i64,
    path: JsonPath,
}

impl CustomResource {
    /// What is stored, or asked for in another version, brought to what the schema now says.
    fn fit(&self, value: &mut Value) {
        let Some(ty) = self.graph.root() else { return };
        // Metadata that is wrong cannot have been stored.
        if schema::custom::prune(value, ty).is_ok() {
            schema::apply_defaults(value, ty);
        }
    }
    fn check(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = match self.graph.root() {
            Some(ty) => schema::custom::validate(new, old, ty),
            None => FieldErrors::new(),
        };
        if let Some(paths) = &self.scale {
            check_scale(paths, new, &mut errors);
        }
        errors
    }
}

impl Resource for CustomResource {
    fn info(&self) -> &Info {
        &self.info
    }
    fn ty(&self) -> Option<TypeRef<'_>> {
        self.graph.root()
    }
    fn origin(&self) -> Option<&Origin> {
        Some(&self.origin)
    }
    fn list_kind(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.list_kind)
    }
    fn short_names(&self) -> Vec<&str> {
        self.short_names.iter().map(String::as_str).collect()
    }
    fn categories(&self) -> Vec<&str> {
        self.categories.iter().map(String::as_str).collect()
    }
    fn default(&self, object: &mut Value) {
        if let Some(ty) = self.graph.root() {
            schema::apply_defaults(object, ty);
        }
    }
    /// Status is all that its subresource writes: not even labels go with it.
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        let fields = new["metadata"].get("managedFields").cloned();
        new["metadata"] = old["metadata"].clone();
        if let (Some(metadata), Some(fields)) = (new["metadata"].as_object_mut(), fields) {
            metadata.insert("managedFields".to_owned(), fields);
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        self.check(new, old)
    }
    fn validate_subresource(&self, _name: &str, new: &Value, old: &Value) -> FieldErrors {
        self.check(new, Some(old))
    }
    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }
    fn headings(&self) -> Value {
        let columns = self.columns.iter().map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        });
        let name = crate::Column::NAME;
        let first = json!({
            "name": name.name, "type": name.kind, "format": name.format,
            "description": name.description, "priority": name.priority,
        });
        std::iter::once(first).chain(columns).collect()
    }
    fn cells(&self, object: &Value, now: i64) -> Vec<Value> {
        let cells = self.columns.iter().map(|column| column.cell(object, now));
        std::iter::once(object["metadata"]["name"].clone()).chain(cells).collect()
    }
    fn fields(&self) -> Cow<'_, [&str]> {
        self.fields.iter().map(String::as_str).collect()
    }
    fn stored_field<'a>(&self, label: &'a str) -> Option<Cow<'a, str>> {
        let known = label.starts_with("metadata.") || self.fields.iter().any(|f| *f == label);
        known.then_some(Cow::Borrowed(label))
    }
    fn scale(&self) -> Option<ScalePaths> {
        self.scale.clone()
    }
    fn freshen(&self, value: &mut Value) -> bool {
        let before = value.clone();
        value["apiVersion"] = self.info.gvk.api_version().into();
        self.fit(value);
        *value != before
    }
    fn convert(&self) -> Option<&dyn Convert> {
        self.stored.is_some().then_some(self as &dyn Convert)
    }
}

/// With the strategy `None`, versions differ in name and in what their schemas know.
impl Convert for CustomResource {
    fn to_stored(&self, mut value: Value) -> Value {
        if let Some(stored) = &self.stored {
            value["apiVersion"] = stored.as_str().into();
        }
        value
    }
    fn to_own(&self, mut value: Value) -> Value {
        value["apiVersion"] = self.info.gvk.api_version().into();
        self.fit(&mut value);
        value
    }
}

impl Heading {
    fn cell(&self, object: &Value, now: i64) -> Value {
        let Some(value) = self.path.first(object) else { return Value::Null };
        match self.kind {
            "string" => match value {
                Value::String(_) => value.clone(),
                // As Go's template printing has it.
                Value::Null => Value::Null,
                other => other.to_string().into(),
            },
            "integer" => match value.as_f64() {
                Some(number) => Value::from(number as i64),
                None => Value::Null,
            },
            "number" if value.is_number() => value.clone(),
            "boolean" if value.is_boolean() => value.clone(),
            "date" if value.is_string() => object::age(value, now).into(),
            _ => Value::Null,
        }
    }
}

fn check_scale(paths: &ScalePaths, object: &Value, errors: &mut FieldErrors) {
    let dotted = |pointer: &str| pointer.replace('/', ".");
    for pointer in [&paths.replicas, &paths.status_replicas] {
        let Some(value) = object.pointer(pointer) else { continue };
        let refuse = |why: &str| FieldError::invalid(dotted(pointer), value.clone(), why);
        match value.as_i64() {
            None => {}
            Some(replicas) if replicas < 0 => {
                errors.push(refuse("should be a non-negative integer"));
            }
            Some(replicas) if replicas > i64::from(i32::MAX) => {
                let why = format!("should be less than or equal to {}", i32::MAX);
                errors.push(refuse(&why));
            }
            Some(_) => {}
        }
    }
    let selector = At::new(
        object.pointer(&paths.selector).filter(|_| !paths.selector.is_empty()).unwrap_or(&NULL),
        dotted(&paths.selector),
    );
    if let Some(text) = selector.value.as_str().filter(|_| !is_empty(selector.value))
        && let Err(error) = LabelSelector::parse(text)
    {
        errors.push(selector.invalid(error.to_string()));
    }
}

static NULL: Value = Value::Null;

#[cfg(test)]
mod tests;
