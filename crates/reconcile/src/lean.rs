//! Objects without what no controller looks at: `metadata.managedFields` is a third of a small
//! object, and as a typed object most of it.
use std::borrow::Cow;

const METADATA: &[u8] = b"\"metadata\":{";
const FIELDS: &[u8] = b"\"managedFields\":[";

/// The object without its managed fields, as the API server writes them; as it is where they are
/// written in another way.
pub(crate) fn lean(json: &[u8]) -> Cow<'_, [u8]> {
    match managed_fields(json) {
        Some((from, to)) => Cow::Owned([&json[..from], &json[to..]].concat()),
        None => Cow::Borrowed(json),
    }
}

/// From the comma before them to their end.
fn managed_fields(json: &[u8]) -> Option<(usize, usize)> {
    let mut at = json.windows(METADATA.len()).position(|part| part == METADATA)? + METADATA.len();
    // Member by member, until they are there or the metadata ends.
    loop {
        let member = json.get(at..)?;
        let end = at + value_end(member)?;
        if member.starts_with(FIELDS) {
            return (json[at - 1] == b',').then_some((at - 1, end));
        }
        at = match json.get(end)? {
            b',' => end + 1,
            _ => return None,
        };
    }
}

/// Where the value at the start, or a member with its value, ends.
fn value_end(json: &[u8]) -> Option<usize> {
    let (mut depth, mut text, mut escaped) = (0u32, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            _ if text => {}
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::lean;

    #[test]
    fn managed_fields_go_and_all_else_stays() {
        let managed = r#","managedFields":[{"fieldsV1":{"f:a":{"k:{\"b\":\"]\"}":{}}}},{}]"#;
        for (object, is_lean) in [
            (
                r#"{"kind":"X","metadata":{"resourceVersion":"1","labels":{"a":"}{\\\""}MANAGED}}"#,
                true,
            ),
            (
                r#"{"metadata":{"resourceVersion":"1"MANAGED,"name":"x"},"spec":{"managedFields":[1]}}"#,
                true,
            ),
            (r#"{"metadata":{"name":"a\"managedFields\":["},"spec":{"x":1MANAGED}}"#, false),
            (r#"{"metadata":{},"a":[1MANAGED]}"#, false),
            (r#"{"metadata":{"labels":{"a":"b"MANAGED}}}"#, false),
            (r#"{"data":{"metadata":"x"}}"#, false),
        ] {
            let (full, less) = (object.replace("MANAGED", managed), object.replace("MANAGED", ""));
            let want = if is_lean { &less } else { &full };
            assert_eq!(lean(full.as_bytes()), want.as_bytes(), "{full}");
        }
    }

    #[test]
    fn whatever_is_cut_off_is_left_alone() {
        let whole = br#"{"metadata":{"a":"b","managedFields":[{"x":"]"}],"name":"x"}}"#;
        for end in 0..whole.len() {
            let part = lean(&whole[..end]);
            assert!(part.len() == end || end > 48, "{end}");
        }
    }
}
