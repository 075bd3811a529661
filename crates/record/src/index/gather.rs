//! The sentences of a run, one after the other: from `sentences.jsonl`, and where that does not tell, from the rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use rayon::prelude::*;

use super::build::Watched;
use super::error::{IndexError, IndexProblem};
use super::health::{FindingKind, Findings};
use super::parse::{Fault, Line, Wanted, read_line};
use super::source::{RowsFile, Source};
use super::tables::TablesWriter;
use crate::run::{LINE_LIMIT, SENTENCES, SentenceRecord, layer_name, parse_record, sentence_name};
use crate::{Sentence, Span, Tokens, open_file};

/// Largest file of rows that is read, in bytes: more than a million tokens with fifty features.
pub(super) const ROWS_FILE_LIMIT: u64 = 1 << 30;
/// Bytes of input that are parsed at once.
pub(super) const BATCH_BYTES: u64 = 8 << 20;

/// Most positions without a row between two rows of a tree without sentences. What stands there is BOS.
const GAP_LIMIT: u32 = 16;
/// Most tokens of a sentence that is known by its rows alone.
const TOKEN_LIMIT: u32 = 1 << 22;
/// Sentences that may be missing between those that a tree without sentences has: this many, and as many again as it has.
const MISSING_LIMIT: usize = 1_000;

/// Writes all sentences; tells how many there are.
pub(super) fn write_sentences(
    source: &Source,
    files: &[(usize, Vec<RowsFile>)],
    tables: &mut TablesWriter,
    findings: &mut Findings,
    watch: &Watched<'_>,
) -> Result<usize, IndexError> {
    let path = source.run.join(SENTENCES);
    let sizes = Sizes::new(files);
    match open_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.add(FindingKind::NoSentences, None, SENTENCES, None, String::new());
            let count = sizes.sentences();
            let numbers: Vec<usize> = (0..count).collect();
            watch.more(sizes.0.range(..count).map(|(_, bytes)| bytes).sum());
            write_from_rows(source, &sizes, &numbers, tables, watch)?;
            Ok(count)
        }
        Err(error) => Err(IndexError::new(&path, IndexProblem::Read(error))),
        Ok(file) => write_from_lines(source, &path, file, &sizes, tables, findings, watch),
    }
}

fn write_from_lines(
    source: &Source,
    path: &Path,
    file: File,
    sizes: &Sizes,
    tables: &mut TablesWriter,
    findings: &mut Findings,
    watch: &Watched<'_>,
) -> Result<usize, IndexError> {
    let fail = |error| IndexError::new(path, IndexProblem::Read(error));
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut count = 0;
    loop {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let mut line = Vec::new();
            file.by_ref().take(LINE_LIMIT + 1).read_until(b'\n', &mut line).map_err(fail)?;
            if line.is_empty() {
                break;
            }
            if line.len() as u64 > LINE_LIMIT {
                let what = format!("line {} is longer than {} MiB", count + lines.len() + 1, LINE_LIMIT >> 20);
                return Err(IndexError::new(path, IndexProblem::TooLarge(what)));
            }
            bytes += line.len() as u64;
            lines.push(line);
        }
        if lines.is_empty() {
            return Ok(count);
        }
        watch.check()?;
        let first = count;
        let parse = |(at, line): (usize, &Vec<u8>)| parse_record(line, first + at);
        let records: Vec<_> = lines.par_iter().enumerate().map(parse).collect();
        for record in records {
            match record {
                Ok(record) => tables.add(&record, false)?,
                Err(problem) => {
                    let what = problem.to_string();
                    findings.add(FindingKind::BrokenSentence, None, SENTENCES, Some(count as u64 + 1), what);
                    watch.more(sizes.of(count));
                    write_from_rows(source, sizes, &[count], tables, watch)?;
                }
            }
            count += 1;
        }
    }
}

/// Writes sentences as far as their rows tell them.
fn write_from_rows(
    source: &Source,
    sizes: &Sizes,
    numbers: &[usize],
    tables: &mut TablesWriter,
    watch: &Watched<'_>,
) -> Result<(), IndexError> {
    let mut rest = numbers;
    while !rest.is_empty() {
        let mut bytes = 0;
        let within = |number: &&usize| {
            let before = bytes;
            bytes += sizes.of(**number);
            before < BATCH_BYTES
        };
        let (now, later) = rest.split_at(rest.iter().take_while(within).count().clamp(1, 4096.min(rest.len())));
        watch.check()?;
        let records: Vec<_> = now.par_iter().map(|&number| from_rows(source, number)).collect();
        for record in records {
            tables.add(&record, true)?;
        }
        watch.advance(now.iter().map(|&number| sizes.of(number)).sum());
        rest = later;
    }
    Ok(())
}

/// What the rows of all layers together tell of a sentence. Files that cannot be read are told with the rows.
fn from_rows(source: &Source, number: usize) -> SentenceRecord {
    let mut texts: BTreeMap<u32, String> = BTreeMap::new();
    let mut line = Line::default();
    for &layer in &source.layers {
        let path = source.run.join(layer_name(layer)).join(sentence_name(number));
        let Ok(bytes) = read_rows_file(&path) else { continue };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (length, result) = read_line(rest, Wanted::Token, &mut line);
            // A row that is cut off is left out at its own layer, but its token is one all the same.
            if !matches!(result, Err(Fault::Broken(_) | Fault::Cut)) {
                texts.entry(line.position).or_insert_with(|| line.text.take().unwrap_or_default());
            }
            rest = &rest[length..];
        }
    }
    let (mut text, mut tokens) = (String::new(), Tokens::default());
    let mut push = |text: &mut String, token: &str, bos: bool| {
        let start = text.len() as u32;
        text.push_str(token);
        tokens.ids.push(0);
        tokens.spans.push(Span { start, end: text.len() as u32 });
        tokens.strs.push(token.to_owned());
        tokens.special.push(bos);
        tokens.bos.push(bos);
    };
    let mut next = 0;
    for (position, token) in texts {
        if position - next > GAP_LIMIT || position >= TOKEN_LIMIT {
            break;
        }
        (next..position).for_each(|_| push(&mut text, "", true));
        push(&mut text, &token, false);
        next = position + 1;
    }
    let origin = crate::Source { file: String::new(), line: 0 };
    SentenceRecord { index: number, sentence: Sentence { text, source: origin }, tokens }
}

/// Reads a file of rows.
pub(super) fn read_rows_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_file(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(size.min(ROWS_FILE_LIMIT) as usize + 1);
    file.take(ROWS_FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ROWS_FILE_LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", ROWS_FILE_LIMIT >> 20)));
    }
    Ok(bytes)
}

/// How many bytes of rows each sentence has at all layers together.
struct Sizes(BTreeMap<usize, u64>);

impl Sizes {
    fn new(files: &[(usize, Vec<RowsFile>)]) -> Sizes {
        let mut sizes = BTreeMap::new();
        for file in files.iter().flat_map(|(_, files)| files) {
            *sizes.entry(file.sentence).or_default() += file.bytes;
        }
        Sizes(sizes)
    }

    fn of(&self, sentence: usize) -> u64 {
        self.0.get(&sentence).copied().unwrap_or(0)
    }

    /// How many sentences there are, as far as the names of files tell: numbers far beyond the others are none.
    fn sentences(&self) -> usize {
        let limit = self.0.len() * 2 + MISSING_LIMIT;
        self.0.range(..limit).next_back().map_or(0, |(last, _)| last + 1)
    }
}
