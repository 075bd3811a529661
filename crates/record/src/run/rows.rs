//! The rows of a sentence and their lines, written and read.

use std::path::Path;

use serde::Deserialize;

use super::error::{RunError, RunProblem};
use crate::{SparseRows, Tokens};

/// One output row: a token that is not BOS and its active features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputRow<'a> {
    /// Position of the token in its sentence; BOS counts.
    pub position: usize,
    /// The token by itself.
    pub text: &'a str,
    /// Active features.
    pub ids: &'a [u32],
    /// Their values.
    pub vals: &'a [f32],
}

/// Joins a sentence's tokens with its rows: row `r` belongs to the `r`-th token that is not BOS.
///
/// # Errors
/// [`RunProblem::RowCount`] if there are more or fewer rows than such tokens.
pub fn output_rows<'a>(
    tokens: &'a Tokens,
    rows: &'a SparseRows,
) -> Result<impl Iterator<Item = OutputRow<'a>> + 'a, RunProblem> {
    let expected = tokens.output_positions().count();
    if expected != rows.len() {
        return Err(RunProblem::RowCount { expected, found: rows.len() });
    }
    let row = |(position, (ids, vals))| OutputRow { position, text: &tokens.strs[position], ids, vals };
    Ok(tokens.output_positions().zip(rows.iter()).map(row))
}

/// Appends the row's line.
pub(super) fn write_row(row: &OutputRow<'_>, out: &mut Vec<u8>) {
    let mut integer = itoa::Buffer::new();
    let mut float = zmij::Buffer::new();
    out.extend_from_slice(b"{\"token_pos\": ");
    out.extend_from_slice(integer.format(row.position).as_bytes());
    out.extend_from_slice(b", \"token_str\": ");
    serde_json::to_writer(&mut *out, row.text).expect("text into memory cannot fail");
    out.extend_from_slice(b", \"nnz\": ");
    out.extend_from_slice(integer.format(row.ids.len()).as_bytes());
    out.extend_from_slice(b", \"feat_ids\": [");
    write_list(row.ids, out, |&id, out| out.extend_from_slice(integer.format(id).as_bytes()));
    out.extend_from_slice(b"], \"feat_vals\": [");
    write_list(row.vals, out, |&value, out| out.extend_from_slice(float.format_finite(value).as_bytes()));
    out.extend_from_slice(b"]}\n");
}

fn write_list<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        write(item, out);
    }
}

/// One line of a rows file. Values are finite, positive and in descending order (equal ones in any), ids differ.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct TokenRow {
    /// Position of the token in its sentence, from 0; BOS counts.
    pub token_pos: u32,
    /// The token by itself.
    pub token_str: String,
    /// How many features are active.
    pub nnz: u32,
    /// Active features.
    pub feat_ids: Vec<u32>,
    /// Their values.
    pub feat_vals: Vec<f32>,
}

impl<'a> From<&'a TokenRow> for OutputRow<'a> {
    fn from(row: &'a TokenRow) -> Self {
        OutputRow { position: row.token_pos as usize, text: &row.token_str, ids: &row.feat_ids, vals: &row.feat_vals }
    }
}

impl TokenRow {
    /// Checks what the type promises, and the ids against the dictionary's size where that is known.
    fn check(&self, d_sae: Option<usize>) -> Result<(), RunProblem> {
        check_row(self.nnz.into(), &self.feat_ids, &self.feat_vals, d_sae)
    }
}

/// Checks what a [`TokenRow`] promises of its features, and the ids against the dictionary's size where that is known.
pub(super) fn check_row(nnz: u64, ids: &[u32], vals: &[f32], d_sae: Option<usize>) -> Result<(), RunProblem> {
    if ids.len() != vals.len() || ids.len() as u64 != nnz {
        return Err(RunProblem::Lengths { nnz, ids: ids.len(), vals: vals.len() });
    }
    let finite_positive = |value: f32| value.is_finite() && value > 0.0;
    if let Some((&id, &value)) = ids.iter().zip(vals).find(|(_, value)| !finite_positive(**value)) {
        return Err(RunProblem::Value { id, value });
    }
    if !vals.is_sorted_by(|a, b| a >= b) {
        return Err(RunProblem::Order);
    }
    let d_sae = d_sae.unwrap_or(usize::MAX);
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= d_sae) {
        return Err(RunProblem::Id { id, d_sae });
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(RunProblem::Duplicate(pair[0])),
        None => Ok(()),
    }
}

/// Reads a rows file; `d_sae` is the size of the layer's dictionary where it is known.
pub(super) fn read_rows(path: &Path, d_sae: Option<usize>) -> Result<Vec<TokenRow>, RunError> {
    let mut previous = None;
    super::reader::read_lines(path, |row: TokenRow| {
        row.check(d_sae)?;
        let position = row.token_pos;
        match previous.replace(position) {
            Some(previous) if previous >= position => Err(RunProblem::Position { position, previous }),
            _ => Ok(row),
        }
    })
}
