//! `prioritylevelconfigurations`: how many requests at once.
use crate::at::{restore, set, set_default, sub};
use crate::cells::{columns, find, text};
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct PriorityLevelConfigurations;

static INFO: Info = Info::new(
    Gvk::fixed("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration"),
    "prioritylevelconfigurations",
    Scope::Cluster,
)
.subresources(const { &[Subresource::STATUS] })
.with_generation()
.stored_only();

impl Resource for PriorityLevelConfigurations {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        let Some(spec) = sub(object, "spec") else { return };
        for (field, shares) in [("exempt", 0), ("limited", 30)] {
            if let Some(level) = sub(spec, field) {
                set_default(level, "nominalConcurrencyShares", shares);
                set_default(level, "lendablePercent", 0);
            }
        }
        let response = sub(spec, "limited").and_then(|level| sub(level, "limitResponse"));
        if let Some(queuing) = response.and_then(|response| sub(response, "queuing")) {
            for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if queuing[field].as_i64().unwrap_or_default() == 0 {
                    set(queuing, field, value);
                }
            }
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        let kind = spec.get("type");
        match kind.text() {
            "Exempt" if spec.has("limited") => {
                errors
                    .push(spec.get("limited").forbidden("must be nil if the type is not Limited"));
            }
            "Limited" if spec.has("exempt") => {
                errors.push(spec.get("exempt").forbidden("must be nil if the type is Limited"));
            }
            "Limited" if !spec.has("limited") => {
                errors.push(spec.get("limited").required("must not be empty when type is Limited"));
            }
            "Exempt" | "Limited" => {}
            _ => errors.push(kind.not_supported(&["Exempt", "Limited"])),
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("Type", "string", "Exempt or limited.")
            .cell(|o, _| text(o, "spec.type").into()),
        Column::new("NominalConcurrencyShares", "string", "The share of all seats.")
            .cell(|o, _| or_none(o, "spec.limited.nominalConcurrencyShares")),
        Column::new("Queues", "string", "How many queues.")
            .cell(|o, _| or_none(o, "spec.limited.limitResponse.queuing.queues")),
        Column::new("HandSize", "string", "Queues that one flow may use.")
            .cell(|o, _| or_none(o, "spec.limited.limitResponse.queuing.handSize")),
        Column::new("QueueLengthLimit", "string", "Requests in one queue.")
            .cell(|o, _| or_none(o, "spec.limited.limitResponse.queuing.queueLengthLimit")),
        Column::AGE,
    ];
}

fn or_none(object: &Value, path: &str) -> Value {
    match find(object, path) {
        Value::Number(number) => Value::Number(number.clone()),
        _ => "<none>".into(),
    }
}
