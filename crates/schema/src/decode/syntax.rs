//! What is no JSON, in the words of Go's decoder: `kubectl` shows them as they are.

/// A syntax error in the words of Go's decoder.
pub(crate) fn syntax(bytes: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    if text.starts_with("recursion limit exceeded") {
        return "exceeded max depth".to_owned();
    }
    let line = bytes.split(|&b| b == b'\n').nth(error.line().saturating_sub(1));
    let at = line.and_then(|line| line.get(error.column().saturating_sub(1)));
    let shown = match at {
        Some(b'\'') => r"'\''".to_owned(),
        Some(&byte) if byte.is_ascii_graphic() || byte == b' ' => {
            format!("'{}'", char::from(byte))
        }
        Some(byte) => format!("'\\x{byte:02x}'"),
        None => return text,
    };
    let place = if text.starts_with("expected value") || text.starts_with("trailing comma") {
        match at {
            Some(b'}') => "looking for beginning of object key string",
            _ => "looking for beginning of value",
        }
    } else if text.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if text.starts_with("expected `,` or `]`") {
        "after array element"
    } else if text.starts_with("expected `:`") {
        "after object key"
    } else if text.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if text.starts_with("trailing characters") {
        "after top-level value"
    } else {
        return text;
    };
    format!("invalid character {shown} {place}")
}
