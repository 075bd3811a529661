//! One file of rows, brought into the form of the index: what is wrong is told, the rest is kept.

use std::io;
use std::path::Path;

use super::gather::read_rows_file;
use super::health::{FindingKind, Findings};
use super::parse::{Fault, Line, Wanted, read_line};
use super::rows::Block;
use crate::run::{layer_name, sentence_name};

/// Largest dictionary, in features: thirty times the widest published for models of this size.
pub(super) const FEATURE_LIMIT: usize = 1 << 22;

/// Where a file belongs and what its rows have to fit.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub run: &'a Path,
    pub layer: usize,
    pub sentence: usize,
    /// Ids are below this.
    pub d_sae: usize,
    /// Positions of the tokens that have a row, ascending.
    pub positions: &'a [u32],
}

/// What a thread keeps from file to file.
#[derive(Default)]
pub(super) struct Scratch {
    line: Line,
    pairs: Vec<(u32, f32)>,
    /// By feature, the last row that it was seen in.
    last_row: Vec<u32>,
    row: u32,
}

/// The rows of a file, and what was found in it.
#[derive(Default)]
pub(super) struct Cleaned {
    /// None if the file is not there or cannot be read.
    pub block: Option<Block>,
    pub findings: Findings,
}

/// Reads a file.
pub(super) fn read(place: Place<'_>, scratch: &mut Scratch) -> Cleaned {
    let Place { run, layer, sentence, .. } = place;
    let name = || format!("{}/{}", layer_name(layer), sentence_name(sentence));
    let mut cleaned = Cleaned::default();
    let bytes = match read_rows_file(&run.join(layer_name(layer)).join(sentence_name(sentence))) {
        Ok(bytes) => bytes,
        Err(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let kind = if missing { FindingKind::MissingFile } else { FindingKind::UnreadableFile };
            if !(missing && place.positions.is_empty()) {
                let what = if missing { String::new() } else { error.to_string() };
                cleaned.findings.add(kind, Some(layer), &name(), None, what);
            }
            return cleaned;
        }
    };
    let mut block = Block::begin(place.positions.len());
    let findings = &mut cleaned.findings;
    let (mut rest, mut number) = (bytes.as_slice(), 0);
    // The next token whose row is awaited.
    let mut next = 0;
    let mut missing = Vec::new();
    while !rest.is_empty() {
        number += 1;
        let mut add = |kind, what| findings.add(kind, Some(layer), &name(), Some(number), what);
        let (length, result) = read_line(rest, Wanted::Features, &mut scratch.line);
        rest = &rest[length..];
        match result {
            Err(Fault::Cut) => add(FindingKind::CutLine, String::new()),
            Err(Fault::Broken(what)) => add(FindingKind::BrokenLine, what),
            Ok(()) => {
                let position = scratch.line.position;
                // Nearly always it is the next one.
                let nth = match place.positions.get(next) {
                    Some(&awaited) if awaited == position => Ok(next),
                    _ => place.positions.binary_search(&position),
                };
                match nth {
                    Ok(nth) if nth >= next => {
                        missing.extend_from_slice(&place.positions[next..nth]);
                        block.end_before(nth);
                        features(place.d_sae, scratch, &mut block, &mut add);
                        block.end_row(nth);
                        next = nth + 1;
                    }
                    Ok(_) => {
                        add(FindingKind::Position, format!("token_pos {position} is not greater than the one before"))
                    }
                    Err(_) => add(FindingKind::Position, format!("token_pos {position}")),
                }
            }
        }
    }
    missing.extend_from_slice(&place.positions[next..]);
    block.end_before(place.positions.len());
    for position in missing {
        findings.add(FindingKind::MissingRow, Some(layer), &name(), None, format!("token_pos {position}"));
    }
    cleaned.block = Some(block);
    cleaned
}

/// Appends the features of the line in hand, in canonical order.
fn features(d_sae: usize, scratch: &mut Scratch, block: &mut Block, add: &mut impl FnMut(FindingKind, String)) {
    let Scratch { line, pairs, last_row, row } = scratch;
    let Line { nnz, ids, vals, .. } = line;
    if ids.len() != vals.len() || ids.len() as u64 != *nnz {
        add(FindingKind::Lengths, format!("nnz {nnz}, {} feat_ids, {} feat_vals", ids.len(), vals.len()));
        let shorter = ids.len().min(vals.len());
        ids.truncate(shorter);
        vals.truncate(shorter);
    }
    let known = ids.iter().all(|&id| (id as usize) < d_sae);
    let active = |value: &f32| value.is_finite() && *value > 0.0;
    if known && vals.iter().all(active) && canonical(ids, vals) && distinct(ids, last_row, row) {
        block.ids.extend_from_slice(ids);
        block.vals.extend_from_slice(vals);
        return;
    }
    pairs.clear();
    for (&id, &value) in ids.iter().zip(vals.iter()) {
        if !active(&value) {
            add(FindingKind::Value, format!("feature {id} has the value {value}"));
        } else if id as usize >= d_sae {
            add(FindingKind::Id, format!("feature {id} of {d_sae}"));
        } else {
            pairs.push((id, value));
        }
    }
    if !pairs.is_sorted_by(|a, b| a.1 >= b.1) {
        add(FindingKind::Order, String::new());
    }
    pairs.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let row = next_row(last_row, row);
    for &(id, value) in pairs.iter() {
        if replace(last_row, id, row) == row {
            add(FindingKind::Duplicate, format!("feature {id}"));
        } else {
            block.ids.push(id);
            block.vals.push(value);
        }
    }
}

/// Whether values fall, and ids rise where they are equal.
fn canonical(ids: &[u32], vals: &[f32]) -> bool {
    (1..ids.len()).all(|at| vals[at - 1] > vals[at] || (vals[at - 1] == vals[at] && ids[at - 1] < ids[at]))
}

/// Whether no id stands there twice.
fn distinct(ids: &[u32], last_row: &mut Vec<u32>, row: &mut u32) -> bool {
    let row = next_row(last_row, row);
    ids.iter().all(|&id| replace(last_row, id, row) != row)
}

/// A number that no feature was seen with.
fn next_row(last_row: &mut [u32], row: &mut u32) -> u32 {
    *row = row.checked_add(1).unwrap_or_else(|| {
        last_row.fill(0);
        1
    });
    *row
}

/// Notes that a feature was seen in a row; tells where it was seen before.
fn replace(last_row: &mut Vec<u32>, id: u32, row: u32) -> u32 {
    let id = id as usize;
    if id >= last_row.len() {
        last_row.resize(id + 1, 0);
    }
    std::mem::replace(&mut last_row[id], row)
}
