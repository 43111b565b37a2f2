//! From words to the texts they stand for.
use super::parse::{self, Piece, Word};
use super::pattern::{self, Char};
use super::{Jump, Shell};

/// Texts on their way: the last may still grow. `None`: nothing has begun.
#[derive(Default)]
struct Fields {
    all: Vec<Vec<Char>>,
    current: Option<Vec<Char>>,
}

impl Fields {
    fn push(&mut self, text: &str, quoted: bool) {
        let current = self.current.get_or_insert_default();
        current.extend(text.chars().map(|c| (c, quoted)));
    }

    fn end(&mut self) {
        self.all.extend(self.current.take());
    }

    /// Adds the result of an unquoted expansion: blanks part it.
    fn split(&mut self, text: &str, separators: &str) {
        for c in text.chars() {
            if separators.contains(c) {
                self.end();
            } else {
                self.current.get_or_insert_default().push((c, false));
            }
        }
    }
}

impl Shell {
    /// Words to arguments: with splitting and file names.
    pub(super) fn fields(&mut self, words: &[Word]) -> Result<Vec<String>, Jump> {
        let mut out = Vec::new();
        for word in words {
            let mut fields = Fields::default();
            self.pieces(word, true, &mut fields)?;
            fields.end();
            for field in fields.all {
                let files =
                    if pattern::is_pattern(&field) { pattern::files(&field) } else { Vec::new() };
                if files.is_empty() {
                    out.push(field.into_iter().map(|(c, _)| c).collect());
                } else {
                    out.extend(files);
                }
            }
        }
        Ok(out)
    }

    /// A word to one text.
    pub(super) fn text(&mut self, word: &Word) -> Result<String, Jump> {
        Ok(self.pattern(word)?.into_iter().map(|(c, _)| c).collect())
    }

    /// A word to one pattern.
    pub(super) fn pattern(&mut self, word: &Word) -> Result<Vec<Char>, Jump> {
        let mut fields = Fields::default();
        self.pieces(word, false, &mut fields)?;
        Ok(fields.current.unwrap_or_default())
    }

    fn pieces(&mut self, word: &Word, split: bool, fields: &mut Fields) -> Result<(), Jump> {
        for (index, piece) in word.iter().enumerate() {
            match piece {
                Piece::Text { text, quoted } => {
                    let home = index == 0 && !quoted && (text == "~" || text.starts_with("~/"));
                    match self.get("HOME").filter(|_| home) {
                        Some(home) => {
                            let home = home.to_owned();
                            fields.push(&home, true);
                            fields.push(&text[1..], false);
                        }
                        None => fields.push(text, *quoted),
                    }
                }
                Piece::Parameter { name, operation: None, quoted }
                    if name == "@" || name == "*" && !quoted =>
                {
                    self.all_arguments(*quoted, split, fields);
                }
                Piece::Parameter { name, operation, quoted } => {
                    self.parameter(name, operation.as_ref(), *quoted || !split, split, fields)?;
                }
                Piece::Length { name, quoted } => {
                    let length = self.value(name).unwrap_or_default().chars().count();
                    fields.push(&length.to_string(), *quoted);
                }
                Piece::Substitution { text, quoted } => {
                    let output = self.substitute(text)?;
                    self.add(output.trim_end_matches('\n'), *quoted || !split, fields);
                }
                Piece::Arithmetic { text, quoted } => {
                    let text = self.text(text)?;
                    match self.arithmetic(&text) {
                        Ok(number) => fields.push(&number.to_string(), *quoted),
                        Err(message) => {
                            self.complain(&format!("arithmetic: {message}"))?;
                            return Err(Jump::Exit(2));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&self, text: &str, whole: bool, fields: &mut Fields) {
        if whole {
            fields.push(text, true);
        } else {
            fields.split(text, self.get("IFS").unwrap_or(" \t\n"));
        }
    }

    fn all_arguments(&self, quoted: bool, split: bool, fields: &mut Fields) {
        if !split {
            fields.push(&self.arguments.join(" "), true);
            return;
        }
        // An empty text that the quotes began is no argument when there are none.
        let began = fields.current.as_ref().is_some_and(Vec::is_empty);
        if quoted && began {
            fields.current = None;
        }
        for (index, argument) in self.arguments.iter().enumerate() {
            if index > 0 {
                fields.end();
            }
            self.add(argument, quoted, fields);
        }
        if quoted && self.arguments.is_empty() && began {
            fields.all.extend(None::<Vec<Char>>);
        }
    }

    fn parameter(
        &mut self,
        name: &str,
        operation: Option<&(String, Word)>,
        whole: bool,
        split: bool,
        fields: &mut Fields,
    ) -> Result<(), Jump> {
        let value = self.value(name);
        let Some((kind, word)) = operation else {
            if value.is_none() && self.nounset {
                eprintln!("sh: {name}: parameter not set");
                return Err(Jump::Exit(1));
            }
            self.add(&value.unwrap_or_default(), whole, fields);
            return Ok(());
        };
        let set = match (&value, kind.starts_with(':')) {
            (None, _) => false,
            (Some(value), true) => !value.is_empty(),
            (Some(_), false) => true,
        };
        match (kind.trim_start_matches(':'), set) {
            ("-" | "=" | "?", true) => self.add(&value.unwrap_or_default(), whole, fields),
            ("-", false) | ("+", true) => {
                // The word is part of an expansion: blanks in it part fields.
                for piece in word {
                    match piece {
                        Piece::Text { text, quoted } => {
                            self.add(text, whole || *quoted, fields);
                        }
                        other => {
                            let one = vec![other.clone()];
                            self.pieces(&one, split && !whole, fields)?;
                        }
                    }
                }
            }
            ("+", false) => {}
            ("=", false) => {
                let text = self.text(word)?;
                self.set(name, text.clone());
                self.add(&text, whole, fields);
            }
            ("?", false) => {
                let text = self.text(word)?;
                let text = if text.is_empty() { "parameter not set" } else { &text };
                eprintln!("sh: {name}: {text}");
                return Err(Jump::Exit(2));
            }
            (cut, _) => {
                let pattern = self.pattern(word)?;
                let text = trim(&value.unwrap_or_default(), cut, &pattern);
                self.add(&text, whole, fields);
            }
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<String> {
        Some(match name {
            "?" => self.status.to_string(),
            "$" => self.pid.to_string(),
            "!" => self.background?.to_string(),
            "#" => self.arguments.len().to_string(),
            "@" | "*" => self.arguments.join(" "),
            "-" => String::new(),
            "0" => self.name.clone(),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                self.arguments.get(digits.parse::<usize>().ok()?.checked_sub(1)?)?.clone()
            }
            name => self.get(name)?.to_owned(),
        })
    }

    /// The value of an arithmetic expression; names stand for variables.
    pub(super) fn arithmetic(&mut self, text: &str) -> Result<i64, String> {
        if let Some((name, value)) = text.split_once('=') {
            let name = name.trim();
            if parse::is_name(name) && !value.starts_with('=') {
                let number = self.arithmetic(value)?;
                self.set(name, number.to_string());
                return Ok(number);
            }
        }
        let mut sum = Sum { shell: self, rest: text, depth: 0 };
        let value = sum.binary(0)?;
        match sum.rest.trim_start() {
            "" => Ok(value),
            rest => Err(format!("unexpected {rest:?}")),
        }
    }
}

/// Cuts the shortest or longest match from an end.
fn trim(value: &str, cut: &str, pattern: &[Char]) -> String {
    let chars: Vec<char> = value.chars().collect();
    let front = cut.starts_with('#');
    let mut lengths: Vec<usize> = (0..=chars.len()).collect();
    if cut.len() == 2 {
        lengths.reverse();
    }
    for length in lengths {
        let (part, rest) = if front {
            chars.split_at(length)
        } else {
            let (rest, part) = chars.split_at(chars.len() - length);
            (part, rest)
        };
        if pattern::matches(pattern, part) {
            return rest.iter().collect();
        }
    }
    value.to_owned()
}

struct Sum<'a> {
    shell: &'a Shell,
    rest: &'a str,
    depth: usize,
}

/// Operators from the weakest to the strongest; longer ones first.
const LEVELS: &[&[&str]] =
    &[&["||"], &["&&"], &["==", "!="], &["<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%"]];

impl Sum<'_> {
    fn binary(&mut self, level: usize) -> Result<i64, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            self.rest = self.rest.trim_start();
            let Some(op) = operators.iter().find(|op| self.rest.starts_with(**op)) else {
                return Ok(left);
            };
            self.rest = &self.rest[op.len()..];
            let right = self.binary(level + 1)?;
            left = match *op {
                "||" => i64::from(left != 0 || right != 0),
                "&&" => i64::from(left != 0 && right != 0),
                "==" => i64::from(left == right),
                "!=" => i64::from(left != right),
                "<=" => i64::from(left <= right),
                ">=" => i64::from(left >= right),
                "<" => i64::from(left < right),
                ">" => i64::from(left > right),
                "+" => left.wrapping_add(right),
                "-" => left.wrapping_sub(right),
                "*" => left.wrapping_mul(right),
                "/" => left.checked_div(right).ok_or("division by zero")?,
                _ => left.checked_rem(right).ok_or("division by zero")?,
            };
        }
    }

    fn unary(&mut self) -> Result<i64, String> {
        self.depth += 1;
        if self.depth > 100 {
            return Err("nested too deeply".to_owned());
        }
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next();
        let value = match first {
            Some('-') => {
                self.rest = &self.rest[1..];
                self.unary()?.wrapping_neg()
            }
            Some('+') => {
                self.rest = &self.rest[1..];
                self.unary()?
            }
            Some('!') => {
                self.rest = &self.rest[1..];
                i64::from(self.unary()? == 0)
            }
            Some('(') => {
                self.rest = &self.rest[1..];
                let value = self.binary(0)?;
                let rest = self.rest.trim_start().strip_prefix(')');
                self.rest = rest.ok_or("missing )")?;
                value
            }
            _ => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = self.rest.find(|c| !word(c)).unwrap_or(self.rest.len());
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                match (name.parse::<i64>(), parse::is_name(name)) {
                    (Ok(number), _) => number,
                    (_, true) => {
                        let value = self.shell.get(name).unwrap_or("0").trim();
                        let value = if value.is_empty() { "0" } else { value };
                        value.parse().map_err(|_| format!("{value:?} is no number"))?
                    }
                    _ => return Err(format!("a number is missing before {:?}", self.rest)),
                }
            }
        };
        self.depth -= 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Shell {
        let mut shell = Shell::default();
        shell.set("x", "a b".to_owned());
        shell.set("n", "7".to_owned());
        shell.set("path", "/usr/lib/file.tar.gz".to_owned());
        shell.arguments = vec!["one".to_owned(), "two three".to_owned()];
        shell
    }

    fn fields(text: &str) -> Vec<String> {
        let list = parse::parse(text).unwrap();
        let parse::Kind::Simple { words, .. } = &list[0].chain[0].1.commands[0].kind else {
            panic!("{text}")
        };
        shell().fields(words).unwrap()
    }

    #[test]
    fn words_become_arguments() {
        for (text, want) in [
            ("a $x b", vec!["a", "a", "b", "b"]),
            ("\"$x\"", vec!["a b"]),
            ("'$x' \\$x", vec!["$x", "$x"]),
            ("a\"$x\"c", vec!["aa bc"]),
            ("x$none", vec!["x"]),
            ("$none \"$none\" ''", vec!["", ""]),
            ("${none:-d e} ${x:+y} ${none-}", vec!["d", "e", "y"]),
            (
                "${path##*/} ${path%.*} ${path%%.*} ${path#/}",
                vec!["file.tar.gz", "/usr/lib/file.tar", "/usr/lib/file", "usr/lib/file.tar.gz"],
            ),
            ("${#x} $# $1 $((n * 2 + (1 - 3)))", vec!["3", "2", "one", "12"]),
            ("\"$@\"", vec!["one", "two three"]),
            ("$@", vec!["one", "two", "three"]),
            ("\"$*\"", vec!["one two three"]),
            ("/et[c]", vec!["/etc"]),
            ("\"/et[c]\" /no/such*", vec!["/et[c]", "/no/such*"]),
            ("$((1 < 2 && 3 != 4)) $((7 % 4))", vec!["1", "3"]),
        ] {
            assert_eq!(fields(text), want, "{text}");
        }
    }

    #[test]
    fn arithmetic_says_what_is_wrong() {
        let mut shell = shell();
        assert_eq!(shell.arithmetic("n = n + 1"), Ok(8));
        assert_eq!(shell.get("n"), Some("8"));
        for text in ["1 +", "1 / 0", "(1", "x", "1 2", "9223372036854775808"] {
            assert!(shell.arithmetic(text).is_err(), "{text}");
        }
        assert!(shell.arithmetic(&"(".repeat(1000)).is_err());
    }
}
