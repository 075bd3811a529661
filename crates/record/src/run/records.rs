//! The sentences of a run and their lines in `sentences.jsonl`.

use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{RunError, RunProblem};
use crate::{Sentence, Source, Span, Tokens, json};

/// One sentence of a run with its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentenceRecord {
    /// Number of the sentence in the run, from 0; names its rows files.
    pub index: usize,
    /// Text and origin.
    pub sentence: Sentence,
    /// Its tokens, BOS included; spans lie on character boundaries of the text.
    pub tokens: Tokens,
}

/// A line of `sentences.jsonl`, borrowing what is written. All lists have one entry a token.
#[derive(Serialize)]
struct WrittenLine<'a> {
    sentence: usize,
    text: &'a str,
    source: &'a str,
    line: u64,
    token_ids: &'a [u32],
    token_strs: &'a [String],
    /// `[start, end]` in bytes of the text.
    spans: Vec<[u32; 2]>,
    /// 1 for a special token of the vocabulary, else 0.
    special: Vec<u8>,
    /// 1 for BOS, else 0.
    bos: Vec<u8>,
}

/// The same line as it is read.
#[derive(Deserialize)]
struct ReadLine {
    sentence: usize,
    text: String,
    source: String,
    line: u64,
    token_ids: Vec<u32>,
    token_strs: Vec<String>,
    spans: Vec<[u32; 2]>,
    special: Vec<u8>,
    bos: Vec<u8>,
}

/// Writes the line of sentence `index`.
pub(super) fn write_record(index: usize, sentence: &Sentence, tokens: &Tokens, out: &mut impl Write) -> io::Result<()> {
    let bits = |flags: &[bool]| flags.iter().map(|&flag| u8::from(flag)).collect();
    let line = WrittenLine {
        sentence: index,
        text: &sentence.text,
        source: &sentence.source.file,
        line: sentence.source.line,
        token_ids: &tokens.ids,
        token_strs: &tokens.strs,
        spans: tokens.spans.iter().map(|span| [span.start, span.end]).collect(),
        special: bits(&tokens.special),
        bos: bits(&tokens.bos),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Reads `sentences.jsonl`: sentence `i` stands on line `i + 1`.
pub(super) fn read_records(path: &Path) -> Result<Vec<SentenceRecord>, RunError> {
    let mut index = 0;
    super::reader::read_lines(path, |line: ReadLine| {
        let record = check(line, index)?;
        index += 1;
        Ok(record)
    })
}

/// Reads the line of sentence `index`.
pub(crate) fn parse_record(line: &[u8], index: usize) -> Result<SentenceRecord, RunProblem> {
    let line = serde_json::from_slice(line).map_err(|error| RunProblem::Json(json::explain(&error)))?;
    check(line, index)
}

fn check(line: ReadLine, index: usize) -> Result<SentenceRecord, RunProblem> {
    let tokens = line.token_ids.len();
    let lengths = [line.token_strs.len(), line.spans.len(), line.special.len(), line.bos.len()];
    let text = &line.text;
    let in_text = |&[start, end]: &[u32; 2]| text.get(start as usize..end as usize).is_some();
    let problem = if line.sentence != index {
        "sentences are not numbered 0, 1, 2, ..."
    } else if lengths != [tokens; 4] {
        "token_ids, token_strs, spans, special and bos differ in length"
    } else if !line.spans.iter().all(in_text) {
        "a span is not a range of characters of the text"
    } else if line.special.iter().chain(&line.bos).any(|&flag| flag > 1) {
        "special and bos must be 0 or 1"
    } else {
        let flags = |bits: Vec<u8>| bits.into_iter().map(|bit| bit == 1).collect();
        return Ok(SentenceRecord {
            index,
            sentence: Sentence { text: line.text, source: Source { file: line.source, line: line.line } },
            tokens: Tokens {
                ids: line.token_ids,
                spans: line.spans.into_iter().map(|[start, end]| Span { start, end }).collect(),
                strs: line.token_strs,
                special: flags(line.special),
                bos: flags(line.bos),
            },
        });
    };
    Err(RunProblem::Record(problem))
}
