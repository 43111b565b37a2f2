//! What admission policies and their bindings have in common.
use super::webhooks::{match_defaults, validate_rule};
use crate::at::{items_mut, map_mut, set_default, sub};
use crate::cells::{find, selector, text};
use crate::{At, Column};
use api::{FieldErrors, Value};

pub(super) fn default(object: &mut Value) {
    if map_mut(object, "spec").is_none() {
        return;
    }
    let Some(spec) = sub(object, "spec") else { return };
    set_default(spec, "failurePolicy", "Fail");
    if let Some(constraints) = sub(spec, "matchConstraints") {
        constraint_defaults(constraints);
    }
}

fn constraint_defaults(constraints: &mut Value) {
    match_defaults(constraints);
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in items_mut(constraints, list) {
            set_default(rule, "scope", "*");
        }
    }
}

pub(super) fn default_binding(object: &mut Value) {
    let resources = sub(object, "spec").and_then(|spec| sub(spec, "matchResources"));
    if let Some(resources) = resources {
        constraint_defaults(resources);
    }
}

pub(super) fn validate(spec: &At, errors: &mut FieldErrors) {
    spec.get("failurePolicy").one_of(&["Fail", "Ignore"], true, errors);
    if spec.has("paramKind") {
        for field in ["apiVersion", "kind"] {
            spec.get("paramKind").get(field).must("", errors);
        }
    }
    let constraints = spec.get("matchConstraints");
    if constraints.must("", errors) {
        let rules = constraints.get("resourceRules");
        rules.must("", errors);
        for rule in rules.items() {
            validate_rule(&rule, errors);
        }
    }
}

pub(super) fn validate_binding(spec: &At, errors: &mut FieldErrors) {
    spec.get("policyName").must("", errors);
    let param = spec.get("paramRef");
    if !param.is_set() {
        return;
    }
    match (param.get("name").is_empty(), param.has("selector")) {
        (false, true) => {
            let why = "name and selector are mutually exclusive";
            errors.push(param.get("name").forbidden(why));
        }
        (true, false) => errors.push(param.required("one of name or selector must be specified")),
        _ => {}
    }
    let action = param.get("parameterNotFoundAction");
    action.one_of(&["Allow", "Deny"], true, errors);
}

pub(super) const PARAM_KIND: Column = Column::new(
    "ParamKind",
    "string",
    "ParamKind specifies the kind of resources used to parameterize this policy",
)
.cell(|o, _| match find(o, "spec.paramKind") {
    Value::Null => "<unset>".into(),
    kind => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into(),
});

pub(super) const POLICY_NAME: Column = Column::new(
    "PolicyName",
    "string",
    "PolicyName indicates the policy definition which the policy binding binded to",
)
.cell(|o, _| text(o, "spec.policyName").into());

pub(super) const PARAM_REF: Column = Column::new(
    "ParamRef",
    "string",
    "ParamRef indicates the param resource which sets the configuration param",
)
.cell(|o, _| {
    let param = find(o, "spec.paramRef");
    match (text(param, "name").as_str(), text(param, "namespace").as_str()) {
        ("", _) if !param["selector"].is_null() => {
            selector(param, "selector").unwrap_or_default().into()
        }
        ("", _) => "<unset>".into(),
        (name, "") => format!("*/{name}").into(),
        (name, namespace) => format!("{namespace}/{name}").into(),
    }
});
