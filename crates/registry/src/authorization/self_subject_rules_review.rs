//! `selfsubjectrulesreviews`: what may I, in a namespace?
use crate::{Info, Resource, Scope, Verbs};
use api::Gvk;

pub(crate) struct SelfSubjectRulesReviews;

static INFO: Info = Info::new(
    Gvk::fixed("authorization.k8s.io", "v1", "SelfSubjectRulesReview"),
    "selfsubjectrulesreviews",
    Scope::Cluster,
)
.verbs(Verbs::CREATE_ONLY);

impl Resource for SelfSubjectRulesReviews {
    fn info(&self) -> &Info {
        &INFO
    }
}
