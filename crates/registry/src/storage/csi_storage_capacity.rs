//! `csistoragecapacities`: how much a driver can make where.
use crate::at::same;
use crate::cells::{columns, text, text_or};
use crate::quantities::canonical;
use crate::{At, Column, Info, Resource, Scope, names, quantities};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct CsiStorageCapacities;

static INFO: Info = Info::new(
    Gvk::fixed("storage.k8s.io", "v1", "CSIStorageCapacity"),
    "csistoragecapacities",
    Scope::Namespaced,
)
.conditional_update()
.stored_only();

impl Resource for CsiStorageCapacities {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        for field in ["capacity", "maximumVolumeSize"] {
            if let Some(amount) = object.get_mut(field) {
                canonical(amount);
            }
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let class = root.get("storageClassName");
        class.each(names::subdomain(class.text(), false), &mut errors);
        crate::selectors::validate(&root.get("nodeTopology"), &mut errors);
        for field in ["capacity", "maximumVolumeSize"] {
            if quantities::parse(&new[field]).is_some_and(|amount| amount.sign() < 0) {
                errors.push(root.get(field).invalid("must be greater than or equal to 0"));
            }
        }
        for field in ["nodeTopology", "storageClassName"] {
            if old.is_some_and(|old| !same(&new[field], &old[field])) {
                errors.push(root.get(field).invalid("field is immutable"));
            }
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("StorageClassName", "string", "The class that it is about.").cell(|o, _| text(
            o,
            "storageClassName"
        )
        .into()),
        Column::new("Capacity", "string", "How much there is.")
            .cell(|o, _| text_or(o, "capacity", "<unset>").into()),
    ];
}
