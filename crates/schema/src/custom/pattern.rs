//! `pattern`: a regular expression that takes time linear in what it is matched against.
use regex_lite::{Regex, RegexBuilder};
use std::fmt;
use std::sync::OnceLock;

/// What a compiled expression may take in memory.
const MAX_BYTES: usize = 1 << 20;

/// Compiled when it is first needed: most objects of most kinds never come.
pub(super) struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("{0}")]
    Invalid(String),
    /// Good, but with classes of Unicode that are not known here.
    #[error("classes of Unicode characters are not supported")]
    Unicode,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }
    pub(super) fn text(&self) -> &str {
        &self.text
    }
    fn compile(&self) -> Result<Regex, PatternError> {
        RegexBuilder::new(&self.text).size_limit(MAX_BYTES).build().map_err(|error| {
            match self.text.contains("\\p") || self.text.contains("\\P") {
                true => PatternError::Unicode,
                false => PatternError::Invalid(error.to_string()),
            }
        })
    }
    pub(super) fn check(&self) -> Result<(), PatternError> {
        self.compile().map(|_| ())
    }
    /// A pattern that cannot be used, of which the writer of the schema has been told, lets all be.
    pub(super) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| self.compile().ok());
        compiled.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
