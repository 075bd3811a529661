//! Sentences and the files they come from.

/// Where a sentence stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file as the user named it.
    pub file: String,
    /// Line on which its record starts, from 1.
    pub line: u64,
}

/// One sentence of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// The text; may be empty.
    pub text: String,
    /// Where it came from.
    pub source: Source,
}
