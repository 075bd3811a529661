//! Searching the texts of a run. Texts are scanned: ten megabytes take milliseconds, and no language needs rules of its
//! own.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use regex::{Regex, RegexBuilder};

use super::RunIndex;
use super::error::{IndexError, IndexProblem};

/// Longest needle or pattern, in bytes.
const QUERY_BYTES: usize = 1_000;
/// Largest compiled pattern, and the largest cache while it runs, in bytes.
const REGEX_BYTES: usize = 1 << 20;
/// Sentences that are scanned by all threads before it is asked whether enough was found.
const STEP: usize = 16_384;

/// What is looked for in the texts.
#[derive(Clone, Debug)]
pub struct Query(Regex);

/// Sentences that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Their numbers, ascending.
    pub sentences: Vec<usize>,
    /// Where to go on, if there may be more.
    pub next: Option<usize>,
}

impl Query {
    /// Looks for a piece of text, whatever the case of its letters.
    ///
    /// # Errors
    /// [`IndexProblem::Query`] if it is too long.
    pub fn text(needle: &str) -> Result<Query, IndexError> {
        Query::new(&regex::escape(needle), needle.len(), true)
    }

    /// Looks for a regular expression, as the crate `regex` reads it; `(?i)` makes it blind to case.
    ///
    /// # Errors
    /// [`IndexProblem::Query`] if it cannot be understood or would be too large.
    pub fn regex(pattern: &str) -> Result<Query, IndexError> {
        Query::new(pattern, pattern.len(), false)
    }

    fn new(pattern: &str, length: usize, any_case: bool) -> Result<Query, IndexError> {
        let fail = |what: String| IndexError::new(Path::new("texts"), IndexProblem::Query(what));
        if length > QUERY_BYTES {
            return Err(fail(format!("it is longer than {QUERY_BYTES} bytes")));
        }
        let mut builder = RegexBuilder::new(pattern);
        builder.case_insensitive(any_case).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES);
        builder.build().map(Query).map_err(|error| fail(error.to_string()))
    }

    /// Whether a text is found.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// What is found in a text, in bytes: pieces that are not empty and do not overlap.
    pub fn spans(&self, text: &str) -> Vec<Range<usize>> {
        self.0.find_iter(text).map(|found| found.range()).filter(|range| !range.is_empty()).collect()
    }
}

impl RunIndex {
    /// Looks for at most `limit` sentences from number `from` on.
    ///
    /// # Errors
    /// [`IndexProblem::Corrupt`].
    pub fn search(&self, query: &Query, from: usize, limit: usize) -> Result<Found, IndexError> {
        let mut sentences = Vec::new();
        let mut start = from;
        while start < self.sentences() {
            let end = self.sentences().min(start + STEP);
            let hit = |number: usize| match self.text(number) {
                Ok(text) => query.matches(text).then_some(Ok(number)),
                Err(error) => Some(Err(error)),
            };
            let hits: Vec<_> = (start..end).into_par_iter().filter_map(hit).collect::<Result<_, _>>()?;
            for number in hits {
                if sentences.len() == limit {
                    return Ok(Found { sentences, next: Some(number) });
                }
                sentences.push(number);
            }
            start = end;
        }
        Ok(Found { sentences, next: None })
    }
}
