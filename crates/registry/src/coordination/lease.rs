//! `leases`: who holds something, and until when.
use crate::cells::{columns, text};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct Leases;

static INFO: Info =
    Info::new(Gvk::fixed("coordination.k8s.io", "v1", "Lease"), "leases", Scope::Namespaced)
        .with_create_on_update()
        .conditional_update();

impl Resource for Leases {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        let seconds = spec.get("leaseDurationSeconds");
        if seconds.int().is_some_and(|seconds| seconds <= 0) {
            errors.push(seconds.invalid("must be greater than 0"));
        }
        spec.get("leaseTransitions").non_negative(&mut errors);
        let strategy = spec.get("strategy");
        let preferred = spec.get("preferredHolder");
        if preferred.is_set() && strategy.is_empty() {
            errors.push(preferred.forbidden("may only be specified when `strategy` is defined"));
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("Holder", "string", "Who holds the lease.").cell(|o, _| text(
            o,
            "spec.holderIdentity"
        )
        .into()),
        Column::AGE,
    ];
}
