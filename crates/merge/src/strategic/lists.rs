//! Merging lists: primitives as sets, objects by their merge key, and the order of the outcome.
use super::{Member, PATCH, merge_maps, unknown_directive, without_directives, without_nulls};
use crate::PatchError;
use std::collections::{HashMap, HashSet};
use value::{Map, Value};

type List = Vec<Value>;

pub(super) fn merge_lists(old: List, change: List, member: Member<'_>) -> Result<List, PatchError> {
    let mut kinds = old.iter().chain(&change).map(Value::is_object);
    let Some(objects) = kinds.next() else { return Ok(old) };
    if kinds.any(|object| object != objects) {
        return Err(PatchError::malformed("list element types are not identical"));
    }
    if old.iter().chain(&change).any(Value::is_array) {
        return Err(PatchError::malformed("lists of lists are not supported"));
    }
    let live = old.clone();
    if !objects {
        let mut merged = old;
        merged.extend(change.iter().cloned());
        return enforce_order(unique(merged), &change, &live, None);
    }
    let Some(key) = member.merge_key else {
        return Err(PatchError::malformed("cannot merge lists without merge key"));
    };
    let change = change.into_iter().map(object).collect::<Result<Vec<_>, _>>()?;
    let (old, change) = obey_directives(old, change, key)?;
    let elem = member.ty.and_then(|ty| ty.elem());
    let mut merged = old;
    let order: List = change.iter().cloned().map(Value::Object).collect();
    let mut places = places(&merged, Some(key));
    for change in change {
        let wanted = key_of(&change, key)?.to_string();
        match places.get(&wanted) {
            Some(&place) => {
                let old = object(std::mem::take(&mut merged[place]))?;
                merged[place] = Value::Object(merge_maps(old, change, elem)?);
            }
            None => {
                places.insert(wanted, merged.len());
                merged.extend(without_directives(without_nulls(Value::Object(change))));
            }
        }
    }
    enforce_order(merged, &order, &live, Some(key))
}

type Objects = Vec<Map>;

/// Carries out `$patch: delete` and `replace` among the elements; yields what is left of both.
fn obey_directives(
    mut old: List,
    change: Objects,
    key: &str,
) -> Result<(List, Objects), PatchError> {
    let mut plain = Vec::new();
    let mut gone = HashSet::new();
    let mut replace = false;
    for change in change {
        match change.get(PATCH).map(|directive| (directive, directive.as_str())) {
            None => plain.push(change),
            Some((_, Some("delete"))) => {
                gone.insert(key_of(&change, key)?.to_string());
            }
            Some((_, Some("replace"))) => replace = true,
            Some((_, Some("merge"))) => {
                let message = "merging lists cannot yet be specified in the patch";
                return Err(PatchError::malformed(message));
            }
            Some((directive, _)) => return Err(unknown_directive(directive, &change)),
        }
    }
    old.retain(|item| !replace && !gone.contains(&identity(item, Some(key))));
    Ok((old, plain))
}

/// What `order` names stands in that order; the rest stands where it stood in `live`, as far as
/// that can be told.
pub(super) fn enforce_order(
    merged: List,
    order: &[Value],
    live: &[Value],
    key: Option<&str>,
) -> Result<List, PatchError> {
    if let Some(key) = key {
        order.iter().try_for_each(|item| match item {
            Value::Object(item) => key_of(item, key).map(drop),
            _ => Err(PatchError::malformed("invalid patch format of setElementOrder list")),
        })?;
    }
    let (order, live) = (places(order, key), places(live, key));
    let place_in =
        |list: &HashMap<String, usize>, item: &Value| list.get(&identity(item, key)).copied();
    let mut named = Vec::new();
    let mut rest = Vec::new();
    for item in merged {
        match place_in(&order, &item) {
            Some(place) => named.push((place, item)),
            None => rest.push((place_in(&live, &item), item)),
        }
    }
    named.sort_by_key(|(place, _)| *place);
    rest.sort_by_key(|(place, _)| *place);
    let mut named = named.into_iter().map(|(_, item)| item).peekable();
    let mut ordered = Vec::new();
    for (place, item) in rest {
        // It goes before the first named one that it stood before.
        let before = |next: &Value| match (place, place_in(&live, next)) {
            (Some(own), Some(other)) => own < other,
            _ => false,
        };
        while let Some(next) = named.next_if(|next| !before(next)) {
            ordered.push(next);
        }
        ordered.push(item);
    }
    ordered.extend(named);
    Ok(ordered)
}

/// The elements of the patch must come in the order that the directive beside them sets.
pub(super) fn check_order(
    change: &[Value],
    order: &[Value],
    key: Option<&str>,
) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let same = |a: &Value, b: &Value| match key {
        Some(key) => a.get(key) == b.get(key),
        None => a == b,
    };
    let mut left = order.iter();
    let plain = change.iter().filter(|item| item.get(PATCH).is_none());
    for item in plain {
        if !left.any(|ordered| same(item, ordered)) {
            return Err(PatchError::malformed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                Value::Array(change.to_vec()),
                Value::Array(order.to_vec()),
            )));
        }
    }
    Ok(())
}

fn key_of(item: &Map, key: &str) -> Result<Value, PatchError> {
    item.get(key).cloned().ok_or_else(|| {
        let shown = Value::Object(item.clone());
        PatchError::malformed(format!("map: {shown} does not contain declared merge key: {key}"))
    })
}

fn object(value: Value) -> Result<Map, PatchError> {
    match value {
        Value::Object(members) => Ok(members),
        other => Err(PatchError::malformed(format!("expected a map, but received {other}"))),
    }
}

fn unique(items: List) -> List {
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| seen.insert(item.to_string())).collect()
}

/// Where each element stands first, by what tells it from others.
fn places(items: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        places.entry(identity(item, key)).or_insert(place);
    }
    places
}

fn identity(item: &Value, key: Option<&str>) -> String {
    match key {
        Some(key) => item.get(key).map_or_else(String::new, Value::to_string),
        None => item.to_string(),
    }
}
