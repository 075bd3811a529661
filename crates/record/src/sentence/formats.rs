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

/// Consumes what `scan` has left: blank lines are counted, `take` consumes and gives everything else.
fn collect(
    scan: &mut Scanner<'_>,
    delimiter: Option<char>,
    mut take: impl FnMut(&mut Scanner<'_>) -> Result<String, Fault>,
) -> Result<Records, Fault> {
    let mut records = Records::default();
    while !scan.at_end() {
        if scan.skip_blank(delimiter) {
            records.blank_lines += 1;
        } else {
            records.texts.push((scan.line(), take(scan)?));
        }
    }
    Ok(records)
}

/// Every line is a sentence.
pub(super) fn lines(text: &str) -> Result<Records, Fault> {
    collect(&mut Scanner::new(text), None, |scan| Ok(scan.take_line().to_owned()))
}

/// Every record is a sentence: a quoted field, or else a whole line.
pub(super) fn records(text: &str) -> Result<Records, Fault> {
    collect(&mut Scanner::new(text), None, |scan| {
        if scan.at_quote() { scan.take_sentence() } else { Ok(scan.take_line().to_owned()) }
    })
}

/// The column `wanted` of a table with a header.
pub(super) fn table(text: &str, delimiter: char, wanted: &str) -> Result<Records, Fault> {
    let mut scan = Scanner::new(text);
    let mut before_header = 0;
    while !scan.at_end() && scan.skip_blank(Some(delimiter)) {
        before_header += 1;
    }
    let line = scan.line();
    let header = scan.take_fields(delimiter)?;
    let column = header.iter().position(|name| name == wanted).ok_or_else(|| {
        let columns = names(header.iter().map(AsRef::as_ref), wanted);
        (line, InputProblem::NoColumn { wanted: wanted.to_owned(), columns })
    })?;
    let mut records = collect(&mut scan, Some(delimiter), |scan| {
        let line = scan.line();
        let mut fields = scan.take_fields(delimiter)?;
        if fields.len() != header.len() {
            return Err((line, InputProblem::Ragged { expected: header.len(), found: fields.len() }));
        }
        Ok(fields.swap_remove(column).into_owned())
    })?;
    records.blank_lines += before_header;
    Ok(records)
}

/// The string under `key` of the object on every line.
pub(super) fn json_lines(text: &str, key: &str) -> Result<Records, Fault> {
    collect(&mut Scanner::new(text), None, |scan| {
        let line = scan.line();
        let mut object: Map<String, Value> = serde_json::from_str(scan.take_line())
            .map_err(|error| (line, InputProblem::Json(json::explain(&error))))?;
        match object.get_mut(key).map(Value::take) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err((line, InputProblem::NotText { key: key.to_owned(), found: json::kind(&other) })),
            None => {
                let keys = names(object.keys().map(String::as_str), key);
                Err((line, InputProblem::NoKey { wanted: key.to_owned(), keys }))
            }
        }
    })
}
