//! What Go's JSON encoding adds to and leaves out of an object, so that stored objects look the
//! same whichever encoding they came in.
use crate::graph::{Field, Graph, Object, Omit, OneOf, Scalar, Shape, TypeRef};
use value::{Map, Value};

/// Brings an object whose values are canonical already, with nulls left out, into Go's form.
pub(crate) fn finish(graph: &Graph, object: &Object, map: &mut Map) {
    for field in &object.fields {
        let ty = graph.get(field.ty);
        match map.get(&*field.name) {
            Some(value) if omits(field, ty, value) => {
                map.remove(&*field.name);
            }
            Some(_) => {}
            None => {
                if let Some(zero) = absent(field, ty) {
                    map.insert(field.name.to_string(), zero);
                }
            }
        }
    }
}

/// What stands in JSON for a field that was not given, if anything does.
fn absent(field: &Field, ty: TypeRef<'_>) -> Option<Value> {
    let kept = match field.omit {
        Omit::Never => true,
        // `omitempty` means nothing to a Go struct.
        Omit::Empty => !field.pointer && is_go_struct(ty),
        Omit::Zero => false,
    };
    kept.then(|| if field.pointer { Value::Null } else { zero(ty) })
}

fn omits(field: &Field, ty: TypeRef<'_>, value: &Value) -> bool {
    if field.pointer || field.omit == Omit::Never {
        return false;
    }
    if is_go_struct(ty) {
        return field.omit == Omit::Zero && *value == zero(ty);
    }
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn is_go_struct(ty: TypeRef<'_>) -> bool {
    match ty.shape() {
        Shape::Object(_) | Shape::OneOf(_) => true,
        Shape::Map(_) | Shape::List(_) => false,
        Shape::Scalar(scalar) => !matches!(
            scalar,
            Scalar::String(_)
                | Scalar::Bool
                | Scalar::Int32
                | Scalar::Int64
                | Scalar::Float
                | Scalar::Bytes
        ),
    }
}

/// The JSON of a type's zero value.
pub(crate) fn zero(ty: TypeRef<'_>) -> Value {
    match ty.shape() {
        Shape::Object(object) => {
            let mut map = Map::new();
            finish(ty.graph(), object, &mut map);
            Value::Object(map)
        }
        Shape::OneOf(OneOf::Bool { .. }) => Value::Bool(false),
        Shape::Map(_) | Shape::List(_) | Shape::OneOf(_) => Value::Null,
        Shape::Scalar(scalar) => match scalar {
            Scalar::String(_) => Value::String(String::new().into()),
            Scalar::Bool => Value::Bool(false),
            Scalar::Int32 | Scalar::Int64 | Scalar::Float | Scalar::IntOrString => 0.into(),
            Scalar::Quantity => "0".into(),
            Scalar::Duration => "0s".into(),
            _ => Value::Null,
        },
    }
}
