//! A pod tolerates a lost node for five minutes, unless it says otherwise.
use crate::{Operation, Plugin, Request, World};
use api::{ApiError, Value};
use value::json;

pub(crate) struct DefaultTolerationSeconds;

const SECONDS: u32 = 300;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }
    fn mutate(&self, _: &World<'_>, ask: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
        let writes = matches!(ask.operation, Operation::Create | Operation::Update);
        if !writes || !ask.is("", "pods") {
            return Ok(());
        }
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let given = pod["spec"]["tolerations"].as_array();
            let tolerated = given.into_iter().flatten().any(|toleration| {
                let its_key = toleration["key"].as_str().unwrap_or_default();
                let effect = toleration["effect"].as_str().unwrap_or_default();
                (its_key.is_empty() || its_key == key) && matches!(effect, "" | "NoExecute")
            });
            if tolerated {
                continue;
            }
            let list = &mut pod["spec"]["tolerations"];
            if list.is_null() {
                *list = json!([]);
            }
            if let Some(list) = list.as_array_mut() {
                list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                                 "tolerationSeconds": SECONDS}));
            }
        }
        Ok(())
    }
}
