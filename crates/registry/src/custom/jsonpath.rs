//! The JSON paths of printer columns: those of kubectl, as far as they lead to values.
use api::Value;

/// Deeper and longer paths are refused.
const MAX_STEPS: usize = 64;
const MAX_FOUND: usize = 1024;

#[derive(Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    /// Negative ones count from the end.
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    /// Everything below, and the value itself.
    Deep,
    Filter(Vec<Step>, Option<(Op, Value)>),
    Union(Vec<Step>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl JsonPath {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text.trim() };
        let path = reader.steps()?;
        match reader.rest {
            "" if path.len() <= MAX_STEPS => Ok(Self(path)),
            "" => Err("the path is too long".to_owned()),
            rest => Err(format!("unexpected text {rest:?}")),
        }
    }

    /// The first value that the path leads to.
    pub(super) fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        follow(&self.0, value).into_iter().next()
    }
}

fn follow<'v>(steps: &[Step], value: &'v Value) -> Vec<&'v Value> {
    let mut found = vec![value];
    for step in steps {
        let mut next = Vec::new();
        for value in found {
            step.take(value, &mut next);
            if next.len() >= MAX_FOUND {
                break;
            }
        }
        found = next;
    }
    found
}

fn index(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { index + length } else { index }).ok()
}

impl Step {
    fn take<'v>(&self, value: &'v Value, out: &mut Vec<&'v Value>) {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => out.extend(map.get(name)),
            (Self::Index(at), Value::Array(list)) => {
                out.extend(index(*at, list.len()).and_then(|at| list.get(at)));
            }
            (Self::Slice(from, to), Value::Array(list)) => {
                let from = from.map_or(Some(0), |at| index(at, list.len())).unwrap_or(0);
                let to = to.map_or(Some(list.len()), |at| index(at, list.len())).unwrap_or(0);
                out.extend(list.get(from..to.min(list.len())).into_iter().flatten());
            }
            (Self::All, Value::Array(list)) => out.extend(list),
            (Self::All, Value::Object(map)) => out.extend(map.values()),
            (Self::Deep, value) => deep(value, out),
            (Self::Filter(path, wanted), Value::Array(list)) => {
                let keeps = |item: &&Value| {
                    let found = follow(path, item).into_iter().next();
                    match (found, wanted) {
                        (Some(_), None) => true,
                        (Some(found), Some((op, value))) => op.holds(found, value),
                        (None, _) => false,
                    }
                };
                out.extend(list.iter().filter(keeps));
            }
            (Self::Union(steps), value) => steps.iter().for_each(|step| step.take(value, out)),
            _ => {}
        }
    }
}

fn deep<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        if out.len() >= MAX_FOUND {
            return;
        }
        out.push(value);
        match value {
            Value::Array(list) => open.extend(list.iter().rev()),
            Value::Object(map) => open.extend(map.values().rev()),
            _ => {}
        }
    }
}

impl Op {
    fn holds(self, found: &Value, wanted: &Value) -> bool {
        let order = match (found, wanted) {
            (Value::String(a), Value::String(b)) => a.partial_cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.partial_cmp(b),
            (a, b) => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        };
        let Some(order) = order else { return self == Self::Ne };
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn eat(&mut self, text: &str) -> bool {
        self.rest.strip_prefix(text).map(|rest| self.rest = rest).is_some()
    }

    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        self.eat("$");
        while steps.len() <= MAX_STEPS {
            if self.eat("..") {
                steps.push(Step::Deep);
                self.named(&mut steps)?;
            } else if self.eat(".") {
                self.named(&mut steps)?;
            } else if self.eat("[") {
                let inner = self.until_bracket()?;
                steps.push(bracket(inner)?);
            } else {
                return Ok(steps);
            }
        }
        Ok(steps)
    }

    /// A name after a dot, if there is one: `.` alone is the object itself.
    fn named(&mut self, steps: &mut Vec<Step>) -> Result<(), String> {
        if self.eat("*") {
            steps.push(Step::All);
            return Ok(());
        }
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' | '=' | '!' | '<' | '>' | ' ' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        if !name.is_empty() {
            steps.push(Step::Field(name));
        }
        Ok(())
    }

    /// What is between this bracket and the one that closes it.
    fn until_bracket(&mut self) -> Result<&'t str, String> {
        let (mut depth, mut quote) = (1, None);
        let text = self.rest;
        for (at, c) in text.char_indices() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '[') => depth += 1,
                (None, ']') => {
                    depth -= 1;
                    if depth == 0 {
                        self.rest = &text[at + 1..];
                        return Ok(&text[..at]);
                    }
                }
                _ => {}
            }
        }
        Err("unterminated array".to_owned())
    }
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if let Some(filter) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return filtered(filter);
    }
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Field(name.to_owned()));
    }
    if text.contains(',') {
        let parts: Result<Vec<Step>, String> = text.split(',').map(bracket).collect();
        return parts.map(Step::Union);
    }
    let number = |text: &str| text.trim().parse::<i64>();
    if let Some((from, to)) = text.split_once(':') {
        let bound = |text: &str| match text.trim() {
            "" => Ok(None),
            text => number(text).map(Some).map_err(|_| format!("invalid array index {text}")),
        };
        return Ok(Step::Slice(bound(from)?, bound(to)?));
    }
    number(text).map(Step::Index).map_err(|_| format!("invalid array index {text}"))
}

fn quoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    let inner = inner('\'').or_else(|| inner('"'))?;
    (!inner.contains(['\'', '"'])).then_some(inner)
}

/// `@.type=="Ready"`, or only `@.type`.
fn filtered(text: &str) -> Result<Step, String> {
    let mut reader = Reader { rest: text.trim() };
    if !reader.eat("@") {
        return Err(format!("unrecognized filter {text:?}"));
    }
    let path = reader.steps()?;
    let rest = reader.rest.trim();
    if rest.is_empty() {
        return Ok(Step::Filter(path, None));
    }
    let ops = [
        ("==", Op::Eq),
        ("!=", Op::Ne),
        ("<=", Op::Le),
        (">=", Op::Ge),
        ("<", Op::Lt),
        (">", Op::Gt),
    ];
    let found = ops.into_iter().find_map(|(word, op)| Some((op, rest.strip_prefix(word)?.trim())));
    let (op, value) = found.ok_or_else(|| format!("unrecognized filter {text:?}"))?;
    let value = match quoted(value) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(value).map_err(|_| format!("unrecognized value {value:?}"))?,
    };
    Ok(Step::Filter(path, Some((op, value))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "spec": { "replicas": 3, "a.b": "dotted", "list": [{ "n": 1 }, { "n": 2 }] },
            "status": { "conditions": [
                { "type": "Ready", "status": "True" }, { "type": "Other", "status": "False" } ] },
        });
        for (path, want) in [
            (".spec.replicas", json!(3)),
            ("spec.replicas", json!(null)),
            (r".spec.a\.b", json!("dotted")),
            (".spec['a.b']", json!("dotted")),
            (".spec.list[-1].n", json!(2)),
            (".spec.list[*].n", json!(1)),
            (".spec.list[1:].n", json!(2)),
            (".spec.list[?(@.n>1)].n", json!(2)),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!("True")),
            (".status.conditions[?(@.type=='Other')].status", json!("False")),
            (".status.conditions[?(@.gone)].status", json!(null)),
            ("..n", json!(1)),
            (".spec.list[0,1].n", json!(1)),
            (".none", json!(null)),
        ] {
            let found = JsonPath::parse(path).ok();
            let found = found.as_ref().and_then(|path| path.first(&object));
            assert_eq!(found.cloned().unwrap_or_default(), want, "{path}");
        }
        for path in [".a[", ".a[x]", ".a[?(b)]", ".a b"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
