//! A pod's runtime class must be there; it brings its overhead and its scheduling.
use crate::{Plugin, Request, World};
use api::{ApiError, Value, access::text};
use value::json;

pub(crate) struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }
    fn mutate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        pod: &mut Value,
    ) -> Result<(), ApiError> {
        if !ask.creates("", "pods") {
            return Ok(());
        }
        let name = text(pod, "/spec/runtimeClassName").to_owned();
        if name.is_empty() {
            if pod["spec"]["overhead"].as_object().is_some_and(|map| !map.is_empty()) {
                let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass \
                           defined Overhead";
                return Err(ask.forbidden(why));
            }
            return Ok(());
        }
        let class = world.objects.get("node.k8s.io", "runtimeclasses", "", &name);
        let class = class.ok_or_else(|| {
            ask.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))
        })?;
        let fixed = &class["overhead"]["podFixed"];
        let given = &pod["spec"]["overhead"];
        if fixed.is_object() {
            if given.is_object() && given != fixed {
                return Err(ask.forbidden(
                    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
                ));
            }
            pod["spec"]["overhead"] = fixed.clone();
        } else if given.as_object().is_some_and(|map| !map.is_empty()) {
            return Err(ask.forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ));
        }
        schedule(ask, pod, &class["scheduling"])
    }
}

fn schedule(ask: &Request<'_>, pod: &mut Value, scheduling: &Value) -> Result<(), ApiError> {
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let selector = &mut pod["spec"]["nodeSelector"];
        if selector.is_null() {
            *selector = json!({});
        }
        if selector.get(key).is_some_and(|given| given != value) {
            return Err(ask.forbidden(
                "conflict: runtimeClass.scheduling.nodeSelector conflicts with pod's nodeSelector",
            ));
        }
        selector[key] = value.clone();
    }
    for toleration in scheduling["tolerations"].as_array().into_iter().flatten() {
        let list = &mut pod["spec"]["tolerations"];
        if list.is_null() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut()
            && !list.contains(toleration)
        {
            list.push(toleration.clone());
        }
    }
    Ok(())
}
