use super::*;
use crate::builtin;
use api::Gvk;

fn ty(version: &str, kind: &str) -> TypeRef<'static> {
    builtin().type_of(&Gvk::new(version, kind)).unwrap()
}

fn deployment(text: &str) -> Result<Decoded, DecodeError> {
    decode_json(text.as_bytes(), ty("apps/v1", "Deployment"))
}

#[test]
fn unknown_and_duplicate_fields_are_dropped_and_named() {
    let text = r#"{"kind":"Deployment","apiVersion":"apps/v1","foo":1,"spec":{"replicas":1,"replicas":3,
        "template":{"metadata":{"labels":{"a":"1","a":"2"}},
        "spec":{"containers":[{"name":"a"},{"name":"b","Image":"x","bar":{"baz":1}}]}}}}"#;
    let decoded = deployment(text).unwrap();
    let want = r#"strict decoding error: unknown field "foo", duplicate field "spec.replicas", duplicate field "spec.template.metadata.labels.a", unknown field "spec.template.spec.containers[1].Image", unknown field "spec.template.spec.containers[1].bar""#;
    assert_eq!(strict_error(&decoded.strict), want);
    assert_eq!(decoded.value["spec"]["replicas"], 3);
    assert!(decoded.value.get("foo").is_none());
    let second = &decoded.value["spec"]["template"]["spec"]["containers"][1];
    assert_eq!(second.to_string(), r#"{"name":"b","resources":{}}"#);
}

#[test]
fn wrong_types_are_told_as_upstream_tells_them() {
    for (text, want) in [
        (
            r#"{"spec":{"replicas":"3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of \
             type int32",
        ),
        (
            r#"{"spec":{"replicas":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field \
             DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field \
             PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"image":5}]}}}}"#,
            "json: cannot unmarshal number into Go struct field \
             Container.spec.template.spec.containers.image of type string",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of \
             type string",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}}"#,
            "quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            r#"{"metadata":{"creationTimestamp":"x"}}"#,
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
        ),
    ] {
        assert_eq!(deployment(text), Err(DecodeError::Type(want.to_owned())), "{text}");
    }
}

#[test]
fn what_is_not_json_is_told_as_upstream_tells_it() {
    for (text, want) in [
        ("", "unexpected end of JSON input"),
        (r#"{"spec":"#, "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{} {}", "invalid character '{' after top-level value"),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        (r#"{"spec":{} "a":1}"#, "invalid character '\"' after object key:value pair"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        (r#"{"metadata":{"finalizers":["a" "b"]}}"#, "invalid character '\"' after array element"),
        (&"[".repeat(10_000), "unexpected end of JSON input"),
        (&r#"{"a":"#.repeat(10_000), "unexpected end of JSON input"),
    ] {
        let error = deployment(text).unwrap_err();
        assert_eq!(error, DecodeError::Syntax(want.to_owned()), "{text:.40}");
    }
}

#[test]
fn values_take_gos_canonical_form() {
    let text = r#"{"metadata":{"name":"a","labels":{},"creationTimestamp":null},
        "spec":{"containers":[{"name":"c","image":"","resources":{"limits":{"cpu":0.5,
        "memory":"1024Mi"}},"livenessProbe":{"httpGet":{"port":"http"},"periodSeconds":0},
        "securityContext":{"runAsUser":0}}],"volumes":[],"hostNetwork":false,
        "nodeSelector":null}}"#;
    let decoded = decode_json(text.as_bytes(), ty("v1", "Pod")).unwrap();
    let want = r#"{"metadata":{"name":"a"},"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":"http"}},"name":"c","resources":{"limits":{"cpu":"500m","memory":"1Gi"}},"securityContext":{"runAsUser":0}}]},"status":{}}"#;
    assert_eq!(decoded.value.to_string(), want);
    assert_eq!(decoded.strict, Vec::<String>::new());
    // Decoding what was decoded changes nothing.
    let again = decode_value(&decoded.value, ty("v1", "Pod")).unwrap();
    assert_eq!(again, decoded);
    let role = decode_json(b"{}", ty("rbac.authorization.k8s.io/v1", "Role")).unwrap();
    assert_eq!(role.value.to_string(), r#"{"metadata":{},"rules":null}"#);
    let secret = decode_json(br#"{"data":{"a":"eA=="}}"#, ty("v1", "Secret")).unwrap();
    assert_eq!(secret.value["data"]["a"], "eA==");
}

#[test]
fn schemas_in_definitions_take_all_their_shapes() {
    let text = r#"{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{
        "additionalProperties":false,"items":{"type":"string","nope":1},
        "dependencies":{"a":["b"]},"default":{"x":[1,null]},"nope":2}}}]}}"#;
    let crd = ty("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let decoded = decode_json(text.as_bytes(), crd).unwrap();
    let schema = &decoded.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let want = r#"{"additionalProperties":false,"default":{"x":[1,null]},"dependencies":{"a":["b"]},"items":{"type":"string"}}"#;
    assert_eq!(schema.to_string(), want);
    // Upstream decodes what is below `items` on its own, without strictness.
    let want = [r#"unknown field "spec.versions[0].schema.openAPIV3Schema.nope""#];
    assert_eq!(decoded.strict, want);
    let text =
        br#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"additionalProperties":1}}}]}}"#;
    let error = decode_json(text, crd).unwrap_err();
    assert_eq!(error.to_string(), "boolean or JSON schema expected");
}

#[test]
fn depth_is_bounded() {
    let schema = |depth: usize| {
        let open = r#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":"#;
        format!("{open}{}{{}}{}}}}}]}}}}", r#"{"not":"#.repeat(depth), "}".repeat(depth))
    };
    let crd = ty("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    assert!(decode_json(schema(100).as_bytes(), crd).is_ok());
    let error = decode_json(schema(10_000).as_bytes(), crd).unwrap_err();
    assert_eq!(error, DecodeError::Syntax("exceeded max depth".to_owned()));
    // What is dropped is skipped without recursion.
    let ignored = format!(r#"{{"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(deployment(&ignored).unwrap().strict, [r#"unknown field "x""#]);
}
