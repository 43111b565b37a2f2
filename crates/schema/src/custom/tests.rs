use super::*;
use crate::{apply_defaults, decode_json, decode_yaml};
use value::json;

fn gvk() -> Gvk {
    Gvk::fixed("example.com", "v1", "Pie")
}

/// The graph of an object with these properties of its spec.
fn spec(properties: Value) -> Graph {
    compile(
        &gvk(),
        &json!({ "type": "object", "properties": {
            "spec": { "type": "object", "properties": properties } } }),
    )
}

fn texts(graph: &Graph, spec: Value) -> Vec<String> {
    let object = json!({ "spec": spec });
    let errors = validate(&object, None, graph.type_of(&gvk()).unwrap());
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_judged_in_upstreams_words() {
    let graph = spec(json!({
        "replicas": { "type": "integer", "minimum": 1, "maximum": 10, "format": "int32" },
        "ratio": { "type": "number", "exclusiveMinimum": true, "minimum": 0, "multipleOf": 0.5 },
        "size": { "type": "string", "enum": ["small", "large"] },
        "cron": { "type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$" },
        "name": { "type": "string", "minLength": 2, "maxLength": 3 },
        "mail": { "type": "string", "format": "email" },
        "other": { "type": "string", "format": "no-such-format" },
        "port": { "x-kubernetes-int-or-string": true },
        "tags": { "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "set",
            "maxItems": 2 },
        "ports": { "type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port"], "items": { "type": "object",
            "required": ["port"], "properties": { "port": { "type": "integer" } } } },
        "labels": { "type": "object", "additionalProperties": { "type": "string" },
            "minProperties": 1 },
        "maybe": { "type": "string", "nullable": true },
        "whole": { "type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true },
    }));
    for (value, want) in [
        (
            json!({ "whole": { "kind": "Pod" } }),
            vec!["spec.whole.apiVersion: Required value: must not be empty"],
        ),
        (json!({ "replicas": 3, "ratio": 1.5, "size": "small", "cron": "* * * * */5" }), vec![]),
        (json!({ "port": 80, "maybe": null, "other": "x", "mail": "a@b.example" }), vec![]),
        (json!({ "port": "http", "labels": { "a": "b" }, "tags": ["a", "b"] }), vec![]),
        (
            json!({ "replicas": "many" }),
            vec![
                "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type \
                 integer: \"string\"",
            ],
        ),
        (
            json!({ "replicas": 11 }),
            vec![
                "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or \
                 equal to 10",
            ],
        ),
        (
            json!({ "ratio": 0 }),
            vec!["spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0"],
        ),
        (
            json!({ "ratio": 0.7 }),
            vec!["spec.ratio: Invalid value: 0.7: spec.ratio in body should be a multiple of 0.5"],
        ),
        (
            json!({ "size": "huge" }),
            vec!["spec.size: Unsupported value: \"huge\": supported values: \"small\", \"large\""],
        ),
        (
            json!({ "cron": "x" }),
            vec![
                r#"spec.cron: Invalid value: "x": spec.cron in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'"#,
            ],
        ),
        (
            json!({ "name": "a" }),
            vec![
                "spec.name: Invalid value: \"a\": spec.name in body should be at least 2 chars \
                 long",
            ],
        ),
        (json!({ "name": "long" }), vec!["spec.name: Too long: may not be more than 3 bytes"]),
        (
            json!({ "mail": "nobody" }),
            vec![
                "spec.mail: Invalid value: \"nobody\": spec.mail in body must be of type email: \
                 \"nobody\"",
            ],
        ),
        (
            json!({ "port": 1.5 }),
            vec![
                "spec.port: Invalid value: \"number\": spec.port in body must be of type \
                 integer,string: \"number\"",
            ],
        ),
        (
            json!({ "tags": ["a", "b", "a"] }),
            vec![
                "spec.tags: Too many: 3: must have at most 2 items",
                "spec.tags[2]: Duplicate value: \"a\"",
            ],
        ),
        (
            json!({ "ports": [{ "port": 1 }, { "port": 1 }] }),
            vec!["spec.ports[1]: Duplicate value: {\"port\":1}"],
        ),
        (json!({ "ports": [{}] }), vec!["spec.ports[0].port: Required value"]),
        (
            json!({ "labels": { "a": 1 } }),
            vec![
                "spec.labels.a: Invalid value: \"integer\": spec.labels.a in body must be of type \
                 string: \"integer\"",
            ],
        ),
        (
            json!({ "labels": {} }),
            vec![
                "spec.labels: Invalid value: 0: spec.labels in body should have at least 1 \
                 properties",
            ],
        ),
    ] {
        assert_eq!(texts(&graph, value.clone()), want, "{value}");
    }
}

#[test]
fn combinations() {
    let graph = compile(
        &gvk(),
        &json!({ "type": "object", "properties": { "spec": { "type": "object",
            "properties": { "a": { "type": "integer" }, "b": { "type": "integer" } },
            "oneOf": [{ "required": ["a"] }, { "required": ["b"] }],
            "not": { "properties": { "a": { "minimum": 5 } }, "required": ["a"] },
            "allOf": [{ "properties": { "a": { "maximum": 100 } } }],
        } } }),
    );
    assert_eq!(texts(&graph, json!({ "a": 1 })), [""; 0]);
    assert_eq!(
        texts(&graph, json!({})),
        [
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). \
             Found none valid",
            "spec.a: Required value",
        ]
    );
    assert_eq!(
        texts(&graph, json!({ "a": 1, "b": 2 })),
        ["<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). \
          Found 2 valid alternatives"]
    );
    assert_eq!(
        texts(&graph, json!({ "a": 6 })),
        ["<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)"]
    );
}

#[test]
fn what_stays_as_it_was_is_not_judged_again() {
    let graph = spec(json!({ "size": { "type": "string", "enum": ["s"] },
        "name": { "type": "string" } }));
    let ty = graph.type_of(&gvk()).unwrap();
    let old = json!({ "spec": { "size": "old", "name": "a" } });
    let new = json!({ "spec": { "size": "old", "name": "b" } });
    assert_eq!(validate(&new, Some(&old), ty), []);
    let new = json!({ "spec": { "size": "new", "name": "b" } });
    assert_eq!(validate(&new, Some(&old), ty).len(), 1);
}

#[test]
fn what_is_not_known_goes() {
    let graph = spec(json!({
        "a": { "type": "string" },
        "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": { "inner": { "type": "object" } } },
        "any": { "x-kubernetes-preserve-unknown-fields": true },
        "list": { "type": "array", "items": { "type": "object",
            "properties": { "k": { "type": "string" } } } },
        "template": { "type": "object", "x-kubernetes-embedded-resource": true,
            "properties": { "spec": { "type": "object" } } },
        "maybe": { "type": "string", "nullable": true },
    }));
    let ty = graph.type_of(&gvk()).unwrap();
    let text = br#"{"apiVersion":"example.com/v1","kind":"Pie","x":1,
        "metadata":{"name":"p","extra":1},
        "spec":{"a":"x","b":2,"a":"y","maybe":null,
            "free":{"more":{"deep":[1]},"inner":{"gone":1}},
            "any":[{"x":1}],
            "list":[{"k":"v","z":1}],
            "template":{"apiVersion":"v1","kind":"K","metadata":{"name":"n","extra":1},"z":1}}}"#;
    let decoded = decode_json(text, ty).unwrap();
    assert_eq!(
        decoded.strict,
        [
            "duplicate field \"spec.a\"",
            "unknown field \"metadata.extra\"",
            "unknown field \"spec.b\"",
            "unknown field \"spec.free.inner.gone\"",
            "unknown field \"spec.list[0].z\"",
            "unknown field \"spec.template.metadata.extra\"",
            "unknown field \"spec.template.z\"",
            "unknown field \"x\"",
        ]
    );
    let spec = &decoded.value["spec"];
    assert_eq!(spec["a"], "y");
    assert_eq!(spec["free"], json!({ "more": { "deep": [1] }, "inner": {} }));
    assert_eq!(spec["any"], json!([{ "x": 1 }]));
    assert_eq!(spec["list"], json!([{ "k": "v" }]));
    assert_eq!(spec["template"]["metadata"]["name"], "n");
    assert!(spec.as_object().unwrap().contains_key("maybe"));
    let again = decode_json(decoded.value.to_string().as_bytes(), ty).unwrap();
    assert_eq!(again, Decoded { value: decoded.value.clone(), strict: Vec::new() });
    let wrong = br#"{"metadata":{"labels":{"a":1}}}"#;
    assert_eq!(
        decode_json(wrong, ty).unwrap_err().to_string(),
        "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"
    );
    let yaml = b"spec:\n  a: x\n  a: y\n  c: 1\n";
    assert_eq!(
        decode_yaml(yaml, ty).unwrap().strict,
        [
            "yaml: unmarshal errors:\n  line 3: key \"a\" already set in map",
            "unknown field \"spec.c\""
        ]
    );
}

use crate::Decoded;

#[test]
fn defaults_come_in() {
    let graph = spec(json!({
        "size": { "type": "string", "default": "small" },
        "inner": { "type": "object", "default": {},
            "properties": { "n": { "type": "integer", "default": 3 } } },
        "plain": { "type": "string" },
    }));
    let ty = graph.type_of(&gvk()).unwrap();
    let mut value = decode_json(br#"{"spec":{"size":null,"plain":null}}"#, ty).unwrap().value;
    apply_defaults(&mut value, ty);
    assert_eq!(value, json!({ "spec": { "size": "small", "inner": { "n": 3 } } }));
}

#[test]
fn equal_parts_are_one_node() {
    let part = json!({ "type": "object", "properties": {
        "name": { "type": "string", "description": "a" },
        "value": { "type": "string", "description": "b" } } });
    let mut properties = value::Map::new();
    for n in 0..100 {
        properties.insert(format!("p{n}"), part.clone());
    }
    let graph = spec(properties.into());
    // Text, the part, the spec, the root.
    assert_eq!(graph.types().count(), 4);
}

#[test]
fn formats() {
    for (name, good, bad) in [
        ("ipv4", "10.0.0.1", "10.0.0"),
        ("ipv6", "::1", "10.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
        ("uuid", "7f9c24e8-3b12-4fef-91e0-56a2d5a2a3b1", "7f9c24e8"),
        ("uuid4", "7f9c24e8-3b12-4fef-91e0-56a2d5a2a3b1", "7f9c24e8-3b12-3fef-91e0-56a2d5a2a3b1"),
        ("mac", "00:11:22:33:44:55", "00:11:22"),
        ("uri", "https://example.com/x", "example"),
        ("hostname", "a.example.com", "-a"),
        ("date", "2026-01-02", "2026-13-02"),
        ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
        ("duration", "1h30m", "soon"),
        ("duration", "3 days", "days"),
        ("byte", "YQ==", "a"),
        ("hexcolor", "#fff", "#ffff"),
        ("rgbcolor", "rgb(1, 2, 3)", "rgb(1,2)"),
        ("isbn10", "0306406152", "0306406153"),
        ("isbn13", "9780306406157", "9780306406158"),
        ("creditcard", "4111111111111111", "4111111111111112"),
        ("ssn", "123-45-6789", "123-456-789"),
        ("k8s-short-name", "a-b", "a.b"),
        ("k8s-long-name", "a.b", "A.b"),
    ] {
        let format = Format::named(name).unwrap();
        assert!(format.fits(good), "{name} {good}");
        assert!(!format.fits(bad), "{name} {bad}");
    }
    assert!(Format::named("no-such-format").is_none());
}

#[test]
fn patterns_that_cannot_be_used_are_told_of() {
    assert_eq!(check_pattern("^a+$"), Ok(()));
    assert_eq!(check_pattern(r"^\p{L}+$"), Err(PatternError::Unicode));
    assert!(matches!(check_pattern("("), Err(PatternError::Invalid(_))));
    // Takes forever where an engine tries everything.
    let graph = spec(json!({ "a": { "type": "string", "pattern": "^(a+)+$" } }));
    assert_eq!(texts(&graph, json!({ "a": format!("{}!", "a".repeat(5000)) })).len(), 1);
}
