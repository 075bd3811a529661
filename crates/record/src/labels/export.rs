//! Reading an export of explanations: `batch-N.jsonl` or `batch-N.jsonl.gz`, an object a line. A line also holds an
//! embedding and more, which is not looked at.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use super::{Dictionary, LABEL_LIMIT, LabelError, LabelProblem, Stored, TEXT_BYTES};
use crate::{json, open_file};

/// Longest line, in bytes: an explanation with its embedding takes some ten thousand.
const LINE_BYTES: u64 = 1 << 20;
/// Most bytes of a file, unpacked: a dictionary of a million features takes less.
const FILE_BYTES: u64 = 4 << 30;

/// A line as the export has it; the names are Neuronpedia's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    model_id: Option<String>,
    layer: Option<String>,
    index: Index,
    description: Option<String>,
    explanation_model_name: Option<String>,
    type_name: Option<String>,
    created_at: Option<String>,
}

/// Numbers are written as text in some exports.
#[derive(Deserialize)]
#[serde(untagged)]
enum Index {
    Number(u64),
    Text(String),
}

/// One explanation.
pub(super) struct Explanation {
    pub line: u64,
    /// The dictionary that it names.
    pub dictionary: Option<Dictionary>,
    pub index: u32,
    pub label: Stored,
}

/// Reads all explanations of a file; those without a text are passed over.
pub(super) fn read(path: &Path, mut take: impl FnMut(Explanation) -> Result<(), LabelError>) -> Result<(), LabelError> {
    let fail = |problem| LabelError::new(path, None, problem);
    let file = open_file(path).map_err(|error| fail(LabelProblem::Read(error)))?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let packed = file.fill_buf().map_err(|error| fail(LabelProblem::Read(error)))?.starts_with(&[0x1f, 0x8b]);
    let content: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut content = BufReader::with_capacity(1 << 16, content.take(FILE_BYTES + 1));
    let (mut line, mut total) = (Vec::new(), 0);
    for number in 1.. {
        let fail = |problem| LabelError::new(path, Some(number), problem);
        line.clear();
        let length = content.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut line);
        let length = length.map_err(|error| fail(LabelProblem::Read(error)))? as u64;
        total += length;
        if length > LINE_BYTES {
            return Err(fail(LabelProblem::LongLine(LINE_BYTES)));
        }
        if total > FILE_BYTES {
            return Err(fail(LabelProblem::LongFile(FILE_BYTES)));
        }
        if length == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parsed = serde_json::from_slice(&line);
        if let Some(explanation) = parsed
            .map_err(|error| LabelProblem::Json(json::explain(&error)))
            .and_then(|parsed| explanation(number, parsed))
            .map_err(fail)?
        {
            take(explanation)?;
        }
    }
    Ok(())
}

fn explanation(number: u64, line: Line) -> Result<Option<Explanation>, LabelProblem> {
    let index = match &line.index {
        Index::Number(index) => u32::try_from(*index).ok(),
        Index::Text(text) => text.parse().ok(),
    };
    let written = || match &line.index {
        Index::Number(index) => index.to_string(),
        Index::Text(text) => text.clone(),
    };
    let index = index.filter(|&index| index < LABEL_LIMIT).ok_or_else(|| LabelProblem::Index(written()))?;
    let description = line.description.unwrap_or_default();
    // One line of text, whatever the author's model wrote.
    let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    if description.is_empty() {
        return Ok(None);
    }
    let end = description.floor_char_boundary(TEXT_BYTES);
    let dictionary = line.model_id.zip(line.layer).map(|(model, layer)| Dictionary { model, layer });
    let label = Stored {
        description: description[..end].to_owned(),
        by: line.explanation_model_name.unwrap_or_default(),
        method: line.type_name.unwrap_or_default(),
        written: line.created_at.unwrap_or_default(),
    };
    Ok(Some(Explanation { line: number, dictionary, index, label }))
}
