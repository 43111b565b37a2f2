//! Checks of label selectors.
use crate::meta::validate_labels;
use crate::{At, names};
use api::{FieldErrors, LabelSelector, Value};

/// A label selector, if it is there.
pub(crate) fn validate(selector: &At, errors: &mut FieldErrors) {
    validate_labels(&selector.get("matchLabels"), errors);
    for term in selector.get("matchExpressions").items() {
        let values = term.get("values");
        match term.get("operator").text() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(values.required(why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(values.forbidden(why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(term.get("operator").invalid("not a valid selector operator")),
        }
        term.get("key").each(names::qualified(term.get("key").text()), errors);
        for value in values.items() {
            value.each(names::label_value(value.text()), errors);
        }
    }
}

/// Reads a selector; none if it is absent or malformed.
pub(crate) fn parse(selector: &Value) -> Option<LabelSelector> {
    let spec = value::from_value(selector).ok()?;
    LabelSelector::from_spec(Some(&spec)).ok()
}
