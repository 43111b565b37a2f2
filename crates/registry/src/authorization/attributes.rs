//! Checks that the access reviews share.
use crate::At;
use api::FieldErrors;

/// Exactly one of the two kinds of attributes.
pub(super) fn validate_attributes(spec: &At, errors: &mut FieldErrors) {
    let (resource, path) = (spec.has("resourceAttributes"), spec.has("nonResourceAttributes"));
    if resource && path {
        let why = "cannot be specified in combination with resourceAttributes";
        errors.push(spec.get("nonResourceAttributes").invalid(why));
    }
    if !resource && !path {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(spec.get("resourceAttributes").invalid(why));
    }
}

/// Someone must be asked about.
pub(super) fn validate_subject(spec: &At, errors: &mut FieldErrors) {
    if spec.get("user").is_empty() && spec.get("groups").is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(api::FieldError::invalid(spec.child("user"), "", why));
    }
}
