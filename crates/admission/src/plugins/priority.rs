//! Turns a pod's priority class into its priority and preemption policy.
use crate::{Plugin, Request, World};
use api::{ApiError, Value, access::text};
use value::json;

pub(crate) struct Priority;

const GROUP: &str = "scheduling.k8s.io";

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
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
        let named = text(pod, "/spec/priorityClassName").to_owned();
        let class = if named.is_empty() {
            let classes = world.objects.list(GROUP, "priorityclasses", None);
            let global = classes.into_iter().filter(|class| class["globalDefault"] == true);
            global.min_by_key(|class| class["value"].as_i64())
        } else {
            let class = world.objects.get(GROUP, "priorityclasses", "", &named);
            Some(class.ok_or_else(|| {
                ask.forbidden(format!("no PriorityClass with name {named} was found"))
            })?)
        };
        let value = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
        let policy = class.as_ref().map_or("", |class| text(class, "/preemptionPolicy"));
        let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
        if pod["spec"]["priority"].as_i64().is_some_and(|given| given != value) {
            return Err(ask.forbidden(
                "the integer value of priority must not be provided in pod spec; priority \
                 admission controller computed {value} from the given PriorityClass name"
                    .replace("{value}", &value.to_string()),
            ));
        }
        let given = text(pod, "/spec/preemptionPolicy");
        if !given.is_empty() && given != policy {
            return Err(ask.forbidden(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
                 priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        if named.is_empty()
            && let Some(class) = &class
        {
            pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
        }
        pod["spec"]["priority"] = json!(value);
        pod["spec"]["preemptionPolicy"] = json!(policy);
        Ok(())
    }
    fn validate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        class: &Value,
    ) -> Result<(), ApiError> {
        let writes = matches!(ask.operation, crate::Operation::Create | crate::Operation::Update);
        if !writes || !ask.is(GROUP, "priorityclasses") || class["globalDefault"] != true {
            return Ok(());
        }
        let other = world.objects.list(GROUP, "priorityclasses", None).into_iter().find(|other| {
            other["globalDefault"] == true && other["metadata"]["name"] != class["metadata"]["name"]
        });
        match other {
            None => Ok(()),
            Some(other) => Err(ask.forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                text(&other, "/metadata/name")
            ))),
        }
    }
}
