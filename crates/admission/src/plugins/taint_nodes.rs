//! A new node takes no pods before the node controller has seen it ready.
use crate::{Plugin, Request, World};
use api::{ApiError, Value};
use value::json;

pub(crate) struct TaintNodesByCondition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }
    fn mutate(&self, _: &World<'_>, ask: &Request<'_>, node: &mut Value) -> Result<(), ApiError> {
        if !ask.creates("", "nodes") {
            return Ok(());
        }
        let taints = &mut node["spec"]["taints"];
        if taints.is_null() {
            *taints = json!([]);
        }
        if let Some(taints) = taints.as_array_mut()
            && !taints
                .iter()
                .any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule")
        {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
