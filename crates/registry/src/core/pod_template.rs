//! `podtemplates`: a pod template on its own.
use crate::at::sub;
use crate::cells::{columns, each, labels};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct PodTemplates;

static INFO: Info =
    Info::new(Gvk::fixed("", "v1", "PodTemplate"), "podtemplates", Scope::Namespaced)
        .with_generation();

impl Resource for PodTemplates {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(spec) = sub(object, "template").and_then(|template| sub(template, "spec")) {
            super::pod::defaults::pod_spec(spec);
        }
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        super::pod::validate::template(&At::root(new).get("template"), &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new("Containers", "string", "Names of each container in the template.")
            .cell(|o, _| each(o, "template.spec.containers", "name").into()),
        Column::new("Images", "string", "Images referenced by each container in the template.")
            .cell(|o, _| each(o, "template.spec.containers", "image").into()),
        Column::new("Pod Labels", "string", "The labels for the pod template.")
            .cell(|o, _| labels(o, "template.metadata.labels").into()),
    ];
}
