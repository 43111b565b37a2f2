//! `tokenreviews`: whose token is this?
use crate::{Info, Resource, Scope, Verbs};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct TokenReviews;

static INFO: Info = Info::new(
    Gvk::fixed("authentication.k8s.io", "v1", "TokenReview"),
    "tokenreviews",
    Scope::Cluster,
)
.verbs(Verbs::CREATE_ONLY);

impl Resource for TokenReviews {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        match new["spec"]["token"].as_str() {
            None | Some("") => {
                vec![FieldError::required("spec.token", "token is required for TokenReview")]
            }
            Some(_) => Vec::new(),
        }
    }
}
