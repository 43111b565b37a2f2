//! What the parser makes of a script.
use std::cell::RefCell;
use std::rc::Rc;

/// Commands one after another.
pub(super) type List = Vec<AndOr>;

/// Pipelines joined by `&&` and `||`.
#[derive(Debug, Clone)]
pub(super) struct AndOr {
    pub(super) first: Pipeline,
    /// Whether the pipeline runs after success (`&&`) of what is before it, or after failure.
    pub(super) rest: Vec<(bool, Pipeline)>,
    pub(super) background: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) negated: bool,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug, Clone)]
pub(super) enum Command {
    Simple(Simple),
    Compound(Rc<Compound>, Vec<Redirection>),
    Function(String, Rc<Command>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Simple {
    pub(super) assignments: Vec<(String, Word)>,
    pub(super) words: Vec<Word>,
    pub(super) redirections: Vec<Redirection>,
}

#[derive(Debug)]
pub(super) enum Compound {
    Brace(List),
    Subshell(List),
    If {
        arms: Vec<(List, List)>,
        otherwise: Option<List>,
    },
    Loop {
        until: bool,
        condition: List,
        body: List,
    },
    /// Without words it goes over the positional parameters.
    For {
        name: String,
        words: Option<Vec<Word>>,
        body: List,
    },
    Case {
        word: Word,
        arms: Vec<(Vec<Word>, List)>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Redirection {
    pub(super) fd: i32,
    pub(super) kind: Redirect,
}

#[derive(Debug, Clone)]
pub(super) enum Redirect {
    Read(Word),
    Write(Word),
    Append(Word),
    ReadWrite(Word),
    /// `N>&M`, `N<&M`, and `-` closes.
    Duplicate(Word),
    /// `&>FILE`: output and errors.
    Both(Word),
    /// Filled when the line is over.
    Here(Rc<RefCell<Word>>),
}

/// Parts that stand side by side.
pub(super) type Word = Vec<Part>;

#[derive(Debug, Clone)]
pub(super) enum Part {
    /// Plain text: may be a pattern, may start with a tilde.
    Literal(String),
    /// Text that means itself.
    Quoted(String),
    /// Between double quotes.
    Double(Word),
    Parameter(Box<Parameter>),
    /// `$(…)` and backquotes.
    Output(Rc<List>),
    Arithmetic(Word),
}

#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) operation: Operation,
}

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Value,
    Length,
    /// `:-` `:=` `:?` `:+`: the sign, whether an empty value counts as none, the word.
    Unless {
        sign: char,
        empty: bool,
        word: Word,
    },
    /// `#` `##` `%` `%%`: from the start or the end, shortest or longest.
    Trim {
        end: bool,
        longest: bool,
        pattern: Word,
    },
    /// `/` and `//`.
    Replace {
        all: bool,
        pattern: Word,
        with: Word,
    },
    /// `:offset:length`.
    Slice {
        offset: Word,
        length: Option<Word>,
    },
}
