//! What many table cells are made of. Total: an empty object gives cells, never a panic.
use crate::{At, object};
use api::{LabelSelector, Value};

/// Follows a dotted path.
pub(crate) fn find<'a>(object: &'a Value, path: &str) -> &'a Value {
    At::root(object).get(path).value
}

/// Scalars as text, nothing as the empty text.
pub(crate) fn text(object: &Value, path: &str) -> String {
    match find(object, path) {
        Value::String(text) => text.to_string(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub(crate) fn text_or(object: &Value, path: &str, empty: &str) -> String {
    Some(text(object, path)).filter(|text| !text.is_empty()).unwrap_or_else(|| empty.to_owned())
}

pub(crate) fn int(object: &Value, path: &str) -> i64 {
    find(object, path).as_i64().unwrap_or_default()
}

pub(crate) fn boolean(object: &Value, path: &str) -> bool {
    find(object, path).as_bool().unwrap_or_default()
}

pub(crate) fn len(object: &Value, path: &str) -> usize {
    At::root(object).get(path).len()
}

/// How long ago the timestamp at the path was.
pub(crate) fn since(object: &Value, path: &str, now: i64) -> String {
    object::age(find(object, path), now)
}

/// The texts under `field` of each item of the list at `path`, joined with commas.
pub(crate) fn each(object: &Value, path: &str, field: &str) -> String {
    let items = At::root(object).get(path);
    let texts: Vec<&str> = items.items().map(|item| item.get(field).text()).collect();
    texts.join(",")
}

pub(crate) fn joined(object: &Value, path: &str) -> String {
    At::root(object).get(path).texts().collect::<Vec<_>>().join(",")
}

/// The first few of a list, and how many more there are.
pub(crate) fn first_of(list: &[String], max: usize, empty: &str) -> String {
    if list.len() > max {
        return format!("{} + {} more...", list[..max].join(","), list.len() - max);
    }
    if list.is_empty() { empty.to_owned() } else { list.join(",") }
}

/// A label selector as text; `None` if it is not a good one.
pub(crate) fn selector(object: &Value, path: &str) -> Option<String> {
    let value = find(object, path);
    let spec = (!value.is_null()).then(|| value::from_value(value)).transpose();
    let selector = LabelSelector::from_spec(spec.ok()?.as_ref()).ok()?;
    Some(selector.to_string())
}

/// As upstream's `FormatLabelSelector`.
pub(crate) fn selector_or_none(object: &Value, path: &str) -> String {
    match selector(object, path) {
        Some(text) if text.is_empty() => "<none>".to_owned(),
        Some(text) => text,
        None => "<error>".to_owned(),
    }
}

/// A map of labels as `a=b,c=d`.
pub(crate) fn labels(object: &Value, path: &str) -> String {
    let map = At::root(object).get(path);
    let pairs: Vec<String> =
        map.entries().map(|(key, value)| format!("{key}={}", value.text())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// The status of the condition of this type, or the empty text.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = At::root(object).get("status.conditions");
    let found = conditions.items().find(|condition| condition.get("type").text() == kind);
    found.map_or("", |condition| condition.get("status").text())
}

/// Addresses of a load balancer; shortened where the column is narrow.
pub(crate) fn load_balancer(object: &Value) -> String {
    let ingress = At::root(object).get("status.loadBalancer.ingress");
    let mut list: Vec<&str> = ingress
        .items()
        .map(|item| match item.get("ip").text() {
            "" => item.get("hostname").text(),
            ip => ip,
        })
        .filter(|text| !text.is_empty())
        .collect();
    list.sort_unstable();
    list.dedup();
    list.join(",")
}

macro_rules! columns {
    ($($column:expr),* $(,)?) => {
        fn columns(&self) -> &[$crate::Column] {
            const COLUMNS: &[$crate::Column] = &[$($column),*];
            COLUMNS
        }
    };
}
pub(crate) use columns;

/// Columns of the pods that a workload makes.
macro_rules! template_columns {
    ($spec:literal) => {
        [
            $crate::Column::new("Containers", "string", "Names of each container in the template.")
                .wide()
                .cell(|o, _| $crate::cells::each(o, concat!($spec, ".containers"), "name").into()),
            $crate::Column::new(
                "Images",
                "string",
                "Images referenced by each container in the template.",
            )
            .wide()
            .cell(|o, _| $crate::cells::each(o, concat!($spec, ".containers"), "image").into()),
        ]
    };
}
pub(crate) use template_columns;
