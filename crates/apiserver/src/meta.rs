//! What the server itself writes into metadata.
use crate::clock;
use api::Value;
use value::{Map, json};

/// Generated names end with five of these.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const MAX_GENERATED_BASE: usize = 63 - SUFFIX_LENGTH;

/// A random (version 4) UUID.
pub(crate) fn uid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    out
}

pub(crate) fn generate_name(base: &str) -> String {
    let mut name: String = base.chars().take(MAX_GENERATED_BASE).collect();
    for _ in 0..SUFFIX_LENGTH {
        let letter = SUFFIX_LETTERS[rand::random_range(0..SUFFIX_LETTERS.len())];
        name.push(char::from(letter));
    }
    name
}

/// `metadata`, made if it is not there.
pub(crate) fn of(object: &mut Value) -> &mut Map {
    if !object.is_object() {
        *object = json!({});
    }
    let map = object.as_object_mut().expect("made an object above");
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("made an object above")
}

/// A new object's uid, time, and generation; what clients may not set is cleared.
pub(crate) fn fill_new(object: &mut Value, generation: bool) {
    let metadata = of(object);
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        metadata.remove(key);
    }
    metadata.insert("uid", uid().into());
    metadata.insert("creationTimestamp", clock::now_text().into());
    if generation {
        metadata.insert("generation", 1.into());
    } else {
        metadata.remove("generation");
    }
}

pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let metadata = of(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers", json!(finalizers));
    }
}

/// Everything but metadata is the same, and but status where that is written by itself.
pub(crate) fn same_desire(a: &Value, b: &Value, has_status: bool) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let desire = |map: &'_ Map, key: &str| {
        let kept = matches!(key, "metadata" | "apiVersion" | "kind");
        !(kept || has_status && key == "status") && map.contains_key(key)
    };
    a.iter().all(|(key, value)| !desire(a, key) || b.get(key) == Some(value))
        && b.keys().all(|key| !desire(b, key) || a.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit() {
        let name = generate_name(&"x".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(name.as_bytes()[58..].iter().all(|b| SUFFIX_LETTERS.contains(b)));
        let uid = uid();
        assert_eq!((uid.len(), uid.as_bytes()[14]), (36, b'4'));
    }

    #[test]
    fn desire_is_all_but_metadata_and_status() {
        let a = json!({ "metadata": { "name": "a" }, "spec": { "x": 1 }, "status": 1 });
        let b = json!({ "metadata": { "name": "b" }, "spec": { "x": 1 } });
        assert!(same_desire(&a, &b, true));
        assert!(!same_desire(&a, &b, false));
        assert!(!same_desire(&a, &json!({ "spec": { "x": 2 } }), true));
        assert!(!same_desire(&a, &json!({ "spec": { "x": 1 }, "data": 2 }), true));
    }
}
