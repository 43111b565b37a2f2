//! Which requests a webhook wants to be asked about.
use super::Ask;
use crate::request_info::RequestInfo;
use crate::server::Context;
use crate::table::Row;
use admission::Operation;
use api::{LabelSelector, Objects, Value};

/// Whether one of the webhook's rules is about the request, seen as one for `row`.
pub(super) fn wants(hook: &Value, info: &RequestInfo, operation: Operation, row: &Row) -> bool {
    let rules = hook["rules"].as_array();
    rules.into_iter().flatten().any(|rule| {
        let gvk = &row.info().gvk;
        has(&rule["operations"], operation_name(operation))
            && has(&rule["apiGroups"], &gvk.group)
            && has(&rule["apiVersions"], &gvk.version)
            && in_scope(rule["scope"].as_str(), info, row)
            && texts(&rule["resources"])
                .any(|resource| names(resource, row.plural(), &info.subresource))
    })
}

pub(super) fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn has(list: &Value, wanted: &str) -> bool {
    texts(list).any(|text| text == "*" || text == wanted)
}

/// A namespace is in itself as far as its path goes, but cluster-scoped.
fn in_scope(scope: Option<&str>, info: &RequestInfo, row: &Row) -> bool {
    let namespaced = !info.namespace.is_empty() && row.info().namespaced();
    match scope {
        Some("Namespaced") => namespaced,
        Some("Cluster") => !namespaced,
        _ => true,
    }
}

/// `pods`, `pods/status`, `pods/*`, `*/scale`, `*` for all without subresources, `*/*` for all.
fn names(text: &str, resource: &str, subresource: &str) -> bool {
    let (wanted, sub) = text.split_once('/').unwrap_or((text, ""));
    (wanted == "*" || wanted == resource) && (sub == "*" || sub == subresource)
}

/// Whether the object's namespace is one that the webhook wants; what is in none, always.
pub(super) fn namespace_selected(
    context: &Context,
    ask: &Ask<'_>,
    hook: &Value,
    object: &Value,
) -> Result<bool, String> {
    let selector = selector(&hook["namespaceSelector"])?;
    if selector.is_everything() {
        return Ok(true);
    }
    let row = &context.row;
    let caches = &context.server.caches;
    let is_namespace = row.group().is_empty() && row.plural() == "namespaces";
    // Of a namespace itself, as it would be.
    let fresh = matches!(ask.operation, Operation::Create | Operation::Update);
    if is_namespace && fresh && context.info.subresource.is_empty() {
        return Ok(selects(&selector, object));
    }
    let name = if is_namespace { ask.name } else { context.info.namespace.as_str() };
    if name.is_empty() || !is_namespace && !row.info().namespaced() {
        return Ok(true);
    }
    let namespace = caches.get("", "namespaces", "", name);
    Ok(selects(&selector, namespace.as_deref().unwrap_or(&Value::Null)))
}

/// Whether the object, as it was or as it would be, is one that the webhook wants.
pub(super) fn object_selected(ask: &Ask<'_>, hook: &Value, object: &Value) -> Result<bool, String> {
    let selector = selector(&hook["objectSelector"])?;
    if selector.is_everything() {
        return Ok(true);
    }
    let has_labels = |object: &Value| object["metadata"].is_object() && selects(&selector, object);
    Ok(has_labels(object) || ask.old.is_some_and(has_labels))
}

/// The field is defaulted: one that is missing selects everything.
fn selector(spec: &Value) -> Result<LabelSelector, String> {
    if spec.is_null() {
        return Ok(LabelSelector::everything());
    }
    let spec = value::from_value(spec).map_err(|error| error.to_string())?;
    LabelSelector::from_spec(Some(&spec)).map_err(|error| error.to_string())
}

fn selects(selector: &LabelSelector, object: &Value) -> bool {
    selector.matches_with(|key| object["metadata"]["labels"].get(key)?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_resources_and_their_parts() {
        for (text, resource, sub, want) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "status", false),
            ("pods/status", "pods", "status", true),
            ("pods/status", "pods", "", false),
            ("pods/*", "pods", "", true),
            ("pods/*", "pods", "exec", true),
            ("pods/*", "services", "", false),
            ("*/scale", "deployments", "scale", true),
            ("*/scale", "deployments", "", false),
            ("*", "pods", "", true),
            ("*", "pods", "status", false),
            ("*/*", "pods", "status", true),
            ("*/*", "pods", "", true),
        ] {
            assert_eq!(names(text, resource, sub), want, "{text} of {resource}/{sub}");
        }
    }
}
