//! Sparse encoding: pre-activations are computed a block at a time and only the active ones are kept, so that no
//! `[n, d_sae]` array ever exists.

#![allow(unsafe_code)] // what `vectorized` expands to

use rayon::prelude::*;

use super::gemm::{self, Packed};
use super::kernel::vectorized;
use super::tiles::F32Tiles;
use super::{Kernel, Precision};
use crate::{EncoderSpec, Rows, Select, Sparse, Tensor};

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

/// The plain way: every pre-activation in f32.
pub(super) fn dense(kernel: Kernel, x: &Rows, w: &Tensor, spec: &EncoderSpec<'_>) -> Sparse {
    assert_eq!(x.d(), w.n_cols(), "{w:?} does not fit rows of {}", x.d());
    assert_eq!(spec.bias.len(), w.n_rows());
    let packed = Packed::new(F32Tiles { kernel, precision: Precision::F32 }, x, None);
    let blocks: Vec<Vec<Active>> = gemm::blocks(x.n(), w.n_rows())
        .map_init(Vec::new, |dots, block| {
            gemm::multiply(&packed, w, block, dots);
            let mut active = Vec::new();
            for (row, dots) in dots.chunks_exact_mut(block.n).enumerate() {
                values(kernel, dots, block.n0, spec);
                let start = active.len();
                collect(dots, block.t0 + row, block.n0, spec, &mut active);
                if let Select::TopK(k) = spec.select {
                    // More than k of one block can never be among the k of the row.
                    keep_top(&mut active, start, k);
                }
            }
            active
        })
        .collect();
    Sparse { candidates: x.n() * w.n_rows(), ..gather(x.n(), &blocks, spec) }
}

vectorized! {
    /// Dot products to values, in place.
    fn values(dots: &mut [f32], n0: usize, spec: &EncoderSpec<'_>) {
        for (dot, bias) in dots.iter_mut().zip(&spec.bias[n0..]) {
            *dot = spec.scale.mul_add(*dot, *bias);
        }
        if let Some(gain) = spec.gain {
            for (h, gain) in dots.iter_mut().zip(&gain[n0..]) {
                *h *= *gain;
            }
        }
    }
}

fn collect(values: &[f32], row: usize, n0: usize, spec: &EncoderSpec<'_>, active: &mut Vec<Active>) {
    let entry = |i: usize, value: f32| Active { row: row as u32, id: (n0 + i) as u32, value };
    match spec.select {
        Select::Above(threshold) => {
            let thresholds = &threshold[n0..][..values.len()];
            for (i, (&value, &threshold)) in values.iter().zip(thresholds).enumerate() {
                if value > threshold && value > 0.0 {
                    active.push(entry(i, value));
                }
            }
        }
        Select::Positive | Select::TopK(_) => {
            for (i, &value) in values.iter().enumerate() {
                if value > 0.0 {
                    active.push(entry(i, value));
                }
            }
        }
    }
}

fn keep_top(active: &mut Vec<Active>, start: usize, k: usize) {
    if active.len() - start > k {
        active[start..].sort_unstable_by(by_value_then_id);
        active.truncate(start + k);
    }
}

/// Brings the blocks' entries together by row, in canonical order.
pub(super) fn gather(n: usize, blocks: &[Vec<Active>], spec: &EncoderSpec<'_>) -> Sparse {
    let mut starts = vec![0usize; n + 1];
    for active in blocks.iter().flatten() {
        starts[active.row as usize + 1] += 1;
    }
    for row in 0..n {
        starts[row + 1] += starts[row];
    }
    let mut rows = vec![Active { row: 0, id: 0, value: 0.0 }; starts[n]];
    let mut next = starts.clone();
    for active in blocks.iter().flatten() {
        let at = &mut next[active.row as usize];
        rows[*at] = *active;
        *at += 1;
    }
    let keep = if let Select::TopK(k) = spec.select { k } else { usize::MAX };
    let mut sparse = Sparse { ptr: vec![0], ..Sparse::default() };
    for row in 0..n {
        let row = &mut rows[starts[row]..starts[row + 1]];
        row.sort_unstable_by(by_value_then_id);
        let kept = &row[..row.len().min(keep)];
        sparse.ids.extend(kept.iter().map(|active| active.id));
        sparse.vals.extend(kept.iter().map(|active| active.value));
        sparse.ptr.push(sparse.ids.len());
    }
    sparse
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
        let dots = gemm::linear(&Packed::new(tiles, &x, None), &w);
        for select in [Select::Above(&thresholds), Select::Positive, Select::TopK(7), Select::TopK(200)] {
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
    fn ties_at_the_edge_of_top_k_go_to_the_smaller_id() {
        let x = Rows::from_vec(1, 1, vec![1.0]);
        let mut w = vec![1.0f32; 300];
        (w[250], w[10]) = (2.0, 0.5);
        let w = Tensor::from_f32("w", vec![300, 1], &w);
        let spec = EncoderSpec { scale: 1.0, bias: &[0.0; 300], gain: None, select: Select::TopK(4) };
        assert_eq!(dense(Kernel::detect(), &x, &w, &spec).ids, [250, 0, 1, 2]);
    }
}
