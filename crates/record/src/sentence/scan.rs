//! Lines, quoted fields and records of a text, one after another. Every step is linear in what it consumes.

use std::borrow::Cow;

use super::error::{InputProblem, excerpt};

/// Most columns of a table (what spreadsheets allow as well).
pub(super) const COLUMN_LIMIT: usize = 16_384;

/// The line, from 1, on which something is wrong, and what.
pub(super) type Fault = (u64, InputProblem);

/// The part of a text that is not yet consumed.
pub(super) struct Scanner<'a> {
    rest: &'a str,
    line: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scanner::at_line(text, 1)
    }

    /// A text that starts on this line of its file.
    pub(super) fn at_line(text: &'a str, line: u64) -> Self {
        Scanner { rest: text, line }
    }

    /// Whether everything is consumed.
    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether a quoted field starts here.
    pub(super) fn at_quote(&self) -> bool {
        self.rest.starts_with('"')
    }

    /// Number of the line that is consumed next, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Consumes the rest of the line; its end, `\n` or `\r\n`, is not part of the answer.
    pub(super) fn take_line(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// Consumes the line if it is nothing but whitespace; `delimiter` is not whitespace.
    pub(super) fn skip_blank(&mut self, delimiter: Option<char>) -> bool {
        let visible = |c: char| c == '\n' || Some(c) == delimiter || !c.is_whitespace();
        let blank = self.rest.find(visible).is_none_or(|end| self.rest[end..].starts_with('\n'));
        if blank {
            self.take_line();
        }
        blank
    }

    /// Consumes the quoted field that starts here and nothing after its closing quote; gives its unquoted text.
    fn take_quoted(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        let mut rest = &self.rest[1..];
        loop {
            let (part, after) = rest.split_once('"').ok_or((self.line, InputProblem::OpenQuote))?;
            text.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => rest = after,
                None => {
                    self.line += text.matches('\n').count() as u64;
                    self.rest = after;
                    return Ok(text);
                }
            }
            text.push('"');
        }
    }

    /// Consumes a record that starts with a quote and has one field.
    pub(super) fn take_sentence(&mut self) -> Result<String, Fault> {
        let opened = self.line;
        let text = self.take_quoted()?;
        self.end_record(opened)?;
        Ok(text)
    }

    /// Consumes a record of fields with `delimiter` between them.
    pub(super) fn take_fields(&mut self, delimiter: char) -> Result<Vec<Cow<'a, str>>, Fault> {
        let mut fields = Vec::new();
        loop {
            let opened = self.line;
            if fields.len() == COLUMN_LIMIT {
                return Err((opened, InputProblem::TooManyColumns));
            }
            fields.push(if self.at_quote() {
                Cow::Owned(self.take_quoted()?)
            } else {
                let end = self.rest.find([delimiter, '\n']).unwrap_or(self.rest.len());
                let (mut field, rest) = self.rest.split_at(end);
                if !rest.starts_with(delimiter) {
                    field = field.strip_suffix('\r').unwrap_or(field);
                }
                self.rest = rest;
                Cow::Borrowed(field)
            });
            match self.rest.strip_prefix(delimiter) {
                Some(rest) => self.rest = rest,
                None => {
                    self.end_record(opened)?;
                    return Ok(fields);
                }
            }
        }
    }

    /// Consumes the end of a line, which must come next.
    fn end_record(&mut self, opened: u64) -> Result<(), Fault> {
        let line = self.line;
        match self.take_line() {
            "" => Ok(()),
            found => Err((line, InputProblem::AfterQuote { found: excerpt(found), opened })),
        }
    }
}
