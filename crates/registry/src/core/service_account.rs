//! `serviceaccounts`: who the processes of a pod are.
use crate::cells::columns;
use crate::{Column, Info, Resource, Scope, Subresource, Verbs};
use api::Gvk;

pub(crate) struct ServiceAccounts;

static INFO: Info =
    Info::new(Gvk::fixed("", "v1", "ServiceAccount"), "serviceaccounts", Scope::Namespaced)
        .short(&["sa"])
        .subresources(
            const {
                &[Subresource::new(
                    "token",
                    Verbs::CREATE,
                    Some(Gvk::fixed("authentication.k8s.io", "v1", "TokenRequest")),
                )]
            },
        );

impl Resource for ServiceAccounts {
    fn info(&self) -> &Info {
        &INFO
    }
    columns![Column::NAME, Column::AGE];
}
