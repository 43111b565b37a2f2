//! Label and field selectors: parsing, matching, and back to text.
use crate::k8s::apimachinery::pkg::apis::meta::v1::LabelSelector as SelectorSpec;
use std::collections::BTreeMap;
use std::fmt;

/// A conjunction of requirements on labels. The empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// Node selectors and the textual form `key>1` only.
    Gt,
    Lt,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct SelectorError(pub String);

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }
    /// All pairs must be there, as in a Service's `spec.selector`.
    pub fn from_map<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let requirements = map
            .into_iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.clone()],
            })
            .collect();
        Self { requirements, nothing: false }
    }
    /// From `matchLabels` and `matchExpressions`. `None` matches nothing, an empty one everything.
    pub fn from_spec(spec: Option<&SelectorSpec>) -> Result<Self, SelectorError> {
        let Some(spec) = spec else { return Ok(Self::nothing()) };
        let mut selector = Self::from_map(spec.match_labels.iter().flatten());
        for expression in spec.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            selector.requirements.push(Requirement {
                key: expression.key.clone(),
                operator,
                values: expression.values.clone().unwrap_or_default(),
            });
        }
        Ok(selector)
    }
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = term_end(rest);
            let term = rest[..end].trim();
            if term.is_empty() {
                return Err(SelectorError(format!("found ',', expected: identifier in {text:?}")));
            }
            requirements.push(requirement(term)?);
            rest = rest[end..].strip_prefix(',').unwrap_or_default().trim();
            if rest.is_empty() && text.trim_end().ends_with(',') {
                return Err(SelectorError("found '', expected: identifier after ','".into()));
            }
        }
        Ok(Self { requirements, nothing: false })
    }
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }
    /// As [`Self::matches`], over any look-up of a label's value.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }
}

impl Requirement {
    pub fn matches(&self, value: Option<&str>) -> bool {
        match (self.operator, value) {
            (Operator::In, Some(value)) => self.values.iter().any(|v| v == value),
            (Operator::NotIn, Some(value)) => self.values.iter().all(|v| v != value),
            (Operator::Exists, found) => found.is_some(),
            (Operator::DoesNotExist, found) => found.is_none(),
            (Operator::NotIn, None) => true,
            (Operator::Gt, Some(value)) => self.compare(value).is_some_and(|(a, b)| a > b),
            (Operator::Lt, Some(value)) => self.compare(value).is_some_and(|(a, b)| a < b),
            (Operator::In | Operator::Gt | Operator::Lt, None) => false,
        }
    }
    fn compare(&self, value: &str) -> Option<(i64, i64)> {
        Some((value.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

/// Where the first term ends: at a comma outside of parentheses.
fn term_end(text: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

fn requirement(term: &str) -> Result<Requirement, SelectorError> {
    let make = |key: &str, operator, values: Vec<String>| {
        if !is_label_key(key) {
            return Err(SelectorError(format!("{key:?} is not a valid label key")));
        }
        if let Some(bad) = values.iter().find(|value| !is_label_value(value)) {
            return Err(SelectorError(format!("{bad:?} is not a valid label value")));
        }
        Ok(Requirement { key: key.to_owned(), operator, values })
    };
    if let Some(key) = term.strip_prefix('!') {
        return make(key.trim(), Operator::DoesNotExist, Vec::new());
    }
    for (sign, operator) in [("!=", Operator::NotIn), ("==", Operator::In), ("=", Operator::In)] {
        if let Some((key, value)) = term.split_once(sign) {
            return make(key.trim(), operator, vec![value.trim().to_owned()]);
        }
    }
    for (sign, operator) in [('>', Operator::Gt), ('<', Operator::Lt)] {
        if let Some((key, value)) = term.split_once(sign) {
            let value = value.trim();
            value.parse::<i64>().map_err(|_| SelectorError(format!("{value:?}: not a number")))?;
            return make(key.trim(), operator, vec![value.to_owned()]);
        }
    }
    let Some((key, rest)) = term.split_once(char::is_whitespace).or_else(|| term.split_once('('))
    else {
        return make(term, Operator::Exists, Vec::new());
    };
    let rest = rest.trim();
    let (operator, list) = if let Some(list) = rest.strip_prefix("notin") {
        (Operator::NotIn, list)
    } else if let Some(list) = rest.strip_prefix("in") {
        (Operator::In, list)
    } else {
        return Err(SelectorError(format!(
            "found {rest:?}, expected: in, notin, =, ==, !=, gt, lt"
        )));
    };
    let list = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')'));
    let list = list.ok_or_else(|| SelectorError(format!("expected a list '(…)' in {term:?}")))?;
    make(key.trim(), operator, list.split(',').map(|v| v.trim().to_owned()).collect())
}

/// A qualified name: optional DNS subdomain prefix, then up to 63 of `[A-Za-z0-9._-]`.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(p, n)| (Some(p), n));
    let prefix_ok = prefix.is_none_or(|prefix| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            })
    });
    prefix_ok && !name.is_empty() && is_label_value(name)
}

/// Up to 63 of `[A-Za-z0-9._-]`, alphanumeric at both ends, or empty.
pub fn is_label_value(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && bytes.iter().copied().all(inner)
        && ends(bytes.first())
        && ends(bytes.last())
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let (key, values) = (&r.key, r.values.join(","));
            match (r.operator, r.values.len()) {
                (Operator::In, 1) => write!(f, "{comma}{key}={values}")?,
                (Operator::NotIn, 1) => write!(f, "{comma}{key}!={values}")?,
                (Operator::In, _) => write!(f, "{comma}{key} in ({values})")?,
                (Operator::NotIn, _) => write!(f, "{comma}{key} notin ({values})")?,
                (Operator::Exists, _) => write!(f, "{comma}{key}")?,
                (Operator::DoesNotExist, _) => write!(f, "{comma}!{key}")?,
                (Operator::Gt, _) => write!(f, "{comma}{key}>{values}")?,
                (Operator::Lt, _) => write!(f, "{comma}{key}<{values}")?,
            }
        }
        Ok(())
    }
}

/// A conjunction of `path=value` and `path!=value` terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    pub path: String,
    pub equal: bool,
    pub value: String,
}

impl FieldSelector {
    /// Parses `metadata.name=a,status.phase!=Running`; `\` escapes `,`, `=` and itself in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            let invalid =
                || SelectorError(format!("invalid selector: {text:?}; can't understand {term:?}"));
            let at = term.find('=').ok_or_else(invalid)?;
            let (mut path, mut value) = (&term[..at], &term[at + 1..]);
            let equal = !path.ends_with('!');
            path = path.trim_end_matches('!');
            value = value.strip_prefix('=').unwrap_or(value);
            terms.push(FieldTerm { path: path.to_owned(), equal, value: unescape(value) });
        }
        Ok(Self { terms })
    }
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }
    /// Matches over a look-up of field values; a field that is not there is the empty string.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms
            .iter()
            .all(|term| (get(&term.path).unwrap_or_default() == term.value) == term.equal)
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> String {
    let (mut out, mut escaped) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn parses_and_prints() {
        for (text, want) in [
            ("a=b", "a=b"),
            ("a==b,c!=d", "a=b,c!=d"),
            ("e in (f, g)", "e in (f,g)"),
            ("h notin (i,j),k,!l", "h notin (i,j),k,!l"),
            ("a in (b)", "a=b"),
            ("", ""),
            ("x/y=z", "x/y=z"),
            ("a=", "a="),
            ("n>1", "n>1"),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().to_string(), want);
        }
        for text in ["a,", ",a", "a b", "a in b", "a=b=c", "-a", "a=(b)", "n>x"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn matches_labels() {
        let have = labels(&[("app", "web"), ("tier", "front")]);
        for (text, want) in [
            ("app=web", true),
            ("app!=web", false),
            ("app in (db,web)", true),
            ("!app", false),
            ("none!=x", true),
            ("tier notin (back)", true),
            ("tier,app=db", false),
            ("", true),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&have), want, "{text}");
        }
        assert!(!LabelSelector::nothing().matches(&have));
    }

    #[test]
    fn fields() {
        let selector = FieldSelector::parse(r"spec.nodeName=a\,b,status.phase!=Running").unwrap();
        let get = |path: &str| (path == "spec.nodeName").then_some("a,b");
        assert!(selector.matches_with(get));
        assert!(FieldSelector::parse("nonsense").is_err());
    }
}
