//! The formats of input files: from a text to its sentences.

use serde_json::{Map, Value};

use super::error::{InputProblem, names};
use super::scan::{Fault, Scanner};
use crate::json;

/// Sentences, each with the line on which it starts, and the number of blank lines between them.
#[derive(Default)]
pub(super) struct Records {
    pub texts: Vec<(u64, String)>,
    pub blank_lines: u64,
}

/// How a record of a file becomes a sentence.
#[derive(Clone, Debug)]
pub(super) enum Format {
    /// Every line is a sentence.
    Lines,
    /// Every record is a sentence: a quoted field, or else a whole line.
    Records,
    /// The string under `key` of the object on every line.
    JsonLines { key: String },
    /// Field number `column` of a table with `columns` of them.
    Table { delimiter: char, column: usize, columns: usize },
}

impl Format {
    /// The format of a file with this extension, if the name alone decides it: not for a table, whose header does.
    pub(super) fn of(extension: &str, text_column: Option<&str>) -> Option<Format> {
        match (extension, text_column) {
            ("txt", _) => Some(Format::Lines),
            ("jsonl" | "ndjson", key) => Some(Format::JsonLines { key: key.unwrap_or("text").to_owned() }),
            (_, None) => Some(Format::Records),
            (_, Some(_)) => None,
        }
    }

    /// A table whose header comes next and is consumed.
    pub(super) fn table(scan: &mut Scanner<'_>, delimiter: char, wanted: &str) -> Result<Format, Fault> {
        let line = scan.line();
        let header = scan.take_fields(delimiter)?;
        let column = header.iter().position(|name| name == wanted).ok_or_else(|| {
            let columns = names(header.iter().map(AsRef::as_ref), wanted);
            (line, InputProblem::NoColumn { wanted: wanted.to_owned(), columns })
        })?;
        Ok(Format::Table { delimiter, column, columns: header.len() })
    }

    /// What stands between the fields of a record, if it has several.
    pub(super) fn delimiter(&self) -> Option<char> {
        match self {
            Format::Table { delimiter, .. } => Some(*delimiter),
            _ => None,
        }
    }

    /// Whether a quoted field may span lines.
    pub(super) fn quotes(&self) -> bool {
        matches!(self, Format::Records | Format::Table { .. })
    }

    /// Consumes a record and gives its sentence.
    pub(super) fn take(&self, scan: &mut Scanner<'_>) -> Result<String, Fault> {
        let line = scan.line();
        match self {
            Format::Records if scan.at_quote() => scan.take_sentence(),
            Format::Lines | Format::Records => Ok(scan.take_line().to_owned()),
            Format::JsonLines { key } => json_text(scan.take_line(), key).map_err(|problem| (line, problem)),
            Format::Table { delimiter, column, columns } => {
                let mut fields = scan.take_fields(*delimiter)?;
                if fields.len() != *columns {
                    return Err((line, InputProblem::Ragged { expected: *columns, found: fields.len() }));
                }
                Ok(fields.swap_remove(*column).into_owned())
            }
        }
    }
}

/// What stands between the fields of a table in a file with this extension.
pub(super) fn delimiter(extension: &str) -> char {
    if extension == "tsv" { '\t' } else { ',' }
}

/// All sentences of a text.
pub(super) fn read(text: &str, extension: &str, text_column: Option<&str>) -> Result<Records, Fault> {
    let mut scan = Scanner::new(text);
    let mut records = Records::default();
    let format = match (Format::of(extension, text_column), text_column) {
        (None, Some(column)) => {
            let delimiter = delimiter(extension);
            while !scan.at_end() && scan.skip_blank(Some(delimiter)) {
                records.blank_lines += 1;
            }
            Format::table(&mut scan, delimiter, column)?
        }
        (format, _) => format.unwrap_or(Format::Records),
    };
    while !scan.at_end() {
        if scan.skip_blank(format.delimiter()) {
            records.blank_lines += 1;
        } else {
            records.texts.push((scan.line(), format.take(&mut scan)?));
        }
    }
    Ok(records)
}

/// The string under `key` of a JSON object.
fn json_text(line: &str, key: &str) -> Result<String, InputProblem> {
    let mut object: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| InputProblem::Json(json::explain(&error)))?;
    match object.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(InputProblem::NotText { key: key.to_owned(), found: json::kind(&other) }),
        None => {
            let keys = names(object.keys().map(String::as_str), key);
            Err(InputProblem::NoKey { wanted: key.to_owned(), keys })
        }
    }
}
