//! Reviews: questions about who a token is and what someone may do, answered and forgotten.
use crate::body::Body;
use crate::codec::{self, FieldValidation};
use crate::identity;
use crate::server::Context;
use crate::verbs::object;
use crate::webhooks;
use api::{ApiError, Attributes, FieldError, User, Value};
use authz::rbac::Rule;
use http::{Response, StatusCode};
use value::{Map, json};

pub(crate) async fn run(context: &Context, bytes: &[u8]) -> Result<Response<Body>, ApiError> {
    let validation = FieldValidation::parse(context.query.get("fieldValidation"))?;
    let gvk = context.row.info().gvk.clone();
    let (mut review, warnings) = codec::decode(bytes, &context.content_type, &gvk, validation)?;
    let mut context = context.again();
    context.warnings.extend(warnings);
    webhooks::creates(&mut context, &gvk, "", &mut review).await?;
    let status = match gvk.kind.as_ref() {
        "TokenReview" => token(&context, &review)?,
        "SelfSubjectReview" => json!({ "userInfo": user_info(&context.user) }),
        "SubjectAccessReview" => access(&context, &review, &subject(&review)?)?,
        "LocalSubjectAccessReview" => {
            let wanted = &review["spec"]["resourceAttributes"]["namespace"];
            if wanted.as_str().unwrap_or_default() != context.info.namespace {
                return Err(invalid(
                    &review,
                    FieldError::invalid(
                        "spec.resourceAttributes.namespace",
                        wanted.clone(),
                        "must match metadata.namespace",
                    ),
                ));
            }
            access(&context, &review, &subject(&review)?)?
        }
        "SelfSubjectAccessReview" => access(&context, &review, &context.user)?,
        "SelfSubjectRulesReview" => rules(&context, &review)?,
        _ => return Err(ApiError::no_such_path()),
    };
    review["status"] = status;
    object::respond_value(&context, StatusCode::CREATED, &review)
}

fn invalid(review: &Value, error: FieldError) -> ApiError {
    let gvk = api::Gvk::new(
        review["apiVersion"].as_str().unwrap_or_default(),
        review["kind"].as_str().unwrap_or_default(),
    );
    ApiError::invalid(&gvk.group, &gvk.kind, "", &[error])
}

pub(crate) fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn token(context: &Context, review: &Value) -> Result<Value, ApiError> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = texts(&review["spec"]["audiences"]);
    Ok(match identity::tokens(&context.server).authenticate(token, &audiences) {
        Ok(found) => json!({
            "authenticated": true, "user": user_info(&found.user), "audiences": found.audiences,
        }),
        Err(error) => json!({ "error": error.to_string(), "user": {} }),
    })
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subject(review: &Value) -> Result<User, ApiError> {
    let spec = &review["spec"];
    let text = |key: &str| spec[key].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    let user = User {
        name: text("user"),
        uid: text("uid"),
        groups: texts(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.to_string(), texts(values))).collect(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(invalid(review, FieldError::invalid("spec.user", "", why)));
    }
    Ok(user)
}

fn access(context: &Context, review: &Value, user: &User) -> Result<Value, ApiError> {
    let spec = &review["spec"];
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let both = resource.is_object() && path.is_object();
    if both || (!resource.is_object() && !path.is_object()) {
        let field = "spec.resourceAttributes";
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let why =
            if both { "cannot be specified in combination with resourceAttributes" } else { why };
        let field = if both { "spec.nonResourceAttributes" } else { field };
        return Err(invalid(review, FieldError::invalid(field, Value::Null, why)));
    }
    let from = if resource.is_object() { resource } else { path };
    let text = |key: &str| from[key].as_str().unwrap_or_default().to_owned();
    let selector = resource["fieldSelector"]["requirements"].as_array().map(|list| {
        let terms = list.iter().filter_map(|requirement| {
            let values = requirement["values"].as_array()?;
            let equal = match requirement["operator"].as_str()? {
                "In" => true,
                "NotIn" => false,
                _ => return None,
            };
            let (1, Some(value)) = (values.len(), values[0].as_str()) else { return None };
            let path = requirement["key"].as_str()?.to_owned();
            Some(api::selector::FieldTerm { path, equal, value: value.to_owned() })
        });
        api::FieldSelector { terms: terms.collect() }
    });
    let wanted = Attributes {
        verb: text("verb"),
        group: text("group"),
        version: text("version"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        path: text("path"),
        field_selector: selector,
    };
    let decision = context.server.authorizer.authorize(user, &wanted);
    let mut status = json!({ "allowed": decision.allowed() });
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    Ok(status)
}

fn rules(context: &Context, review: &Value) -> Result<Value, ApiError> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let mut rules = context.server.authorizer.rbac.rules_for(&context.user, namespace);
    if context.user.in_group(User::MASTERS) {
        let all = || vec!["*".to_owned()];
        rules.push(Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() });
        rules.push(Rule { verbs: all(), paths: all(), ..Rule::default() });
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        let mut out = Map::new();
        out.insert("verbs", json!(rule.verbs));
        if !rule.paths.is_empty() {
            out.insert("nonResourceURLs", json!(rule.paths));
            paths.push(Value::Object(out.clone()));
            out.remove("nonResourceURLs");
        }
        if !rule.resources.is_empty() {
            out.insert("apiGroups", json!(rule.groups));
            out.insert("resources", json!(rule.resources));
            if !rule.names.is_empty() {
                out.insert("resourceNames", json!(rule.names));
            }
            resources.push(Value::Object(out));
        }
    }
    // The node authorizer decides by what it sees, which no list of rules can say.
    let incomplete = context.user.node_name().is_some();
    let mut status = json!({
        "resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete,
    });
    if incomplete {
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    Ok(status)
}
