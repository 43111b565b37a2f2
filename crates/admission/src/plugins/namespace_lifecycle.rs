//! Nothing is made in a namespace that is not there or is ending; three namespaces cannot be
//! deleted.
use crate::{Operation, Plugin, Request, World};
use api::{ApiError, Value, access::text};

pub(crate) struct NamespaceLifecycle;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }
    fn validate(&self, world: &World<'_>, ask: &Request<'_>, _: &Value) -> Result<(), ApiError> {
        if ask.is("", "namespaces") {
            if ask.operation == Operation::Delete && IMMORTAL.contains(&ask.name) {
                return Err(ask.forbidden("this namespace may not be deleted"));
            }
            return Ok(());
        }
        // Reviews are answered, not stored.
        let review = ask.kind.group == "authorization.k8s.io";
        if ask.namespace.is_empty() || ask.operation != Operation::Create || review {
            return Ok(());
        }
        let Some(namespace) = world.objects.get("", "namespaces", "", ask.namespace) else {
            return Err(ApiError::not_found("", "namespaces", ask.namespace));
        };
        if !ask.subresource.is_empty() || text(&namespace, "/status/phase") != "Terminating" {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            ask.namespace
        );
        let cause = format!("namespace {} is being terminated", ask.namespace);
        Err(ask.forbidden(why).with_cause("NamespaceTerminating", cause, "metadata.namespace"))
    }
}
