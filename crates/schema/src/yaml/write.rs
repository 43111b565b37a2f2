//! Writes a JSON value as block YAML, keys sorted, as `kubectl -o yaml` shows objects.
use std::fmt::Write;
use value::Value;

/// The value as one document that reads back as the same value.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0, false);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// `inline`: the cursor stands after `- ` or `key:` and the first line goes there.
fn block(out: &mut String, value: &Value, indent: usize, inline: bool) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (i, (key, item)) in map.iter().enumerate() {
                if i > 0 || !inline {
                    pad(out, indent);
                }
                out.push_str(&scalar(key, indent));
                out.push(':');
                child(out, item, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 || !inline {
                    pad(out, indent);
                }
                out.push_str("- ");
                block(out, item, indent + 1, true);
            }
        }
        leaf => {
            out.push_str(&plain(leaf, indent));
            out.push('\n');
        }
    }
}

fn child(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(out, value, indent + 1, false);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(out, value, indent, false);
        }
        leaf => {
            let _ = writeln!(out, " {}", plain(leaf, indent + 1));
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n("  ", indent));
}

fn plain(value: &Value, indent: usize) -> String {
    match value {
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        Value::String(text) => scalar(text, indent),
        other => other.to_string(),
    }
}

/// A string that YAML 1.1 readers take for nothing else; JSON's quoting where in doubt.
fn scalar(text: &str, indent: usize) -> String {
    let literal = text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.chars().all(|c| {
            c == '\n' || c == '\t' || !(c.is_control() || "\u{2028}\u{2029}\u{feff}".contains(c))
        });
    if literal {
        let keep = match text.strip_suffix('\n') {
            None => "-",
            Some(rest) if rest.ends_with('\n') => "+",
            Some(_) => "",
        };
        let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let pad = "  ".repeat(indent);
        return lines.fold(format!("|{keep}"), |out, line| match line {
            "" => out + "\n",
            line => format!("{out}\n{pad}{line}"),
        });
    }
    if is_plain(text) { text.to_owned() } else { Value::from(text).to_string() }
}

fn is_plain(text: &str) -> bool {
    const WORDS: &[&str] =
        &["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ".inf", ".nan"];
    let first = text.chars().next();
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./@+$%()= ,;<>*".contains(c);
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.chars().all(|c| safe(c) || c == ':')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use value::json;

    #[test]
    fn blocks_nest_and_scalars_are_quoted() {
        let value = json!({
            "b": [{"name": "x", "n": 1}, "yes", []],
            "a": {"text": "two\nlines\n", "time": "2026-01-01", "empty": {}, "url": "https://a:1"},
        });
        let want = "a:\n  empty: {}\n  text: |\n    two\n    lines\n  time: \"2026-01-01\"\n  \
                    url: https://a:1\nb:\n- \"n\": 1\n  name: x\n- \"yes\"\n- []\n";
        assert_eq!(to_yaml(&value), want);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
            "[a-z0-9:.#\n\t -]{0,12}".prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("[ -~]{1,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in any_value()) {
            let text = to_yaml(&value);
            let (read, duplicates) = crate::yaml_to_json(text.as_bytes()).expect(&text);
            prop_assert_eq!(duplicates, None);
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
