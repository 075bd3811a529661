//! Sentences and the files they come from.
//!
//! Quoting in CSV follows RFC 4180 (<https://www.rfc-editor.org/rfc/rfc4180>); JSON Lines <https://jsonlines.org>.

mod documents;
mod error;
mod formats;
mod scan;

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

pub use documents::{DOCUMENT_LIMIT, Document, Documents};
pub use error::{InputError, InputProblem};

use crate::open::open_input;

/// Largest input file, in bytes: all sentences of a run are held in memory, and a device or pipe may never end.
pub const FILE_LIMIT: u64 = 1 << 30;

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

/// What one input file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentenceFile {
    /// The sentences in the file's order; never none.
    pub sentences: Vec<Sentence>,
    /// Lines left out because nothing but whitespace stood on them.
    pub blank_lines: u64,
}

/// Reads the sentences of the file at `path`, in UTF-8 with or without a byte order mark. `shown_as` is the file's
/// name in errors and in [`Source`]. The extension says how:
///
/// - `.txt`: every line is a sentence, with no quoting at all.
/// - `.jsonl`, `.ndjson`: an object a line; `text_column` names the key of the text (`text` if it is `None`).
/// - `.csv`, `.tsv` and all others: a record is a sentence. An unquoted line is one sentence, commas and all; a record
///   that starts with `"` is one quoted field and may span lines; `""` is an empty sentence. With `text_column` it is
///   a table with a header line instead, its columns separated by commas (by tabs in `.tsv`), and the sentences are
///   those of that column.
///
/// Blank lines outside of quotes are skipped and counted. A line ends with `\n` or `\r\n`; other whitespace is kept.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, is larger than [`FILE_LIMIT`], breaks the rules of its format or holds no
/// sentence: the error names the file, the line and the way out.
pub fn read_sentences(path: &Path, shown_as: &str, text_column: Option<&str>) -> Result<SentenceFile, InputError> {
    let fail = |(line, problem)| InputError { file: shown_as.to_owned(), line, problem };
    let text = read_text(path).map_err(fail)?;
    let records = formats::read(&text, &extension(path), text_column);
    let records = records.map_err(|(line, problem)| fail((Some(line), problem)))?;
    if records.texts.is_empty() {
        return Err(fail((None, InputProblem::NoSentences { blank_lines: records.blank_lines })));
    }
    let sentence = |(line, text)| Sentence { text, source: Source { file: shown_as.to_owned(), line } };
    Ok(SentenceFile { sentences: records.texts.into_iter().map(sentence).collect(), blank_lines: records.blank_lines })
}

/// What a file's name says of its format, in small letters.
fn extension(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

/// The whole file without its byte order mark.
fn read_text(path: &Path) -> Result<String, (Option<u64>, InputProblem)> {
    let mut bytes = Vec::new();
    let read = open_input(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes));
    if read.map_err(|error| (None, InputProblem::Read(error)))? as u64 > FILE_LIMIT {
        return Err((None, InputProblem::TooLarge));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count() as u64;
        (Some(line), InputProblem::NotUtf8 { offset, byte: error.as_bytes()[offset] })
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    if text.is_empty() { Err((None, InputProblem::Empty)) } else { Ok(text) }
}

#[cfg(test)]
mod tests;
