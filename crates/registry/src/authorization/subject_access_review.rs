//! `subjectaccessreviews`: may they?
use super::attributes::{validate_attributes, validate_subject};
use crate::{At, Info, Resource, Scope, Verbs};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct SubjectAccessReviews;

static INFO: Info = Info::new(
    Gvk::fixed("authorization.k8s.io", "v1", "SubjectAccessReview"),
    "subjectaccessreviews",
    Scope::Cluster,
)
.verbs(Verbs::CREATE_ONLY);

impl Resource for SubjectAccessReviews {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        validate_attributes(&spec, &mut errors);
        validate_subject(&spec, &mut errors);
        errors
    }
}
