//! The few active features of many rows, in compressed sparse row form.

/// Sparse rows of a dictionary of `d_sae` features. In every row the values are finite and positive and stand in
/// descending order, equal ones by ascending id; the constructor checks it.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows {
    d_sae: usize,
    /// Row `r` is `ptr[r]..ptr[r + 1]` of the two below.
    ptr: Vec<usize>,
    ids: Vec<u32>,
    vals: Vec<f32>,
}

/// What is wrong with rows that are not in canonical form.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SparseError {
    /// Offsets that do not start at 0, fall, or do not end at the number of entries.
    #[error("row offsets do not cover the {entries} entries in order")]
    Offsets {
        /// Number of ids.
        entries: usize,
    },
    /// As many values as ids are needed.
    #[error("{ids} feature ids but {vals} values")]
    Lengths {
        /// Number of ids.
        ids: usize,
        /// Number of values.
        vals: usize,
    },
    /// A feature that the dictionary does not have.
    #[error("row {row}: feature {id} is outside a dictionary of {d_sae}")]
    Id {
        /// Row index.
        row: usize,
        /// The id.
        id: u32,
        /// Size of the dictionary.
        d_sae: usize,
    },
    /// A value that is not finite and positive.
    #[error("row {row}: feature {id} has the value {value}, which is not finite and positive")]
    Value {
        /// Row index.
        row: usize,
        /// The id.
        id: u32,
        /// The value.
        value: f32,
    },
    /// Entries not by (value descending, id ascending), or an id twice.
    #[error("row {row}: features are not in descending order of value (ties by ascending id)")]
    Order {
        /// Row index.
        row: usize,
    },
}

impl SparseRows {
    /// Checks and takes rows that are already in canonical order.
    pub fn new(d_sae: usize, ptr: Vec<usize>, ids: Vec<u32>, vals: Vec<f32>) -> Result<Self, SparseError> {
        if ids.len() != vals.len() {
            return Err(SparseError::Lengths { ids: ids.len(), vals: vals.len() });
        }
        let covered = ptr.first() == Some(&0) && ptr.last() == Some(&ids.len()) && ptr.is_sorted();
        if !covered {
            return Err(SparseError::Offsets { entries: ids.len() });
        }
        let rows = SparseRows { d_sae, ptr, ids, vals };
        let mut seen = Vec::new();
        for (row, (ids, vals)) in rows.iter().enumerate() {
            for (&id, &value) in ids.iter().zip(vals) {
                if id as usize >= d_sae {
                    return Err(SparseError::Id { row, id, d_sae });
                }
                if !(value.is_finite() && value > 0.0) {
                    return Err(SparseError::Value { row, id, value });
                }
            }
            let ordered =
                (1..ids.len()).all(|i| vals[i - 1] > vals[i] || (vals[i - 1] == vals[i] && ids[i - 1] < ids[i]));
            seen.clear();
            seen.extend_from_slice(ids);
            seen.sort_unstable();
            if !ordered || seen.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(SparseError::Order { row });
            }
        }
        Ok(rows)
    }

    /// Puts the entries of every row in canonical order, then checks them.
    pub fn from_unsorted(d_sae: usize, rows: impl IntoIterator<Item = Vec<(u32, f32)>>) -> Result<Self, SparseError> {
        let (mut ptr, mut ids, mut vals) = (vec![0], Vec::new(), Vec::new());
        for mut row in rows {
            row.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            ids.extend(row.iter().map(|entry| entry.0));
            vals.extend(row.iter().map(|entry| entry.1));
            ptr.push(ids.len());
        }
        SparseRows::new(d_sae, ptr, ids, vals)
    }

    /// Size of the dictionary.
    pub fn d_sae(&self) -> usize {
        self.d_sae
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ptr.len() - 1
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of active features over all rows.
    pub fn nnz(&self) -> usize {
        self.ids.len()
    }

    /// Ids and values of one row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.ptr[row]..self.ptr[row + 1];
        (&self.ids[range.clone()], &self.vals[range])
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u32], &[f32])> + '_ {
        (0..self.len()).map(|row| self.row(row))
    }

    /// A copy of the rows `range`.
    pub fn slice(&self, range: std::ops::Range<usize>) -> SparseRows {
        let entries = self.ptr[range.start]..self.ptr[range.end];
        SparseRows {
            d_sae: self.d_sae,
            ptr: self.ptr[range.start..=range.end].iter().map(|p| p - entries.start).collect(),
            ids: self.ids[entries.clone()].to_vec(),
            vals: self.vals[entries].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_put_in_order_and_sliced() {
        let rows = SparseRows::from_unsorted(9, [vec![(7, 1.0), (3, 2.0), (2, 1.0)], vec![], vec![(0, 0.5)]]).unwrap();
        assert_eq!(rows.row(0), (&[3, 2, 7][..], &[2.0, 1.0, 1.0][..]));
        assert_eq!((rows.len(), rows.nnz()), (3, 4));
        let tail = rows.slice(1..3);
        assert_eq!(tail.row(0), (&[][..], &[][..]));
        assert_eq!(tail.row(1), (&[0][..], &[0.5][..]));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let new = |ptr: &[usize], ids: &[u32], vals: &[f32]| SparseRows::new(4, ptr.into(), ids.into(), vals.into());
        assert!(matches!(new(&[0, 1], &[4], &[1.0]), Err(SparseError::Id { .. })));
        for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(matches!(new(&[0, 1], &[3], &[value]), Err(SparseError::Value { .. })), "{value}");
        }
        assert_eq!(new(&[0, 2], &[0, 1], &[1.0, 2.0]), Err(SparseError::Order { row: 0 }));
        assert_eq!(new(&[0, 2], &[1, 0], &[1.0, 1.0]), Err(SparseError::Order { row: 0 }));
        assert_eq!(new(&[0, 2], &[1, 1], &[2.0, 1.0]), Err(SparseError::Order { row: 0 }));
        assert!(matches!(new(&[0, 2], &[1], &[1.0]), Err(SparseError::Offsets { .. })));
        assert!(matches!(new(&[], &[], &[]), Err(SparseError::Offsets { .. })));
        assert!(matches!(new(&[0, 1], &[1], &[]), Err(SparseError::Lengths { .. })));
    }
}
