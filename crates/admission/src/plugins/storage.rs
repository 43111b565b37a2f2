//! Claims and volumes: protected while used, and a default class for those that name none.
use crate::{Plugin, Request, World};
use api::{ApiError, Value, access::text};
use value::json;

pub(crate) struct StorageObjectInUseProtection;
pub(crate) struct DefaultStorageClass;

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }
    fn mutate(&self, _: &World<'_>, ask: &Request<'_>, object: &mut Value) -> Result<(), ApiError> {
        let finalizer = if ask.creates("", "persistentvolumes") {
            "kubernetes.io/pv-protection"
        } else if ask.creates("", "persistentvolumeclaims") {
            "kubernetes.io/pvc-protection"
        } else {
            return Ok(());
        };
        let list = &mut object["metadata"]["finalizers"];
        if list.is_null() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut()
            && !list.iter().any(|item| item == finalizer)
        {
            list.push(json!(finalizer));
        }
        Ok(())
    }
}

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }
    fn mutate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        claim: &mut Value,
    ) -> Result<(), ApiError> {
        let annotation = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";
        if !ask.creates("", "persistentvolumeclaims")
            || claim["spec"].get("storageClassName").is_some()
            || claim.pointer(annotation).is_some()
        {
            return Ok(());
        }
        if let Some(name) = default_of(world, "storage.k8s.io", "storageclasses", "storageclass") {
            claim["spec"]["storageClassName"] = json!(name);
        }
        Ok(())
    }
}

/// The newest class that is marked as the default; the name decides between equals.
pub(super) fn default_of(
    world: &World<'_>,
    group: &str,
    plural: &str,
    prefix: &str,
) -> Option<String> {
    let stable = format!("{prefix}.kubernetes.io/is-default-class");
    let beta = format!("{prefix}.beta.kubernetes.io/is-default-class");
    let classes = world.objects.list(group, plural, None).into_iter().filter(|class| {
        let annotations = &class["metadata"]["annotations"];
        annotations[&stable] == "true" || annotations[&beta] == "true"
    });
    let newest = classes.max_by(|a, b| {
        let made = |class: &Value| text(class, "/metadata/creationTimestamp").to_owned();
        let name = |class: &Value| text(class, "/metadata/name").to_owned();
        made(a).cmp(&made(b)).then_with(|| name(b).cmp(&name(a)))
    });
    newest.map(|class| text(&class, "/metadata/name").to_owned())
}
