use super::*;
use crate::builtin;
use crate::proto::{decode_proto, decode_proto_body};
use value::json;

#[test]
fn a_watch_frame_is_a_length_and_an_event_around_an_object() {
    let mut out = b"before".to_vec();
    watch_frame("ADDED", &[7; 200], &mut out);
    let frame = &out[6..];
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    assert_eq!(&frame[4..19], b"\x0a\x05ADDED\x12\xcb\x01\x0a\xc8\x01\x07\x07");
    assert_eq!(frame.len(), 17 + 200);
}

#[test]
fn a_list_from_stored_text_reads_back_as_the_list() {
    let gvk = Gvk::fixed("", "v1", "ConfigMapList");
    let items: Vec<Value> = (0..300)
        .map(|i| json!({"metadata": {"name": format!("c{i}")}, "data": {"k": "v".repeat(i)}}))
        .collect();
    let texts: Vec<Vec<u8>> = items.iter().map(|item| item.to_string().into_bytes()).collect();
    let meta = json!({"resourceVersion": "7", "remainingItemCount": 5});
    let item = Gvk::fixed("", "v1", "ConfigMap");
    let part = |text: &Vec<u8>| encode_part(builtin(), &item, text).unwrap();
    let parts = texts.iter().map(part).collect::<Vec<_>>().concat();
    let head = list_head(builtin(), &gvk, &meta, parts.len()).unwrap();
    let out = [head, parts, PROTO_TAIL.to_vec()].concat();
    let (found, value) = decode_proto(builtin(), &out).unwrap();
    assert_eq!(found, gvk);
    let list =
        json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": meta, "items": items});
    assert_eq!(value, list);
    assert_eq!(encode_proto(builtin(), &gvk, &list).unwrap(), out);
    let one = [object_head(&item), part(&texts[299]), PROTO_TAIL.to_vec()].concat();
    let mut want = list["items"][299].clone();
    want["apiVersion"] = json!("v1");
    want["kind"] = json!("ConfigMap");
    assert_eq!(decode_proto(builtin(), &one).unwrap(), (item, want));
}

#[test]
fn what_has_no_encoding_says_so() {
    let table = Gvk::fixed("meta.k8s.io", "v1", "Table");
    let error = encode_proto(builtin(), &table, &json!({})).unwrap_err();
    assert_eq!(error, EncodeError::NoEncoding("v1.Table".to_owned()));
    let error = encode_proto(builtin(), &Gvk::fixed("x", "v1", "Y"), &json!({})).unwrap_err();
    assert_eq!(error.to_string(), r#"no kind "Y" is registered for version "x/v1""#);
    let pod = Gvk::fixed("", "v1", "Pod");
    for wrong in [json!(5), json!({"spec": 5}), json!({"metadata": {"generation": 1.5}})] {
        assert!(encode_proto(builtin(), &pod, &wrong).is_err());
    }
}

#[test]
fn nested_objects_in_raw_fields_are_read_to_a_bounded_depth() {
    let list = Gvk::fixed("", "v1", "List");
    let mut body = encode_proto(builtin(), &list, &json!({"items": [{"a": 1}]})).unwrap();
    let ty = builtin().type_of(&list).unwrap();
    for depth in 0..2_000 {
        let decoded = decode_proto(builtin(), &body);
        if depth > 150 {
            assert!(decoded.is_err());
            return;
        }
        let mut raw = Vec::new();
        bytes_field(&mut raw, 1, &body);
        let mut message = Vec::new();
        bytes_field(&mut message, 2, &raw);
        let _ = decode_proto_body(ty, &message);
        body.clear();
        envelope(&mut body, &list, |out| {
            out.extend_from_slice(&message);
            Ok(())
        })
        .unwrap();
    }
    panic!("no bound was met");
}
