//! JSON patch (RFC 6902), with the leniencies that clients of Kubernetes rely on: indexes may be
//! negative, and testing an absent member for null succeeds.
use crate::PatchError;
use value::{Map, Value};

pub const MAX_OPERATIONS: usize = 10_000;
/// What `copy` operations may add to an object in all.
const MAX_COPIED_BYTES: usize = 3 << 20;

/// Applies all operations or none.
pub fn json_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::malformed("a JSON patch is a list of operations"));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooMany(operations.len()));
    }
    let mut document = document.clone();
    let mut copied = 0;
    for operation in operations {
        let Value::Object(operation) = operation else {
            return Err(PatchError::malformed("an operation of a JSON patch is an object"));
        };
        run(&mut document, operation, &mut copied)?;
    }
    Ok(document)
}

fn run(document: &mut Value, operation: &Map, copied: &mut usize) -> Result<(), PatchError> {
    let kind = text(operation, "op")?;
    let path = text(operation, "path")?;
    match kind {
        "add" => add(document, path, value(operation)?.clone(), "add"),
        "remove" => remove(document, path, "remove").map(drop),
        "replace" => replace(document, path, value(operation)?.clone()),
        "test" => test(document, path, operation.get("value").unwrap_or(&Value::Null)),
        "move" => {
            let from = text(operation, "from")?;
            if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(PatchError::unfit(format!("cannot move {from} into itself: {path}")));
            }
            let moved = remove(document, from, "move")?;
            add(document, path, moved, "move")
        }
        "copy" => {
            let from = text(operation, "from")?;
            let found = find(document, from).ok_or_else(|| {
                missing(format!("copy operation does not apply: doc is missing from path: {from}"))
            })?;
            let copy = found.clone();
            *copied = copied.saturating_add(copy.to_string().len());
            if *copied > MAX_COPIED_BYTES {
                return Err(PatchError::unfit(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is \
                     {copied}, exceeding the limit {MAX_COPIED_BYTES}"
                )));
            }
            add(document, path, copy, "copy")
        }
        other => Err(PatchError::unfit(format!("Unexpected kind: {other}"))),
    }
}

fn add(document: &mut Value, path: &str, value: Value, kind: &str) -> Result<(), PatchError> {
    let Some((parent, last)) = split(path)? else {
        *document = value;
        return Ok(());
    };
    let parent = find_mut(document, parent).filter(|parent| is_container(parent));
    match parent {
        Some(Value::Object(members)) => {
            members.insert(unescape(last), value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let length = items.len();
            let place = if last == "-" { Some(length) } else { index(last, length + 1) };
            let place = place.ok_or_else(|| {
                PatchError::unfit(format!(
                    "error in {kind} for path: '{path}': Unable to access invalid index: {last}: \
                     invalid index referenced"
                ))
            })?;
            items.insert(place, value);
            Ok(())
        }
        _ => Err(missing(format!(
            "{kind} operation does not apply: doc is missing path: \"{path}\""
        ))),
    }
}

fn remove(document: &mut Value, path: &str, kind: &str) -> Result<Value, PatchError> {
    let Some((parent, last)) = split(path)? else {
        return Ok(std::mem::take(document));
    };
    match find_mut(document, parent) {
        Some(Value::Object(members)) => members.remove(&unescape(last)).ok_or_else(|| {
            missing(format!(
                "error in {kind} for path: '{path}': Unable to remove nonexistent key: {}",
                unescape(last)
            ))
        }),
        Some(Value::Array(items)) => match index(last, items.len()) {
            Some(place) => Ok(items.remove(place)),
            None => Err(PatchError::unfit(format!(
                "error in {kind} for path: '{path}': Unable to access invalid index: {last}: \
                 invalid index referenced"
            ))),
        },
        _ => Err(missing(format!(
            "{kind} operation does not apply: doc is missing path: \"{path}\""
        ))),
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    let Some((parent, last)) = split(path)? else {
        *document = value;
        return Ok(());
    };
    let Some(parent) = find_mut(document, parent).filter(|parent| is_container(parent)) else {
        return Err(missing(format!(
            "replace operation does not apply: doc is missing path: {path}"
        )));
    };
    let place = step(parent, last).ok_or_else(|| {
        missing(format!("replace operation does not apply: doc is missing key: {path}"))
    })?;
    *place = value;
    Ok(())
}

fn test(document: &Value, path: &str, expected: &Value) -> Result<(), PatchError> {
    split(path)?;
    let found = find(document, path).unwrap_or(&Value::Null);
    match found == expected {
        true => Ok(()),
        false => Err(PatchError::unfit(format!("testing value {path} failed: test failed"))),
    }
}

fn text<'a>(operation: &'a Map, name: &str) -> Result<&'a str, PatchError> {
    operation.get(name).and_then(Value::as_str).ok_or_else(|| {
        PatchError::malformed(format!("an operation of a JSON patch lacks the text \"{name}\""))
    })
}

fn value(operation: &Map) -> Result<&Value, PatchError> {
    let absent = || PatchError::malformed("an operation of a JSON patch lacks its \"value\"");
    operation.get("value").ok_or_else(absent)
}

/// The parent's path and the last token; `None` for the document itself.
fn split(path: &str) -> Result<Option<(&str, &str)>, PatchError> {
    if path.is_empty() {
        return Ok(None);
    }
    match path.rsplit_once('/') {
        Some((parent, last)) if path.starts_with('/') => Ok(Some((parent, last))),
        _ => Err(PatchError::unfit(format!("the path \"{path}\" does not begin with a slash"))),
    }
}

fn find<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    tokens(path).try_fold(document, |at, token| match at {
        Value::Object(members) => members.get(&unescape(token)),
        Value::Array(items) => index(token, items.len()).and_then(|place| items.get(place)),
        _ => None,
    })
}

fn find_mut<'a>(document: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    tokens(path).try_fold(document, step)
}

fn step<'a>(at: &'a mut Value, token: &str) -> Option<&'a mut Value> {
    match at {
        Value::Object(members) => members.get_mut(&unescape(token)),
        Value::Array(items) => {
            index(token, items.len()).and_then(move |place| items.get_mut(place))
        }
        _ => None,
    }
}

fn tokens(path: &str) -> impl Iterator<Item = &str> {
    // What stands before the first slash is nothing.
    path.split('/').skip(1)
}

fn is_container(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// The place that a token means in a list of `length`.
fn index(token: &str, length: usize) -> Option<usize> {
    let digits = token.strip_prefix('-').unwrap_or(token);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let place: usize = digits.parse().ok()?;
    let place = if token.len() > digits.len() { length.checked_sub(place)? } else { place };
    (place < length).then_some(place)
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn missing(what: String) -> PatchError {
    PatchError::Unfit(format!("{what}: missing value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn operations_do_what_the_rfc_says() {
        for (document, patch, expected) in [
            (json!({"a":1}), json!([{"op":"add","path":"/b","value":2}]), json!({"a":1,"b":2})),
            (
                json!({"a":[1,3]}),
                json!([{"op":"add","path":"/a/1","value":2}]),
                json!({"a":[1,2,3]}),
            ),
            (json!({"a":[1]}), json!([{"op":"add","path":"/a/-","value":2}]), json!({"a":[1,2]})),
            (json!({"a":[1]}), json!([{"op":"add","path":"/a/1","value":2}]), json!({"a":[1,2]})),
            (json!({"a":[1]}), json!([{"op":"add","path":"/a/-1","value":2}]), json!({"a":[1,2]})),
            (json!({"a":1}), json!([{"op":"add","path":"","value":2}]), json!(2)),
            (json!({"a":1}), json!([{"op":"add","path":"/a","value":null}]), json!({"a":null})),
            (json!({"a":[1,2]}), json!([{"op":"remove","path":"/a/0"}]), json!({"a":[2]})),
            (json!({"a":[1,2]}), json!([{"op":"remove","path":"/a/-1"}]), json!({"a":[1]})),
            (
                json!({"a/b":1,"m~n":2}),
                json!([{"op":"remove","path":"/a~1b"},
                {"op":"replace","path":"/m~0n","value":3}]),
                json!({"m~n":3}),
            ),
            (
                json!({"a":{"b":1}}),
                json!([{"op":"move","from":"/a/b","path":"/c"}]),
                json!({"a":{},"c":1}),
            ),
            (
                json!({"a":{"b":1}}),
                json!([{"op":"copy","from":"/a","path":"/c"}]),
                json!({"a":{"b":1},"c":{"b":1}}),
            ),
            (
                json!({"a":[1,2,3]}),
                json!([{"op":"move","from":"/a/0","path":"/a/2"}]),
                json!({"a":[2,3,1]}),
            ),
            (
                json!({"a":{"b":[1,{"c":2}]}}),
                json!([{"op":"test","path":"/a/b/1","value":{"c":2}},
                {"op":"test","path":"/x","value":null}]),
                json!({"a":{"b":[1,{"c":2}]}}),
            ),
            (json!({"":1}), json!([{"op":"replace","path":"/","value":2}]), json!({"":2})),
        ] {
            assert_eq!(json_patch(&document, &patch), Ok(expected), "{patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let document = json!({"a": {"b": 1}, "l": [1]});
        for (operation, expected) in [
            (
                json!({"op":"add","path":"/x/y","value":1}),
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!({"op":"add","path":"/a/b/c","value":1}),
                "add operation does not apply: doc is missing path: \"/a/b/c\": missing value",
            ),
            (
                json!({"op":"add","path":"/l/3","value":1}),
                "error in add for path: '/l/3': Unable to access invalid index: 3: \
                 invalid index referenced",
            ),
            (
                json!({"op":"remove","path":"/x"}),
                "error in remove for path: '/x': Unable to remove nonexistent key: x: \
                 missing value",
            ),
            (
                json!({"op":"remove","path":"/l/1"}),
                "error in remove for path: '/l/1': Unable to access invalid index: 1: \
                 invalid index referenced",
            ),
            (
                json!({"op":"replace","path":"/x","value":1}),
                "replace operation does not apply: doc is missing key: /x: missing value",
            ),
            (
                json!({"op":"replace","path":"/x/y","value":1}),
                "replace operation does not apply: doc is missing path: /x/y: missing value",
            ),
            (
                json!({"op":"test","path":"/a/b","value":2}),
                "testing value /a/b failed: test failed",
            ),
            (
                json!({"op":"move","from":"/x","path":"/y"}),
                "error in move for path: '/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!({"op":"copy","from":"/x","path":"/y"}),
                "copy operation does not apply: doc is missing from path: /x: missing value",
            ),
            (json!({"op":"move","from":"/a","path":"/a/b"}), "cannot move /a into itself: /a/b"),
            (json!({"op":"grow","path":"/a"}), "Unexpected kind: grow"),
            (json!({"op":"remove","path":"a"}), "the path \"a\" does not begin with a slash"),
        ] {
            let error = json_patch(&document, &json!([operation])).unwrap_err();
            assert_eq!(error, PatchError::Unfit(expected.to_owned()));
        }
    }

    #[test]
    fn what_is_no_patch_is_malformed() {
        for patch in [
            json!({}),
            json!([1]),
            json!([{"op":"add"}]),
            json!([{"path":"/a"}]),
            json!([{"op":"add","path":"/a"}]),
            json!([{"op":"move","path":"/a"}]),
        ] {
            let error = json_patch(&json!({}), &patch).unwrap_err();
            assert!(matches!(error, PatchError::Malformed(_)), "{patch}: {error}");
        }
    }

    #[test]
    fn operations_and_copies_are_bounded() {
        let operation = json!({"op":"test","path":"/a","value":1});
        let patch = |count| Value::Array(vec![operation.clone(); count]);
        assert!(json_patch(&json!({"a":1}), &patch(MAX_OPERATIONS)).is_ok());
        let error = json_patch(&json!({"a":1}), &patch(MAX_OPERATIONS + 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "The allowed maximum operations in a JSON patch is 10000, got 10001"
        );
        // Each copy doubles the document.
        let double = |index| json!({"op":"copy","from":"","path":format!("/a{index}")});
        let bomb = (0..40).map(double).collect();
        let error = json_patch(&json!({"b":"x".repeat(1000)}), &bomb).unwrap_err();
        assert!(error.to_string().contains("accumulated size"), "{error}");
    }
}
