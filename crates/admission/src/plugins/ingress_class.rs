//! An ingress that names no class gets the default one.
use super::storage::default_of;
use crate::{Plugin, Request, World};
use api::{ApiError, Value};
use value::json;

pub(crate) struct DefaultIngressClass;

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }
    fn mutate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        let annotation = "/metadata/annotations/kubernetes.io~1ingress.class";
        if !ask.creates("networking.k8s.io", "ingresses")
            || object["spec"].get("ingressClassName").is_some()
            || object.pointer(annotation).is_some()
        {
            return Ok(());
        }
        let group = "networking.k8s.io";
        if let Some(name) = default_of(world, group, "ingressclasses", "ingressclass") {
            object["spec"]["ingressClassName"] = json!(name);
        }
        Ok(())
    }
}
