//! `selfsubjectaccessreviews`: may I?
use super::attributes::validate_attributes;
use crate::{At, Info, Resource, Scope, Verbs};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct SelfSubjectAccessReviews;

static INFO: Info = Info::new(
    Gvk::fixed("authorization.k8s.io", "v1", "SelfSubjectAccessReview"),
    "selfsubjectaccessreviews",
    Scope::Cluster,
)
.verbs(Verbs::CREATE_ONLY);

impl Resource for SelfSubjectAccessReviews {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_attributes(&At::root(new).get("spec"), &mut errors);
        errors
    }
}
