//! What server-side apply does with values of a type: which paths they have, what differs between
//! two, one merged into another, and what an applier let go of taken out.
//!
//! A type that the schema does not know is deduced from the value: maps are granular, lists atomic.
use crate::fields::{Elem, Set, here};
use schema::{Extra, ListType, Scalar, Shape, TypeRef};
use std::collections::{BTreeMap, BTreeSet};
use value::{Map, Text, Value};

type Ty<'g> = Option<TypeRef<'g>>;

/// How a value of a type is owned.
enum Form<'g> {
    /// As a whole.
    Leaf,
    /// Member by member. A struct has declared fields, a map has not.
    Members,
    /// Element by element, each told by its own value.
    Set,
    /// Element by element, each told by its keys.
    Keyed(&'g [std::sync::Arc<str>]),
}

fn form<'g>(ty: Ty<'g>, value: &Value) -> Form<'g> {
    let Some(ty) = ty else {
        return if value.is_object() { Form::Members } else { Form::Leaf };
    };
    match ty.shape() {
        Shape::Object(object) if !object.atomic => Form::Members,
        Shape::Map(map) if !map.atomic => Form::Members,
        Shape::List(list) => match &list.kind {
            ListType::Atomic => Form::Leaf,
            ListType::Set => Form::Set,
            ListType::Map(keys) => Form::Keyed(keys),
        },
        Shape::Scalar(_) | Shape::OneOf(_) | Shape::Object(_) | Shape::Map(_) => Form::Leaf,
    }
}

fn is_declared(ty: Ty<'_>, name: &str) -> bool {
    ty.is_some_and(|ty| ty.field(name).is_some())
}

fn child<'g>(ty: Ty<'g>, name: &str) -> Ty<'g> {
    ty.and_then(|ty| ty.child(name))
}

fn elem<'g>(ty: Ty<'g>) -> Ty<'g> {
    ty.and_then(|ty| ty.elem())
}

/// How a list's element is told from others; `Err` names the key that it lacks.
fn element<'g>(form: &Form<'g>, ty: Ty<'g>, item: &Value) -> Result<Elem, &'g str> {
    let Form::Keyed(keys) = form else { return Ok(Elem::value(item)) };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys.iter() {
        let default = || {
            let (field, _) = elem(ty)?.field(key)?;
            field.default.as_deref()
        };
        match item.get(&**key).filter(|value| !value.is_null()).or_else(default) {
            Some(value) => found.push((&**key, value.clone())),
            None => return Err(key),
        }
    }
    Ok(Elem::key(found))
}

/// The elements with what tells them apart. What cannot be told goes by its place.
fn elements<'v>(form: &Form<'_>, ty: Ty<'_>, items: &'v [Value]) -> Vec<(Elem, &'v Value)> {
    let place = |place: usize| Elem::Index(i64::try_from(place).unwrap_or(i64::MAX));
    items
        .iter()
        .enumerate()
        .map(|(index, item)| (element(form, ty, item).unwrap_or_else(|_| place(index)), item))
        .collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Every path that the value sets.
pub(crate) fn field_set(value: &Value, ty: Ty<'_>) -> Set {
    let mut set = Set::default();
    match (form(ty, value), value) {
        (Form::Members, Value::Object(members)) => {
            for (name, value) in members {
                let mut kid = field_set(value, child(ty, name));
                let empty_map = value.as_object().is_some_and(Map::is_empty);
                kid.here |= value.is_null() || empty_map || !is_declared(ty, name);
                if !kid.is_empty() {
                    set.kids.insert(Elem::Field(name.to_string()), kid);
                }
            }
        }
        (form @ (Form::Set | Form::Keyed(_)), Value::Array(items)) => {
            for (key, item) in elements(&form, ty, items) {
                let mut kid = field_set(item, elem(ty));
                kid.here = true;
                let known = set.kids.entry(key).or_default();
                *known = std::mem::take(known).union(&kid);
            }
        }
        (Form::Leaf, _) => set.here = true,
        // Nothing, or not of its type.
        (_, value) => set.here = !value.is_null(),
    }
    set
}

/// What is wrong with a configuration that is to be applied, each as `path: what`.
pub(crate) fn check(value: &Value, ty: Ty<'_>, path: &str, errors: &mut Vec<String>) {
    match (form(ty, value), value) {
        (Form::Members, Value::Object(members)) => {
            for (name, value) in members {
                let path = format!("{path}.{name}");
                let object = ty.and_then(|ty| ty.object());
                match child(ty, name) {
                    None if object.is_some_and(|object| object.extra == Extra::Prune) => {
                        errors.push(format!("{path}: field not declared in schema"));
                    }
                    kid => check(value, kid, &path, errors),
                }
            }
        }
        (form @ (Form::Set | Form::Keyed(_)), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                match element(&form, ty, item) {
                    Ok(key) => {
                        check(item, elem(ty), &format!("{path}{key}"), errors);
                        if !seen.insert(key.clone()) {
                            errors.push(format!("{path}: duplicate entries for key {key}"));
                        }
                    }
                    Err(key) => errors.push(format!(
                        "{path}: element {index}: associative list with keys has an element that \
                         omits key field {key:?} (and doesn't have default value)"
                    )),
                }
            }
        }
        (form, value) => {
            if let Some(wanted) = misfit(ty, &form, value) {
                errors.push(format!("{path}: expected {wanted}, got {}", go_type(value)));
            }
        }
    }
}

/// What a custom resource's value should have been; those of built-in types have been decoded.
fn misfit(ty: Ty<'_>, form: &Form<'_>, value: &Value) -> Option<&'static str> {
    let ty = ty.filter(|ty| ty.graph().is_custom() && !value.is_null())?;
    let (wanted, fits) = match (form, ty.shape()) {
        (_, Shape::Scalar(Scalar::String(_))) => ("string", value.is_string()),
        (_, Shape::Scalar(Scalar::Bool)) => ("boolean", value.is_boolean()),
        (_, Shape::Scalar(Scalar::Int64 | Scalar::Float)) => {
            ("numeric (int or float)", value.is_number())
        }
        (_, Shape::List(_)) => ("list", value.is_array()),
        (_, Shape::Map(_)) => ("map", value.is_object()),
        // Rules say more of what has no type.
        (Form::Members, Shape::Object(_)) if ty.node().rules.is_none() => ("map", false),
        _ => return None,
    };
    (!fits).then_some(wanted)
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// What differs between two values.
#[derive(Default)]
pub(crate) struct Compared {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

impl Compared {
    pub(crate) fn changed(&self) -> Set {
        self.added.clone().union(&self.modified)
    }
    pub(crate) fn into_changed(self) -> Set {
        let mut changed = self.added;
        changed.take_in(self.modified);
        changed
    }

    pub(crate) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    pub(crate) fn ignore(&mut self, ignored: &Set) {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.take_out_trees(ignored);
        }
    }

    /// What differs one step further down.
    fn put(&mut self, elem: impl Fn() -> Elem, kid: Compared) {
        let own = [&mut self.added, &mut self.modified, &mut self.removed];
        for (own, kid) in own.into_iter().zip([kid.added, kid.modified, kid.removed]) {
            if !kid.is_empty() {
                own.kids.insert(elem(), kid);
            }
        }
    }
}

pub(crate) fn compare(old: &Value, new: &Value, ty: Ty<'_>) -> Compared {
    differences(Some(old), Some(new), ty)
}

/// As [`compare`], of objects whose `metadata.managedFields` do not count.
pub(crate) fn compare_unmanaged(old: &Value, new: &Value, ty: Ty<'_>) -> Compared {
    let mut out = Compared::default();
    let [Some(old), Some(new)] = [old, new].map(Value::as_object) else {
        return compare(old, new, ty);
    };
    each_member(Some(old), Some(new), |name, old, new| {
        let ty = child(ty, name);
        let kid = match (name, old, new) {
            ("metadata", Some(Value::Object(old)), Some(Value::Object(new))) => {
                let mut out = Compared::default();
                each_member(Some(old), Some(new), |name, old, new| {
                    if name != "managedFields" {
                        let kid = differences(old, new, child(ty, name));
                        out.put(|| Elem::Field(name.to_owned()), kid);
                    }
                });
                out
            }
            _ => differences(old, new, ty),
        };
        out.put(|| Elem::Field(name.to_owned()), kid);
    });
    out
}

/// The form of two values, which is a leaf's also where one does not have the other's.
fn form_of_both<'g>(old: Option<&Value>, new: Option<&Value>, ty: Ty<'g>) -> Form<'g> {
    let shape_of = new.or(old).filter(|value| !value.is_null()).or(old).unwrap_or(&Value::Null);
    let form = form(ty, shape_of);
    let both_empty = old.is_none_or(is_empty) && new.is_none_or(is_empty);
    let misfit = |value: &Value| match form {
        Form::Members => !value.is_object() && !value.is_null(),
        Form::Set | Form::Keyed(_) => !value.is_array() && !value.is_null(),
        Form::Leaf => false,
    };
    match both_empty || old.is_some_and(misfit) || new.is_some_and(misfit) {
        true => Form::Leaf,
        false => form,
    }
}

fn differences(old: Option<&Value>, new: Option<&Value>, ty: Ty<'_>) -> Compared {
    let mut out = Compared::default();
    if old == new {
        return out;
    }
    let form = form_of_both(old, new, ty);
    let leaf = matches!(form, Form::Leaf);
    match (old, new) {
        (None, _) => out.added.here = true,
        (_, None) => out.removed.here = true,
        (Some(old), Some(new)) if leaf && !same(old, new) => out.modified.here = true,
        _ => {}
    }
    if leaf {
        return out;
    }
    match form {
        Form::Members => {
            let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            each_member(old, new, |name, old, new| {
                let kid = differences(old, new, child(ty, name));
                out.put(|| Elem::Field(name.to_owned()), kid);
            });
        }
        form => {
            let (old, new) = (items(&form, ty, old), items(&form, ty, new));
            for (key, item) in &new {
                let kid = differences(old.get(key).copied(), Some(item), elem(ty));
                out.put(|| key.clone(), kid);
            }
            for (key, item) in old.iter().filter(|(key, _)| !new.contains_key(key)) {
                out.put(|| key.clone(), differences(Some(item), None, elem(ty)));
            }
        }
    }
    out
}

/// What [`compare`] finds added or modified, as `FieldsV1`, without a set of it in between. Of
/// `without`, the first are trees that do not count, the second single members.
pub(crate) fn written(
    old: Option<&Value>,
    new: &Value,
    ty: Ty<'_>,
    without: [Option<&Set>; 2],
) -> Option<Value> {
    if old == Some(new) || without[0].is_some_and(|trees| trees.here) {
        return None;
    }
    let form = form_of_both(old, Some(new), ty);
    let leaf = matches!(form, Form::Leaf);
    let member = match old {
        None => true,
        Some(old) => leaf && !same(old, new),
    };
    let member = member && !without[1].is_some_and(|members| members.here);
    let mut fields: Vec<(Text, Value)> = Vec::new();
    match form {
        Form::Leaf => {}
        Form::Members => {
            let old = old.and_then(Value::as_object);
            for (name, new) in new.as_object().into_iter().flatten() {
                let without = without.map(|set| set.and_then(|set| set.field(name)));
                let old = old.and_then(|old| old.get(name));
                if let Some(kid) = written(old, new, child(ty, name), without) {
                    fields.push((value::format_text!("f:{name}"), kid));
                }
            }
        }
        form => {
            let (old, new) = (items(&form, ty, old), items(&form, ty, Some(new)));
            for (key, new) in new {
                if let Some(kid) = written(old.get(&key).copied(), new, elem(ty), [None; 2]) {
                    fields.push((key.encode().into(), kid));
                }
            }
        }
    }
    if fields.is_empty() {
        return member.then(|| Value::Object(Map::new()));
    }
    if member {
        fields.push(here());
    }
    Some(Value::Object(fields.into_iter().collect()))
}

/// Every member that one of the objects has, as it is in both.
fn each_member<'v>(
    old: Option<&'v Map>,
    new: Option<&'v Map>,
    mut each: impl FnMut(&'v str, Option<&'v Value>, Option<&'v Value>),
) {
    for (name, value) in new.into_iter().flatten() {
        each(name.as_str(), old.and_then(|old| old.get(name)), Some(value));
    }
    for (name, value) in old.into_iter().flatten() {
        if new.is_none_or(|new| !new.contains_key(name)) {
            each(name.as_str(), Some(value), None);
        }
    }
}

fn items<'v>(form: &Form<'_>, ty: Ty<'_>, value: Option<&'v Value>) -> BTreeMap<Elem, &'v Value> {
    let items = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    elements(form, ty, items).into_iter().collect()
}

/// Equal, whatever the spelling of numbers.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// `live` with everything that `config` sets.
pub(crate) fn merge(live: Option<&Value>, config: &Value, ty: Ty<'_>) -> Value {
    match (form(ty, config), live, config) {
        (Form::Members, live, Value::Object(config)) => {
            let mut merged = live.and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, value) in config {
                let nullable = child(ty, name).is_none_or(|ty| ty.node().nullable);
                if value.is_null() && !nullable {
                    // To have none is what the applier wants; the type has no word for it.
                    merged.remove(name);
                    continue;
                }
                let value = merge(merged.get(name), value, child(ty, name));
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (form @ (Form::Set | Form::Keyed(_)), live, Value::Array(config)) => {
            let live = live.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            Value::Array(merge_lists(&form, ty, live, config))
        }
        (_, _, config) => config.clone(),
    }
}

/// The elements of `config` in their order; between them, those that only `live` has stay behind
/// what they stood behind.
fn merge_lists(form: &Form<'_>, ty: Ty<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let (live, config) = (elements(form, ty, live), elements(form, ty, config));
    let wanted: BTreeSet<&Elem> = config.iter().map(|(key, _)| key).collect();
    let mut found: BTreeMap<&Elem, &Value> = BTreeMap::new();
    for (key, item) in &live {
        found.entry(key).or_insert(item);
    }
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let mut rest = live.iter().peekable();
    let mut next_shared = vec![None; config.len()];
    let mut next = None;
    for (place, (key, _)) in config.iter().enumerate().rev() {
        next = found.contains_key(key).then_some(key).or(next);
        next_shared[place] = next;
    }
    for ((key, item), next_shared) in config.iter().zip(next_shared) {
        while let Some((own, item)) = rest.next_if(|(own, _)| next_shared != Some(own)) {
            if !wanted.contains(own) {
                merged.push((*item).clone());
            }
        }
        if next_shared == Some(key) {
            rest.next();
        }
        merged.push(merge(found.get(key).copied(), item, elem(ty)));
    }
    merged.extend(rest.filter(|(own, _)| !wanted.contains(own)).map(|(_, item)| (*item).clone()));
    merged
}

/// Takes out what `last` (what the applier set before) has and `owned` (what anybody sets now) has
/// not. A struct's field goes with all that is in it once nobody sets anything in it.
pub(crate) fn prune(value: &mut Value, ty: Ty<'_>, last: &Set, owned: &Set) {
    match (form(ty, value), value) {
        (Form::Members, Value::Object(members)) => {
            let named = |name: &str| is_declared(ty, name);
            members.retain(|name, value| {
                let key = Elem::Field(name.to_string());
                keeps(last, owned, &key, named(name), |last, owned| {
                    prune(value, child(ty, name), last, owned)
                })
            });
        }
        (form @ (Form::Set | Form::Keyed(_)), Value::Array(items)) => {
            items.retain_mut(|item| match element(&form, ty, item) {
                Ok(key) => keeps(last, owned, &key, false, |last, owned| {
                    prune(item, elem(ty), last, owned)
                }),
                Err(_) => true,
            });
        }
        _ => {}
    }
}

fn keeps(
    last: &Set,
    owned: &Set,
    key: &Elem,
    named: bool,
    inside: impl FnOnce(&Set, &Set),
) -> bool {
    let Some(last) = last.kids.get(key) else { return true };
    let owned = owned.kids.get(key);
    let was_set = last.here || named;
    let is_set = owned.is_some_and(|owned| owned.here || named);
    if was_set && !is_set {
        return false;
    }
    inside(last, owned.unwrap_or(&Set::default()));
    true
}

/// What an object is before anybody set anything: the members that its type always writes.
pub(crate) fn zero(ty: TypeRef<'_>) -> Value {
    match ty.shape() {
        Shape::Object(object) if !object.wire.is_empty() => {
            let mut members = Map::new();
            for field in &object.fields {
                let ty = ty.graph().get(field.ty);
                let is_struct = ty.object().is_some_and(|object| !object.wire.is_empty());
                let written = match field.omit {
                    schema::Omit::Never => true,
                    // Go's `omitempty` never holds for a struct.
                    schema::Omit::Empty => is_struct && !field.pointer,
                    schema::Omit::Zero => false,
                };
                if written {
                    let zero = if field.pointer { Value::Null } else { zero(ty) };
                    members.insert(field.name.to_string(), zero);
                }
            }
            Value::Object(members)
        }
        Shape::Object(_) => Value::Object(Map::new()),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String(_) => Value::from(""),
            Scalar::Bool => Value::from(false),
            Scalar::Int32 | Scalar::Int64 | Scalar::Float | Scalar::IntOrString => Value::from(0),
            Scalar::Quantity => Value::from("0"),
            Scalar::Duration => Value::from("0s"),
            _ => Value::Null,
        },
        Shape::Map(_) | Shape::List(_) | Shape::OneOf(_) => Value::Null,
    }
}
