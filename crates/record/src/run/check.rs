//! Files of rows, read and held against what they should be.

use std::io::{self, Read};
use std::path::Path;

use blake3::Hash;
use rayon::prelude::*;

use super::error::{RunError, RunProblem};
use super::journal::Ledger;
use super::manifest::SaeInfo;
use super::rows::{OutputRow, check_row, write_row};
use super::{Tally, rows_path};
use crate::index::parse::{Fault, Line, Wanted, read_line};
use crate::{Tokens, open_file};

/// Largest file of rows that is read, in bytes: a context of 131,072 tokens with two thousand features each.
const FILE_LIMIT: u64 = 4 << 30;
/// Largest dictionary that is believed: what is counted a feature grows with it.
const FEATURE_LIMIT: usize = 1 << 24;

/// The rows of a file.
#[derive(Debug, Default)]
pub(super) struct FileRows {
    positions: Vec<u32>,
    /// Where the entries of each row end.
    ends: Vec<usize>,
    ids: Vec<u32>,
    vals: Vec<f32>,
    /// Size of the file.
    pub bytes: u64,
}

impl FileRows {
    pub fn iter(&self) -> impl Iterator<Item = OutputRow<'_>> + '_ {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        self.positions.iter().zip(starts.zip(&self.ends)).map(|(&position, (start, &end))| OutputRow {
            position: position as usize,
            text: "",
            ids: &self.ids[start..end],
            vals: &self.vals[start..end],
        })
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }
}

/// Reads the rows of a sentence at a layer. With a hash, the file must have it; without one, every line must be as this
/// program writes it. Either way the rows must be those of the sentence's tokens.
///
/// # Errors
/// Whatever is wrong first; [`RunProblem::Read`] of a file that is not there says so.
pub(super) fn read_file(
    path: &Path,
    tokens: &Tokens,
    d_sae: usize,
    expected: Option<Hash>,
) -> Result<FileRows, RunError> {
    let fail = |problem| RunError::new(path, problem);
    let mut bytes = Vec::new();
    let read = open_file(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes));
    read.map_err(|error| fail(RunProblem::Read(error)))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(fail(RunProblem::Read(io::Error::other(format!("it is longer than {FILE_LIMIT} bytes")))));
    }
    if let Some(expected) = expected {
        let found = blake3::hash(&bytes);
        if found != expected {
            return Err(fail(RunProblem::Hash(found)));
        }
    }
    let mut rows = FileRows { bytes: bytes.len() as u64, ..FileRows::default() };
    let (mut line, mut rest, mut number) = (Line::default(), &bytes[..], 0);
    let mut positions = tokens.output_positions();
    let mut form = Vec::new();
    while !rest.is_empty() {
        number += 1;
        let fail = |problem| RunError::on_line(path, number, problem);
        let (length, read) = read_line(rest, Wanted::Features, &mut line);
        read.map_err(|fault| match fault {
            Fault::Cut => fail(RunProblem::Json("it is cut off".into())),
            Fault::Broken(what) => fail(RunProblem::Json(what)),
        })?;
        check_row(line.nnz, &line.ids, &line.vals, Some(d_sae.min(FEATURE_LIMIT))).map_err(fail)?;
        let position = positions.next().filter(|position| *position == line.position as usize);
        let position = position.ok_or_else(|| fail(RunProblem::Positions))?;
        if expected.is_none() {
            form.clear();
            let row = OutputRow { position, text: &tokens.strs[position], ids: &line.ids, vals: &line.vals };
            write_row(&row, &mut form);
            if form != rest[..length] {
                return Err(fail(RunProblem::Form));
            }
        }
        rows.positions.push(line.position);
        rows.ids.append(&mut line.ids);
        rows.vals.append(&mut line.vals);
        rows.ends.push(rows.ids.len());
        rest = &rest[length..];
    }
    match positions.next() {
        None => Ok(rows),
        Some(_) => {
            let expected = tokens.output_positions().count();
            Err(fail(RunProblem::RowCount { expected, found: rows.len() }))
        }
    }
}

/// Counts all rows of a run from its files, each of which must have the hash that the ledger has of it. `stop` is asked
/// now and then whether to leave it: then there is no tally.
///
/// # Errors
/// The first file that is not what was written.
pub fn tally_files(
    run: &Path,
    saes: &[SaeInfo],
    tokens: &[Tokens],
    ledger: &Ledger,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Tally>, RunError> {
    let of_layer = |sae: &SaeInfo| {
        let mut tally = Tally::new(std::slice::from_ref(sae));
        for (sentence, tokens) in tokens.iter().enumerate() {
            if stop() {
                return Ok(None);
            }
            let path = rows_path(run, sae.layer, sentence);
            let rows = read_file(&path, tokens, sae.d_sae, ledger.hash(sae.layer, sentence))?;
            tally.add(sae.layer, sentence, rows.iter());
        }
        Ok(Some(tally))
    };
    let tallies = saes.par_iter().map(of_layer).collect::<Result<Vec<_>, RunError>>()?;
    Ok(tallies.into_iter().try_fold(Tally::default(), |mut all, tally| {
        all.join(tally?);
        Some(all)
    }))
}
