//! `pods`: the unit that runs on a node. Its template parts are shared by every workload kind.
pub(crate) mod columns;
pub(crate) mod defaults;
pub(crate) mod prepare;
pub(crate) mod validate;

use crate::at::{restore, set};
use crate::cells::{int, text};
use crate::{Column, Deletion, Info, Resource, Scope, Subresource, Verbs};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct Pods;

const STREAM: Verbs = Verbs::CREATE.and(Verbs::GET);
const CHANGE: Verbs = Verbs::GET.and(Verbs::PATCH).and(Verbs::UPDATE);
pub(crate) const PROXY: Verbs = CHANGE.and(Verbs::CREATE).and(Verbs::DELETE);

static INFO: Info = Info::new(Gvk::fixed("", "v1", "Pod"), "pods", Scope::Namespaced)
    .short(&["po"])
    .categories(&["all"])
    .with_generation()
    .subresources(
        const {
            &[
                Subresource::new("attach", STREAM, Some(Gvk::fixed("", "v1", "PodAttachOptions"))),
                Subresource::new("binding", Verbs::CREATE, Some(Gvk::fixed("", "v1", "Binding"))),
                Subresource::new("ephemeralcontainers", CHANGE, None),
                Subresource::new(
                    "eviction",
                    Verbs::CREATE,
                    Some(Gvk::fixed("policy", "v1", "Eviction")),
                ),
                Subresource::new("exec", STREAM, Some(Gvk::fixed("", "v1", "PodExecOptions"))),
                Subresource::new("log", Verbs::GET, None),
                Subresource::new(
                    "portforward",
                    STREAM,
                    Some(Gvk::fixed("", "v1", "PodPortForwardOptions")),
                ),
                Subresource::new("proxy", PROXY, Some(Gvk::fixed("", "v1", "PodProxyOptions"))),
                Subresource::new("resize", CHANGE, None),
                Subresource::STATUS,
            ]
        },
    );

impl Resource for Pods {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        defaults::pod(object);
    }
    fn prepare_create(&self, new: &mut Value) {
        prepare::create(new);
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
        if new["spec"]["resources"].is_null()
            && let Some(resources) = old["spec"].get("resources")
            && let Some(spec) = crate::at::sub(new, "spec")
        {
            set(spec, "resources", resources.clone());
        }
    }
    fn prepare_subresource(&self, name: &str, new: &mut Value, old: &Value) {
        match name {
            "status" => prepare::status(new, old),
            "ephemeralcontainers" => prepare::ephemeral_containers(new, old),
            "resize" => prepare::resize(new, old),
            _ => {}
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        validate::pod(new, old)
    }
    fn validate_subresource(&self, name: &str, new: &Value, old: &Value) -> FieldErrors {
        validate::subresource(name, new, old)
    }
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let name = text(new, "metadata.name");
        let texts = crate::names::label(&name, false);
        if old.is_some() || name.is_empty() || texts.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising \
             behavior; a DNS label is recommended: [{}]",
            texts.join(" ")
        )]
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ]
    }
    fn field<'a>(&self, object: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
        match path {
            "spec.hostNetwork" => {
                let on = object["spec"]["hostNetwork"].as_bool() == Some(true);
                Some(if on { "true" } else { "false" }.into())
            }
            "status.podIPs" => crate::object::field_text(object, "status.podIP"),
            _ => crate::object::field_text(object, path),
        }
    }
    fn columns(&self) -> &[Column] {
        columns::COLUMNS
    }
    fn deletion(&self, pod: &Value, grace_seconds: Option<i64>) -> Deletion {
        let own = int(pod, "spec.terminationGracePeriodSeconds");
        let seconds = match grace_seconds.unwrap_or(own) {
            seconds if seconds < 0 => 1,
            seconds => seconds,
        };
        let over = matches!(text(pod, "status.phase").as_str(), "Failed" | "Succeeded");
        if seconds == 0 || over || text(pod, "spec.nodeName").is_empty() {
            return Deletion::Now;
        }
        Deletion::Graceful { grace_seconds: seconds }
    }
}

#[cfg(test)]
mod tests;
