//! `authentication.k8s.io/v1`: questions about who someone is.
pub(crate) mod self_subject_review;
pub(crate) mod token_review;
