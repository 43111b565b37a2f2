//! Subresources, and the rows that are answered without being stored.
//!
//! A subresource that writes its object (`status`, `finalize`, …) takes the object's own path; the
//! row says what it may change. The others have a file each.
mod binding;
mod eviction;
pub(crate) mod review;
mod scale;
mod token;

use crate::body::Body;
use crate::server::Context;
use crate::verbs::{self, read, read_body, update};
use crate::{proxy, reply};
use api::{ApiError, Gvk, Value};
use http::{Request, Response, StatusCode};
use registry::Verbs;
use value::{Map, json};

pub(crate) async fn run(
    mut context: Context,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let row = context.row.clone();
    let sub = context.info.subresource.clone();
    let known = row.info().subresources.iter().find(|known| known.name == sub);
    let known = known.ok_or_else(ApiError::no_such_path)?;
    if context.info.name.is_empty() {
        return Err(ApiError::no_such_path());
    }
    if matches!(sub.as_str(), "exec" | "attach" | "portforward" | "log" | "proxy") {
        return proxy::run(context, request).await;
    }
    let needs = match context.info.verb {
        "get" => Verbs::GET,
        "create" => Verbs::CREATE,
        "update" => Verbs::UPDATE,
        "patch" => Verbs::PATCH,
        _ => return Err(verbs::not_allowed()),
    };
    if !known.verbs.has(needs) {
        return Err(verbs::not_allowed());
    }
    match (sub.as_str(), context.info.verb) {
        ("scale", _) => scale::run(&mut context, &read_body(request).await?).await,
        ("binding", "create") => binding::run(&mut context, &read_body(request).await?).await,
        ("eviction", "create") => eviction::run(&mut context, &read_body(request).await?).await,
        ("token", "create") => token::run(&mut context, &read_body(request).await?).await,
        (_, "get") => read::get(&context).await,
        (_, "update" | "patch") => update::run(&mut context, &read_body(request).await?).await,
        _ => Err(verbs::not_allowed()),
    }
}

pub(crate) enum Virtual {
    Answered(Response<Body>),
    /// An ordinary row: the request goes on.
    Stored(Request<Body>),
}

/// Answers for rows whose objects are made when asked for.
pub(crate) async fn virtual_row(
    context: &Context,
    request: Request<Body>,
) -> Result<Virtual, ApiError> {
    let (group, plural) = (context.row.group(), context.row.plural());
    let answer = match (group, plural, context.info.verb) {
        ("", "componentstatuses", verb) => component_status(context, verb)?,
        ("", "bindings", "create") => {
            let mut context = context.again();
            binding::legacy(&mut context, &read_body(request).await?).await?
        }
        ("authentication.k8s.io" | "authorization.k8s.io", _, "create") => {
            review::run(context, &read_body(request).await?).await?
        }
        _ => return Ok(Virtual::Stored(request)),
    };
    Ok(Virtual::Answered(answer))
}

fn component_status(context: &Context, verb: &str) -> Result<Response<Body>, ApiError> {
    let make = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "ComponentStatus", "metadata": { "name": name },
            "conditions": [{ "type": "Healthy", "status": "True", "message": "ok" }],
        })
    };
    const NAMES: [&str; 3] = ["controller-manager", "scheduler", "etcd-0"];
    let wanted = context.wanted()?;
    let builder = reply::with_warnings(
        Response::builder().status(StatusCode::OK),
        &context.row.warnings(&Value::Null, None),
    );
    let table = |objects: &[Value]| {
        let include = crate::tabular::Include::parse(context.query.get("includeObject"))?;
        let table = crate::tabular::Tabular::new(&context.row, wanted.meta_version, include);
        let rows: Vec<Value> = objects.iter().map(|object| table.row(object)).collect();
        Ok::<_, ApiError>(table.table(json!({}), &rows, true))
    };
    let is_table = wanted.form == crate::negotiate::Form::Table;
    let (gvk, value) = if verb == "get" {
        let name = NAMES.into_iter().find(|name| *name == context.info.name);
        let object = make(name.ok_or_else(|| context.not_found())?);
        if is_table {
            (crate::tabular::table_gvk(wanted.meta_version), table(&[object])?)
        } else {
            (context.row.info().gvk.clone(), object)
        }
    } else {
        let items: Vec<Value> = NAMES.into_iter().map(make).collect();
        if is_table {
            (crate::tabular::table_gvk(wanted.meta_version), table(&items)?)
        } else {
            let list = json!({
                "apiVersion": "v1", "kind": "ComponentStatusList", "metadata": {}, "items": items,
            });
            (Gvk::fixed("", "v1", "ComponentStatusList"), list)
        }
    };
    let bytes = crate::codec::encode(&gvk, wanted.encoding, value.to_string().into())?;
    Ok(reply::bytes(builder, wanted, bytes))
}

/// A request for a certificate says who made it; nobody may say that for another.
pub(crate) fn stamp_requester(context: &Context, value: &mut Value) {
    let csr = ("certificates.k8s.io", "certificatesigningrequests");
    if (context.row.group(), context.row.plural()) != csr {
        return;
    }
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    let user = &context.user;
    spec.insert("username", user.name.as_str().into());
    spec.insert("groups", json!(user.groups));
    if !user.uid.is_empty() {
        spec.insert("uid", user.uid.as_str().into());
    }
    if !user.extra.is_empty() {
        spec.insert("extra", json!(user.extra));
    }
}

/// A write of a subresource changes only what the subresource is about.
pub(crate) fn keep_rest(sub: &str, new: &mut Map, old: &Value) {
    let Some(old) = old.as_object() else { return };
    let own: &[&str] = match sub {
        "status" | "approval" => &["status"],
        "finalize" | "ephemeralcontainers" | "resize" => &["spec"],
        _ => return,
    };
    let keep = |key: &str| matches!(key, "apiVersion" | "kind" | "metadata") || own.contains(&key);
    new.retain(|key, _| keep(key));
    for (key, value) in old {
        if !keep(key) {
            new.insert(key.clone(), value.clone());
        }
    }
}

impl Context {
    /// The same request, for a step of its own.
    pub(crate) fn again(&self) -> Context {
        Context {
            server: self.server.clone(),
            user: self.user.clone(),
            peer: self.peer,
            info: self.info.clone(),
            query: self.query.clone(),
            row: self.row.clone(),
            user_agent: self.user_agent.clone(),
            accept: self.accept.clone(),
            content_type: self.content_type.clone(),
            warnings: Vec::new(),
            reviewed: self.reviewed,
        }
    }
    /// The same request for one object.
    pub(crate) fn at(&self, namespace: &str, name: &str) -> Context {
        let mut context = self.again();
        context.info.namespace = namespace.to_owned();
        context.info.name = name.to_owned();
        context
    }
    /// The same request for one object of another row, in the core group.
    pub(crate) fn core(&self, plural: &str, name: &str) -> Result<Context, ApiError> {
        let mut context = self.at(&self.info.namespace, name);
        let table = self.server.table();
        let row = table.find("", "v1", plural).ok_or_else(ApiError::no_such_path)?;
        context.row = row.clone();
        context.info.group = String::new();
        context.info.resource = plural.to_owned();
        Ok(context)
    }
}
