//! Other rows in the place of those at a site.

use llamascope_compute::Rows;

use super::RowSet;

/// What stands in the place of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The reconstruction by the subject of this number.
    Sae(usize),
    /// The mean of the typical rows.
    Mean,
    /// Zeros.
    Zero,
}

impl Kind {
    /// Whether it says something of the subject of this number: ablations do of all at their site.
    pub(super) fn is_of(self, subject: usize) -> bool {
        match self {
            Kind::Sae(number) => number == subject,
            Kind::Mean | Kind::Zero => true,
        }
    }
}

/// A run of a chunk with other rows at one site.
pub(super) struct Variant {
    /// Which site, among the taps.
    pub tap: usize,
    /// What stands there.
    pub kind: Kind,
    /// In which set of rows.
    pub set: usize,
    /// The residual stream as far as it has come.
    pub rows: Rows,
}

/// Which rows of a chunk belong to each set.
pub(super) struct Sets([Vec<bool>; RowSet::COUNT]);

impl Sets {
    pub(super) fn new(bos: &[bool], norms: &[f64], massive: f64) -> Sets {
        Sets(RowSet::ALL.map(|set| bos.iter().zip(norms).map(|(bos, norm)| set.has(*bos, *norm, massive)).collect()))
    }

    pub(super) fn mask(&self, set: usize) -> &[bool] {
        &self.0[set]
    }

    /// The first set with the same rows of this chunk: what is computed for one holds for the other.
    pub(super) fn same_as(&self, set: usize) -> usize {
        (0..set).find(|earlier| self.0[*earlier] == self.0[set]).unwrap_or(set)
    }

    /// One of each group of sets with the same rows.
    pub(super) fn distinct(&self) -> impl Iterator<Item = usize> {
        (0..RowSet::COUNT).filter(|set| self.same_as(*set) == *set)
    }
}

/// `rows` with those of the mask replaced.
pub(super) fn replaced(rows: &Rows, by: &Rows, mask: &[bool]) -> Rows {
    let mut out = rows.clone();
    let d = rows.d();
    for (row, line) in out.data_mut().chunks_exact_mut(d).enumerate() {
        if mask[row] {
            line.copy_from_slice(by.row(row));
        }
    }
    out
}

/// `n` times the same row.
pub(super) fn repeated(row: &[f32], n: usize) -> Rows {
    Rows::from_vec(n, row.len(), row.repeat(n))
}
