//! `namespaces`: scopes for names. One goes away when its `spec.finalizers` are gone.
use crate::at::{map_mut, remove, restore, set, set_default};
use crate::cells::{columns, find, text};
use crate::{At, Column, Info, Resource, Scope, Subresource, Verbs, names};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct Namespaces;

static INFO: Info = Info::new(Gvk::fixed("", "v1", "Namespace"), "namespaces", Scope::Cluster)
    .short(&["ns"])
    .verbs(Verbs::ALL.without(Verbs::DELETE_COLLECTION))
    .subresources(
        const { &[Subresource::new("finalize", Verbs::UPDATE, None), Subresource::STATUS] },
    );

const KEEPER: &str = "kubernetes";

impl Resource for Namespaces {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        let name = text(object, "metadata.name");
        if !name.is_empty()
            && let Some(labels) =
                object.get_mut("metadata").and_then(|meta| map_mut(meta, "labels"))
        {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
        if map_mut(object, "spec").is_some()
            && let Some(status) = map_mut(object, "status")
        {
            status.entry("phase").or_insert_with(|| "Active".into());
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", json!({ "phase": "Active" }));
        let Some(spec) = new.get_mut("spec") else { return };
        set_default(spec, "finalizers", json!([]));
        if let Some(list) = spec["finalizers"].as_array_mut()
            && !list.iter().any(|name| name == KEEPER)
        {
            list.push(KEEPER.into());
        }
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
        restore_spec_finalizers(new, old);
    }
    fn prepare_subresource(&self, name: &str, new: &mut Value, old: &Value) {
        match name {
            "finalize" => restore(new, old, "status"),
            _ => restore(new, old, "spec"),
        }
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for name in At::root(new).get("spec.finalizers").items() {
            validate_finalizer(&name, &mut errors);
        }
        errors
    }
    fn validate_subresource(&self, name: &str, new: &Value, old: &Value) -> FieldErrors {
        if name == "finalize" {
            return self.validate(new, Some(old));
        }
        let (mut errors, phase) = (FieldErrors::new(), At::root(new).get("status.phase"));
        let deleted = !find(new, "metadata.deletionTimestamp").is_null();
        match (deleted, phase.text()) {
            (false, "Active") | (true, "Terminating") => {}
            (false, _) => {
                errors.push(phase.invalid("may only be 'Active' if `deletionTimestamp` is empty"))
            }
            (true, _) => errors.push(
                phase.invalid("may only be 'Terminating' if `deletionTimestamp` is not empty"),
            ),
        }
        errors
    }
    fn validate_name(&self, name: &str, generated_prefix: bool) -> Vec<String> {
        names::label(name, generated_prefix)
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["status.phase", "name"]
    }
    fn field<'a>(&self, object: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
        let path = if path == "name" { "metadata.name" } else { path };
        crate::object::field_text(object, path)
    }
    columns![
        Column::NAME,
        Column::new("Status", "string", "The status of the namespace").cell(|o, _| text(
            o,
            "status.phase"
        )
        .into()),
        Column::AGE,
    ];
}

/// Only the `finalize` subresource changes them.
fn restore_spec_finalizers(new: &mut Value, old: &Value) {
    if map_mut(new, "spec").is_some()
        && let Some(spec) = new.get_mut("spec")
    {
        match old.get("spec") {
            Some(old) => restore(spec, old, "finalizers"),
            None => remove(spec, "finalizers"),
        }
    }
}

fn validate_finalizer(name: &At, errors: &mut FieldErrors) {
    name.each(names::qualified(name.text()), errors);
    if !name.text().contains('/') && name.text() != KEEPER {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(name.invalid(why));
    }
}
