//! What both kinds of webhook configurations have in common.
use crate::at::{items_mut, set_default, sub};
use crate::{At, names};
use api::{FieldErrors, Value};
use value::json;

pub(super) fn default(object: &mut Value, mutating: bool) {
    for hook in items_mut(object, "webhooks") {
        set_default(hook, "failurePolicy", "Fail");
        match_defaults(hook);
        set_default(hook, "timeoutSeconds", 10);
        if mutating {
            set_default(hook, "reinvocationPolicy", "Never");
        }
        for rule in items_mut(hook, "rules") {
            set_default(rule, "scope", "*");
        }
        if let Some(service) = sub(hook, "clientConfig").and_then(|config| sub(config, "service")) {
            set_default(service, "port", 443);
        }
    }
}

/// What is not acted on as it should be.
pub(super) fn warnings(object: &Value) -> Vec<String> {
    let hooks = object["webhooks"].as_array().into_iter().flatten().enumerate();
    let conditional = hooks.filter(|(_, hook)| hook["matchConditions"].is_array());
    let warn = |(index, _)| {
        format!(
            "webhooks[{index}].matchConditions: CEL is not evaluated yet; requests that the rules \
             and selectors match are treated as if the webhook had failed"
        )
    };
    conditional.map(warn).collect()
}

/// Of a webhook, and of the match constraints of a policy.
pub(super) fn match_defaults(holder: &mut Value) {
    set_default(holder, "matchPolicy", "Equivalent");
    set_default(holder, "namespaceSelector", json!({}));
    set_default(holder, "objectSelector", json!({}));
}

pub(super) fn validate(new: &Value, mutating: bool) -> FieldErrors {
    let (mut errors, mut seen) = (FieldErrors::new(), Vec::new());
    for hook in At::root(new).get("webhooks").items() {
        let name = hook.get("name");
        if name.must("", &mut errors) {
            name.each(names::subdomain(name.text(), false), &mut errors);
            if name.text().split('.').count() < 3 {
                let why = "should be a domain with at least three segments separated by dots";
                errors.push(name.invalid(why));
            }
        }
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
        validate_hook(&hook, mutating, &mut errors);
    }
    errors
}

fn validate_hook(hook: &At, mutating: bool, errors: &mut FieldErrors) {
    let versions = hook.get("admissionReviewVersions");
    if versions.is_empty() {
        errors.push(versions.required("must specify one of v1, v1beta1"));
    } else if !versions.texts().any(|version| matches!(version, "v1" | "v1beta1")) {
        errors.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
    for rule in hook.get("rules").items() {
        validate_rule(&rule, errors);
    }
    hook.get("failurePolicy").one_of(&["Fail", "Ignore"], false, errors);
    hook.get("matchPolicy").one_of(&["Equivalent", "Exact"], false, errors);
    let effects = hook.get("sideEffects");
    if effects.is_empty() {
        errors.push(effects.required("must specify one of None, NoneOnDryRun"));
    } else {
        effects.one_of(&["None", "NoneOnDryRun"], true, errors);
    }
    let timeout = hook.get("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        crate::selectors::validate(&hook.get(selector), errors);
    }
    if mutating {
        let policies = ["IfNeeded", "Never"];
        hook.get("reinvocationPolicy").one_of(&policies, false, errors);
    }
    let client = hook.get("clientConfig");
    match (client.has("url"), client.has("service")) {
        (false, false) | (true, true) => {
            errors.push(client.required("exactly one of url or service is required"));
        }
        (true, false) if !client.get("url").text().starts_with("https://") => {
            let why = "'https' is the only allowed URL scheme; desired format: \
                       https://host[/path]";
            errors.push(client.get("url").invalid(why));
        }
        (false, true) => {
            for field in ["namespace", "name"] {
                client.get("service").get(field).must("", errors);
            }
        }
        _ => {}
    }
}

pub(super) fn validate_rule(rule: &At, errors: &mut FieldErrors) {
    for field in ["operations", "apiGroups", "apiVersions", "resources"] {
        let list = rule.get(field);
        list.must("", errors);
        let wild = list.texts().any(|text| text == "*");
        if wild && list.len() > 1 {
            let why = match field {
                "resources" => {
                    "if '*' is present, must not specify other resources without subresources"
                }
                "operations" => "if '*' is present, must not specify other operations",
                "apiGroups" => "if '*' is present, must not specify other API groups",
                _ => "if '*' is present, must not specify other API versions",
            };
            if field != "resources" || list.texts().any(|text| text != "*" && !text.contains('/')) {
                errors.push(list.invalid(why));
            }
        }
    }
    let operations = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    for operation in rule.get("operations").items() {
        operation.one_of(&operations, true, errors);
    }
    rule.get("scope").one_of(&["*", "Cluster", "Namespaced"], false, errors);
}
