//! `metadata.managedFields`: who set which fields.
use crate::apply::Manager;
use crate::fields::Set;
use std::{collections::BTreeMap, fmt};
use value::{Map, Value};

/// More entries of updates than this are merged, the oldest first.
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// What makes an entry one. An applier stays the same whatever version it applies in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    /// Empty for appliers.
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Owned {
    pub(crate) set: Set,
    pub(crate) api_version: String,
    /// As it came (RFC 3339).
    pub(crate) time: Option<String>,
}

pub(crate) type Managers = BTreeMap<Id, Owned>;

/// As a conflict names a manager.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Update => write!(f, " using {}", self.api_version),
            Operation::Apply => Ok(()),
        }
    }
}

/// The object's entries as they are; nothing if it has none.
pub(crate) fn raw(object: &Value) -> &[Value] {
    let raw = object.get("metadata").and_then(|metadata| metadata.get("managedFields"));
    raw.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `None` if the entries are no managed fields.
pub(crate) fn decode(entries: &[Value]) -> Option<Managers> {
    let mut managers = Managers::new();
    for entry in entries {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("fieldsType") != "FieldsV1" {
            return None;
        }
        let set = match entry.get("fieldsV1") {
            Some(fields) => Set::decode(fields)?,
            None => Set::default(),
        };
        let api_version = text("apiVersion").to_owned();
        let id = Id {
            manager: text("manager").to_owned(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => api_version.clone(),
            },
            subresource: text("subresource").to_owned(),
        };
        let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
        managers.insert(id, Owned { set, api_version, time });
    }
    Some(managers)
}

/// Writes the entries into the object in their order.
pub(crate) fn write(object: &mut Value, managers: &Managers) {
    let Some(members) = object.as_object_mut() else { return };
    let metadata = members.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let Some(metadata) = metadata.as_object_mut() else { return };
    let mut entries: Vec<(&Id, &Owned)> = managers.iter().collect();
    entries.sort_by_key(|(id, owned)| {
        (id.operation, &owned.time, &id.manager, &owned.api_version, &id.subresource)
    });
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    let entries = entries.into_iter().map(|(id, owned)| encode(id, owned)).collect();
    metadata.insert("managedFields".to_owned(), Value::Array(entries));
}

/// The only entry of a new object.
pub(crate) fn write_first(
    object: &mut Value,
    id: &Id,
    manager: &Manager<'_>,
    fields: Option<Value>,
) {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), Some(fields)) = (metadata, fields) {
        let entry = entry(id, manager.api_version, Some(manager.time), fields);
        metadata.insert("managedFields", Value::Array(vec![entry]));
    }
}

fn encode(id: &Id, owned: &Owned) -> Value {
    entry(id, &owned.api_version, owned.time.as_deref(), owned.set.encode())
}

fn entry(id: &Id, api_version: &str, time: Option<&str>, fields: Value) -> Value {
    let operation = match id.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    let mut entry = Map::with_capacity(7);
    let mut put = |name: &str, value: Value| entry.insert(name, value);
    put("apiVersion", api_version.into());
    put("fieldsType", "FieldsV1".into());
    put("fieldsV1", fields);
    put("manager", id.manager.as_str().into());
    put("operation", operation.into());
    if let Some(time) = time {
        put("time", time.into());
    }
    if !id.subresource.is_empty() {
        put("subresource", id.subresource.as_str().into());
    }
    Value::Object(entry)
}

/// Merges the oldest updates of each version until there are few enough.
pub(crate) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<Id> =
        managers.keys().filter(|id| id.operation == Operation::Update).cloned().collect();
    let mut count = updaters.len();
    updaters.sort_by(|a, b| (&managers[a].time, a).cmp(&(&managers[b].time, b)));
    let mut oldest: BTreeMap<String, Id> = BTreeMap::new();
    for id in updaters {
        if count <= MAX_UPDATERS {
            return;
        }
        let version = id.api_version.clone();
        let Some(first) = oldest.get(&version) else {
            oldest.insert(version, id);
            continue;
        };
        let bucket = Id {
            manager: ANCIENT.to_owned(),
            operation: Operation::Update,
            api_version: version.clone(),
            subresource: String::new(),
        };
        let Some(merged) = managers.remove(&id) else { continue };
        let before = managers.remove(first).unwrap_or_default();
        let set = merged.set.union(&before.set);
        managers.insert(bucket.clone(), Owned { set, ..merged });
        oldest.insert(version, bucket);
        count -= 1;
    }
}
