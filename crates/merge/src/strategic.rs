//! Strategic merge patch: lists merge by the keys that the schema names, and directives in the
//! patch (`$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`) say the
//! rest.
mod lists;

use crate::PatchError;
use lists::{enforce_order, merge_lists};
use schema::{Field, Strategies, TypeRef};
use std::collections::HashSet;
use value::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Applies `patch` to an object of type `ty`.
pub fn strategic(document: &Value, patch: &Value, ty: TypeRef<'_>) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::malformed("a strategic merge patch is an object"));
    };
    let Value::Object(document) = document else {
        return Err(PatchError::unfit("only an object can be patched"));
    };
    merge_maps(document.clone(), patch.clone(), Some(ty)).map(Value::Object)
}

/// What the schema says of one member of a map.
#[derive(Clone, Copy, Default)]
struct Member<'g> {
    ty: Option<TypeRef<'g>>,
    merge_key: Option<&'g str>,
    strategies: Strategies,
}

impl<'g> Member<'g> {
    fn of(ty: Option<TypeRef<'g>>, name: &str) -> Member<'g> {
        let Some(ty) = ty else { return Member::default() };
        match ty.field(name) {
            Some((field, ty)) => Member::declared(field, ty),
            None => Member { ty: ty.child(name), ..Member::default() },
        }
    }

    fn declared(field: &'g Field, ty: TypeRef<'g>) -> Member<'g> {
        let merge_key = field.merge_key.as_deref();
        Member { ty: Some(ty), merge_key, strategies: field.strategies }
    }
}

fn merge_maps(
    mut original: Map,
    mut patch: Map,
    ty: Option<TypeRef<'_>>,
) -> Result<Map, PatchError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(&directive, &patch)),
        };
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        retain_keys(&mut original, &patch, &keys)?;
    }
    for name in names_after(&patch, SET_ORDER) {
        let order = patch.remove(&format!("{SET_ORDER}{name}")).unwrap_or_default();
        let change = patch.remove(&name);
        set_order(&mut original, change, &order, &name, Member::of(ty, &name))?;
    }
    for name in names_after(&patch, DELETE_PRIMITIVES) {
        let gone = patch.remove(&format!("{DELETE_PRIMITIVES}{name}")).unwrap_or_default();
        delete_primitives(&mut original, &name, &gone)?;
    }
    for (name, change) in patch {
        if change.is_null() {
            original.remove(&name);
            continue;
        }
        let merged = match (original.remove(&name), change) {
            (Some(Value::Object(old)), Value::Object(change)) => {
                let member = Member::of(ty, &name);
                Some(Value::Object(match member.strategies.replace {
                    true => change,
                    false => merge_maps(old, change, member.ty)?,
                }))
            }
            (Some(Value::Array(old)), Value::Array(change)) => {
                let member = Member::of(ty, &name);
                Some(Value::Array(match member.strategies.merge {
                    true => merge_lists(old, change, member)?,
                    false => change,
                }))
            }
            (_, change) => without_directives(without_nulls(change)),
        };
        if let Some(merged) = merged {
            original.insert(name, merged);
        }
    }
    Ok(original)
}

/// Only what the directive names stays of a union; the patch may set nothing else.
fn retain_keys(original: &mut Map, patch: &Map, keys: &Value) -> Result<(), PatchError> {
    let Value::Array(keys) = keys else {
        return Err(PatchError::malformed("invalid patch format of retainKeys"));
    };
    let retained = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let fits = patch.iter().all(|(name, change)| {
        let directive = name.starts_with(DELETE_PRIMITIVES) || name.starts_with(SET_ORDER);
        change.is_null() || directive || retained(name)
    });
    if !fits {
        return Err(PatchError::malformed("patch content doesn't match retainKeys list"));
    }
    original.retain(|name, _| retained(name));
    Ok(())
}

fn set_order(
    original: &mut Map,
    change: Option<Value>,
    order: &Value,
    name: &str,
    member: Member<'_>,
) -> Result<(), PatchError> {
    let Value::Array(order) = order else {
        return Err(PatchError::malformed("invalid patch format of setElementOrder list"));
    };
    let change = change.map(list).transpose()?;
    if let Some(change) = &change {
        lists::check_order(change, order, member.merge_key)?;
    }
    let old = original.get(name).filter(|old| !old.is_null()).cloned().map(list).transpose()?;
    let live = old.clone().unwrap_or_default();
    let merged = match (old, change) {
        (None, None) => return Ok(()),
        (Some(old), None) => old,
        (None, Some(change)) => change.into_iter().filter_map(without_directives).collect(),
        (Some(old), Some(change)) => match member.strategies.merge {
            true => merge_lists(old, change, member)?,
            false => change,
        },
    };
    let ordered = enforce_order(merged, order, &live, member.merge_key)?;
    original.insert(name.to_owned(), Value::Array(ordered));
    Ok(())
}

fn delete_primitives(original: &mut Map, name: &str, gone: &Value) -> Result<(), PatchError> {
    let Value::Array(gone) = gone else {
        return Err(PatchError::malformed("invalid patch format of primitive list"));
    };
    if let Some(Value::Array(items)) = original.get_mut(name) {
        let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
        items.retain(|item| !gone.contains(&item.to_string()));
    }
    Ok(())
}

fn names_after(patch: &Map, prefix: &str) -> Vec<String> {
    patch.keys().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect()
}

fn list(value: Value) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(PatchError::malformed(format!("expected a slice, but received {other}"))),
    }
}

fn unknown_directive(directive: &Value, patch: &Map) -> PatchError {
    let shown = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    let patch = Value::Object(patch.clone());
    PatchError::malformed(format!("unknown patch type: {shown} in map: {patch}"))
}

/// A value that comes in as it is brings no directives; `None` if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(PATCH) => None,
        Value::Object(members) => Some(Value::Object(
            members
                .into_iter()
                .filter_map(|(name, value)| Some((name, without_directives(value)?)))
                .collect(),
        )),
        Value::Array(items) => {
            Some(Value::Array(items.into_iter().filter_map(without_directives).collect()))
        }
        scalar => Some(scalar),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests;
