//! What can be wrong with an input file.

use std::fmt;
use std::io;

/// An input file that cannot be used, with the line where that shows.
#[derive(Debug)]
pub struct InputError {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1, where there is one to name.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: InputProblem,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

impl std::error::Error for InputError {}

/// What is wrong with an input file.
#[derive(Debug, thiserror::Error)]
pub enum InputProblem {
    /// It is not there, is a folder, or may not be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// Larger than [`FILE_LIMIT`](super::FILE_LIMIT).
    #[error("is larger than {} MiB; split it into several files", super::FILE_LIMIT >> 20)]
    TooLarge,
    /// A document longer than [`DOCUMENT_LIMIT`](super::DOCUMENT_LIMIT).
    #[error(
        "the document that starts here is longer than {} MiB; write one document a line, and close every quote",
        super::DOCUMENT_LIMIT >> 20
    )]
    DocumentTooLong,
    /// More documents than can be numbered.
    #[error("holds more than {} documents; split it into several files", u32::MAX)]
    TooManyDocuments,
    /// It is not what it was when it was opened.
    #[error("has changed while it was read; leave it alone until the work is done")]
    Changed,
    /// Bytes that are not UTF-8.
    #[error("is not UTF-8: found the byte 0x{byte:02X} at offset {offset}; save the file as UTF-8")]
    NotUtf8 {
        /// Offset of the first bad byte from the start of the file.
        offset: usize,
        /// That byte.
        byte: u8,
    },
    /// No bytes, or nothing but a byte order mark.
    #[error("the file is empty; write one sentence a line")]
    Empty,
    /// Blank lines, or a header, and nothing else.
    #[error("holds no sentence (blank lines: {blank_lines}); write one sentence a line")]
    NoSentences {
        /// How many blank lines there are.
        blank_lines: u64,
    },
    /// A quoted field that goes on to the end of the file.
    #[error("the quote that opens here is never closed; close it, or double every quote inside a quoted sentence")]
    OpenQuote,
    /// Text between the end of a quoted field and the end of its record.
    #[error(
        "`{found}` follows the end of the quoted field that opened on line {opened}; set `text_column` for CSV with \
         several columns, or quote the whole sentence and double the quotes in it"
    )]
    AfterQuote {
        /// Beginning of what follows.
        found: String,
        /// Line on which the field opened.
        opened: u64,
    },
    /// A table without the column that holds the text.
    #[error("no column `{wanted}` in the header; it has {columns}. Set `text_column` to one of them")]
    NoColumn {
        /// The name that was looked for.
        wanted: String,
        /// The names there are, the nearest one marked.
        columns: String,
    },
    /// A row with more or fewer fields than the header.
    #[error("the row has {found} fields but the header has {expected}; quote fields that hold a separator")]
    Ragged {
        /// Columns of the header.
        expected: usize,
        /// Fields of the row.
        found: usize,
    },
    /// More columns than any table has.
    #[error("has more than {} columns; is it a table at all?", super::scan::COLUMN_LIMIT)]
    TooManyColumns,
    /// A line that is not a JSON object.
    #[error("is not a JSON object: {0}")]
    Json(String),
    /// An object without the key that holds the text.
    #[error("no key `{wanted}` in the object; it has {keys}. Set `text_column` to one of them")]
    NoKey {
        /// The key that was looked for.
        wanted: String,
        /// The keys there are, the nearest one marked.
        keys: String,
    },
    /// A key that holds something else than text.
    #[error("the key `{key}` must hold a string, found {found}")]
    NotText {
        /// The key.
        key: String,
        /// What it holds.
        found: &'static str,
    },
}

/// The beginning of `text`, short enough for a message and without what would steer a terminal.
pub(super) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut excerpt: String = text.chars().take(SHOWN).map(shown).collect();
    if text.chars().nth(SHOWN).is_some() {
        excerpt.push('…');
    }
    excerpt
}

/// The names there are, for a message about one that is not: `` `id`, `txt` (did you mean `txt`?) ``.
pub(super) fn names<'a>(there: impl Iterator<Item = &'a str>, wanted: &str) -> String {
    const SHOWN: usize = 20;
    const NEAR: usize = 3;
    let there: Vec<String> = there.map(excerpt).collect();
    if there.is_empty() {
        return "none".to_owned();
    }
    let mut list = there.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if there.len() > SHOWN {
        list += &format!(" and {} more", there.len() - SHOWN);
    }
    let wanted = excerpt(&wanted.to_lowercase());
    let distance = |name: &&String| strsim::damerau_levenshtein(&name.to_lowercase(), &wanted);
    match there.iter().min_by_key(distance) {
        Some(nearest) if distance(&nearest) <= NEAR => list + &format!(" (did you mean `{nearest}`?)"),
        _ => list,
    }
}
