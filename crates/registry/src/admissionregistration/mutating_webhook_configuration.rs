//! `mutatingwebhookconfigurations`: webhooks that change objects.
use super::webhooks;
use crate::cells::{columns, len};
use crate::{Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct MutatingWebhookConfigurations;

static INFO: Info = Info::new(
    Gvk::fixed("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
    "mutatingwebhookconfigurations",
    Scope::Cluster,
)
.categories(&["api-extensions"])
.conditional_update()
.with_generation();

impl Resource for MutatingWebhookConfigurations {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        webhooks::default(object, true);
    }
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        webhooks::warnings(new)
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        webhooks::validate(new, true)
    }
    columns![
        Column::NAME,
        Column::new(
            "Webhooks",
            "integer",
            "Webhooks indicates the number of webhooks registered in this configuration",
        )
        .cell(|o, _| len(o, "webhooks").into()),
        Column::AGE,
    ];
}
