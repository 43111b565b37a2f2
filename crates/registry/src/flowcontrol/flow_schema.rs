//! `flowschemas`: which requests have which priority.
use crate::at::{restore, set, sub};
use crate::cells::{columns, condition, int, text, text_or};
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct FlowSchemas;

static INFO: Info = Info::new(
    Gvk::fixed("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"),
    "flowschemas",
    Scope::Cluster,
)
.subresources(const { &[Subresource::STATUS] })
.with_generation()
.stored_only();

impl Resource for FlowSchemas {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(spec) = sub(object, "spec")
            && spec["matchingPrecedence"].as_i64().unwrap_or_default() == 0
        {
            set(spec, "matchingPrecedence", 1000);
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
        let precedence = spec.get("matchingPrecedence");
        if precedence.number() <= 0 {
            errors.push(FieldError::invalid(
                precedence.path.clone(),
                precedence.number(),
                "must be a positive value",
            ));
        }
        if precedence.number() > 10000 {
            errors.push(precedence.invalid("must not be greater than 10000"));
        }
        let kinds = ["ByNamespace", "ByUser"];
        if spec.has("distinguisherMethod") {
            spec.get("distinguisherMethod.type").one_of(&kinds, true, &mut errors);
        }
        let level = spec.get("priorityLevelConfiguration.name");
        level.must("must reference a priority level", &mut errors);
        for rule in spec.get("rules").items() {
            rule.get("subjects").must("subjects must contain at least one value", &mut errors);
            if rule.get("resourceRules").is_empty() && rule.get("nonResourceRules").is_empty() {
                let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
                errors.push(rule.required(why));
            }
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("PriorityLevel", "string", "The priority level.").cell(|o, _| text(
            o,
            "spec.priorityLevelConfiguration.name"
        )
        .into()),
        Column::new("MatchingPrecedence", "string", "Lower ones are looked at first.")
            .cell(|o, _| int(o, "spec.matchingPrecedence").into()),
        Column::new("DistinguisherMethod", "string", "How flows are told apart.")
            .cell(|o, _| text_or(o, "spec.distinguisherMethod.type", "<none>").into()),
        Column::AGE,
        Column::new(
            "MissingPL",
            "string",
            "references a broken or non-existent PriorityLevelConfiguration",
        )
        .cell(|o, _| match condition(o, "Dangling") {
            "" => "?".into(),
            status => status.into(),
        }),
    ];
}
