//! `storageclasses`: kinds of storage, and who makes them.
use crate::at::set_default;
use crate::cells::{boolean, columns, text, text_or};
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct StorageClasses;

static INFO: Info =
    Info::new(Gvk::fixed("storage.k8s.io", "v1", "StorageClass"), "storageclasses", Scope::Cluster)
        .short(&["sc"])
        .stored_only();

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 << 10;

impl Resource for StorageClasses {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        set_default(object, "reclaimPolicy", "Delete");
        set_default(object, "volumeBindingMode", "Immediate");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let provisioner = root.get("provisioner");
        if provisioner.must("", &mut errors) {
            let lower = provisioner.text().to_lowercase();
            provisioner.each(names::qualified(&lower), &mut errors);
        }
        validate_parameters(&root.get("parameters"), true, &mut errors);
        root.get("reclaimPolicy").one_of(&["Delete", "Retain"], true, &mut errors);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        root.get("volumeBindingMode").one_of(&modes, true, &mut errors);
        for topology in root.get("allowedTopologies").items() {
            for term in topology.get("matchLabelExpressions").items() {
                term.get("key").named(names::qualified, &mut errors);
                term.get("values").must("", &mut errors);
            }
        }
        let Some(old) = old else { return errors };
        for (field, why) in [
            ("parameters", "updates to parameters are forbidden."),
            ("provisioner", "updates to provisioner are forbidden."),
            ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
        ] {
            if !crate::at::same(&new[field], &old[field]) {
                errors.push(FieldError::forbidden(field, why));
            }
        }
        root.get("volumeBindingMode").immutable(&old["volumeBindingMode"], &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new("Provisioner", "string", "Who makes volumes of the class.").cell(|o, _| text(
            o,
            "provisioner"
        )
        .into()),
        Column::new("ReclaimPolicy", "string", "What becomes of a released volume.")
            .cell(|o, _| text_or(o, "reclaimPolicy", "Delete").into()),
        Column::new("VolumeBindingMode", "string", "When a claim gets its volume.")
            .cell(|o, _| text_or(o, "volumeBindingMode", "Immediate").into()),
        Column::new("AllowVolumeExpansion", "string", "Whether volumes can grow.")
            .cell(|o, _| boolean(o, "allowVolumeExpansion").into()),
        Column::AGE,
    ];
}

/// Parameters of a class: few and small.
pub(super) fn validate_parameters(parameters: &At, may_be_empty: bool, errors: &mut FieldErrors) {
    if parameters.is_empty() && !may_be_empty {
        errors.push(parameters.required("must contain at least one key/value pair"));
    }
    if parameters.len() > MAX_PARAMETERS {
        let why = format!("must have at most {MAX_PARAMETERS} items");
        errors.push(FieldError::invalid(parameters.path.clone(), parameters.len(), why));
    }
    let mut bytes = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            let why = "field must not be empty.";
            errors.push(FieldError::invalid(parameters.path.clone(), key, why));
        }
        bytes += key.len() + value.len();
    }
    if bytes > MAX_PARAMETER_BYTES {
        errors.push(parameters.too_long(MAX_PARAMETER_BYTES));
    }
}
