//! What comes from outside and is wrong: what is told of it, and that it does no harm.
use super::*;

const JSON: (&str, &str) = ("content-type", "application/json");
const YAML: (&str, &str) = ("content-type", "application/yaml");
const PROTO: (&str, &str) = ("content-type", "application/vnd.kubernetes.protobuf");
const JSON_PATCH: (&str, &str) = ("content-type", "application/json-patch+json");
const STRATEGIC: (&str, &str) = ("content-type", "application/strategic-merge-patch+json");
const APPLY: (&str, &str) = ("content-type", "application/apply-patch+yaml");
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn raw(lab: &Lab, method: &str, uri: &str, header: (&str, &str), body: &[u8]) -> Answer {
    answer(lab.raw(method, uri, &[header], Bytes::copy_from_slice(body)).await).await
}

#[track_caller]
fn told(answer: Answer, code: u16, words: &str) {
    let (status, message) = (answer.status.as_u16(), answer.message());
    assert!(status == code && message.contains(words), "{status} {}", answer.body);
    assert_eq!(answer.body["kind"], "Status");
    assert_eq!(answer.body["code"], code);
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let lab = Lab::new().await;
    let handled = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: ";
    for (header, body, words) in [
        (JSON, &b"{"[..], "unexpected end of JSON input"),
        (JSON, b"{\"metadata\":}", "invalid character"),
        (JSON, b"", ""),
        (JSON, b"[]", ""),
        (JSON, b"\"text\"", ""),
        (JSON, b"\xff\xfe", ""),
        (JSON, br#"{"data":{"a":1}}"#, "json: cannot unmarshal number into Go struct field"),
        (JSON, br#"{"data":[]}"#, "json: cannot unmarshal array into Go struct field"),
        (JSON, br#"{"metadata":{"creationTimestamp":"yesterday"}}"#, "parsing time"),
        (YAML, b"a: [", ""),
        (YAML, b"a: b: c", ""),
        (YAML, b"- a", ""),
        (YAML, b"a: &x [*x]", ""),
        (PROTO, b"k8s", ""),
        (PROTO, b"k8s\x00\xff\xff\xff\xff", ""),
        (PROTO, b"k8s\x00\x12\x7f", ""),
    ] {
        let answer = raw(&lab, "POST", MAPS, header, body).await;
        let shown = String::from_utf8_lossy(body).into_owned();
        let message = answer.message().to_owned();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.body);
        assert!(message.contains(words), "{shown}: {message}");
        if !words.is_empty() {
            assert!(message.starts_with(handled), "{shown}: {message}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_too_much() {
    let lab = Lab::new().await;
    let large = vec![b' '; (3 << 20) + 1];
    for (method, uri, header) in [
        ("POST", MAPS, JSON),
        ("PUT", "/api/v1/namespaces/default/configmaps/a", YAML),
        ("PATCH", "/api/v1/namespaces/default/configmaps/a", APPLY),
        ("DELETE", "/api/v1/namespaces/default/configmaps/a", JSON),
    ] {
        let answer = raw(&lab, method, uri, header, &large).await;
        assert_eq!(answer.body["reason"], "RequestEntityTooLarge");
        told(answer, 413, "Request entity too large: limit is 3145728");
    }
    for (header, open) in
        [(JSON, "[".to_owned()), (JSON, "{\"a\":".to_owned()), (YAML, "- ".to_owned())]
    {
        let deep = open.repeat(10_000);
        let answer = raw(&lab, "POST", MAPS, header, deep.as_bytes()).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
    // A billion words, had they been written out.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
    }
    let map = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n{bomb}");
    assert_eq!(raw(&lab, "POST", MAPS, YAML, map.as_bytes()).await.status, 400);
    lab.post(MAPS, config_map("a")).await.ok();
    let path = format!("{MAPS}/a?fieldManager=m");
    assert_eq!(raw(&lab, "PATCH", &path, APPLY, map.as_bytes()).await.status, 400);
    let operations = json!([{ "op": "test", "path": "/kind", "value": "ConfigMap" }]);
    let operations = Value::from(vec![operations[0].clone(); 10_001]);
    let answer = raw(&lab, "PATCH", &path, JSON_PATCH, operations.to_string().as_bytes()).await;
    let words = "The allowed maximum operations in a JSON patch is 10000, got 10001";
    told(answer, 413, words);
    let deep = format!("{}1{}", "{\"a\":".repeat(9_000), "}".repeat(9_000));
    for header in [STRATEGIC, ("content-type", "application/merge-patch+json"), APPLY] {
        let answer = raw(&lab, "PATCH", &path, header, deep.as_bytes()).await;
        assert_eq!(answer.status, 400, "{header:?} {}", answer.body);
    }
}

/// A client that goes on sending, a little at a time, holds its place among the writers for a
/// bounded time only.
#[tokio::test(start_paused = true)]
async fn bodies_that_take_too_long() {
    let lab = Lab::new().await;
    let drops = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        Some((Bytes::from_static(b" "), ()))
    });
    let mut request = Request::post(MAPS).header("content-type", "application/json");
    request.extensions_mut().unwrap().insert(Caller::InProcess(lab.user.clone()));
    let request = request.body(crate::body::stream(drops)).unwrap();
    let late = answer(lab.server.handle(request, ConnInfo::default()).await).await;
    told(late, 504, "request did not complete within the allotted timeout");
}

/// As upstream, which does not unpack what comes: it is no JSON.
#[tokio::test]
async fn packed_bodies_are_refused() {
    let lab = Lab::new().await;
    // `{}` as gzip has it.
    let body =
        Bytes::from_static(b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0");
    let headers = [JSON, ("content-encoding", "gzip")];
    told(answer(lab.raw("POST", MAPS, &headers, body).await).await, 400, "cannot be handled");
}

#[tokio::test]
async fn questions_that_are_wrong() {
    let lab = Lab::new().await;
    for (query, code, words) in [
        ("labelSelector=a=b=c", 400, "unable to parse requirement"),
        ("labelSelector=a%20in%20(", 400, "unable to parse requirement"),
        ("labelSelector=-x", 400, ""),
        ("labelSelector=%00", 400, ""),
        ("fieldSelector=x", 400, "invalid selector"),
        ("fieldSelector=spec.nothing=x", 400, "is not a known field selector"),
        ("resourceVersion=x", 400, "invalid resource version: resourceVersion: Invalid value"),
        ("resourceVersion=-1", 400, "invalid syntax"),
        ("resourceVersion=99999999999999999999999", 400, "value out of range"),
        ("watch=true&resourceVersion=x", 400, "invalid resource version"),
        ("resourceVersionMatch=Exact", 422, "resourceVersionMatch"),
        ("resourceVersionMatch=Nothing&resourceVersion=1", 422, "resourceVersionMatch"),
        ("continue=nothing", 400, "continue key is not valid"),
        ("limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("limit=9223372036854775808", 400, "value out of range"),
        ("watch=true&timeoutSeconds=x", 400, "strconv.ParseInt"),
    ] {
        let answer = lab.get(&format!("{MAPS}?{query}")).await;
        let (status, message) = (answer.status.as_u16(), answer.message().to_owned());
        assert!(status == code && message.contains(words), "{query}: {status} {message}");
    }
    let many: Vec<String> = (0..2_000).map(|n| format!("k{n}!=v")).collect();
    lab.get(&format!("{MAPS}?labelSelector={}", many.join(","))).await.ok();
    let future = format!("{MAPS}?resourceVersion=99999999&resourceVersionMatch=Exact");
    told(lab.get(&future).await, 504, "Too large resource version: 99999999");
}

#[tokio::test]
async fn answers_that_are_wanted_in_odd_ways() {
    let lab = Lab::new().await;
    let kind = async |accept: &str| {
        let answer = lab.raw("GET", MAPS, &[("accept", accept)], Bytes::new()).await;
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().into());
        (answer.status().as_u16(), kind.unwrap_or_default())
    };
    let (json, yaml) = ("application/json".to_owned(), "application/yaml".to_owned());
    for (accept, wanted) in [
        ("", &json),
        ("*/*", &json),
        (",, ;q=1, */*", &json),
        ("application/json;q=0.1, application/yaml;q=0.9", &yaml),
        ("application/json;q=x, text/html", &json),
        ("application/yaml;q=nan, application/json;q=inf", &yaml),
        ("application/nothing, application/yaml", &yaml),
        ("application/json;as=Nothing;g=x;v=y, application/json;charset=utf-8", &json),
    ] {
        assert_eq!(kind(accept).await, (200, wanted.clone()), "{accept}");
    }
    for accept in ["text/html", "application/cbor", "application/json;as=Table;g=x;v=v1", "/", ";"]
    {
        let answer = lab.raw("GET", MAPS, &[("accept", accept)], Bytes::new()).await;
        let words = "only the following media types are accepted: application/json, \
                     application/yaml, application/vnd.kubernetes.protobuf";
        told(self::answer(answer).await, 406, words);
    }
}

#[tokio::test]
async fn names_and_places_that_are_wrong() {
    let lab = Lab::new().await;
    for name in ["", "A", "-a", "a_b", "a/b", "..", &"x".repeat(254), "a\u{0}b", "日本"] {
        let mut map = config_map(name);
        map["metadata"]["namespace"] = "default".into();
        let answer = lab.post(MAPS, map).await;
        assert_eq!(answer.status, 422, "{name:?} {}", answer.body);
    }
    for uri in ["/api/v1/namespaces//configmaps", "/api/v1/../v1/pods", "/api/v1/pods/%2e%2e/x/y"] {
        let answer = lab.get(uri).await;
        assert!(answer.status.is_client_error(), "{uri} {}", answer.body);
    }
    let mut stale = lab.post(MAPS, config_map("a")).await.ok();
    stale["metadata"]["resourceVersion"] = "x".into();
    let answer = lab.send("PUT", &format!("{MAPS}/a"), stale).await;
    assert!(answer.status.is_client_error(), "{}", answer.body);
}

/// Numbers that look random (an LCG of Knuth's).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound.max(1)
    }

    /// Some bytes changed, cut out, doubled, or exchanged for what has a meaning.
    fn damage(&mut self, whole: &[u8]) -> Vec<u8> {
        const WORDS: [&[u8]; 14] = [
            b"null",
            b"{}",
            b"[]",
            b"-1",
            b"1e400",
            b"\"\"",
            b"true",
            b"\xff",
            b"&a *a",
            b"|",
            b"\"$patch\":\"delete\",",
            b"99999999999999999999",
            b"\\ud800",
            b"\0",
        ];
        let mut out = whole.to_vec();
        for _ in 0..1 + self.below(3) {
            let at = self.below(out.len());
            match self.below(6) {
                0 => out.truncate(at),
                1 => drop(out.drain(at..(at + self.below(9)).min(out.len()))),
                2 => out.extend_from_within(at..),
                3 if at < out.len() => out[at] ^= 1 << self.below(8),
                4 if at < out.len() => out[at] = self.below(256) as u8,
                _ => {
                    let word = WORDS[self.below(WORDS.len())];
                    let end = (at + self.below(6)).min(out.len());
                    out.splice(at.min(end)..end, word.iter().copied());
                }
            }
        }
        out
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "namespace": "default", "labels": { "a": "b", "c": "d" },
            "annotations": { "x": "y" }, "finalizers": ["example.com/f"],
        },
        "spec": {
            "containers": [{
                "name": "c", "image": "host.example:5000/a/b:1@sha256:00", "command": ["a", "b"],
                "env": [{ "name": "E", "value": "$(F)" }, { "name": "F", "valueFrom": {
                    "fieldRef": { "fieldPath": "metadata.labels['a']" },
                }}],
                "ports": [{ "containerPort": 80, "hostPort": 8080, "protocol": "TCP" }],
                "resources": { "limits": { "cpu": "1500m", "memory": "1.5Gi" } },
                "livenessProbe": { "httpGet": { "port": "http", "path": "/" }, "periodSeconds": 5 },
                "securityContext": { "runAsUser": 1000, "capabilities": { "drop": ["ALL"] } },
                "volumeMounts": [{ "name": "v", "mountPath": "/v", "subPath": "a/b" }],
            }],
            "volumes": [{ "name": "v", "projected": { "sources": [
                { "serviceAccountToken": { "path": "t", "expirationSeconds": 3600 } },
            ]}}],
            "tolerations": [{ "key": "k", "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 30 }],
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": "a", "operator": "In", "values": ["b"] },
                ]}],
            }}},
            "terminationGracePeriodSeconds": 5,
        },
    })
}

/// Real bodies with damage, the same in every run, through all that reads them: an answer comes,
/// it is not the server's fault, and nothing is written.
#[tokio::test]
async fn damaged_bodies_are_answered() {
    let lab = Lab::new().await;
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    lab.post("/api/v1/namespaces/default/serviceaccounts", account).await.ok();
    lab.post(PODS, pod()).await.ok();
    let before = lab.get(&format!("{PODS}/p")).await.ok();
    let gvk = api::Gvk::new("v1", "Pod");
    let json = pod().to_string().into_bytes();
    let yaml = schema::to_yaml(&pod()).into_bytes();
    let proto = schema::encode_proto(schema::builtin(), &gvk, &pod()).unwrap();
    let merge = json!({ "metadata": { "labels": { "a": null, "e": "f" } }, "spec": {
        "containers": [{ "name": "c", "image": "i", "env": [{ "name": "G", "$patch": "delete" }] }],
        "$setElementOrder/containers": [{ "name": "c" }], "$retainKeys": ["containers"],
    }});
    let merge = merge.to_string().into_bytes();
    let operations = json!([
        { "op": "test", "path": "/metadata/name", "value": "p" },
        { "op": "add", "path": "/metadata/labels/x~1y", "value": "z" },
        { "op": "copy", "from": "/spec/containers/0", "path": "/spec/containers/-" },
        { "op": "move", "from": "/metadata/annotations/x", "path": "/metadata/annotations/z" },
        { "op": "remove", "path": "/spec/tolerations/0" },
    ]);
    let operations = operations.to_string().into_bytes();
    let options = json!({ "gracePeriodSeconds": 1, "preconditions": { "uid": "x" } });
    let options = options.to_string().into_bytes();
    let one = "/api/v1/namespaces/default/pods/p?dryRun=All&fieldManager=m";
    let all = "/api/v1/namespaces/default/pods?dryRun=All";
    let merge_patch = ("content-type", "application/merge-patch+json");
    let mut numbers = Numbers(7);
    for (method, uri, header, whole) in [
        ("POST", all, JSON, &json),
        ("POST", all, YAML, &yaml),
        ("POST", all, PROTO, &proto),
        ("PUT", one, JSON, &json),
        ("PATCH", one, STRATEGIC, &merge),
        ("PATCH", one, merge_patch, &merge),
        ("PATCH", one, JSON_PATCH, &operations),
        ("PATCH", one, APPLY, &yaml),
        ("DELETE", one, JSON, &options),
    ] {
        for _ in 0..250 {
            let body = numbers.damage(whole);
            let answer = raw(&lab, method, uri, header, &body).await;
            let status = answer.status.as_u16();
            let shown = || String::from_utf8_lossy(&body).into_owned();
            assert!(status < 500, "{method} {header:?} {status} {}\n{}", answer.body, shown());
        }
    }
    assert_eq!(lab.get(&format!("{PODS}/p")).await.ok(), before);
}

/// No version is asked for that is not there yet: that is waited for.
#[tokio::test]
async fn damaged_questions_are_answered() {
    let lab = Lab::new().await;
    lab.post(MAPS, config_map("a")).await.ok();
    let queries = [
        "labelSelector=a%20in%20(b,c),!d,e!=f,g%20notin%20(h),i&limit=1",
        "fieldSelector=metadata.name=a,metadata.namespace!=b&limit=500",
        "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0&limit=2",
        "resourceVersion=0&pretty=true&timeoutSeconds=1&sendInitialEvents=true&dryRun=All",
    ];
    let mut numbers = Numbers(11);
    for query in queries {
        for _ in 0..300 {
            let damaged = numbers.damage(query.as_bytes());
            let plain: String = damaged
                .iter()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(*byte).to_string(),
                    b'=' | b'&' | b',' | b'!' | b'%' | b'+' | b'.' | b'(' | b')' => {
                        char::from(*byte).to_string()
                    }
                    other => format!("%{other:02x}"),
                })
                .collect();
            let answer = lab.raw("GET", &format!("{MAPS}?{plain}"), &[], Bytes::new()).await;
            let status = answer.status().as_u16();
            assert!(status < 500, "{plain} {status}");
        }
    }
}
