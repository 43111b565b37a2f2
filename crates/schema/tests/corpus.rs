//! Every kind in both encodings, with the Go types of `k8s.io/api` as the other side.
//!
//! The committed corpus holds one random object of each type; `KYBERN_PAIRS` names a larger one
//! with odder values, as `cargo xtask pairs` makes it; `cargo xtask codegen` makes the committed
//! one.
#![allow(clippy::unwrap_used)]
use api::Gvk;
use schema::{builtin, decode_json, decode_proto, encode_json_as_proto, encode_proto};
use serde::Deserialize;
use std::io::Read;
use value::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pair {
    api_version: String,
    kind: String,
    json: Value,
    proto: String,
    back: Option<Value>,
}

fn corpus() -> Vec<Pair> {
    let mut text = String::new();
    match std::env::var_os("KYBERN_PAIRS") {
        Some(path) => text = std::fs::read_to_string(path).unwrap(),
        None => {
            let packed = &include_bytes!("corpus.jsonl.gz")[..];
            flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        }
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The first place where two values differ, so that a failure can be read.
fn difference(path: &str, a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys());
            keys.into_iter().find_map(|key| match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => difference(&format!("{path}.{key}"), a, b),
                (a, b) => Some(format!("{path}.{key}: {a:?} and {b:?}")),
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.into_iter().find_map(|(i, (a, b))| difference(&format!("{path}[{i}]"), a, b))
        }
        (a, b) if a == b => None,
        (a, b) => Some(format!("{path}: {a} and {b}")),
    }
}

fn check(pair: &Pair) -> Result<(), String> {
    let graph = builtin();
    let gvk = Gvk::new(&pair.api_version, &pair.kind);
    let ty = graph.type_of(&gvk).ok_or("unknown kind")?;
    let text = serde_json::to_vec(&pair.json).unwrap();
    let decoded = decode_json(&text, ty).map_err(|error| format!("decode_json: {error}"))?;
    if !decoded.strict.is_empty() {
        return Err(format!("strict: {:?}", decoded.strict));
    }
    if let Some(at) = difference("", &decoded.value, &pair.json) {
        return Err(format!("decode_json: {at}"));
    }
    let wire = base64(&pair.proto);
    let (found, value) = decode_proto(graph, &wire).map_err(|e| format!("decode_proto: {e}"))?;
    if found != gvk {
        return Err(format!("decode_proto found {found:?}"));
    }
    if let Some(at) = difference("", &value, pair.back.as_ref().unwrap_or(&pair.json)) {
        return Err(format!("decode_proto: {at}"));
    }
    let encoded = encode_proto(graph, &gvk, &pair.json).map_err(|e| format!("encode: {e}"))?;
    let mut streamed = Vec::new();
    encode_json_as_proto(graph, &gvk, &text, &mut streamed).map_err(|e| format!("encode: {e}"))?;
    if encoded != streamed {
        return Err("encoding from text and from a value differ".to_owned());
    }
    if encoded != wire {
        let at = encoded.iter().zip(&wire).position(|(a, b)| a != b);
        let at = at.unwrap_or(encoded.len().min(wire.len()));
        let window = |bytes: &[u8]| {
            let part = &bytes[at.saturating_sub(30)..bytes.len().min(at + 20)];
            part.escape_ascii().to_string()
        };
        return Err(format!("encode: at {at}: {} and {}", window(&encoded), window(&wire)));
    }
    Ok(())
}

fn base64(text: &str) -> Vec<u8> {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn every_kind_reads_and_writes_as_its_go_type_does() {
    let corpus = corpus();
    assert!(corpus.len() > 300, "the corpus holds every kind");
    let problems: Vec<String> = corpus
        .iter()
        .filter_map(|pair| {
            let problem = check(pair).err()?;
            Some(format!("{} {}: {problem}", pair.api_version, pair.kind))
        })
        .collect();
    let shown = problems.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{} of {}:\n{shown}", problems.len(), corpus.len());
}

#[test]
fn truncated_and_damaged_messages_are_errors_or_values_never_panics() {
    for pair in corpus().iter().step_by(5) {
        let wire = base64(&pair.proto);
        for cut in 0..wire.len().min(600) {
            let _ = decode_proto(builtin(), &wire[..cut]);
        }
        let mut state = wire.len() as u64 | 1;
        for _ in 0..300 {
            let mut damaged = wire.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % damaged.len();
                damaged[at] = (state >> 24) as u8;
            }
            let _ = decode_proto(builtin(), &damaged);
        }
    }
}
