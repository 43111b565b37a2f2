//! `selfsubjectreviews`: who am I?
use crate::{Info, Resource, Scope, Verbs};
use api::Gvk;

pub(crate) struct SelfSubjectReviews;

static INFO: Info = Info::new(
    Gvk::fixed("authentication.k8s.io", "v1", "SelfSubjectReview"),
    "selfsubjectreviews",
    Scope::Cluster,
)
.verbs(Verbs::CREATE_ONLY);

impl Resource for SelfSubjectReviews {
    fn info(&self) -> &Info {
        &INFO
    }
}
