//! Admission webhooks: what others say about a write, over HTTPS.
//!
//! Mutating ones are asked one after the other, in the order of their configurations' names, before
//! the row sees the object; validating ones together, when it is complete. What fails on the way
//! refuses the request or is passed over, as the webhook's `failurePolicy` says.
mod call;
mod review;
mod rules;

use crate::codec::{self, FieldValidation};
use crate::server::{Context, Server};
use crate::table::Row;
use admission::Operation;
use api::{ApiError, Gvk, Objects, Value};
use call::Trouble;
use futures_util::future::join_all;
use std::sync::Arc;

const GROUP: &str = "admissionregistration.k8s.io";
/// What webhooks have no say in: they could keep themselves from being removed.
const EXEMPT: &[&str] = &[
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];
/// What the server sets itself, whatever a webhook makes of it.
const SYSTEM: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generateName",
    "generation",
    "name",
    "namespace",
    "resourceVersion",
    "uid",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Mutating,
    Validating,
}

impl Phase {
    fn plural(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfigurations",
            Self::Validating => "validatingwebhookconfigurations",
        }
    }
}

/// What webhooks are asked about.
pub(crate) struct Ask<'a> {
    pub operation: Operation,
    /// Of the object, which is not the row's for some subresources.
    pub gvk: &'a Gvk,
    /// Empty where it is not known yet.
    pub name: &'a str,
    pub old: Option<&'a Value>,
    pub dry_run: bool,
    /// Of a deletion; those of other verbs are in the request's query.
    pub options: Option<&'a Value>,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(operation: Operation, gvk: &'a Gvk, name: &'a str, dry_run: bool) -> Self {
        Self { operation, gvk, name, old: None, dry_run, options: None }
    }
    pub(crate) fn about(self, old: &'a Value) -> Self {
        Self { old: Some(old), ..self }
    }
}

/// One webhook of a configuration.
#[derive(Clone)]
struct Hook {
    configuration: Arc<Value>,
    index: usize,
}

impl Hook {
    fn value(&self) -> &Value {
        &self.configuration["webhooks"][self.index]
    }
    fn name(&self) -> &str {
        self.value()["name"].as_str().unwrap_or_default()
    }
    fn says(&self, field: &str, what: &str) -> bool {
        self.value()[field] == what
    }
}

/// A webhook that wants to be asked, and the version in which it wants to see the object.
struct Match {
    hook: Hook,
    row: Row,
    /// The row is another version of the request's.
    converted: bool,
}

/// Whether there are any webhooks at all.
pub(crate) fn any(server: &Server) -> bool {
    [Phase::Mutating, Phase::Validating]
        .into_iter()
        .any(|phase| server.caches.of(GROUP, phase.plural()).is_some_and(|cache| !cache.is_empty()))
}

/// Asks mutating webhooks, and does what they say to the object; tells whether there are any.
pub(crate) async fn mutate(
    context: &mut Context,
    ask: &Ask<'_>,
    object: &mut Value,
) -> Result<bool, ApiError> {
    let hooks = hooks(context, Phase::Mutating);
    let asked = !hooks.is_empty();
    // Who wants to be asked again hears of what those after it have changed.
    let mut again = Vec::new();
    for hook in hooks {
        let wants = hook.says("reinvocationPolicy", "IfNeeded");
        match one(context, ask, &hook, object).await? {
            None => continue,
            Some(false) => {}
            Some(true) => again.iter_mut().for_each(|(_, changed)| *changed = true),
        }
        if wants {
            again.push((hook, false));
        }
    }
    for (hook, _) in again.into_iter().filter(|(_, changed)| *changed) {
        one(context, ask, &hook, object).await?;
    }
    Ok(asked)
}

/// Asks one mutating webhook, if it wants that; tells whether it changed the object.
async fn one(
    context: &mut Context,
    ask: &Ask<'_>,
    hook: &Hook,
    object: &mut Value,
) -> Result<Option<bool>, ApiError> {
    let Some(matched) = matched(context, ask, hook, object)? else { return Ok(None) };
    let shown = matched.shown(context, object);
    let asked = call::call(context, ask, &matched, &shown, Phase::Mutating).await;
    let Some(reply) = tolerate(hook, asked)? else { return Ok(Some(false)) };
    context.warnings.extend(reply.warnings);
    let Some(patch) = reply.patch else { return Ok(Some(false)) };
    if ask.operation == Operation::Delete {
        return Err(ApiError::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for \
             this operation",
            hook.name()
        )));
    }
    let patched = merge::json_patch(&shown, &patch);
    let patched = patched.map_err(|error| ApiError::internal(error.to_string()))?;
    let patched = matched.taken(context, ask, &patched, object)?;
    let changed = patched != *object;
    *object = patched;
    Ok(Some(changed))
}

/// Asks validating webhooks, all at the same time.
pub(crate) async fn validate(
    context: &mut Context,
    ask: &Ask<'_>,
    object: &Value,
) -> Result<(), ApiError> {
    let mut wanted = Vec::new();
    for hook in hooks(context, Phase::Validating) {
        wanted.extend(matched(context, ask, &hook, object)?);
    }
    let this = &*context;
    let calls = wanted.iter().map(async |matched| {
        let shown = matched.shown(this, object);
        call::call(this, ask, matched, &shown, Phase::Validating).await
    });
    let replies = join_all(calls.collect::<Vec<_>>()).await;
    for (matched, reply) in wanted.iter().zip(replies) {
        let reply = tolerate(&matched.hook, reply)?;
        context.warnings.extend(reply.into_iter().flat_map(|reply| reply.warnings));
    }
    Ok(())
}

/// Both, for what is not stored as it comes; whatever follows from it is not asked about again.
pub(crate) async fn review(
    context: &mut Context,
    ask: &Ask<'_>,
    object: &mut Value,
) -> Result<(), ApiError> {
    mutate(context, ask, object).await?;
    validate(context, ask, object).await?;
    context.reviewed = true;
    Ok(())
}

/// As [`review`], for what a subresource or a virtual row is sent.
pub(crate) async fn creates(
    context: &mut Context,
    gvk: &Gvk,
    name: &str,
    object: &mut Value,
) -> Result<(), ApiError> {
    let ask = Ask::new(Operation::Create, gvk, name, context.dry_run()?);
    review(context, &ask, object).await
}

fn hooks(context: &Context, phase: Phase) -> Vec<Hook> {
    let exempt = context.row.group() == GROUP && EXEMPT.contains(&context.row.plural());
    let none = || context.server.caches.of(GROUP, phase.plural()).is_none_or(|c| c.is_empty());
    if exempt || context.reviewed || none() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for configuration in context.server.caches.list(GROUP, phase.plural(), None) {
        let count = configuration["webhooks"].as_array().map_or(0, Vec::len);
        all.extend(
            (0..count).map(|index| Hook { configuration: Arc::clone(&configuration), index }),
        );
    }
    all
}

/// The webhook's match for the request, if it is one of those that it wants to be asked about.
fn matched(
    context: &Context,
    ask: &Ask<'_>,
    hook: &Hook,
    object: &Value,
) -> Result<Option<Match>, ApiError> {
    let value = hook.value();
    let Some((row, converted)) = row(context, ask, value) else { return Ok(None) };
    let selected = rules::namespace_selected(context, ask, value, object)
        .and_then(|selected| Ok(selected && rules::object_selected(ask, value, object)?));
    match selected {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(why) => return refused(hook, why).map(|()| None),
    }
    if value["matchConditions"].as_array().is_some_and(|list| !list.is_empty()) {
        let why = "its matchConditions cannot be evaluated yet".to_owned();
        return refused(hook, why).map(|()| None);
    }
    Ok(Some(Match { hook: hook.clone(), row, converted }))
}

/// The request's own row, or another version of it that the webhook has a rule for.
fn row(context: &Context, ask: &Ask<'_>, hook: &Value) -> Option<(Row, bool)> {
    let own = &context.row;
    let wants = |row: &Row| rules::wants(hook, &context.info, ask.operation, row);
    if wants(own) {
        return Some((own.clone(), false));
    }
    if hook["matchPolicy"] != "Equivalent" {
        return None;
    }
    let table = context.server.table();
    let storage = own.info().storage();
    let other = table.rows.iter().find(|row| row.info().storage() == storage && wants(row))?;
    Some((other.clone(), *ask.gvk == own.info().gvk))
}

impl Match {
    /// The object in the version that the webhook wants.
    fn shown(&self, context: &Context, object: &Value) -> Value {
        if !self.converted || object.is_null() {
            return object.clone();
        }
        codec::from_stored(&self.row, codec::to_stored(&context.row, object.clone()))
    }

    fn gvk<'a>(&'a self, ask: &'a Ask<'_>) -> &'a Gvk {
        if self.converted { &self.row.info().gvk } else { ask.gvk }
    }

    /// What the webhook made of the object, as the request's kind has it.
    fn taken(
        &self,
        context: &Context,
        ask: &Ask<'_>,
        patched: &Value,
        before: &Value,
    ) -> Result<Value, ApiError> {
        let ignore = FieldValidation::Ignore;
        let mut value = if *ask.gvk == context.row.info().gvk {
            let (value, _) = codec::recheck(patched, &self.row, ignore)?;
            match self.converted {
                true => codec::from_stored(&context.row, codec::to_stored(&self.row, value)),
                false => value,
            }
        } else {
            codec::recheck(patched, ask.gvk, ignore)?.0
        };
        if before["metadata"].is_object() {
            let metadata = crate::meta::of(&mut value);
            for key in SYSTEM {
                match before["metadata"].get(*key) {
                    Some(old) => metadata.insert((*key).to_owned(), old.clone()),
                    None => metadata.remove(*key),
                };
            }
        }
        Ok(value)
    }
}

/// The answer; nothing, where the webhook failed and that is to be passed over.
fn tolerate<T>(hook: &Hook, asked: Result<T, Trouble>) -> Result<Option<T>, ApiError> {
    match asked {
        Ok(reply) => Ok(Some(reply)),
        Err(Trouble::Denied(error)) => Err(error),
        Err(Trouble::Failed(why)) => refused(hook, why).map(|()| None),
    }
}

/// What becomes of a request about which the webhook could not be asked.
fn refused(hook: &Hook, why: String) -> Result<(), ApiError> {
    let name = hook.name();
    if hook.says("failurePolicy", "Ignore") {
        tracing::warn!(webhook = name, why, "a webhook failed and is passed over");
        return Ok(());
    }
    Err(ApiError::internal(format!("failed calling webhook {name:?}: {why}")))
}
