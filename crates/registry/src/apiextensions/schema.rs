//! Checks of the schemas of custom resources: whether they are structural, and what a list or map
//! type asks of them.
use crate::At;
use api::{FieldError, FieldErrors, Value};

/// Deeper schemas are refused: nobody writes them by hand, and they cost.
const MAX_DEPTH: usize = 100;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// The schema of a version, from its root.
pub(super) fn validate(schema: &At, errors: &mut FieldErrors) {
    structural(schema, Level::Root, 0, errors);
}

fn flag(schema: &At, name: &str) -> bool {
    schema.value[name].as_bool() == Some(true)
}

/// A member whose name has dots in it, or may have.
pub(super) fn member<'a>(schema: &At<'a>, name: &str) -> At<'a> {
    static NULL: Value = Value::Null;
    At::new(schema.value.get(name).unwrap_or(&NULL), schema.child(name))
}

fn structural(schema: &At, level: Level, depth: usize, errors: &mut FieldErrors) {
    if depth > MAX_DEPTH {
        errors.push(schema.forbidden(format!("must not be nested deeper than {MAX_DEPTH}")));
        return;
    }
    let (kind, items) = (member(schema, "type"), member(schema, "items"));
    if kind.text() == "array" && !items.is_set() {
        errors.push(items.required("must be specified"));
    }
    if items.is_set() {
        structural(&items, Level::Item, depth + 1, errors);
    }
    for (_, property) in member(schema, "properties").entries() {
        structural(&property, Level::Field, depth + 1, errors);
    }
    let additional = member(schema, "additionalProperties");
    if additional.is_set() {
        if level == Level::Root {
            errors.push(additional.forbidden("must not be used at the root"));
        }
        if !member(schema, "properties").is_empty() {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(additional.forbidden(why));
        }
        if additional.value.is_object() {
            structural(&additional, Level::Field, depth + 1, errors);
        }
    }
    type_rules(schema, level, errors);
    extensions(schema, errors);
    lists_and_maps(schema, errors);
    unsupported(schema, errors);
    nested(schema, depth, errors);
    metadata(schema, level, errors);
}

fn type_rules(schema: &At, level: Level, errors: &mut FieldErrors) {
    let kind = member(schema, "type");
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let free = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if !kind.is_empty() && !TYPES.contains(&kind.text()) {
        errors.push(kind.not_supported(TYPES));
    }
    if embedded && kind.text() != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        let error = if kind.is_empty() { kind.required(why) } else { kind.invalid(why) };
        errors.push(error);
    } else if kind.is_empty() && !int_or_string && !free {
        errors.push(kind.required(match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        }));
    }
    if level == Level::Root && !kind.is_empty() && kind.text() != "object" {
        errors.push(kind.invalid("must be object at the root"));
    }
    check_pattern(schema, errors);
    check_default(schema, errors);
    let properties = member(schema, "properties");
    if embedded && !free && properties.is_empty() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(properties.required(why));
    }
}

/// A default is held to what it stands beside.
fn check_default(schema: &At, errors: &mut FieldErrors) {
    let default = member(schema, "default");
    if !default.is_set() {
        return;
    }
    let (wrong, dropped) = schema::custom::check_default(schema.value, default.value);
    for mut error in wrong {
        let inner = std::mem::take(&mut error.field);
        let dot = if inner.is_empty() { "" } else { "." };
        error.field = format!("{}{dot}{inner}", default.path);
        errors.push(error);
    }
    for path in dropped {
        errors.push(default.invalid(format!("must not have unknown fields: {path}")));
    }
}

fn check_pattern(schema: &At, errors: &mut FieldErrors) {
    let pattern = member(schema, "pattern");
    if let Err(schema::custom::PatternError::Invalid(why)) =
        schema::custom::check_pattern(pattern.text())
    {
        errors.push(pattern.invalid(format!(
            "must be a valid regular expression, but isn't: {}",
            why.replace('\n', " ")
        )));
    }
}

fn extensions(schema: &At, errors: &mut FieldErrors) {
    let free = member(schema, "x-kubernetes-preserve-unknown-fields");
    if free.value.as_bool() == Some(false) {
        errors.push(free.invalid("must be true or undefined"));
    }
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, name) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(member(schema, name).invalid(why));
        }
    }
}

fn lists_and_maps(schema: &At, errors: &mut FieldErrors) {
    let kind = member(schema, "type");
    let map_type = member(schema, "x-kubernetes-map-type");
    let list_type = member(schema, "x-kubernetes-list-type");
    let keys = member(schema, "x-kubernetes-list-map-keys");
    for (extension, name, want, known) in [
        (&map_type, "x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        (&list_type, "x-kubernetes-list-type", "array", &["atomic", "set", "map"][..]),
    ] {
        if !extension.is_set() {
            continue;
        }
        if kind.text() != want {
            let why = format!("must be {want} if {name} is specified");
            let error = if kind.is_empty() { kind.required(&why) } else { kind.invalid(why) };
            errors.push(error);
        }
        extension.one_of(known, true, errors);
    }
    if !keys.is_empty() && list_type.text() != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        let error =
            if list_type.is_set() { list_type.invalid(why) } else { list_type.required(why) };
        errors.push(error);
    }
    if list_type.text() != "map" {
        return;
    }
    keys.must("must not be empty if x-kubernetes-list-type is map", errors);
    let items = member(schema, "items");
    if !items.is_set() {
        errors.push(items.required("must have a schema if x-kubernetes-list-type is map"));
        return;
    }
    for key in keys.items() {
        let property = items.value["properties"].get(key.text());
        let scalar = property.and_then(|property| property["type"].as_str());
        match scalar {
            None => {
                let why = "entries must all be names of item properties";
                errors.push(key.invalid(why));
            }
            Some("array" | "object") => {
                let path = format!("{}.properties[{}].type", items.path, key.text());
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(path, scalar.unwrap_or_default(), why));
            }
            Some(_) => {}
        }
    }
}

fn unsupported(schema: &At, errors: &mut FieldErrors) {
    for name in
        ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"]
    {
        if member(schema, name).is_set() {
            errors.push(member(schema, name).forbidden(format!("{name} is not supported")));
        }
    }
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes \
                   quadratic";
        errors.push(member(schema, "uniqueItems").forbidden(why));
    }
    if member(schema, "items").value.is_array() {
        let why = "items must be a schema object and not an array";
        errors.push(member(schema, "items").forbidden(why));
    }
}

/// Inside of `anyOf` and its like there are only checks of values.
fn nested(schema: &At, depth: usize, errors: &mut FieldErrors) {
    let any_int_or_string = |schema: &At| {
        let kinds: Vec<&str> =
            member(schema, "anyOf").items().map(|any| any.get("type").text()).collect();
        kinds == ["integer", "string"]
    };
    let free = flag(schema, "x-kubernetes-int-or-string");
    if !(free && any_int_or_string(schema)) {
        for part in member(schema, "anyOf").items() {
            value_only(&part, depth + 1, errors);
        }
    }
    for (i, part) in member(schema, "allOf").items().enumerate() {
        if !(free && i == 0 && any_int_or_string(&part)) {
            value_only(&part, depth + 1, errors);
        }
    }
    for part in member(schema, "oneOf").items() {
        value_only(&part, depth + 1, errors);
    }
    let not = member(schema, "not");
    if not.is_set() {
        value_only(&not, depth + 1, errors);
    }
}

fn value_only(schema: &At, depth: usize, errors: &mut FieldErrors) {
    if depth > MAX_DEPTH {
        errors.push(schema.forbidden(format!("must not be nested deeper than {MAX_DEPTH}")));
        return;
    }
    for (name, word) in [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        ("x-kubernetes-preserve-unknown-fields", "false"),
        ("x-kubernetes-embedded-resource", "false"),
        ("x-kubernetes-int-or-string", "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
    ] {
        let at = member(schema, name);
        if at.is_set() && !at.is_empty() && at.value != &Value::Bool(false) {
            errors.push(at.forbidden(format!("must be {word} to be structural")));
        }
    }
    check_pattern(schema, errors);
    nested(schema, depth, errors);
    let items = member(schema, "items");
    if items.is_set() {
        value_only(&items, depth + 1, errors);
    }
    for (name, property) in member(schema, "properties").entries() {
        if name == "metadata" {
            errors.push(property.forbidden("must not be specified in a nested context"));
        }
        value_only(&property, depth + 1, errors);
    }
}

fn metadata(schema: &At, level: Level, errors: &mut FieldErrors) {
    if level != Level::Root && !flag(schema, "x-kubernetes-embedded-resource") {
        return;
    }
    let properties = member(schema, "properties");
    for (name, want) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let property = properties.key(name);
        let kind = property.get("type");
        if property.is_set() && kind.text() != want {
            errors.push(FieldError::invalid(
                kind.path.clone(),
                kind.text(),
                format!("must be {want}"),
            ));
        }
    }
    let meta = properties.key("metadata");
    let extra =
        meta.get("properties").entries().any(|(name, _)| !matches!(name, "name" | "generateName"));
    let others = ["additionalProperties", "required", "x-kubernetes-preserve-unknown-fields"];
    if level == Level::Root && (extra || others.iter().any(|name| meta.has(name))) {
        let why = "must not specify anything other than name and generateName, but metadata is \
                   implicitly specified";
        errors.push(meta.forbidden(why));
    }
}
