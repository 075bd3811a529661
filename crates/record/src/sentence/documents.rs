//! A file of documents too large for memory: where each stands, and one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::error::{InputError, InputProblem};
use super::formats::{self, Format};
use super::scan::{Fault, Scanner};

/// Longest record, in bytes: a file need not hold a line end at all.
pub const DOCUMENT_LIMIT: u64 = 16 << 20;

/// The documents of one file, read as [`read_sentences`](super::read_sentences) reads it, but held in memory one at a
/// time. Opening reads the whole file once and finds everything that is wrong with it.
pub struct Documents {
    shown_as: String,
    file: Mutex<File>,
    format: Format,
    places: Vec<Place>,
    blank_lines: u64,
    blake3: blake3::Hash,
}

/// Where a record stands: 24 bytes a document are all that is kept.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    line: u64,
    bytes: u32,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its text.
    pub text: String,
    /// The line on which its record starts, from 1.
    pub line: u64,
}

impl Documents {
    /// Finds the documents of the file at `path`, which must be a file proper: a pipe cannot be read twice.
    ///
    /// # Errors
    /// As [`read_sentences`](super::read_sentences), except that only a document has a limit, [`DOCUMENT_LIMIT`], and not
    /// the file.
    pub fn open(path: &Path, shown_as: &str, text_column: Option<&str>) -> Result<Documents, InputError> {
        let fail = |(line, problem)| InputError { file: shown_as.to_owned(), line, problem };
        let cannot_read = |error| fail((None, InputProblem::Read(error)));
        let file = File::open(path).map_err(cannot_read)?;
        if !file.metadata().map_err(cannot_read)?.is_file() {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(cannot_read(error));
        }
        let mut records = Records::new(BufReader::with_capacity(1 << 20, &file));
        let extension = super::extension(path);
        let mut format = Format::of(&extension, text_column);
        let delimiter = formats::delimiter(&extension);
        let (mut places, mut blank_lines) = (Vec::new(), 0);
        loop {
            let quotes = match &format {
                Some(format) => Quotes::of(format),
                None => Quotes::Start { delimiter: Some(delimiter) },
            };
            let Some(place) = records.next(quotes).map_err(fail)? else { break };
            let text = records.text(place).map_err(fail)?;
            let mut scan = Scanner::at_line(text, place.line);
            let separator = format.as_ref().map_or(Some(delimiter), Format::delimiter);
            let line_fault = |(line, problem): Fault| fail((Some(line), problem));
            if text.is_empty() || scan.skip_blank(separator) {
                blank_lines += u64::from(!text.is_empty());
                continue;
            }
            match &format {
                // A table's header comes first.
                None => {
                    let column = text_column.unwrap_or_default();
                    format = Some(Format::table(&mut scan, delimiter, column).map_err(line_fault)?);
                }
                Some(format) => {
                    format.take(&mut scan).map_err(line_fault)?;
                    if places.len() == u32::MAX as usize {
                        return Err(fail((Some(place.line), InputProblem::TooManyDocuments)));
                    }
                    places.push(place);
                }
            }
        }
        let (empty, blake3) = (records.at == records.mark, records.hasher.finalize());
        if places.is_empty() {
            let problem = if empty { InputProblem::Empty } else { InputProblem::NoSentences { blank_lines } };
            return Err(fail((None, problem)));
        }
        let format = format.unwrap_or(Format::Lines);
        Ok(Documents { shown_as: shown_as.to_owned(), file: Mutex::new(file), format, places, blank_lines, blake3 })
    }

    /// How many there are; never none.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none: never.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Lines left out because nothing but whitespace stood on them.
    pub fn blank_lines(&self) -> u64 {
        self.blank_lines
    }

    /// Bytes of a document's record.
    ///
    /// # Panics
    /// When there is no such document.
    pub fn bytes(&self, index: usize) -> usize {
        self.places[index].bytes as usize
    }

    /// BLAKE3 of the file's bytes.
    pub fn blake3(&self) -> blake3::Hash {
        self.blake3
    }

    /// The file as the user named it.
    pub fn shown_as(&self) -> &str {
        &self.shown_as
    }

    /// The document number `index`, from 0, in the file's order.
    ///
    /// # Errors
    /// A file that cannot be read any more, or is not what it was.
    ///
    /// # Panics
    /// When there is no such document.
    pub fn read(&self, index: usize) -> Result<Document, InputError> {
        let place = self.places[index];
        let fail = |problem| InputError { file: self.shown_as.clone(), line: Some(place.line), problem };
        let mut bytes = vec![0; place.bytes as usize];
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let read = file.seek(SeekFrom::Start(place.start)).and_then(|_| file.read_exact(&mut bytes));
            read.map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => fail(InputProblem::Changed),
                _ => fail(InputProblem::Read(error)),
            })?;
        }
        let record = std::str::from_utf8(&bytes).map_err(|_| fail(InputProblem::Changed))?;
        let text = self.format.take(&mut Scanner::at_line(record, place.line));
        let text = text.map_err(|_| fail(InputProblem::Changed))?;
        Ok(Document { text, line: place.line })
    }
}

/// The records of a file one after another.
struct Records<R> {
    reader: R,
    /// Offset and line of what comes next.
    at: u64,
    line: u64,
    /// Length of the byte order mark in front.
    mark: u64,
    /// The bytes of the last record.
    record: Vec<u8>,
    hasher: blake3::Hasher,
}

impl<R: BufRead> Records<R> {
    fn new(reader: R) -> Self {
        Records { reader, at: 0, line: 1, mark: 0, record: Vec::new(), hasher: blake3::Hasher::new() }
    }

    /// Reads the next record: a line, and those after it as long as a quote is open. None at the end of the file.
    fn next(&mut self, mut quotes: Quotes) -> Result<Option<Place>, (Option<u64>, InputProblem)> {
        const MARK: &[u8] = "\u{feff}".as_bytes();
        let (at, line) = (self.at, self.line);
        self.record.clear();
        loop {
            let before = self.record.len();
            let most = DOCUMENT_LIMIT + 1 - before as u64;
            let read = self.reader.by_ref().take(most).read_until(b'\n', &mut self.record);
            let count = read.map_err(|error| (None, InputProblem::Read(error)))?;
            if self.record.len() as u64 > DOCUMENT_LIMIT {
                return Err((Some(line), InputProblem::DocumentTooLong));
            }
            self.hasher.update(&self.record[before..]);
            self.at += count as u64;
            self.line += u64::from(count > 0);
            if at == 0 && before == 0 && self.record.starts_with(MARK) {
                self.record.drain(..MARK.len());
                self.mark = MARK.len() as u64;
            }
            quotes = quotes.after(&self.record[before..]);
            if count == 0 || !quotes.is_open() {
                break;
            }
        }
        if self.at == at {
            return Ok(None);
        }
        let start = if at == 0 { self.mark } else { at };
        // DOCUMENT_LIMIT fits u32.
        Ok(Some(Place { start, line, bytes: self.record.len() as u32 }))
    }

    /// The text of the last record.
    fn text(&self, place: Place) -> Result<&str, (Option<u64>, InputProblem)> {
        std::str::from_utf8(&self.record).map_err(|error| {
            let offset = error.valid_up_to();
            let lines = self.record[..offset].iter().filter(|&&byte| byte == b'\n').count() as u64;
            let problem = InputProblem::NotUtf8 { offset: place.start as usize + offset, byte: self.record[offset] };
            (Some(place.line + lines), problem)
        })
    }
}

/// Whether a quoted field is open, as [`Scanner`] reads quotes: one begins only where a field does.
#[derive(Clone, Copy)]
enum Quotes {
    /// The format has none.
    Never,
    /// Where a field begins.
    Start { delimiter: Option<char> },
    /// In an unquoted field, or behind the end of a quoted one.
    Plain { delimiter: Option<char> },
    /// In a quoted field.
    Open { delimiter: Option<char> },
    /// Behind a quote in a quoted field: its end, or half of a doubled quote.
    Closing { delimiter: Option<char> },
}

impl Quotes {
    fn of(format: &Format) -> Quotes {
        if format.quotes() { Quotes::Start { delimiter: format.delimiter() } } else { Quotes::Never }
    }

    fn is_open(self) -> bool {
        matches!(self, Quotes::Open { .. })
    }

    fn after(self, bytes: &[u8]) -> Quotes {
        use Quotes::{Closing, Never, Open, Plain, Start};
        bytes.iter().fold(self, |state, &byte| match (state, byte) {
            (Never, _) => Never,
            (Start { delimiter } | Closing { delimiter }, b'"') => Open { delimiter },
            (Open { delimiter }, b'"') => Closing { delimiter },
            (Open { .. }, _) => state,
            (Start { delimiter } | Plain { delimiter } | Closing { delimiter }, byte) => {
                if delimiter == Some(byte as char) { Start { delimiter } } else { Plain { delimiter } }
            }
        })
    }
}
