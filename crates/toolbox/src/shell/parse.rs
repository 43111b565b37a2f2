//! From text to commands.

/// Commands in order; each with how it is joined to what follows.
pub(super) type List = Vec<Item>;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    /// Pipelines joined by `&&` (true) and `||` (false); the first has no joint.
    pub(super) chain: Vec<(Option<bool>, Pipeline)>,
    pub(super) background: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) negated: bool,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) kind: Kind,
    pub(super) redirections: Vec<Redirection>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Simple { assignments: Vec<(String, Word)>, words: Vec<Word> },
    Group(List),
    Subshell(List),
    If { arms: Vec<(List, List)>, otherwise: List },
    Loop { until: bool, condition: List, body: List },
    For { name: String, words: Option<Vec<Word>>, body: List },
    Case { word: Word, arms: Vec<(Vec<Word>, List)> },
    Function { name: String, body: List },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Redirection {
    pub(super) fd: u8,
    pub(super) target: Target,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    Read(Word),
    Write(Word),
    Append(Word),
    Copy(Word),
    Text(Word),
    /// `&>`: both output streams.
    Both(Word),
}

/// A word before expansion.
pub(super) type Word = Vec<Piece>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text { text: String, quoted: bool },
    Parameter { name: String, operation: Option<(String, Word)>, quoted: bool },
    Length { name: String, quoted: bool },
    Substitution { text: String, quoted: bool },
    Arithmetic { text: Word, quoted: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParseError {
    /// More text could make it whole.
    Incomplete,
    Syntax(String),
}

type Parsed<T> = Result<T, ParseError>;

/// Nested constructs, so that a text cannot exhaust the stack.
const MAX_NESTING: usize = 100;

pub(super) fn parse(text: &str) -> Parsed<List> {
    let mut parser = Parser::new(text);
    let list = parser.list(&[])?;
    parser.skip_newlines();
    match parser.peek() {
        None if parser.documents.is_empty() => Ok(list),
        None => Err(ParseError::Incomplete),
        Some(c) => Err(ParseError::Syntax(format!("unexpected {c:?}"))),
    }
}

/// A text in which only parameters, substitutions and backslashes mean something.
pub(super) fn parse_document(text: &str) -> Parsed<Word> {
    let mut parser = Parser::new(text);
    let mut word = Vec::new();
    parser.quoted_until(None, &mut word)?;
    Ok(word)
}

struct Parser {
    text: Vec<char>,
    at: usize,
    /// Here-documents whose text begins on the next line.
    documents: Vec<Document>,
    /// Their texts, by the order of their beginnings.
    texts: Vec<Option<Word>>,
    nesting: usize,
}

struct Document {
    index: usize,
    end: String,
    literal: bool,
    strip: bool,
}

impl Parser {
    fn new(text: &str) -> Self {
        let text = text.chars().collect();
        Parser { text, at: 0, documents: Vec::new(), texts: Vec::new(), nesting: 0 }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn ahead(&self, text: &str) -> bool {
        let mut at = self.at;
        text.chars().all(|c| {
            at += 1;
            self.text.get(at - 1) == Some(&c)
        })
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.ahead(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn next(&mut self) -> Parsed<char> {
        let c = self.peek().ok_or(ParseError::Incomplete)?;
        self.at += 1;
        Ok(c)
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.ahead("\\\n") => self.at += 2,
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn skip_newlines(&mut self) {
        loop {
            self.skip_blanks();
            if self.peek() != Some('\n') {
                return;
            }
            self.newline();
        }
    }

    /// Steps over a newline and takes the here-documents that begin after it.
    fn newline(&mut self) {
        self.at += 1;
        while !self.documents.is_empty() {
            let mut at = self.at;
            let mut body = String::new();
            let (end, strip) = (self.documents[0].end.clone(), self.documents[0].strip);
            let whole = loop {
                let rest = self.text.get(at..).unwrap_or_default();
                if rest.is_empty() {
                    break false;
                }
                let length = rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
                let line: String = rest[..length].iter().collect();
                at += (length + 1).min(rest.len());
                let line = if strip { line.trim_start_matches('\t') } else { &line };
                if line == end {
                    break true;
                }
                body.push_str(line);
                body.push('\n');
            };
            if !whole {
                self.at = self.text.len();
                return;
            }
            let document = self.documents.remove(0);
            let word = if document.literal {
                Ok(vec![Piece::Text { text: body, quoted: true }])
            } else {
                parse_document(&body)
            };
            self.texts[document.index] = word.ok();
            self.at = at;
        }
    }

    /// The unquoted word that begins here, if it is one of letters and the like only.
    fn keyword(&mut self) -> Option<String> {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let special = |c: &char| " \t\r\n;&|<>()'\"\\$`".contains(*c);
        let length = rest.iter().position(special).unwrap_or(rest.len());
        let ended = rest.get(length).is_none_or(|c| " \t\r\n;&|<>()".contains(*c));
        (length > 0 && ended).then(|| rest[..length].iter().collect())
    }

    fn take_keyword(&mut self, word: &str) -> bool {
        let found = self.keyword().as_deref() == Some(word);
        if found {
            self.at += word.chars().count();
        }
        found
    }

    fn expect_keyword(&mut self, word: &str) -> Parsed<()> {
        self.skip_newlines();
        if self.take_keyword(word) {
            return Ok(());
        }
        match self.peek() {
            None => Err(ParseError::Incomplete),
            Some(c) => Err(ParseError::Syntax(format!("{word:?} is missing before {c:?}"))),
        }
    }

    /// Up to one of the words, which is not taken, or a closing parenthesis, or the end.
    fn list(&mut self, ends: &[&str]) -> Parsed<List> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(ParseError::Syntax("nested too deeply".to_owned()));
        }
        let mut list = Vec::new();
        loop {
            self.skip_newlines();
            let stop = match self.peek() {
                None => true,
                Some(')') => true,
                Some(';') if self.ahead(";;") => true,
                _ => self.keyword().is_some_and(|k| ends.contains(&k.as_str())),
            };
            if stop {
                break;
            }
            let chain = self.chain()?;
            self.skip_blanks();
            let background = !self.ahead("&&") && self.take("&");
            if !background && !self.ahead(";;") {
                self.take(";");
            }
            list.push(Item { chain, background });
            self.skip_blanks();
            let more = matches!(self.peek(), None | Some('\n' | ')')) || self.ahead(";;");
            let joined =
                self.text.get(self.at.wrapping_sub(1)).is_some_and(|c| ";& \t".contains(*c));
            if !more && !joined && !background {
                let c = self.next()?;
                return Err(ParseError::Syntax(format!("unexpected {c:?}")));
            }
        }
        self.nesting -= 1;
        Ok(list)
    }

    /// A list that must hold something.
    fn body(&mut self, ends: &[&str]) -> Parsed<List> {
        let list = self.list(ends)?;
        match (list.is_empty(), self.peek()) {
            (true, None) => Err(ParseError::Incomplete),
            (true, Some(c)) => Err(ParseError::Syntax(format!("unexpected {c:?}"))),
            (false, _) => Ok(list),
        }
    }

    fn chain(&mut self) -> Parsed<Vec<(Option<bool>, Pipeline)>> {
        let mut chain = vec![(None, self.pipeline()?)];
        loop {
            self.skip_blanks();
            let and = match () {
                () if self.take("&&") => true,
                () if self.take("||") => false,
                () => return Ok(chain),
            };
            self.skip_newlines();
            chain.push((Some(and), self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Parsed<Pipeline> {
        let mut negated = false;
        while self.take_keyword("!") {
            negated = !negated;
        }
        let mut commands = vec![self.command()?];
        loop {
            self.skip_blanks();
            if self.ahead("||") || !self.take("|") {
                return Ok(Pipeline { negated, commands });
            }
            self.skip_newlines();
            commands.push(self.command()?);
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        self.skip_blanks();
        let keyword = self.keyword().unwrap_or_default();
        let kind = match keyword.as_str() {
            "if" => self.if_command()?,
            "while" | "until" => {
                self.at += keyword.len();
                let condition = self.body(&["do"])?;
                Kind::Loop { until: keyword == "until", condition, body: self.do_group()? }
            }
            "for" => self.for_command()?,
            "case" => self.case_command()?,
            "{" => {
                self.at += 1;
                let list = self.body(&["}"])?;
                self.expect_keyword("}")?;
                Kind::Group(list)
            }
            "then" | "else" | "elif" | "fi" | "do" | "done" | "esac" | "}" | "in"
                if keyword != "in" =>
            {
                return Err(ParseError::Syntax(format!("unexpected {keyword:?}")));
            }
            _ if self.peek() == Some('(') => {
                self.at += 1;
                let list = self.body(&[])?;
                self.close()?;
                Kind::Subshell(list)
            }
            _ => return self.simple(),
        };
        let mut redirections = Vec::new();
        while let Some(redirection) = self.redirection()? {
            redirections.push(redirection);
        }
        Ok(Command { kind, redirections })
    }

    fn close(&mut self) -> Parsed<()> {
        self.skip_newlines();
        match self.next()? {
            ')' => Ok(()),
            c => Err(ParseError::Syntax(format!("unexpected {c:?}"))),
        }
    }

    fn do_group(&mut self) -> Parsed<List> {
        self.expect_keyword("do")?;
        let body = self.body(&["done"])?;
        self.expect_keyword("done")?;
        Ok(body)
    }

    fn if_command(&mut self) -> Parsed<Kind> {
        let mut arms = Vec::new();
        self.at += 2;
        loop {
            let condition = self.body(&["then"])?;
            self.expect_keyword("then")?;
            arms.push((condition, self.body(&["elif", "else", "fi"])?));
            if !self.take_keyword("elif") {
                break;
            }
        }
        let otherwise = if self.take_keyword("else") { self.body(&["fi"])? } else { List::new() };
        self.expect_keyword("fi")?;
        Ok(Kind::If { arms, otherwise })
    }

    fn for_command(&mut self) -> Parsed<Kind> {
        self.at += 3;
        let name = self.keyword().ok_or(ParseError::Incomplete)?;
        if !is_name(&name) {
            return Err(ParseError::Syntax(format!("{name:?} is no name")));
        }
        self.at += name.chars().count();
        self.skip_newlines();
        let words = if self.take_keyword("in") {
            let mut words = Vec::new();
            while let Some(word) = self.word()? {
                words.push(word);
            }
            Some(words)
        } else {
            None
        };
        self.skip_blanks();
        self.take(";");
        Ok(Kind::For { name, words, body: self.do_group()? })
    }

    fn case_command(&mut self) -> Parsed<Kind> {
        self.at += 4;
        let word = self.word()?.ok_or(ParseError::Incomplete)?;
        self.expect_keyword("in")?;
        let mut arms = Vec::new();
        loop {
            self.skip_newlines();
            if self.take_keyword("esac") {
                return Ok(Kind::Case { word, arms });
            }
            self.take("(");
            let mut patterns = Vec::new();
            loop {
                patterns.push(self.word()?.ok_or(ParseError::Incomplete)?);
                self.skip_blanks();
                if !self.take("|") {
                    break;
                }
            }
            self.close()?;
            arms.push((patterns, self.list(&["esac"])?));
            self.skip_newlines();
            self.take(";;");
        }
    }

    fn simple(&mut self) -> Parsed<Command> {
        let (mut assignments, mut words, mut redirections) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.skip_blanks();
            if let Some(redirection) = self.redirection()? {
                redirections.push(redirection);
                continue;
            }
            if words.is_empty()
                && let Some(assignment) = self.assignment()?
            {
                assignments.push(assignment);
                continue;
            }
            let Some(word) = self.word()? else { break };
            if words.is_empty()
                && assignments.is_empty()
                && redirections.is_empty()
                && let Some(function) = self.function(&word)?
            {
                return Ok(Command { kind: function, redirections });
            }
            words.push(word);
        }
        if assignments.is_empty() && words.is_empty() && redirections.is_empty() {
            return match self.peek() {
                None => Err(ParseError::Incomplete),
                Some(c) => Err(ParseError::Syntax(format!("unexpected {c:?}"))),
            };
        }
        Ok(Command { kind: Kind::Simple { assignments, words }, redirections })
    }

    fn assignment(&mut self) -> Parsed<Option<(String, Word)>> {
        let rest = &self.text[self.at..];
        let length = rest.iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').count();
        let name: String = rest[..length].iter().collect();
        if !is_name(&name) || rest.get(length) != Some(&'=') {
            return Ok(None);
        }
        self.at += length + 1;
        let ended = self.peek().is_none_or(|c| " \t\r\n;&|<>()".contains(c));
        let value = if ended { None } else { self.word()? };
        Ok(Some((name, value.unwrap_or_default())))
    }

    fn function(&mut self, word: &Word) -> Parsed<Option<Kind>> {
        let [Piece::Text { text: name, quoted: false }] = &word[..] else { return Ok(None) };
        self.skip_blanks();
        if !is_name(name) || !self.ahead("(") {
            return Ok(None);
        }
        self.at += 1;
        self.close()?;
        self.skip_newlines();
        let command = self.command()?;
        let pipeline = Pipeline { negated: false, commands: vec![command] };
        let body = vec![Item { chain: vec![(None, pipeline)], background: false }];
        Ok(Some(Kind::Function { name: name.clone(), body }))
    }

    fn redirection(&mut self) -> Parsed<Option<Redirection>> {
        self.skip_blanks();
        let start = self.at;
        let digit = self.peek().filter(char::is_ascii_digit);
        if digit.is_some() && self.text.get(start + 1).is_some_and(|c| "<>".contains(*c)) {
            self.at += 1;
        }
        let fd = digit.filter(|_| self.at > start).and_then(|d| d.to_digit(10)).map(|d| d as u8);
        let kinds = ["<<-", "<<", "<&", ">&", "&>", ">>", ">|", "<", ">"];
        let Some(kind) = kinds.into_iter().find(|k| self.take(k)) else {
            self.at = start;
            return Ok(None);
        };
        if fd.is_some_and(|fd| fd > 2) {
            return Err(ParseError::Syntax("only descriptors 0 to 2 can be redirected".to_owned()));
        }
        let word = self.word()?.ok_or(ParseError::Incomplete)?;
        let fd = fd.unwrap_or(if kind.starts_with('<') { 0 } else { 1 });
        let target = match kind {
            "<" => Target::Read(word),
            ">" | ">|" => Target::Write(word),
            ">>" => Target::Append(word),
            "&>" => Target::Both(word),
            "<&" | ">&" => Target::Copy(word),
            _ => return self.document(fd, &word, kind == "<<-").map(Some),
        };
        Ok(Some(Redirection { fd, target }))
    }

    fn document(&mut self, fd: u8, end: &Word, strip: bool) -> Parsed<Redirection> {
        let mut literal = false;
        let mut text = String::new();
        for piece in end {
            let Piece::Text { text: part, quoted } = piece else {
                return Err(ParseError::Syntax("a here-document's end is plain text".to_owned()));
            };
            literal |= quoted;
            text.push_str(part);
        }
        let index = self.texts.len();
        self.texts.push(None);
        self.documents.push(Document { index, end: text, literal, strip });
        // Its text is known once the line has ended: look ahead, then come back.
        let back = self.at;
        while self.peek().is_some_and(|c| c != '\n') {
            self.at += 1;
        }
        if self.peek().is_none() {
            return Err(ParseError::Incomplete);
        }
        let line_end = self.at;
        self.newline();
        let Some(word) = self.texts[index].take() else { return Err(ParseError::Incomplete) };
        // The text is not to be read again as commands.
        self.text.drain(line_end + 1..self.at);
        self.at = back;
        Ok(Redirection { fd, target: Target::Text(word) })
    }

    /// The word that begins here; `None` at an operator or the end.
    fn word(&mut self) -> Parsed<Option<Word>> {
        self.skip_blanks();
        let mut word = Word::new();
        let mut plain = String::new();
        let mut any = false;
        while let Some(c) = self.peek() {
            if " \t\r\n;&|<>()".contains(c) {
                break;
            }
            any = true;
            self.at += 1;
            match c {
                '\\' => match self.next()? {
                    '\n' => {}
                    c => {
                        flush(&mut word, &mut plain);
                        word.push(Piece::Text { text: c.to_string(), quoted: true });
                    }
                },
                '\'' => {
                    flush(&mut word, &mut plain);
                    let mut text = String::new();
                    loop {
                        match self.next()? {
                            '\'' => break,
                            c => text.push(c),
                        }
                    }
                    word.push(Piece::Text { text, quoted: true });
                }
                '"' => {
                    flush(&mut word, &mut plain);
                    // Even an empty one makes a word.
                    word.push(Piece::Text { text: String::new(), quoted: true });
                    self.quoted_until(Some('"'), &mut word)?;
                }
                '$' | '`' => {
                    flush(&mut word, &mut plain);
                    self.dollar(c, false, &mut word)?;
                }
                c => plain.push(c),
            }
        }
        flush(&mut word, &mut plain);
        Ok(any.then_some(word))
    }

    fn quoted_until(&mut self, end: Option<char>, word: &mut Word) -> Parsed<()> {
        let mut text = String::new();
        loop {
            let c = match (self.peek(), end) {
                (None, None) => break,
                (None, Some(_)) => return Err(ParseError::Incomplete),
                (Some(c), _) => c,
            };
            self.at += 1;
            match c {
                c if Some(c) == end => break,
                '\\' => match self.next()? {
                    '\n' => {}
                    c if "$`\\".contains(c) || Some(c) == end => text.push(c),
                    c => text.extend(['\\', c]),
                },
                '$' | '`' => {
                    word.push(Piece::Text { text: std::mem::take(&mut text), quoted: true });
                    self.dollar(c, true, word)?;
                }
                c => text.push(c),
            }
        }
        word.push(Piece::Text { text, quoted: true });
        Ok(())
    }

    fn dollar(&mut self, first: char, quoted: bool, word: &mut Word) -> Parsed<()> {
        if first == '`' {
            let mut text = String::new();
            loop {
                match self.next()? {
                    '`' => break,
                    '\\' if self.peek().is_some_and(|c| "$`\\".contains(c)) => {
                        text.push(self.next()?)
                    }
                    c => text.push(c),
                }
            }
            word.push(Piece::Substitution { text, quoted });
            return Ok(());
        }
        match self.peek() {
            Some('(') if self.ahead("((") => {
                let start = self.at;
                self.at += 2;
                let text = self.balanced()?;
                if self.take(")") {
                    let text = parse_document(&text)?;
                    word.push(Piece::Arithmetic { text, quoted });
                } else {
                    self.at = start + 1;
                    let text = self.balanced()?;
                    word.push(Piece::Substitution { text, quoted });
                }
            }
            Some('(') => {
                self.at += 1;
                let text = self.balanced()?;
                word.push(Piece::Substitution { text, quoted });
            }
            Some('{') => {
                self.at += 1;
                word.push(self.braces(quoted)?);
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let mut name = String::new();
                while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                    self.at += 1;
                }
                word.push(Piece::Parameter { name, operation: None, quoted });
            }
            Some(c) if c.is_ascii_digit() || "?$!#@*-".contains(c) => {
                self.at += 1;
                word.push(Piece::Parameter { name: c.to_string(), operation: None, quoted });
            }
            _ => word.push(Piece::Text { text: "$".to_owned(), quoted: true }),
        }
        Ok(())
    }

    /// The text up to the matching parenthesis, which is taken.
    fn balanced(&mut self) -> Parsed<String> {
        let mut text = String::new();
        let mut depth = 0;
        loop {
            let c = self.next()?;
            match c {
                ')' if depth == 0 => return Ok(text),
                ')' => depth -= 1,
                '(' => depth += 1,
                '\\' => {
                    text.push(c);
                    text.push(self.next()?);
                    continue;
                }
                '\'' | '"' => {
                    text.push(c);
                    loop {
                        let inner = self.next()?;
                        text.push(inner);
                        if inner == c {
                            break;
                        }
                        if inner == '\\' && c == '"' {
                            text.push(self.next()?);
                        }
                    }
                    continue;
                }
                _ => {}
            }
            text.push(c);
        }
    }

    fn braces(&mut self, quoted: bool) -> Parsed<Piece> {
        if self.peek() == Some('#') && self.text.get(self.at + 1).is_some_and(|c| *c != '}') {
            self.at += 1;
            let name = self.brace_name()?;
            return match self.next()? {
                '}' => Ok(Piece::Length { name, quoted }),
                c => Err(ParseError::Syntax(format!("unexpected {c:?} in ${{"))),
            };
        }
        let name = self.brace_name()?;
        if self.take("}") {
            return Ok(Piece::Parameter { name, operation: None, quoted });
        }
        let kinds = [":-", ":=", ":+", ":?", "##", "%%", "-", "=", "+", "?", "#", "%"];
        let Some(kind) = kinds.into_iter().find(|k| self.take(k)) else {
            let c = self.next()?;
            return Err(ParseError::Syntax(format!("unexpected {c:?} in ${{")));
        };
        let mut text = String::new();
        let mut depth = 0;
        loop {
            match self.next()? {
                '}' if depth == 0 => break,
                '\\' => text.extend(['\\', self.next()?]),
                c => {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    text.push(c);
                }
            }
        }
        // Blanks belong to the word here.
        let mut inner = Parser::new(&text);
        let mut word = Word::new();
        while inner.peek().is_some() {
            match inner.word()? {
                Some(part) => word.extend(part),
                None => {
                    let text = inner.next()?.to_string();
                    word.push(Piece::Text { text, quoted: false });
                }
            }
            while let Some(c) = inner.peek().filter(|c| " \t\n;&|<>()".contains(*c)) {
                word.push(Piece::Text { text: c.to_string(), quoted: false });
                inner.at += 1;
            }
        }
        Ok(Piece::Parameter { name, operation: Some((kind.to_owned(), word)), quoted })
    }

    fn brace_name(&mut self) -> Parsed<String> {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
            self.at += 1;
        }
        if name.is_empty() {
            name.push(self.next()?);
        }
        let special = name.len() == 1 && "?$!#@*-".contains(&name);
        if is_name(&name) || special || name.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(name);
        }
        Err(ParseError::Syntax(format!("{name:?} is no parameter")))
    }
}

fn flush(word: &mut Word, plain: &mut String) {
    if !plain.is_empty() {
        word.push(Piece::Text { text: std::mem::take(plain), quoted: false });
    }
}

pub(super) fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_unfinished_from_wrong() {
        for text in [
            "if true",
            "echo 'a",
            "echo \"a",
            "a |",
            "a &&",
            "{ a",
            "( a",
            "cat <<E\nx\n",
            "for i in a",
            "while x; do y",
            "case a in",
            "echo $(a",
            "echo ${a",
            "f() {",
        ] {
            assert_eq!(parse(text), Err(ParseError::Incomplete), "{text}");
        }
        for text in [
            "fi",
            ";",
            "a ;; b",
            ")",
            "a | | b",
            "&& a",
            "if ; then",
            "done",
            "{ }",
            "echo ${a!}",
            "for 1 in a; do b; done",
            "a 3>b",
        ] {
            assert!(matches!(parse(text), Err(ParseError::Syntax(_))), "{text}: {:?}", parse(text));
        }
        for text in [
            "",
            "# only this",
            "a;",
            "a &",
            "a & b",
            "\n\n a \n",
            "! a",
            "a # b",
            "in",
            "x=1",
            "x=1 y",
            ">f",
            "case a in b) ;; (c|d) e;; esac",
            "f() ( a )",
            "a &>b; c",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
        }
        let deep = "( ".repeat(500) + "a" + &" )".repeat(500);
        assert!(matches!(parse(&deep), Err(ParseError::Syntax(_))));
    }
}
