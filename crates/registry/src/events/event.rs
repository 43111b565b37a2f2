//! `events.k8s.io` events: the newer face of core events, which is what is stored.
use crate::at::{remove, set};
use crate::{At, Column, Convert, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct Events;

static INFO: Info =
    Info::new(Gvk::fixed("events.k8s.io", "v1", "Event"), "events", Scope::Namespaced)
        .short(&["ev"])
        .with_create_on_update()
        .stored_as("", "events");

/// Name here, name in the core group.
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

impl Resource for Events {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        if let Some(old) = old {
            for field in ["eventTime", "reason", "action", "regarding", "related", "note", "type"] {
                root.get(field).immutable(&old[field], &mut errors);
            }
            return errors;
        }
        if !root.has("eventTime") {
            errors.push(root.get("eventTime").required(""));
        }
        for (field, max) in [("reportingController", 253), ("reportingInstance", 128)] {
            let text = root.get(field);
            if text.must("", &mut errors) && text.len() > max {
                errors.push(text.invalid(format!("can have at most {max} characters")));
            }
        }
        for field in ["action", "reason"] {
            let text = root.get(field);
            if text.must("", &mut errors) && text.len() > 128 {
                errors.push(text.invalid("can have at most 128 characters"));
            }
        }
        let note = root.get("note");
        if note.len() > 1024 {
            errors.push(note.invalid("can have at most 1024 characters"));
        }
        let kind = root.get("type");
        if !matches!(kind.text(), "Normal" | "Warning") {
            errors.push(kind.invalid("has invalid value: "));
        }
        errors
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ]
    }
    fn stored_field<'a>(&self, label: &'a str) -> Option<std::borrow::Cow<'a, str>> {
        let known = self.selectable_fields().contains(&label) || label.starts_with("metadata.");
        let (head, tail) = label.split_at(label.find('.').unwrap_or(label.len()));
        let stored = NAMES.iter().find(|(here, _)| *here == head);
        known.then(|| match stored {
            Some((_, stored)) => format!("{stored}{tail}").into(),
            None => label.into(),
        })
    }
    /// Of this face, or of the stored one.
    fn field<'a>(&self, event: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
        let (head, tail) = path.split_once('.').map_or((path, None), |(h, t)| (h, Some(t)));
        let stored = NAMES.iter().find(|(here, _)| *here == head).map(|(_, stored)| *stored);
        let head = stored.filter(|stored| event.get(stored).is_some()).unwrap_or(head);
        let path = tail.map_or(head.to_owned(), |tail| format!("{head}.{tail}"));
        crate::object::field_text(event, &path)
    }
    fn columns(&self) -> &[Column] {
        static COLUMNS: std::sync::LazyLock<Vec<Column>> =
            std::sync::LazyLock::new(|| crate::core::event::Events.columns().to_vec());
        &COLUMNS
    }
    fn convert(&self) -> Option<&dyn Convert> {
        Some(self)
    }
}

impl Convert for Events {
    fn to_stored(&self, event: Value) -> Value {
        renamed(event, |(here, stored)| (here, stored), "v1")
    }
    fn to_own(&self, event: Value) -> Value {
        renamed(event, |(here, stored)| (stored, here), "events.k8s.io/v1")
    }
}

fn renamed(
    mut event: Value,
    way: fn((&'static str, &'static str)) -> (&'static str, &'static str),
    version: &str,
) -> Value {
    for pair in NAMES {
        let (from, to) = way(*pair);
        if let Some(value) = event.get(from).cloned() {
            remove(&mut event, from);
            set(&mut event, to, value);
        }
    }
    set(&mut event, "apiVersion", version);
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn there_and_back() {
        let event = json!({ "apiVersion": "events.k8s.io/v1", "note": "n", "reason": "r",
            "regarding": { "name": "p" }, "reportingController": "c" });
        let convert = Events.convert().unwrap();
        let stored = convert.to_stored(event.clone());
        assert_eq!(
            stored,
            json!({ "apiVersion": "v1", "message": "n", "reason": "r",
                "involvedObject": { "name": "p" }, "reportingComponent": "c" })
        );
        assert_eq!(Events.field(&stored, "regarding.name").unwrap(), "p");
        assert_eq!(convert.to_own(stored), event);
        assert_eq!(Events.field(&event, "regarding.name").unwrap(), "p");
        let stored = |label| Events.stored_field(label).map(std::borrow::Cow::into_owned);
        assert_eq!(stored("regarding.name").unwrap(), "involvedObject.name");
        assert_eq!(stored("reportingController").unwrap(), "reportingComponent");
        assert_eq!(stored("type").unwrap(), "type");
        assert_eq!(stored("involvedObject.name"), None);
    }
}
