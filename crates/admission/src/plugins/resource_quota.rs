//! A namespace's quotas: nothing is made that would go over one.
//!
//! Usage is counted over live objects, so that two writes in a row cannot pass on one stale status;
//! the quota controller writes the status.
use crate::{Operation, Plugin, Request, World};
use api::quota::{Usage, in_scope, quantities, usage_of};
use api::{ApiError, Quantity, Value, access::text};

pub(crate) struct ResourceQuota;

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }
    fn validate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        object: &Value,
    ) -> Result<(), ApiError> {
        let grows = ask.operation == Operation::Create
            || (ask.operation == Operation::Update
                && matches!(ask.resource, "services" | "persistentvolumeclaims"));
        if !grows || ask.namespace.is_empty() || !ask.subresource.is_empty() {
            return Ok(());
        }
        let quotas = world.objects.list("", "resourcequotas", Some(ask.namespace));
        if quotas.is_empty() {
            return Ok(());
        }
        let group = ask.kind.group.as_ref();
        let wanted = usage_of(group, ask.resource, object);
        let before = ask.old.map(|old| usage_of(group, ask.resource, old)).unwrap_or_default();
        for quota in quotas {
            if !in_scope(&quota, ask.resource, object) {
                continue;
            }
            check(world, ask, &quota, &wanted, &before)?;
        }
        Ok(())
    }
}

fn check(
    world: &World<'_>,
    ask: &Request<'_>,
    quota: &Value,
    wanted: &Usage,
    before: &Usage,
) -> Result<(), ApiError> {
    let hard = quantities(&quota["spec"]["hard"]);
    let name = text(quota, "/metadata/name");
    let compute =
        ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    if ask.resource == "pods" {
        let missing: Vec<&str> = hard
            .keys()
            .map(String::as_str)
            .filter(|key| compute.contains(key) && !wanted.contains_key(*key))
            .collect();
        if !missing.is_empty() {
            return Err(
                ask.forbidden(format!("failed quota: {name}: must specify {}", missing.join(",")))
            );
        }
    }
    let touched: Vec<&String> = hard.keys().filter(|key| wanted.contains_key(*key)).collect();
    if touched.is_empty() {
        return Ok(());
    }
    let mut used = Usage::new();
    for other in world.objects.list(&ask.kind.group, ask.resource, Some(ask.namespace)) {
        let itself = ask.old.is_some()
            && other["metadata"]["uid"] == ask.old.unwrap_or(&other)["metadata"]["uid"];
        if !itself && in_scope(quota, ask.resource, &other) {
            for (key, amount) in usage_of(&ask.kind.group, ask.resource, &other) {
                let sum = used.entry(key).or_insert(Quantity::ZERO);
                *sum = sum.plus(&amount);
            }
        }
    }
    let mut over = Vec::new();
    for key in touched {
        let more = wanted[key];
        let grows = before.get(key).is_none_or(|old| more > *old);
        let have = used.get(key).copied().unwrap_or(Quantity::ZERO);
        if grows && have.plus(&more) > hard[key] {
            over.push((key, more, have, hard[key]));
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    let list = |pick: &dyn Fn(&(&String, Quantity, Quantity, Quantity)) -> Quantity| {
        let parts: Vec<String> =
            over.iter().map(|one| format!("{}={}", one.0, pick(one))).collect();
        parts.join(",")
    };
    Err(ask.forbidden(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        list(&|one| one.1),
        list(&|one| one.2),
        list(&|one| one.3)
    )))
}
