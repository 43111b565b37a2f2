//! Server-side apply, and the tracking of who set which fields in all other writes.
//!
//! Ownership is compared by path in the version of the request: a manager that wrote in another
//! version is taken to have used the same paths.
use crate::{
    fields::Set,
    managed::{self, Id, Managers, Operation, Owned},
    typed::{self, Compared},
};
use schema::TypeRef;
use std::fmt;
use std::sync::OnceLock;
use value::Value;

const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Who writes, how and when.
#[derive(Debug, Clone, Copy)]
pub struct Manager<'a> {
    pub name: &'a str,
    pub api_version: &'a str,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// RFC 3339 in whole seconds, as metadata has it.
    pub time: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// As in messages: `"name" using apps/v1`.
    pub manager: String,
    pub path: String,
}

/// Others own what the applier wants to change: 409, with a cause (`FieldManagerConflict`) each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Conflicts(#[from] Conflicts),
    /// 400.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// The configuration's lists do not fit their types: 400.
    #[error("failed to create typed patch object ({object}): {errors}")]
    Typed { object: String, errors: String },
}

impl Conflict {
    /// The message of its cause.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &self.0[..] {
            let Conflict { manager, path } = only;
            return write!(f, "Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        let mut manager = None;
        for conflict in &self.0 {
            if manager != Some(&conflict.manager) {
                let separator = if manager.is_some() { "\n" } else { "" };
                write!(f, "{separator}conflicts with {}:", conflict.manager)?;
                manager = Some(&conflict.manager);
            }
            write!(f, "\n- {}", conflict.path)?;
        }
        Ok(())
    }
}

impl std::error::Error for Conflicts {}

/// Applies `config` to `live` (`None`: to create it) and yields the object with its managed fields.
/// `ignored` are the paths that this endpoint does not write.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    ty: Option<TypeRef<'_>>,
    manager: &Manager<'_>,
    force: bool,
    ignored: &Set,
) -> Result<Value, ApplyError> {
    if !managed::raw(config).is_empty() {
        return Err(ApplyError::ManagedFields);
    }
    let mut errors = Vec::new();
    typed::check(config, ty, "", &mut errors);
    if !errors.is_empty() {
        return Err(typed_error(config, errors));
    }
    let empty = Value::Object(Default::default());
    let old = without_managed(live.unwrap_or(&empty));
    let mut managers = managed::decode(managed::raw(live.unwrap_or(&empty))).unwrap_or_default();
    if managers.is_empty() && live.is_some() {
        adopt(&mut managers, &old, ty, manager);
    }
    let applier = Applier { old: &old, config, ty, manager, ignored };
    let (mut new, managers) = match applier.run(managers.clone(), force) {
        Err(conflicts) => {
            let forced = applier.without_last_applied(conflicts)?;
            applier.run(managers, forced)?
        }
        Ok(done) => done,
    };
    if manager.name == "kubectl" && manager.subresource.is_empty() {
        renew_last_applied(&mut new, config);
    }
    managed::write(&mut new, &managers);
    Ok(new)
}

/// Notes in `new`, which is to replace `old` (`None`: it is created), what `manager` changed.
/// `ignored` are the paths that this endpoint does not write.
pub fn track_update(
    old: Option<&Value>,
    new: &mut Value,
    ty: Option<TypeRef<'_>>,
    manager: &Manager<'_>,
    ignored: &Set,
) {
    let mut managers = known_managers(old, new, manager);
    remove_managed(new);
    if old.is_none() && managers.is_empty() {
        let fields = typed::written(Some(&nothing(ty)), new, ty, [ignored, stripped()].map(Some));
        return managed::write_first(new, &id(manager, Operation::Update), manager, fields);
    }
    let mut compared = match old {
        Some(old) => typed::compare_unmanaged(old, new, ty),
        None => typed::compare(&nothing(ty), new, ty),
    };
    compared.ignore(ignored);
    let removed = std::mem::take(&mut compared.removed);
    let mut own = compared.into_changed();
    take_away(&mut managers, None, &own, &removed);
    own.take_out(stripped());
    if !own.is_empty() {
        let owned = managers.entry(id(manager, Operation::Update)).or_default();
        owned.set.take_in(own);
        owned.api_version = manager.api_version.to_owned();
        owned.time = Some(manager.time.to_owned());
    }
    managed::cap(&mut managers);
    managed::write(new, &managers);
}

/// The managers as the writer sends them, if it does and may; else as they are.
fn known_managers(old: Option<&Value>, new: &Value, manager: &Manager<'_>) -> Managers {
    let live = || old.and_then(|old| managed::decode(managed::raw(old))).unwrap_or_default();
    let sent = managed::raw(new);
    if !manager.subresource.is_empty() {
        return live();
    }
    // One empty entry means: forget all.
    if matches!(sent, [Value::Object(entry)] if entry.is_empty()) {
        return Managers::new();
    }
    managed::decode(sent).filter(|managers| !managers.is_empty()).unwrap_or_else(live)
}

struct Applier<'a> {
    old: &'a Value,
    config: &'a Value,
    ty: Option<TypeRef<'a>>,
    manager: &'a Manager<'a>,
    ignored: &'a Set,
}

impl Applier<'_> {
    fn run(&self, mut managers: Managers, force: bool) -> Result<(Value, Managers), Conflicts> {
        let own = id(self.manager, Operation::Apply);
        let before = managers.remove(&own);
        let set = typed::field_set(self.config, self.ty).without_trees(self.ignored);
        let mut new = typed::merge(Some(self.old), self.config, self.ty);
        if let Some(before) = &before {
            let everything =
                managers.values().fold(set.clone(), |all, owned| all.union(&owned.set));
            typed::prune(&mut new, self.ty, &before.set, &everything);
        }
        let mut compared = typed::compare(self.old, &new, self.ty);
        compared.ignore(self.ignored);
        if !force {
            check_conflicts(&managers, &compared)?;
        }
        take_away(&mut managers, Some(&own), &compared.changed(), &compared.removed);
        let set = set.difference(stripped());
        if set.is_empty() {
            return Ok((new, managers));
        }
        let unchanged = before.filter(|before| {
            compared.is_same()
                && before.set == set
                && before.api_version == self.manager.api_version
        });
        let time = match unchanged {
            Some(before) => before.time,
            None => Some(self.manager.time.to_owned()),
        };
        let api_version = self.manager.api_version.to_owned();
        managers.insert(own, Owned { set, api_version, time });
        Ok((new, managers))
    }

    /// What kubectl applied from the client before, it may take over as server-side applier.
    /// `Ok(true)` if nothing else is in the way.
    fn without_last_applied(&self, conflicts: Conflicts) -> Result<bool, Conflicts> {
        let last = last_applied(self.old).and_then(|text| serde_json::from_str(text).ok());
        let last: Value = match last {
            Some(last) if self.manager.name == "kubectl" => last,
            _ => return Err(conflicts),
        };
        let differing = typed::compare(self.old, &last, self.ty);
        let differing = differing.changed().union(&differing.removed);
        let allowed = typed::field_set(&last, self.ty).difference(&differing).paths();
        let Conflicts(mut left) = conflicts;
        left.retain(|conflict| !allowed.contains(&conflict.path));
        if left.is_empty() { Ok(true) } else { Err(Conflicts(left)) }
    }
}

fn check_conflicts(managers: &Managers, compared: &Compared) -> Result<(), Conflicts> {
    let changed = compared.changed();
    let conflicts = managers.iter().flat_map(|(id, owned)| {
        let paths = owned.set.intersection(&changed).paths();
        paths.into_iter().map(move |path| Conflict { manager: id.to_string(), path })
    });
    let mut conflicts: Vec<Conflict> = conflicts.collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
    Err(Conflicts(conflicts))
}

/// What somebody changed or removed is not others' any more.
fn take_away(managers: &mut Managers, except: Option<&Id>, changed: &Set, removed: &Set) {
    managers.retain(|id, owned| {
        if Some(id) != except {
            owned.set.take_out(changed);
            owned.set.take_out(removed);
        }
        !owned.set.is_empty()
    });
}

/// An object that was never tracked is all its unknown makers'.
fn adopt(managers: &mut Managers, old: &Value, ty: Option<TypeRef<'_>>, manager: &Manager<'_>) {
    let set = typed::compare(&nothing(ty), old, ty).changed().difference(stripped());
    if set.is_empty() {
        return;
    }
    let maker = Manager { name: BEFORE_FIRST_APPLY, subresource: "", ..*manager };
    let api_version = manager.api_version.to_owned();
    let owned = Owned { set, api_version, time: Some(manager.time.to_owned()) };
    managers.insert(id(&maker, Operation::Update), owned);
}

fn id(manager: &Manager<'_>, operation: Operation) -> Id {
    Id {
        manager: manager.name.to_owned(),
        operation,
        api_version: match operation {
            Operation::Apply => String::new(),
            Operation::Update => manager.api_version.to_owned(),
        },
        subresource: manager.subresource.to_owned(),
    }
}

/// What is nobody's.
fn stripped() -> &'static Set {
    static STRIPPED: OnceLock<Set> = OnceLock::new();
    STRIPPED.get_or_init(|| {
        Set::of(&[
            &["apiVersion"],
            &["kind"],
            &["metadata"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "creationTimestamp"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
            &["metadata", "clusterName"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ])
    })
}

fn nothing(ty: Option<TypeRef<'_>>) -> Value {
    ty.map_or_else(|| Value::Object(Default::default()), typed::zero)
}

fn without_managed(object: &Value) -> Value {
    let mut object = object.clone();
    remove_managed(&mut object);
    object
}

fn remove_managed(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn last_applied(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()
}

/// Keeps the client-side annotation true, where there is one, when kubectl applies.
fn renew_last_applied(new: &mut Value, config: &Value) {
    if last_applied(new).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations") {
        annotations.as_object_mut().map(|annotations| annotations.remove(LAST_APPLIED));
    }
    if let Some(annotations) = new.pointer_mut("/metadata/annotations") {
        annotations[LAST_APPLIED] = Value::from(format!("{config}\n"));
    }
}

fn typed_error(config: &Value, errors: Vec<String>) -> ApplyError {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let object = format!(
        "{}/{}; {}, Kind={}",
        text("/metadata/namespace"),
        text("/metadata/name"),
        text("/apiVersion"),
        text("/kind")
    );
    let errors = match &errors[..] {
        [only] => only.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    ApplyError::Typed { object, errors }
}

#[cfg(test)]
mod tests;
