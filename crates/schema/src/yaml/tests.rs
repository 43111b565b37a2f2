use super::*;
use crate::builtin;
use api::Gvk;

/// Text, its JSON, and what strict reading says, as `sigs.k8s.io/yaml` reads it (but that the line
/// of a merged duplicate is where it is merged, not where it comes from).
const READ: &[(&str, &str, &str)] = &[
    (
        "a: yes\nb: on\nc: off\nd: No\ne: y\nf: 'yes'\ng: !!str yes",
        "{\"a\":true,\"b\":true,\"c\":false,\"d\":false,\"e\":true,\"f\":\"yes\",\"g\":\"yes\"}",
        "",
    ),
    (
        "a: 017\nb: 0o17\nc: 0x1F\nd: 08\ne: 1_000\nf: 0b101\ng: -0b11\nh: 1e3\ni: .5\nj: 5.\nk: +3\nl: 1e400\nm: 1:30\nn: -0\no: 18446744073709551615\np: 18446744073709551616",
        "{\"a\":15,\"b\":15,\"c\":31,\"d\":8,\"e\":1000,\"f\":5,\"false\":0,\"g\":-3,\"h\":1000,\"i\":0.5,\"j\":5,\"k\":3,\"l\":\"1e400\",\"m\":\"1:30\",\"o\":18446744073709551615,\"p\":18446744073709552000}",
        "",
    ),
    (
        "y: 1\n2: x\n1.5: z\ntrue: q\n",
        "{\"1.5\":\"z\",\"2\":\"x\",\"true\":\"q\"}",
        "yaml: unmarshal errors:\n  line 4: key true already set in map",
    ),
    (
        "a: 2001-01-01\nb: 2001-12-14t21:59:43.10-05:00",
        "{\"a\":\"2001-01-01\",\"b\":\"2001-12-14t21:59:43.10-05:00\"}",
        "",
    ),
    (
        "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\nf: {b: 5, <<: *x}",
        "{\"a\":{\"b\":1},\"c\":{\"b\":1},\"d\":{\"b\":1,\"e\":2},\"f\":{\"b\":1}}",
        "yaml: unmarshal errors:\n  line 4: key \"b\" already set in map",
    ),
    ("a: ~\nb: null\nc:\nd: ''\n", "{\"a\":null,\"b\":null,\"c\":null,\"d\":\"\"}", ""),
    (
        "a: 1\na: 2\n",
        "{\"a\":2}",
        "yaml: unmarshal errors:\n  line 2: key \"a\" already set in map",
    ),
    (
        "a:\n  b: 1\n  b:\n    c: 2\nd: 3\nd: 4\n",
        "{\"a\":{\"b\":{\"c\":2}},\"d\":4}",
        "yaml: unmarshal errors:\n  line 4: key \"b\" already set in map\n  line 6: key \"d\" already set in map",
    ),
    ("a: !!binary aGk=", "{\"a\":\"hi\"}", ""),
    ("a: !!int '5'", "{\"a\":5}", ""),
    ("a: !!float 5", "{\"a\":5}", ""),
    ("a: !foo bar", "{\"a\":\"bar\"}", ""),
    ("--- 1\n--- 2", "1", ""),
    ("", "null", ""),
    ("# x", "null", ""),
    ("a: |\n  x\n  y\nb: >-\n  p\n  q", "{\"a\":\"x\\ny\\n\",\"b\":\"p q\"}", ""),
    (
        "{a: 1, a: 2}",
        "{\"a\":2}",
        "yaml: unmarshal errors:\n  line 1: key \"a\" already set in map",
    ),
    ("a: \"\\u00e9\\x41\"", "{\"a\":\"éA\"}", ""),
    ("- a\n- - b\n  - c", "[\"a\",[\"b\",\"c\"]]", ""),
    ("1_000.5: x", "{\"1000.5\":\"x\"}", ""),
    ("a: 1.0\nc: 1e21\nd: 0.1", "{\"a\":1,\"c\":1e+21,\"d\":0.1}", ""),
    (
        "a: 0o8\nb: 0x\nc: 1__0\nd: _1\ne: 0_7",
        "{\"a\":\"0o8\",\"b\":\"0x\",\"c\":10,\"d\":\"_1\",\"e\":7}",
        "",
    ),
    ("a: 'it''s'\nb: {c}", "{\"a\":\"it's\",\"b\":{\"c\":null}}", ""),
    ("a: <<\n", "{\"a\":\"\\u003c\\u003c\"}", ""),
    ("a: =\n", "{\"a\":\"=\"}", ""),
    ("a: 0777\nb: '0777'", "{\"a\":511,\"b\":\"0777\"}", ""),
    ("<<: {a: 1}\nb: 2", "{\"a\":1,\"b\":2}", ""),
    (
        "<<: [{a: 1}, {a: 2, b: 3}]\nc: 4",
        "{\"a\":1,\"b\":3,\"c\":4}",
        "yaml: unmarshal errors:\n  line 1: key \"a\" already set in map",
    ),
    ("a: 685_230.15\nb: 190:20:30", "{\"a\":685230.15,\"b\":\"190:20:30\"}", ""),
    (
        "a: TRUE\nb: tRUE\nc: Yes\nd: NULL\ne: nULL",
        "{\"a\":true,\"b\":\"tRUE\",\"c\":true,\"d\":null,\"e\":\"nULL\"}",
        "",
    ),
];

/// What is refused.
const REFUSED: &[(&str, &str)] = &[
    ("[1,2", "yaml: line 1: did not find expected ',' or ']'"),
    ("a: b: c", "yaml: mapping values are not allowed in this context"),
    ("? [a]\n: b", "yaml: invalid map key: []interface {}{\"a\"}"),
    ("~: x", "unsupported map key of type: %!s(<nil>), key: <nil>, value: \"x\""),
    ("a: .inf", "json: unsupported value: +Inf"),
    ("a: &a [*a]", "yaml: anchor 'a' value contains itself"),
    ("a: *nope", "yaml: unknown anchor 'nope' referenced"),
    ("a:\n\tb: 1", "yaml: found character that cannot start any token"),
    ("a: !!int x", "yaml: cannot decode !!str `x` as a !!int"),
    ("a: %x\nb: @c", "yaml: found character that cannot start any token"),
];

#[test]
fn scalars_keys_and_merges_are_those_of_kubernetes_tools() {
    for (text, json, strict) in READ {
        let (value, duplicates) = yaml_to_json(text.as_bytes()).unwrap();
        let want: Value = serde_json::from_str(json).unwrap();
        assert_eq!(value.to_string(), want.to_string(), "{text}");
        assert_eq!(duplicates.unwrap_or_default(), *strict, "{text}");
    }
}

#[test]
fn what_go_refuses_is_refused() {
    for (text, upstream) in REFUSED {
        let error = yaml_to_json(text.as_bytes()).expect_err(text);
        assert!(!error.to_string().is_empty(), "{upstream}");
    }
}

#[test]
fn depth_and_aliases_are_bounded() {
    for text in ["[".repeat(10_000), "{a: ".repeat(10_000), "- ".repeat(10_000)] {
        assert!(yaml_to_json(text.as_bytes()).is_err());
    }
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let last = format!("*a{}, ", i - 1).repeat(10);
        bomb.push_str(&format!("a{i}: &a{i} [{last}]\n"));
    }
    let error = yaml_to_json(bomb.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "yaml: document contains excessive aliasing");
}

#[test]
fn strict_decoding_names_duplicates_then_unknown_fields() {
    let ty = builtin().type_of(&Gvk::fixed("apps", "v1", "Deployment")).unwrap();
    let text =
        "apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 1\n  replicas: 2\n  foo: x\n";
    let decoded = decode_yaml(text.as_bytes(), ty).unwrap();
    assert_eq!(decoded.value["spec"]["replicas"], 2);
    let want = [
        "yaml: unmarshal errors:\n  line 5: key \"replicas\" already set in map",
        "unknown field \"spec.foo\"",
    ];
    assert_eq!(decoded.strict, want);
    let error = decode_yaml(b"spec:\n  replicas: many\n", ty).unwrap_err();
    let want = "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas \
                of type int32";
    assert_eq!(error.to_string(), want);
    assert!(
        decode_yaml(b"a: [1", ty)
            .unwrap_err()
            .to_string()
            .starts_with("error converting YAML to JSON: yaml: line ")
    );
}
