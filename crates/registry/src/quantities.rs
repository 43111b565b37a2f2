//! Resource lists: canonical amounts, and what is wrong with them.
use api::{Quantity, Value};

/// Reads an amount; numbers are let in as upstream does.
pub(crate) fn parse(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Writes one amount in its canonical form, if it is one.
pub(crate) fn canonical(value: &mut Value) {
    if let Some(amount) = parse(value) {
        *value = Value::String(amount.to_string().into());
    }
}

/// Writes the amounts of a resource list in canonical form, rounded up to thousandths.
pub(crate) fn canonical_list(list: &mut Value) {
    for value in list.as_object_mut().into_iter().flat_map(value::Map::values_mut) {
        if let Some(amount) = parse(value) {
            let amount = if amount.is_whole_milli() {
                amount
            } else {
                Quantity::from_milli(amount.milli_value())
            };
            *value = Value::String(amount.to_string().into());
        }
    }
}

/// The `requests` and `limits` under the field.
pub(crate) fn canonical_resources(object: &mut Value, field: &str) {
    let Some(resources) = crate::at::sub(object, field) else { return };
    for list in ["requests", "limits"] {
        if let Some(list) = resources.get_mut(list) {
            canonical_list(list);
        }
    }
}

/// Copies every amount of `from` that is not in `to`.
pub(crate) fn fill(from: &Value, to: &mut value::Map) {
    for (name, amount) in from.as_object().into_iter().flatten() {
        to.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}
