//! Checks of numbers that may also be percentages.
use crate::{At, names};
use api::FieldErrors;

/// A number of at least zero, or a percentage.
pub(crate) fn non_negative_or_percent(at: &At, errors: &mut FieldErrors) {
    match at.int() {
        Some(_) => at.non_negative(errors),
        None => at.each(names::percent(at.text()), errors),
    }
}

/// No more than 100%.
pub(crate) fn at_most_all(at: &At, errors: &mut FieldErrors) {
    if percent(at).is_some_and(|value| value > 100) {
        errors.push(at.invalid("must not be greater than 100%"));
    }
}

pub(crate) fn percent(at: &At) -> Option<i64> {
    at.text().strip_suffix('%')?.parse().ok()
}

/// Zero, as a number or a percentage.
pub(crate) fn is_zero(at: &At) -> bool {
    at.int().or_else(|| percent(at)).unwrap_or_default() == 0
}
