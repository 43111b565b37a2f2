use super::*;
use proptest::prelude::*;

/// Any JSON: what `serde_json` says of it is what this must say.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value as Json;
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<i32>().prop_map(|n| Json::from(f64::from(n) / 4.0)),
        ".{0,40}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map("[a-f/~é]{0,3}", inner, 0..6)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_goes_in_and_out_unchanged(json in json()) {
        let text = json.to_string();
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value.to_string(), text);
        prop_assert_eq!(&value, &Value::from(json.clone()));
        prop_assert_eq!(serde_json::Value::from(value.clone()), json.clone());
        prop_assert_eq!(from_value::<serde_json::Value>(&value).unwrap(), json);
    }

    /// Whatever is done to a map, it is what a tree of the same entries is; small or large.
    #[test]
    fn a_map_is_a_sorted_map(
        steps in prop::collection::vec((0..4u8, 0..120u16, any::<u8>()), 0..400),
        first in prop::collection::vec((0..120u16, any::<u8>()), 0..80),
    ) {
        let key = |n: u16| Text::from(format!("key-{n}"));
        let mut map: Map = first.iter().map(|(n, v)| (key(*n), Value::from(*v))).collect();
        let mut tree: std::collections::BTreeMap<Text, Value> =
            first.iter().map(|(n, v)| (key(*n), Value::from(*v))).collect();
        for (what, n, v) in steps {
            match what {
                0 => prop_assert_eq!(map.remove(&key(n)), tree.remove(&key(n))),
                1 => {
                    let had = map.entry(key(n)).or_insert(Value::from(v)).clone();
                    prop_assert_eq!(&had, tree.entry(key(n)).or_insert(Value::from(v)));
                }
                _ => prop_assert_eq!(
                    map.insert(key(n), v.into()),
                    tree.insert(key(n), v.into())
                ),
            }
            prop_assert_eq!(map.get(&key(n)), tree.get(&key(n)));
            prop_assert_eq!(map.len(), tree.len());
        }
        prop_assert!(map.iter().eq(tree.iter()));
        prop_assert!(map.iter().rev().eq(tree.iter().rev()));
        map.retain(|_, value| value != &Value::from(7));
        tree.retain(|_, value| value != &Value::from(7));
        prop_assert!(map.into_iter().eq(tree));
    }
}

#[test]
fn of_two_entries_with_one_key_the_later_counts() {
    let value: Value = serde_json::from_str(r#"{"b":1,"a":2,"b":3,"a":4,"b":5}"#).unwrap();
    assert_eq!(value, json!({"a": 4, "b": 5}));
    let many: String = (0..100).map(|n| format!("\"k{}\":{n},", n % 60)).collect();
    let value: Value = serde_json::from_str(&format!("{{{many}\"z\":0}}")).unwrap();
    assert_eq!(value["k1"], 61);
}

#[test]
fn places_are_made_on_the_way() {
    let mut value = Value::Null;
    value["metadata"]["labels"]["a"] = "b".into();
    assert_eq!(value, json!({"metadata": {"labels": {"a": "b"}}}));
    assert!(value["spec"]["missing"][0].is_null());
    assert!(value.get("spec").is_none());
    value["list"] = json!([1, 2]);
    value["list"][1] = 3.into();
    assert_eq!(value.pointer("/list/1"), Some(&3.into()));
    assert_eq!(value.pointer("/list/01"), None);
    assert_eq!(value.pointer("list"), None);
    assert_eq!(value.pointer(""), Some(&value));
    value["metadata"]["labels"]["x/y~z"] = 1.into();
    *value.pointer_mut("/metadata/labels/x~1y~0z").unwrap() = 2.into();
    assert_eq!(value["metadata"]["labels"]["x/y~z"], 2);
}

#[test]
fn types_are_read_as_from_json() {
    #[derive(Debug, PartialEq, ::serde::Deserialize)]
    struct Typed {
        name: String,
        #[serde(default)]
        missing: Option<u8>,
        null: Option<u8>,
        list: Vec<i32>,
        kind: Kind,
        held: Held,
    }
    #[derive(Debug, PartialEq, ::serde::Deserialize)]
    enum Kind {
        One,
    }
    #[derive(Debug, PartialEq, ::serde::Deserialize)]
    enum Held {
        Of(f64),
    }
    let value = json!({
        "name": "a", "null": null, "list": [1, -2], "kind": "One", "held": {"Of": 1.5}, "more": {},
    });
    let typed: Typed = from_value(&value).unwrap();
    assert_eq!((typed.name.as_str(), typed.missing, typed.null), ("a", None, None));
    assert_eq!((typed.list, typed.kind, typed.held), (vec![1, -2], Kind::One, Held::Of(1.5)));
    assert!(from_value::<Typed>(&json!({"name": 1})).is_err());
    assert!(from_value::<(u8, u8)>(&json!([1, 2, 3])).is_err());
}

#[test]
fn an_object_is_small() {
    assert_eq!(size_of::<Value>(), 32);
    assert_eq!(size_of::<(Text, Value)>(), 56);
}
