//! Words: quotes, parameters, substitutions.
use std::rc::Rc;

use super::ast::{Operation, Parameter, Part, Word};
use super::parser::{Error, Parser, Result, is_name};

impl Parser {
    /// The word that starts here; `None` when an operator, a blank or the end does.
    pub(super) fn word(&mut self) -> Result<Option<Word>> {
        let word = self.parts(&|c| c.is_whitespace() || ";&|<>()".contains(c))?;
        Ok((!word.is_empty()).then_some(word))
    }

    /// Unquoted parts up to a character that ends them.
    fn parts(&mut self, ends: &dyn Fn(char) -> bool) -> Result<Word> {
        let mut word = Word::new();
        while let Some(c) = self.peek().filter(|c| !ends(*c)) {
            match c {
                '\'' if !self.quoting => {
                    self.at += 1;
                    word.push(Part::Quoted(self.until_quote()?));
                }
                '"' => {
                    self.at += 1;
                    let inner = self.deeper(|p| p.double(Some('"')))?;
                    word.push(Part::Double(inner));
                }
                '\\' => {
                    self.at += 1;
                    match self.next() {
                        Some('\n') => {}
                        Some(c) => word.push(Part::Quoted(c.to_string())),
                        None => word.push(Part::Quoted("\\".to_owned())),
                    }
                }
                '$' if self.peek_at(1) == Some('\'') => {
                    self.at += 2;
                    word.push(Part::Quoted(self.c_string()?));
                }
                '$' | '`' => self.dollar(&mut word)?,
                c => {
                    self.at += 1;
                    push_literal(&mut word, c);
                }
            }
        }
        Ok(word)
    }

    fn until_quote(&mut self) -> Result<String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(text),
                Some(c) => text.push(c),
                None => return Err(Error::Incomplete("unterminated quoted string".to_owned())),
            }
        }
    }

    /// `$'…'`: with the escapes of C.
    fn c_string(&mut self) -> Result<String> {
        let mut raw = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(crate::text::echo::unescape(&raw).0),
                Some('\\') => {
                    match self.next() {
                        Some('\'') => raw.push('\''),
                        Some('"') => raw.push('"'),
                        Some(c) => raw.extend(['\\', c]),
                        None => {}
                    };
                }
                Some(c) => raw.push(c),
                None => return Err(Error::Incomplete("unterminated quoted string".to_owned())),
            }
        }
    }

    /// Parts between double quotes, or in a here-document without an end.
    fn double(&mut self, end: Option<char>) -> Result<Word> {
        let quoting = std::mem::replace(&mut self.quoting, true);
        let word = self.double_inner(end);
        self.quoting = quoting;
        word
    }

    fn double_inner(&mut self, end: Option<char>) -> Result<Word> {
        let mut word = Word::new();
        loop {
            let Some(c) = self.peek() else {
                if end.is_none() {
                    return Ok(word);
                }
                return Err(Error::Incomplete("unterminated quoted string".to_owned()));
            };
            match c {
                c if Some(c) == end => {
                    self.at += 1;
                    return Ok(word);
                }
                '\\' => {
                    self.at += 1;
                    match self.peek() {
                        Some('\n') => self.at += 1,
                        Some(c) if "$`\\".contains(c) || Some(c) == end => {
                            self.at += 1;
                            push_quoted(&mut word, c);
                        }
                        _ => push_quoted(&mut word, '\\'),
                    }
                }
                '$' | '`' => self.dollar(&mut word)?,
                c => {
                    self.at += 1;
                    push_quoted(&mut word, c);
                }
            }
        }
    }

    /// The text of a here-document whose end was not quoted.
    pub(super) fn here_body(&mut self) -> Result<Word> {
        Ok(vec![Part::Double(self.double(None)?)])
    }

    /// What a dollar sign or a backquote begins.
    fn dollar(&mut self, word: &mut Word) -> Result<()> {
        if self.eat("`") {
            let script = self.backquoted()?;
            let list = self.deeper(|_| {
                let mut inner = Parser::new(&script);
                let mut list = Vec::new();
                while let Some(line) = inner.next_line()? {
                    list.extend(line);
                }
                Ok(list)
            })?;
            word.push(Part::Output(Rc::new(list)));
            return Ok(());
        }
        self.at += 1;
        if self.peek() == Some('(') && self.peek_at(1) == Some('(') {
            let start = self.at;
            self.at += 2;
            if let Some(inner) = self.arithmetic()? {
                word.push(Part::Arithmetic(inner));
                return Ok(());
            }
            self.at = start;
        }
        if self.eat("(") {
            word.push(Part::Output(Rc::new(self.substitution()?)));
            return Ok(());
        }
        if self.eat("{") {
            let parameter = self.deeper(Parser::braced)?;
            word.push(Part::Parameter(Box::new(parameter)));
            return Ok(());
        }
        let mut name = String::new();
        match self.peek() {
            Some(c) if c.is_ascii_digit() || "@*#?-$!".contains(c) => {
                self.at += 1;
                name.push(c);
            }
            _ => name = self.name(),
        }
        if name.is_empty() {
            push_quoted(word, '$');
        } else {
            let parameter = Parameter { name, operation: Operation::Value };
            word.push(Part::Parameter(Box::new(parameter)));
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
            self.at += 1;
        }
        name
    }

    fn backquoted(&mut self) -> Result<String> {
        let mut script = String::new();
        loop {
            match self.next() {
                Some('`') => return Ok(script),
                Some('\\') => match self.next() {
                    Some(c @ ('`' | '\\' | '$')) => script.push(c),
                    Some(c) => script.extend(['\\', c]),
                    None => {}
                },
                Some(c) => script.push(c),
                None => return Err(Error::Incomplete("unterminated \"`\"".to_owned())),
            }
        }
    }

    /// Up to `))`; `None` when this is a command in a substitution after all.
    fn arithmetic(&mut self) -> Result<Option<Word>> {
        let mut word = Word::new();
        let mut open = 0;
        loop {
            match self.peek() {
                None => return Err(Error::Incomplete("missing \"))\"".to_owned())),
                Some(')') if open == 0 => {
                    if !self.eat("))") {
                        return Ok(None);
                    }
                    return Ok(Some(word));
                }
                Some('$' | '`') => {
                    self.deeper(|p| p.dollar(&mut word))?;
                    continue;
                }
                Some('"') => {
                    self.at += 1;
                    continue;
                }
                Some('(') => open += 1,
                Some(')') => open -= 1,
                Some(_) => {}
            }
            if let Some(c) = self.next() {
                push_quoted(&mut word, c);
            }
        }
    }

    /// After `${`.
    fn braced(&mut self) -> Result<Parameter> {
        let bad = |p: &Parser| match p.peek() {
            None => Error::Incomplete("missing \"}\"".to_owned()),
            Some(_) => Error::Syntax(format!("line {}: bad substitution", p.line())),
        };
        if self.peek() == Some('#') && !matches!(self.peek_at(1), Some('}' | ':' | '-' | '#' | '%'))
        {
            self.at += 1;
            let name = self.parameter_name();
            if name.is_empty() || !self.eat("}") {
                return Err(bad(self));
            }
            return Ok(Parameter { name, operation: Operation::Length });
        }
        let name = self.parameter_name();
        if name.is_empty() {
            return Err(bad(self));
        }
        let operation = self.operation().and_then(|op| op.ok_or_else(|| bad(self)))?;
        if !self.eat("}") {
            return Err(bad(self));
        }
        Ok(Parameter { name, operation })
    }

    fn parameter_name(&mut self) -> String {
        match self.peek() {
            Some(c) if "@*#?-$!".contains(c) => {
                self.at += 1;
                c.to_string()
            }
            Some(c) if c.is_ascii_digit() => {
                let mut digits = String::new();
                while let Some(c) = self.peek().filter(char::is_ascii_digit) {
                    digits.push(c);
                    self.at += 1;
                }
                digits
            }
            _ => Some(self.name()).filter(|name| is_name(name)).unwrap_or_default(),
        }
    }

    fn operation(&mut self) -> Result<Option<Operation>> {
        let brace = |c: char| c == '}';
        let Some(c) = self.peek() else { return Ok(None) };
        if c == '}' {
            return Ok(Some(Operation::Value));
        }
        let empty = c == ':' && self.peek_at(1).is_some_and(|c| "-=?+".contains(c));
        if empty {
            self.at += 1;
        }
        if let Some(sign) = self.peek().filter(|c| "-=?+".contains(*c)) {
            self.at += 1;
            return Ok(Some(Operation::Unless { sign, empty, word: self.parts(&brace)? }));
        }
        // The quotes of a pattern are quotes wherever it stands.
        let quoting = std::mem::take(&mut self.quoting);
        let operation = self.cutting();
        self.quoting = quoting;
        operation
    }

    fn cutting(&mut self) -> Result<Option<Operation>> {
        let brace = |c: char| c == '}';
        Ok(match self.next() {
            Some(sign @ ('#' | '%')) => {
                let longest = self.eat(&sign.to_string());
                let pattern = self.parts(&brace)?;
                Some(Operation::Trim { end: sign == '%', longest, pattern })
            }
            Some('/') => {
                let all = self.eat("/");
                let pattern = self.parts(&|c| c == '}' || c == '/')?;
                let with = if self.eat("/") { self.parts(&brace)? } else { Word::new() };
                Some(Operation::Replace { all, pattern, with })
            }
            Some(':') => {
                let offset = self.parts(&|c| c == '}' || c == ':')?;
                let length = if self.eat(":") { Some(self.parts(&brace)?) } else { None };
                Some(Operation::Slice { offset, length })
            }
            _ => None,
        })
    }
}

fn push_literal(word: &mut Word, c: char) {
    match word.last_mut() {
        Some(Part::Literal(text)) => text.push(c),
        _ => word.push(Part::Literal(c.to_string())),
    }
}

fn push_quoted(word: &mut Word, c: char) {
    match word.last_mut() {
        Some(Part::Quoted(text)) => text.push(c),
        _ => word.push(Part::Quoted(c.to_string())),
    }
}
