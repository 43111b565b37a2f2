//! `events`: what happened to an object. Kept in this form; `events.k8s.io` is another face of it.
use crate::cells::{columns, find, int, since, text, text_or};
use crate::{At, Column, Info, Resource, Scope, object};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct Events;

static INFO: Info = Info::new(Gvk::fixed("", "v1", "Event"), "events", Scope::Namespaced)
    .short(&["ev"])
    .with_create_on_update();

impl Resource for Events {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let namespace = root.get("metadata.namespace").text();
        let involved = root.get("involvedObject.namespace");
        let matches = match involved.text() {
            "" => matches!(namespace, "default" | "kube-system"),
            text => text == namespace,
        };
        if !matches {
            let shown = involved.text();
            let why = "does not match event.namespace";
            errors.push(FieldError::invalid("involvedObject.namespace", shown, why));
        }
        errors
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }
    fn field<'a>(&self, event: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
        match path {
            "source" => object::field_text(event, "source.component")
                .filter(|text| !text.is_empty())
                .or_else(|| object::field_text(event, "reportingComponent")),
            _ => object::field_text(event, path),
        }
    }
    columns![
        Column::new("Last Seen", "string", "When this event was last seen.")
            .cell(|o, now| last_seen(o, now).into()),
        Column::new("Type", "string", "Normal or Warning.").cell(|o, _| text(o, "type").into()),
        Column::new("Reason", "string", "Why the event was made, for machines.")
            .cell(|o, _| text(o, "reason").into()),
        Column::new("Object", "string", "The object that this event is about.")
            .cell(|o, _| target(o).into()),
        Column::new("Subobject", "string", "The part of the object that the event is about.")
            .wide()
            .cell(|o, _| text(o, "involvedObject.fieldPath").into()),
        Column::new("Source", "string", "The component reporting this event.")
            .wide()
            .cell(|o, _| source(o).into()),
        Column::new("Message", "string", "What happened, for people.").cell(|o, _| text(
            o, "message"
        )
        .trim()
        .into()),
        Column::new("First Seen", "string", "When this event was first seen.")
            .wide()
            .cell(|o, now| first_seen(o, now).into()),
        Column::new("Count", "string", "How often this event happened.")
            .wide()
            .cell(|o, _| count(o).into()),
        Column { priority: 1, ..Column::NAME },
    ];
}

fn first_seen(event: &Value, now: i64) -> String {
    match find(event, "firstTimestamp") {
        Value::Null => since(event, "eventTime", now),
        time => object::age(time, now),
    }
}

fn last_seen(event: &Value, now: i64) -> String {
    if !find(event, "series").is_null() {
        return since(event, "series.lastObservedTime", now);
    }
    match find(event, "lastTimestamp") {
        Value::Null => first_seen(event, now),
        time => object::age(time, now),
    }
}

fn count(event: &Value) -> i64 {
    match find(event, "series") {
        Value::Null => int(event, "count").max(1),
        series => int(series, "count"),
    }
}

fn target(event: &Value) -> String {
    let kind = text(event, "involvedObject.kind").to_lowercase();
    match text(event, "involvedObject.name").as_str() {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let component = text_or(event, "source.component", &text(event, "reportingComponent"));
    match text_or(event, "source.host", &text(event, "reportingInstance")).as_str() {
        "" => component,
        host => format!("{component}, {host}"),
    }
}
