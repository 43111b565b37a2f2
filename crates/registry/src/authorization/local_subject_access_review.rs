//! `localsubjectaccessreviews`: may they, in this namespace?
use super::attributes::{validate_attributes, validate_subject};
use crate::{At, Info, Resource, Scope, Verbs};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct LocalSubjectAccessReviews;

static INFO: Info = Info::new(
    Gvk::fixed("authorization.k8s.io", "v1", "LocalSubjectAccessReview"),
    "localsubjectaccessreviews",
    Scope::Namespaced,
)
.verbs(Verbs::CREATE_ONLY);

impl Resource for LocalSubjectAccessReviews {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let spec = root.get("spec");
        validate_attributes(&spec, &mut errors);
        validate_subject(&spec, &mut errors);
        let namespace = spec.get("resourceAttributes.namespace");
        let own = root.get("metadata.namespace").text();
        if spec.has("resourceAttributes") && namespace.text() != own {
            let field = namespace.path.clone();
            let why = format!("must match metadata.namespace: {own}");
            errors.push(FieldError::invalid(field, namespace.text(), why));
        }
        if spec.has("nonResourceAttributes") {
            let why = "disallowed on this kind of request";
            errors.push(spec.get("nonResourceAttributes").invalid(why));
        }
        errors
    }
}
