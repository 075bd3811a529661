//! Sparse encoding: pre-activations are computed a block at a time and only the active ones are kept, so that no
//! `[n, d_sae]` array ever exists.

#![allow(unsafe_code)] // what `vectorized` expands to

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{self, Block, TaskSize};
use super::kernel::vectorized;
use super::packed::Packed;
use super::tiles::{F32Tiles, Tiles};
use super::{Kernel, Precision};
use crate::{EncoderSpec, Rows, Select, Sparse, Tensor};

/// Rows that a thread puts in order at least.
const SORTED_ROWS: usize = 16;

/// An active feature of a row.
#[derive(Clone, Copy)]
pub(super) struct Active {
    pub row: u32,
    pub id: u32,
    pub value: f32,
}

/// The canonical order inside a row.
fn by_value_then_id(a: &Active, b: &Active) -> std::cmp::Ordering {
    b.value.total_cmp(&a.value).then(a.id.cmp(&b.id))
}

/// Blocks that one thread takes one after the other. For a choice of the largest these are all features of some rows, so
/// that what is surely not among them can be dropped on the way; otherwise a block is a task.
pub(super) fn tasks<T: Tiles>(
    tiles: T,
    x_rows: usize,
    w_rows: usize,
    select: &Select<'_>,
) -> Vec<(Range<usize>, Vec<Block>)> {
    let one_task = matches!(select, Select::TopK(_));
    // A task takes all of the weights if one task's choice is to be made of all.
    let size = TaskSize::new(tiles, x_rows, std::iter::once(if one_task { 1 } else { w_rows }), 1);
    let mut tasks: Vec<(Range<usize>, Vec<Block>)> = Vec::new();
    for block in size.blocks(x_rows, w_rows) {
        match tasks.last_mut() {
            Some((rows, blocks)) if one_task && rows.start == block.t0 => blocks.push(block),
            _ => tasks.push((block.t0..block.t0 + block.t, vec![block])),
        }
    }
    tasks
}

/// The plain way: every pre-activation in f32.
pub(super) fn dense(kernel: Kernel, x: &Rows, w: &Tensor, spec: &EncoderSpec<'_>) -> Sparse {
    assert_eq!(x.d(), w.n_cols(), "{w:?} does not fit rows of {}", x.d());
    assert_eq!(spec.bias.len(), w.n_rows());
    let packed = Packed::new(F32Tiles { kernel, precision: Precision::F32 }, x, None);
    let found: Vec<Vec<Active>> = tasks(packed.tiles, x.n(), w.n_rows(), &spec.select)
        .into_par_iter()
        .with_max_len(1)
        .map(|(rows, blocks)| {
            let mut kept = Kept::new(rows, spec.select);
            F32Tiles::with_scratch(|scratch| {
                for block in blocks {
                    gemm::multiply(&packed, [w], block, scratch, |row, [dots]| {
                        kept.take(kernel, row, block.n0, dots, spec);
                    });
                    kept.forget_if_many(spec.select);
                }
            });
            kept.active
        })
        .collect();
    Sparse { candidates: x.n() * w.n_rows(), ..gather(x.n(), &found, spec) }
}

/// What a task has found so far.
struct Kept {
    rows: Range<usize>,
    active: Vec<Active>,
    /// By row, what a value must reach to matter: for the `k` largest, the least of `k` that are known.
    floors: Vec<f32>,
    /// Length of `active` from which on it is gone through for what no longer matters.
    limit: usize,
}

impl Kept {
    fn new(rows: Range<usize>, select: Select<'_>) -> Self {
        let floors = vec![0.0; rows.len()];
        let mut kept = Kept { floors, rows, active: Vec::new(), limit: usize::MAX };
        if let Select::TopK(k) = select {
            kept.limit = kept.enough(k);
        }
        kept
    }

    fn enough(&self, k: usize) -> usize {
        k.saturating_add(16).saturating_mul(2 * self.rows.len())
    }

    /// Dot products of a row with the features from `n0` on; they become values.
    fn take(&mut self, kernel: Kernel, row: usize, n0: usize, dots: &mut [f32], spec: &EncoderSpec<'_>) {
        let features = n0..n0 + dots.len();
        let gain = spec.gain.map(|gain| &gain[features.clone()]);
        let thresholds =
            if let Select::Above(thresholds) = spec.select { Some(&thresholds[features.clone()]) } else { None };
        let floor = self.floors[row - self.rows.start];
        values_of(kernel, dots, spec.scale, &spec.bias[features], gain);
        for (some, values) in dots.chunks(LOOKED_AT).enumerate() {
            let at = some * LOOKED_AT;
            let mut active = 0;
            active_among(kernel, values, thresholds.map(|all| &all[at..][..values.len()]), floor, &mut active);
            for i in ones(active) {
                self.active.push(Active { row: row as u32, id: (n0 + at + i) as u32, value: values[i] });
            }
        }
    }

    fn forget_if_many(&mut self, select: Select<'_>) {
        if let Select::TopK(k) = select
            && self.active.len() > self.limit
        {
            self.forget(k);
        }
    }

    /// Drops what is not among the `k` largest of its row.
    fn forget(&mut self, k: usize) {
        let (mut by_row, starts) = by_row(self.rows.clone(), [&self.active[..]].into_iter());
        self.active.clear();
        for (row, floor) in self.floors.iter_mut().enumerate() {
            let row = &mut by_row[starts[row]..starts[row + 1]];
            if k > 0 && row.len() >= k {
                *floor = row.select_nth_unstable_by(k - 1, by_value_then_id).1.value;
            }
            self.active.extend_from_slice(&row[..row.len().min(k)]);
        }
        self.limit = self.active.len().saturating_add(self.enough(k) / 2);
    }
}

/// Features that are looked at together, a bit for each: two vectors of the widest.
pub(super) const LOOKED_AT: usize = 32;

/// Which bits are set, ascending.
pub(super) fn ones(bits: u32) -> impl Iterator<Item = usize> {
    let rest = |bits: &u32| Some(bits & (bits - 1)).filter(|rest| *rest != 0);
    std::iter::successors(Some(bits).filter(|bits| *bits != 0), rest).map(|bits| bits.trailing_zeros() as usize)
}

vectorized! {
    /// Dot products of one row with some features to its values, in place.
    fn values_of(values: &mut [f32], scale: f32, bias: &[f32], gain: Option<&[f32]>) {
        for (value, bias) in values.iter_mut().zip(bias) {
            *value = scale.mul_add(*value, *bias);
        }
        if let Some(gain) = gain {
            values.iter_mut().zip(gain).for_each(|(value, gain)| *value *= *gain);
        }
    }
}

vectorized! {
    /// Which of up to 32 values are positive, above their thresholds and not below a floor.
    fn active_among(values: &[f32], thresholds: Option<&[f32]>, floor: f32, bits: &mut u32) {
        let mut padded = [[0f32; LOOKED_AT]; 2];
        padded[0][..values.len()].copy_from_slice(values);
        if let Some(thresholds) = thresholds {
            padded[1][..values.len()].copy_from_slice(thresholds);
        }
        let mut active = [0u32; LOOKED_AT];
        for j in 0..LOOKED_AT {
            let [value, threshold] = [padded[0][j], padded[1][j]];
            let yes = (value > threshold) & (value > 0.0) & (value >= floor);
            active[j] = if yes { 1 << j } else { 0 };
        }
        *bits = active.iter().fold(0, |all, bit| all | bit);
    }
}

/// Brings the blocks' entries together by row, in canonical order.
pub(super) fn gather(n: usize, blocks: &[Vec<Active>], spec: &EncoderSpec<'_>) -> Sparse {
    let (mut entries, starts) = by_row(0..n, blocks.iter().map(Vec::as_slice));
    let keep = if let Select::TopK(k) = spec.select { k } else { usize::MAX };
    let mut rows = Vec::with_capacity(n);
    let mut rest = &mut entries[..];
    for row in starts.windows(2) {
        let (first, others) = rest.split_at_mut(row[1] - row[0]);
        rows.push(first);
        rest = others;
    }
    rows.par_iter_mut().with_min_len(SORTED_ROWS).for_each(|row| {
        if keep < row.len() {
            row.select_nth_unstable_by(keep, by_value_then_id);
            *row = &mut std::mem::take(row)[..keep];
        }
        row.sort_unstable_by(by_value_then_id);
    });
    let mut sparse = Sparse { ptr: vec![0], ..Sparse::default() };
    for row in rows {
        sparse.ids.extend(row.iter().map(|active| active.id));
        sparse.vals.extend(row.iter().map(|active| active.value));
        sparse.ptr.push(sparse.ids.len());
    }
    sparse
}

/// Entries of some rows, a row's beside each other, and where each row's begin and end.
fn by_row<'a>(rows: Range<usize>, blocks: impl Iterator<Item = &'a [Active]> + Clone) -> (Vec<Active>, Vec<usize>) {
    let mut starts = vec![0usize; rows.len() + 1];
    for active in blocks.clone().flatten() {
        starts[active.row as usize - rows.start + 1] += 1;
    }
    for row in 0..rows.len() {
        starts[row + 1] += starts[row];
    }
    let mut entries = vec![Active { row: 0, id: 0, value: 0.0 }; starts[rows.len()]];
    let mut next = starts.clone();
    for active in blocks.flatten() {
        let at = &mut next[active.row as usize - rows.start];
        entries[*at] = *active;
        *at += 1;
    }
    (entries, starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let number = |i: u32| ((i ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        (0..n as u32).map(number).collect()
    }

    #[test]
    fn it_keeps_what_a_dense_computation_would() {
        let (n, d, d_sae) = (37, 24, 250);
        let x = Rows::from_vec(n, d, numbers(n * d, 1));
        let w = Tensor::from_f32("w", vec![d_sae, d], &numbers(d_sae * d, 2));
        let (bias, gain) = (numbers(d_sae, 3), numbers(d_sae, 4).iter().map(|g| g.abs() + 0.5).collect::<Vec<_>>());
        let thresholds: Vec<f32> = numbers(d_sae, 5).iter().map(|t| 3.0 * t).collect();
        let tiles = F32Tiles { kernel: Kernel::Portable, precision: Precision::F32 };
        let [dots] = gemm::linear(&Packed::new(tiles, &x, None), [&w]);
        for select in
            [Select::Above(&thresholds), Select::Positive, Select::TopK(1), Select::TopK(7), Select::TopK(200)]
        {
            for gain in [None, Some(&gain[..])] {
                let spec = EncoderSpec { scale: 1.7, bias: &bias, gain, select };
                let found: Vec<Sparse> = Kernel::available().map(|kernel| dense(kernel, &x, &w, &spec)).collect();
                assert!(found.iter().all(|sparse| *sparse == found[0]));
                for row in 0..n {
                    let value = |j: usize| 1.7f32.mul_add(dots.row(row)[j], bias[j]) * gain.map_or(1.0, |gain| gain[j]);
                    let mut expected: Vec<(u32, f32)> = (0..d_sae)
                        .map(|j| (j as u32, value(j)))
                        .filter(|(j, v)| *v > 0.0 && !matches!(select, Select::Above(t) if *v <= t[*j as usize]))
                        .collect();
                    expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                    if let Select::TopK(k) = select {
                        expected.truncate(k);
                    }
                    let range = found[0].ptr[row]..found[0].ptr[row + 1];
                    let got: Vec<(u32, f32)> =
                        found[0].ids[range.clone()].iter().copied().zip(found[0].vals[range].iter().copied()).collect();
                    assert_eq!(got, expected);
                }
            }
        }
    }

    #[test]
    fn no_rows_have_no_features() {
        let (x, w) = (Rows::zeros(0, 3), Tensor::from_f32("w", vec![300, 3], &numbers(900, 1)));
        for select in [Select::Positive, Select::TopK(4)] {
            let spec = EncoderSpec { scale: 1.0, bias: &[0.0; 300], gain: None, select };
            assert_eq!(dense(Kernel::detect(), &x, &w, &spec), Sparse { ptr: vec![0], ..Sparse::default() });
        }
    }

    #[test]
    fn ties_at_the_edge_of_top_k_go_to_the_smaller_id() {
        let x = Rows::from_vec(1, 1, vec![1.0]);
        let mut w = vec![1.0f32; 300];
        (w[250], w[10]) = (2.0, 0.5);
        let w = Tensor::from_f32("w", vec![300, 1], &w);
        let spec = EncoderSpec { scale: 1.0, bias: &[0.0; 300], gain: None, select: Select::TopK(4) };
        assert_eq!(dense(Kernel::detect(), &x, &w, &spec).ids, [250, 0, 1, 2]);
    }
}
