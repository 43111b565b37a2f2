//! Tools on text and names.
pub(crate) mod columns;
pub(crate) mod echo;
pub(crate) mod ends;
pub(crate) mod grep;
pub(crate) mod paths;
pub(crate) mod regex;
pub(crate) mod test;
