//! Expansion: from words to fields.
use super::arith;
use super::ast::{Operation, Parameter, Part, Word};
use super::{Flow, Shell};
use crate::pattern;

/// What a part became, before fields are made of it.
enum Piece {
    /// Stands as it is; when not quoted it may be a pattern.
    Text { text: String, quoted: bool },
    /// Came out of an unquoted expansion: to be split.
    Split(String),
    /// Here one field ends and another begins.
    Break,
}

/// A field in the making: its text, and the same with what was quoted escaped.
#[derive(Default)]
struct Field {
    text: String,
    pattern: String,
    exists: bool,
}

impl Field {
    fn push(&mut self, text: &str, quoted: bool) {
        self.exists = true;
        self.text.push_str(text);
        if quoted {
            self.pattern.push_str(&escape(text));
        } else {
            self.pattern.push_str(text);
        }
    }
}

/// Puts a backslash before what a pattern takes as special.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '-' | '!' | '^') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

impl Shell {
    /// The fields of a command line: split, and patterns replaced by paths.
    pub(super) fn fields(&mut self, words: &[Word]) -> Result<Vec<String>, Flow> {
        let mut fields = Vec::new();
        for word in words {
            let pieces = self.pieces(word)?;
            for field in self.split(pieces) {
                let globbing = !self.options.noglob && pattern::is_pattern(&field.pattern);
                let paths = if globbing { pattern::glob(&field.pattern) } else { Vec::new() };
                if paths.is_empty() { fields.push(field.text) } else { fields.extend(paths) }
            }
        }
        Ok(fields)
    }

    /// One text: nothing is split.
    pub(super) fn text(&mut self, word: &Word) -> Result<String, Flow> {
        let mut text = String::new();
        for piece in self.pieces(word)? {
            match piece {
                Piece::Text { text: t, .. } | Piece::Split(t) => text.push_str(&t),
                Piece::Break => text.push(' '),
            }
        }
        Ok(text)
    }

    /// One pattern: what was quoted means itself.
    pub(super) fn pattern(&mut self, word: &Word) -> Result<String, Flow> {
        let mut text = String::new();
        for piece in self.pieces(word)? {
            match piece {
                Piece::Text { text: t, quoted: true } => text.push_str(&escape(&t)),
                Piece::Text { text: t, .. } | Piece::Split(t) => text.push_str(&t),
                Piece::Break => text.push(' '),
            }
        }
        Ok(text)
    }

    fn pieces(&mut self, word: &Word) -> Result<Vec<Piece>, Flow> {
        let mut pieces = Vec::new();
        let rest = match word.first() {
            Some(Part::Literal(text)) if text.starts_with('~') => {
                let (home, rest) = self.tilde(text);
                pieces.push(Piece::Text { text: home, quoted: true });
                pieces.push(Piece::Text { text: rest, quoted: false });
                &word[1..]
            }
            _ => word,
        };
        self.parts(rest, false, false, &mut pieces)?;
        Ok(pieces)
    }

    fn tilde(&self, text: &str) -> (String, String) {
        let end = text.find('/').unwrap_or(text.len());
        let (user, rest) = text.split_at(end);
        let home = match user {
            "~" => self.get("HOME"),
            "~root" => Some("/root".to_owned()),
            _ => None,
        };
        (home.unwrap_or_else(|| user.to_owned()), rest.to_owned())
    }

    /// `quoted`: between double quotes. `split`: literals are the word of an unquoted expansion.
    fn parts(
        &mut self,
        parts: &[Part],
        quoted: bool,
        split: bool,
        out: &mut Vec<Piece>,
    ) -> Result<(), Flow> {
        for part in parts {
            match part {
                Part::Literal(text) if split && !quoted => out.push(Piece::Split(text.clone())),
                Part::Literal(text) => out.push(Piece::Text { text: text.clone(), quoted }),
                Part::Quoted(text) => out.push(Piece::Text { text: text.clone(), quoted: true }),
                Part::Double(inner) => {
                    let before = out.len();
                    self.parts(inner, true, false, out)?;
                    let all = |p: &Part| matches!(p, Part::Parameter(p) if p.name == "@");
                    if out.len() == before && !inner.iter().any(all) {
                        out.push(Piece::Text { text: String::new(), quoted: true });
                    }
                }
                Part::Parameter(parameter) => self.parameter(parameter, quoted, out)?,
                Part::Output(list) => {
                    let text = self.capture(list)?;
                    out.push(expanded(text, quoted));
                }
                Part::Arithmetic(word) => {
                    let text = self.text(word)?;
                    let value = self.arithmetic(&text)?;
                    out.push(expanded(value.to_string(), quoted));
                }
            }
        }
        Ok(())
    }

    pub(super) fn arithmetic(&mut self, text: &str) -> Result<i64, Flow> {
        arith::evaluate(text, &mut Variables(self)).map_err(Flow::Fail)
    }

    fn parameter(
        &mut self,
        parameter: &Parameter,
        quoted: bool,
        out: &mut Vec<Piece>,
    ) -> Result<(), Flow> {
        let name = parameter.name.as_str();
        let value = self.value(name);
        let missing = |empty: bool| value.as_ref().is_none_or(|v| empty && v.is_empty());
        match &parameter.operation {
            Operation::Unless { sign, empty, word } => match (sign, missing(*empty)) {
                ('+', true) => return Ok(()),
                ('+', false) | ('-', true) => return self.parts(word, quoted, true, out),
                ('=', true) => {
                    let text = self.text(word)?;
                    self.set(name, text.clone())?;
                    out.push(expanded(text, quoted));
                    return Ok(());
                }
                (_, true) => {
                    let text = self.text(word)?;
                    let text = if text.is_empty() { "parameter not set".into() } else { text };
                    return Err(Flow::Fail(format!("{name}: {text}")));
                }
                (_, false) => {}
            },
            Operation::Length if matches!(name, "@" | "*") => {
                out.push(expanded(self.parameters.len().to_string(), quoted));
                return Ok(());
            }
            _ if value.is_none() && self.options.nounset && !matches!(name, "@" | "*") => {
                return Err(Flow::Fail(format!("{name}: parameter not set")));
            }
            _ => {}
        }
        if matches!(name, "@" | "*") && !matches!(parameter.operation, Operation::Length) {
            return self.all_parameters(parameter, quoted, out);
        }
        let value = self.operate(&parameter.operation, value.unwrap_or_default())?;
        out.push(expanded(value, quoted));
        Ok(())
    }

    /// `$@` and `$*`.
    fn all_parameters(
        &mut self,
        parameter: &Parameter,
        quoted: bool,
        out: &mut Vec<Piece>,
    ) -> Result<(), Flow> {
        let mut values = Vec::new();
        for value in self.parameters.clone() {
            values.push(self.operate(&parameter.operation, value)?);
        }
        if quoted && parameter.name == "*" {
            let ifs = self.get("IFS");
            let join = ifs.map_or(Some(' '), |ifs| ifs.chars().next());
            let join = join.map(String::from).unwrap_or_default();
            out.push(expanded(values.join(&join), true));
            return Ok(());
        }
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                out.push(Piece::Break);
            }
            out.push(expanded(value, quoted));
        }
        Ok(())
    }

    fn operate(&mut self, operation: &Operation, value: String) -> Result<String, Flow> {
        Ok(match operation {
            Operation::Value | Operation::Unless { .. } => value,
            Operation::Length => value.chars().count().to_string(),
            Operation::Trim { end, longest, pattern } => {
                trim(&value, &self.pattern(pattern)?, *end, *longest)
            }
            Operation::Replace { all, pattern, with } => {
                let (pattern, with) = (self.pattern(pattern)?, self.text(with)?);
                replace(&value, &pattern, &with, *all)
            }
            Operation::Slice { offset, length } => {
                let offset = self.text(offset)?;
                let offset = self.arithmetic(&offset)?;
                let length = match length {
                    Some(word) => {
                        let text = self.text(word)?;
                        Some(self.arithmetic(&text)?)
                    }
                    None => None,
                };
                slice(&value, offset, length)
            }
        })
    }

    fn split(&self, pieces: Vec<Piece>) -> Vec<Field> {
        let ifs = self.get("IFS").unwrap_or_else(|| " \t\n".to_owned());
        let mut fields = Vec::new();
        let mut field = Field::default();
        // Whether blanks ended the last field: a separator that follows belongs to them.
        let mut after_blank = false;
        for piece in pieces {
            match piece {
                Piece::Text { text, quoted } => {
                    if quoted || !text.is_empty() {
                        field.push(&text, quoted);
                        after_blank = false;
                    }
                }
                Piece::Break => {
                    if field.exists {
                        fields.push(std::mem::take(&mut field));
                    }
                    after_blank = false;
                }
                Piece::Split(text) => {
                    for c in text.chars() {
                        if !ifs.contains(c) {
                            field.push(c.encode_utf8(&mut [0; 4]), false);
                            after_blank = false;
                        } else if c.is_whitespace() {
                            if field.exists {
                                fields.push(std::mem::take(&mut field));
                                after_blank = true;
                            }
                        } else if field.exists || !after_blank {
                            field.exists = true;
                            fields.push(std::mem::take(&mut field));
                        } else {
                            after_blank = false;
                        }
                    }
                }
            }
        }
        if field.exists {
            fields.push(field);
        }
        fields
    }
}

fn expanded(text: String, quoted: bool) -> Piece {
    if quoted { Piece::Text { text, quoted } } else { Piece::Split(text) }
}

/// Lets arithmetic see and set the shell's variables.
struct Variables<'a>(&'a mut Shell);

impl arith::Names for Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name)
    }

    fn set(&mut self, name: &str, value: i64) {
        // A read-only variable keeps its value.
        let _ = self.0.set(name, value.to_string());
    }
}

/// Takes off the shortest or longest match of the pattern at one end.
fn trim(value: &str, pattern: &str, end: bool, longest: bool) -> String {
    let pattern: Vec<char> = pattern.chars().collect();
    let value: Vec<char> = value.chars().collect();
    let n = value.len();
    // `cut` is where the value is cut in two.
    let fits = |cut: &usize| {
        let part = if end { &value[*cut..] } else { &value[..*cut] };
        pattern::matches_chars(&pattern, part)
    };
    let cut = if end == longest { (0..=n).find(fits) } else { (0..=n).rev().find(fits) };
    match cut {
        Some(cut) if end => value[..cut].iter().collect(),
        Some(cut) => value[cut..].iter().collect(),
        None => value.into_iter().collect(),
    }
}

fn replace(value: &str, pattern: &str, with: &str, all: bool) -> String {
    let pattern: Vec<char> = pattern.chars().collect();
    let value: Vec<char> = value.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    let mut done = false;
    while at < value.len() {
        let fits = |end: &usize| pattern::matches_chars(&pattern, &value[at..*end]);
        let end = if done { None } else { (at + 1..=value.len()).rev().find(fits) };
        match end {
            Some(end) => {
                out.push_str(with);
                at = end;
                done = !all;
            }
            None => {
                out.push(value[at]);
                at += 1;
            }
        }
    }
    out
}

fn slice(value: &str, offset: i64, length: Option<i64>) -> String {
    let chars: Vec<char> = value.chars().collect();
    let n = chars.len() as i64;
    let start = if offset < 0 { n.saturating_add(offset) } else { offset };
    if start < 0 || start > n {
        return String::new();
    }
    let end = match length {
        None => n,
        Some(length) if length < 0 => n.saturating_add(length),
        Some(length) => start.saturating_add(length).min(n),
    };
    if end <= start {
        return String::new();
    }
    chars[start as usize..end as usize].iter().collect()
}
