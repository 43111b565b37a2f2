//! `bindings`: the old way to bind a pod to a node; never stored.
use crate::{At, Info, Resource, Scope, Verbs};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct Bindings;

static INFO: Info = Info::new(Gvk::fixed("", "v1", "Binding"), "bindings", Scope::Namespaced)
    .verbs(Verbs::CREATE_ONLY);

impl Resource for Bindings {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (target, mut errors) = (At::root(new).get("target"), FieldErrors::new());
        if !matches!(target.get("kind").text(), "" | "Node") {
            let (kind, list) = (target.get("kind"), ["Node", "<empty>"]);
            errors.push(kind.not_supported(&list));
        }
        target.get("name").must("", &mut errors);
        errors
    }
}
