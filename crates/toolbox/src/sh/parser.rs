//! The grammar of commands. It reads characters, since what a character means depends on where it
//! stands; words are read by `words`.
//!
//! Invariant: the parser never runs anything, and on any input ends with commands, `Incomplete`
//! or a syntax error; nesting is bounded.
use std::cell::RefCell;
use std::rc::Rc;

use super::ast::{
    AndOr, Command, Compound, List, Part, Pipeline, Redirect, Redirection, Simple, Word,
};

/// How deep commands and substitutions may be nested.
const DEPTH_MAX: usize = 100;

const RESERVED: &[&str] = &[
    "!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then",
    "until", "while",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// The input ends inside a command: more of it may complete it.
    Incomplete(String),
    Syntax(String),
}

pub(super) type Result<T> = std::result::Result<T, Error>;

pub(super) struct Parser {
    pub(super) text: Vec<char>,
    pub(super) at: usize,
    depth: usize,
    /// Between double quotes, where a single quote means itself.
    pub(super) quoting: bool,
    /// Here-documents whose bodies come after this line.
    pending: Vec<Pending>,
}

struct Pending {
    end: String,
    quoted: bool,
    strip_tabs: bool,
    body: Rc<RefCell<Word>>,
}

impl Parser {
    pub(super) fn new(text: &str) -> Parser {
        Parser {
            text: text.chars().collect(),
            at: 0,
            depth: 0,
            quoting: false,
            pending: Vec::new(),
        }
    }

    pub(super) fn line(&self) -> usize {
        1 + self.text[..self.at.min(self.text.len())].iter().filter(|c| **c == '\n').count()
    }

    /// The commands up to the end of a line; `None` at the end of the text.
    pub(super) fn next_line(&mut self) -> Result<Option<List>> {
        self.skip_newlines()?;
        if self.peek().is_none() {
            return Ok(None);
        }
        let mut list = List::new();
        loop {
            list.push(self.and_or()?);
            self.skip_blanks();
            match self.peek() {
                Some(';' | '&') => return Err(self.unexpected()),
                Some('\n') => {
                    self.newline()?;
                    return Ok(Some(list));
                }
                None if self.pending.is_empty() => return Ok(Some(list)),
                None => {
                    self.newline()?;
                    return Ok(Some(list));
                }
                Some(')') => return Err(self.unexpected()),
                Some(_) if self.separated() => {}
                Some(_) => return Err(self.unexpected()),
            }
        }
    }

    /// Whether a separator was the last thing read, blanks aside.
    fn separated(&self) -> bool {
        let before = self.text[..self.at].iter().rev().find(|c| !c.is_whitespace());
        matches!(before, Some(';' | '&'))
    }

    /// Whether only blanks and comments are left.
    pub(super) fn at_end(&mut self) -> bool {
        let at = self.at;
        let end = self.skip_newlines().is_ok() && self.peek().is_none();
        self.at = at;
        end
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    pub(super) fn peek_at(&self, offset: usize) -> Option<char> {
        self.text.get(self.at + offset).copied()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(i, c)| self.peek_at(i) == Some(c));
        if found {
            self.at += text.chars().count();
        }
        found
    }

    pub(super) fn unexpected(&self) -> Error {
        match self.peek() {
            None => Error::Incomplete("unexpected end of file".to_owned()),
            Some('\n') => Error::Syntax(format!("line {}: unexpected newline", self.line())),
            Some(c) => Error::Syntax(format!("line {}: unexpected \"{c}\"", self.line())),
        }
    }

    /// Runs a part of the grammar one level deeper.
    pub(super) fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= DEPTH_MAX {
            return Err(Error::Syntax("commands are nested too deeply".to_owned()));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.peek_at(1) == Some('\n') => self.at += 2,
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn skip_newlines(&mut self) -> Result<()> {
        loop {
            self.skip_blanks();
            if self.peek() != Some('\n') {
                return Ok(());
            }
            self.newline()?;
        }
    }

    /// Passes a newline and the here-documents that follow it.
    fn newline(&mut self) -> Result<()> {
        self.next();
        for pending in std::mem::take(&mut self.pending) {
            let mut body = String::new();
            loop {
                if self.peek().is_none() {
                    return Err(Error::Incomplete(format!("no line \"{}\"", pending.end)));
                }
                let mut line = String::new();
                while let Some(c) = self.next().filter(|c| *c != '\n') {
                    line.push(c);
                }
                let shown =
                    if pending.strip_tabs { line.trim_start_matches('\t') } else { line.as_str() };
                if shown == pending.end {
                    break;
                }
                body.push_str(shown);
                body.push('\n');
            }
            *pending.body.borrow_mut() = if pending.quoted {
                vec![Part::Quoted(body)]
            } else {
                Parser::new(&body).here_body()?
            };
        }
        Ok(())
    }

    fn and_or(&mut self) -> Result<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.skip_blanks();
            let on_success = if self.eat("&&") {
                true
            } else if self.eat("||") {
                false
            } else {
                break;
            };
            self.skip_newlines()?;
            rest.push((on_success, self.pipeline()?));
        }
        let background = match (self.peek(), self.peek_at(1)) {
            (Some('&'), _) => {
                self.at += 1;
                true
            }
            (Some(';'), next) if next != Some(';') => {
                self.at += 1;
                false
            }
            _ => false,
        };
        Ok(AndOr { first, rest, background })
    }

    fn pipeline(&mut self) -> Result<Pipeline> {
        let mut negated = false;
        while self.reserved("!") {
            negated = !negated;
        }
        let mut commands = vec![self.deeper(Parser::command)?];
        loop {
            self.skip_blanks();
            if self.peek() != Some('|') || self.peek_at(1) == Some('|') {
                return Ok(Pipeline { negated, commands });
            }
            self.at += 1;
            self.skip_newlines()?;
            commands.push(self.deeper(Parser::command)?);
        }
    }

    /// The bare word that comes next, if it is one: reserved words and names are.
    fn peek_word(&mut self) -> String {
        self.skip_blanks();
        let mut word = String::new();
        while let Some(c) = self.peek_at(word.chars().count()) {
            if c.is_whitespace() || ";&|<>()".contains(c) {
                break;
            }
            word.push(c);
        }
        word
    }

    /// Passes a reserved word if it comes next.
    fn reserved(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.at += word.chars().count();
        }
        found
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        if self.reserved(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    fn expected(&mut self, what: &str) -> Error {
        match self.peek_word() {
            _ if self.peek().is_none() => {
                Error::Incomplete(format!("unexpected end of file (expecting \"{what}\")"))
            }
            found => {
                let found =
                    if found.is_empty() { self.peek().into_iter().collect() } else { found };
                let found = found.escape_debug();
                let line = self.line();
                Error::Syntax(format!("line {line}: unexpected \"{found}\" (expecting \"{what}\")"))
            }
        }
    }

    fn command(&mut self) -> Result<Command> {
        let word = self.peek_word();
        let compound = match word.as_str() {
            "{" => {
                self.expect("{")?;
                let list = self.list(&["}"])?;
                self.expect("}")?;
                Compound::Brace(list)
            }
            "if" => self.if_clause()?,
            "while" | "until" => {
                self.at += word.len();
                let condition = self.list(&["do"])?;
                let body = self.do_group()?;
                Compound::Loop { until: word == "until", condition, body }
            }
            "for" => self.for_clause()?,
            "case" => self.case_clause()?,
            "" if self.peek() == Some('(') => {
                self.at += 1;
                let list = self.list(&[])?;
                if self.next() != Some(')') {
                    self.at -= 1;
                    return Err(self.expected(")"));
                }
                Compound::Subshell(list)
            }
            word if RESERVED.contains(&word) => {
                let line = self.line();
                return Err(Error::Syntax(format!("line {line}: unexpected \"{word}\"")));
            }
            _ => return self.simple(&word),
        };
        let mut redirections = Vec::new();
        while let Some(redirection) = self.redirection()? {
            redirections.push(redirection);
        }
        Ok(Command::Compound(Rc::new(compound), redirections))
    }

    /// Commands up to one of the words, or to a closing parenthesis or `;;`.
    fn list(&mut self, ends: &[&str]) -> Result<List> {
        let mut list = List::new();
        loop {
            self.skip_newlines()?;
            let word = self.peek_word();
            let over = match self.peek() {
                None => true,
                Some(')') => true,
                Some(';') => self.peek_at(1) == Some(';'),
                Some(_) => ends.contains(&word.as_str()),
            };
            if over {
                let what = ends.first().copied().unwrap_or(")");
                let wrong_end = self.peek() == Some(')') && !ends.is_empty() && ends != ["esac"];
                if list.is_empty() && !ends.contains(&"esac") || wrong_end || self.peek().is_none()
                {
                    return Err(match self.peek() {
                        None => self.expected(what),
                        Some(_) => self.unexpected(),
                    });
                }
                return Ok(list);
            }
            list.push(self.and_or()?);
            self.skip_blanks();
            if !list.last().is_some_and(|l| l.background) && self.peek() == Some('&') {
                return Err(self.unexpected());
            }
        }
    }

    /// Commands up to the parenthesis that ends a substitution; it may hold none.
    pub(super) fn substitution(&mut self) -> Result<List> {
        let quoting = std::mem::take(&mut self.quoting);
        let list = self.deeper(|p| {
            p.skip_newlines()?;
            let list = if p.peek() == Some(')') { List::new() } else { p.list(&[])? };
            if p.next() == Some(')') { Ok(list) } else { Err(p.expected(")")) }
        });
        self.quoting = quoting;
        list
    }

    fn if_clause(&mut self) -> Result<Compound> {
        self.expect("if")?;
        let mut arms = Vec::new();
        let mut otherwise = None;
        loop {
            let condition = self.list(&["then"])?;
            self.expect("then")?;
            arms.push((condition, self.list(&["fi", "elif", "else"])?));
            if self.reserved("elif") {
                continue;
            }
            if self.reserved("else") {
                otherwise = Some(self.list(&["fi"])?);
            }
            self.expect("fi")?;
            return Ok(Compound::If { arms, otherwise });
        }
    }

    fn do_group(&mut self) -> Result<List> {
        self.skip_newlines()?;
        self.expect("do")?;
        let body = self.list(&["done"])?;
        self.expect("done")?;
        Ok(body)
    }

    fn for_clause(&mut self) -> Result<Compound> {
        self.expect("for")?;
        let name = self.peek_word();
        if !is_name(&name) {
            return Err(self.expected("a name"));
        }
        self.at += name.chars().count();
        self.skip_newlines()?;
        let mut words = None;
        if self.reserved("in") {
            let mut list = Vec::new();
            self.skip_blanks();
            while let Some(word) = self.word()? {
                list.push(word);
                self.skip_blanks();
            }
            words = Some(list);
        }
        self.skip_blanks();
        if self.peek() == Some(';') {
            self.at += 1;
        }
        Ok(Compound::For { name, words, body: self.do_group()? })
    }

    fn case_clause(&mut self) -> Result<Compound> {
        self.expect("case")?;
        self.skip_blanks();
        let word = self.word()?.ok_or_else(|| self.unexpected())?;
        self.skip_newlines()?;
        self.expect("in")?;
        let mut arms = Vec::new();
        loop {
            self.skip_newlines()?;
            if self.reserved("esac") {
                return Ok(Compound::Case { word, arms });
            }
            if self.peek() == Some('(') {
                self.at += 1;
            }
            let mut patterns = Vec::new();
            loop {
                self.skip_blanks();
                patterns.push(self.word()?.ok_or_else(|| self.unexpected())?);
                self.skip_blanks();
                match self.next() {
                    Some('|') => {}
                    Some(')') => break,
                    other => {
                        self.at -= usize::from(other.is_some());
                        return Err(self.expected(")"));
                    }
                }
            }
            let body = self.list(&["esac"])?;
            if self.peek() == Some(')') {
                return Err(self.unexpected());
            }
            arms.push((patterns, body));
            let _ = self.eat(";;");
        }
    }

    fn simple(&mut self, first: &str) -> Result<Command> {
        let mut simple = Simple::default();
        if is_name(first) && self.is_function(first) {
            return self.function(first);
        }
        loop {
            self.skip_blanks();
            if let Some(redirection) = self.redirection()? {
                simple.redirections.push(redirection);
                continue;
            }
            if simple.words.is_empty()
                && let Some(assignment) = self.assignment()?
            {
                simple.assignments.push(assignment);
                continue;
            }
            match self.word()? {
                Some(word) => simple.words.push(word),
                None => break,
            }
        }
        if simple.words.is_empty()
            && simple.assignments.is_empty()
            && simple.redirections.is_empty()
        {
            return Err(self.unexpected());
        }
        if self.peek() == Some('(') {
            return Err(self.unexpected());
        }
        Ok(Command::Simple(simple))
    }

    fn is_function(&self, name: &str) -> bool {
        let mut rest = self.text[self.at + name.chars().count()..].iter().filter(|c| **c != ' ');
        rest.next() == Some(&'(') && rest.next() == Some(&')')
    }

    fn function(&mut self, name: &str) -> Result<Command> {
        while self.next() != Some(')') {}
        self.skip_newlines()?;
        let body = self.deeper(Parser::command)?;
        Ok(Command::Function(name.to_owned(), Rc::new(body)))
    }

    fn assignment(&mut self) -> Result<Option<(String, Word)>> {
        let mut name = String::new();
        while let Some(c) =
            self.peek_at(name.len()).filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        {
            name.push(c);
        }
        if !is_name(&name) || self.peek_at(name.len()) != Some('=') {
            return Ok(None);
        }
        self.at += name.len() + 1;
        let value = self.word()?.unwrap_or_default();
        Ok(Some((name, value)))
    }

    fn redirection(&mut self) -> Result<Option<Redirection>> {
        self.skip_blanks();
        let start = self.at;
        let both = self.peek() == Some('&') && self.peek_at(1) == Some('>');
        if both {
            self.at += 2;
            let word = self.target()?;
            return Ok(Some(Redirection { fd: 1, kind: Redirect::Both(word) }));
        }
        let mut digits = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_digit) {
            digits.push(c);
            self.at += 1;
        }
        if !matches!(self.peek(), Some('<' | '>')) {
            self.at = start;
            return Ok(None);
        }
        let default = i32::from(self.peek() == Some('>'));
        let fd = if digits.is_empty() { default } else { digits.parse().unwrap_or(-1) };
        if !(0..=9).contains(&fd) {
            return Err(Error::Syntax(format!("bad file descriptor {digits}")));
        }
        if self.eat("<<") {
            return self.here(fd).map(Some);
        }
        type Make = fn(Word) -> Redirect;
        let kinds: [(&str, Make); 7] = [
            (">>", Redirect::Append),
            (">&", Redirect::Duplicate),
            ("<&", Redirect::Duplicate),
            ("<>", Redirect::ReadWrite),
            (">|", Redirect::Write),
            (">", Redirect::Write),
            ("<", Redirect::Read),
        ];
        let (_, make) =
            kinds.into_iter().find(|(sign, _)| self.eat(sign)).ok_or_else(|| self.unexpected())?;
        Ok(Some(Redirection { fd, kind: make(self.target()?) }))
    }

    fn target(&mut self) -> Result<Word> {
        self.skip_blanks();
        self.word()?.ok_or_else(|| self.unexpected())
    }

    fn here(&mut self, fd: i32) -> Result<Redirection> {
        // `<<<` gives one word as the input.
        if self.eat("<") {
            let word = self.target()?;
            let body = vec![Part::Double(word), Part::Quoted("\n".to_owned())];
            return Ok(Redirection { fd, kind: Redirect::Here(Rc::new(RefCell::new(body))) });
        }
        let strip_tabs = self.eat("-");
        let word = self.target()?;
        let mut end = String::new();
        let mut quoted = false;
        for part in &word {
            match part {
                Part::Literal(text) => end.push_str(text),
                Part::Quoted(text) => {
                    quoted = true;
                    end.push_str(text);
                }
                Part::Double(parts) => {
                    quoted = true;
                    for part in parts {
                        if let Part::Literal(text) | Part::Quoted(text) = part {
                            end.push_str(text);
                        }
                    }
                }
                _ => return Err(Error::Syntax("a here-document's end is plain text".to_owned())),
            }
        }
        let body = Rc::new(RefCell::new(Word::new()));
        self.pending.push(Pending { end, quoted, strip_tabs, body: Rc::clone(&body) });
        Ok(Redirection { fd, kind: Redirect::Here(body) })
    }
}

/// Whether this is a variable's or function's name.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
