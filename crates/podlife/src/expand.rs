//! `$(NAME)` in commands, arguments and values of variables.
use std::collections::BTreeMap;

/// Replaces `$(NAME)` by the variable's value; unknown names stay as they are, `$$` is a `$`.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    expand_with(text, |name| variables.get(name).cloned()).0
}

/// The same, and the names that were not known.
pub fn expand_with(text: &str, lookup: impl Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    let mut out = String::with_capacity(text.len());
    let mut unknown = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        match after.strip_prefix('(').and_then(|tail| tail.split_once(')')) {
            Some((name, tail)) => {
                match lookup(name) {
                    Some(value) => out.push_str(&value),
                    None => {
                        out.push_str("$(");
                        out.push_str(name);
                        out.push(')');
                        unknown.push(name.to_owned());
                    }
                }
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    (out, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion() {
        let variables =
            BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        for (text, want) in [
            ("$(A)-$(A)", "1-1"),
            ("$(B)", "$(A)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(NO)", "$(NO)"),
            ("$(A", "$(A"),
            ("cost: $5 $", "cost: $5 $"),
            ("$A ${A}", "$A ${A}"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &variables), want, "{text}");
        }
        let (_, unknown) = expand_with("$(X)/$(Y)", |_| None);
        assert_eq!(unknown, ["X", "Y"]);
    }
}
