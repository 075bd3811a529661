//! Causal attention over ragged spans, a tile of queries at a time: `softmax(q . k^T / sqrt(head_dim)) . v`.
//!
//! Both products use the GEMM's tile kernel: keys packed in panels (`[panel][head_dim][width]`), values padded to whole
//! panels of dimensions. Scores of one tile of queries are all that is held; keys after the last query of the tile
//! are not touched, and those after a query inside it get the weight 0.

#![allow(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use super::elementwise::softmax;
use super::kernel::{Kernel, MAX_ROWS, MAX_WIDTH, View};
use crate::{Heads, Rows};

pub(super) fn causal(
    kernel: Kernel,
    q: &Rows,
    k: &Rows,
    v: &Rows,
    heads: Heads,
    spans: &[Range<usize>],
    out: &mut Rows,
) {
    let group = heads.n_heads / heads.n_kv_heads;
    assert_eq!((q.d(), k.d()), (heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim));
    let d = out.d();
    let shared = SharedOut(out.data_mut().as_mut_ptr());
    let shared = &shared;
    (0..spans.len() * heads.n_kv_heads).into_par_iter().for_each(|task| {
        let (span, kv) = (spans[task / heads.n_kv_heads].clone(), task % heads.n_kv_heads);
        let packed = Packed::new(kernel, k, v, &span, kv, heads.head_dim);
        for head in kv * group..(kv + 1) * group {
            packed.attend(kernel, q, &span, head, |row, part| {
                // SAFETY: each (row, head) belongs to one task alone and lies inside `out`, `[n, n_heads * head_dim]`.
                let at = unsafe { shared.0.add(row * d + head * heads.head_dim) };
                // SAFETY: as above; `part` holds `head_dim` numbers.
                unsafe { std::slice::from_raw_parts_mut(at, heads.head_dim) }.copy_from_slice(part);
            });
        }
    });
}

/// Keys and values of one head of one span.
struct Packed {
    len: usize,
    head_dim: usize,
    /// `[panel of keys][head_dim][width]`.
    keys: Vec<f32>,
    /// `[len][dims]`, the last panel of dimensions padded with zeros.
    values: Vec<f32>,
    dims: usize,
}

impl Packed {
    fn new(kernel: Kernel, k: &Rows, v: &Rows, span: &Range<usize>, kv: usize, head_dim: usize) -> Self {
        let (len, width) = (span.len(), kernel.width());
        let columns = kv * head_dim..(kv + 1) * head_dim;
        let dims = head_dim.next_multiple_of(width);
        let mut keys = vec![0.0; len.next_multiple_of(width) * head_dim];
        let mut values = vec![0.0; len * dims];
        for (at, row) in span.clone().enumerate() {
            let panel = &mut keys[at / width * width * head_dim + at % width..];
            for (x, key) in panel.iter_mut().step_by(width).zip(&k.row(row)[columns.clone()]) {
                *x = *key;
            }
            values[at * dims..][..head_dim].copy_from_slice(&v.row(row)[columns.clone()]);
        }
        Packed { len, head_dim, keys, values, dims }
    }

    /// Calls `put(row, out[head_dim])` for every row of the span.
    fn attend(&self, kernel: Kernel, q: &Rows, span: &Range<usize>, head: usize, mut put: impl FnMut(usize, &[f32])) {
        let (rows, width, head_dim) = (kernel.rows(), kernel.width(), self.head_dim);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let stride = self.len.next_multiple_of(width);
        let mut scores = vec![0f32; rows * stride];
        let mut queries = vec![0f32; rows * head_dim];
        let mut sums = vec![0f32; rows * self.dims];
        let mut tile = [0f32; MAX_ROWS * MAX_WIDTH];
        for first in (0..self.len).step_by(rows) {
            let count = rows.min(self.len - first);
            let seen = first + count;
            for (r, query) in queries.chunks_exact_mut(head_dim).take(count).enumerate() {
                query.copy_from_slice(&q.row(span.start + first + r)[head * head_dim..][..head_dim]);
            }
            for (panel, keys) in self.keys.chunks_exact(width * head_dim).take(seen.div_ceil(width)).enumerate() {
                let queries = View { data: &queries, stride: head_dim };
                kernel.tile(width, head_dim, View { data: keys, stride: width }, queries, &mut tile);
                for (r, tile) in tile.chunks_exact(width).take(count).enumerate() {
                    scores[r * stride + panel * width..][..width].copy_from_slice(tile);
                }
            }
            for (r, scores) in scores.chunks_exact_mut(stride).take(count).enumerate() {
                let (past, future) = scores.split_at_mut(first + r + 1);
                softmax(kernel, past, scale);
                future.fill(0.0);
            }
            for dim in (0..self.dims).step_by(width) {
                let values = View { data: &self.values[dim..], stride: self.dims };
                kernel.tile(width, seen, values, View { data: &scores, stride }, &mut tile);
                for (sums, tile) in sums.chunks_exact_mut(self.dims).zip(tile.chunks_exact(width)).take(count) {
                    sums[dim..dim + width].copy_from_slice(tile);
                }
            }
            for (r, sums) in sums.chunks_exact(self.dims).take(count).enumerate() {
                put(span.start + first + r, &sums[..head_dim]);
            }
        }
    }
}

/// A pointer that tasks may share because they write to places of their own.
struct SharedOut(*mut f32);

// SAFETY: only `causal` uses it, in the way that is said there.
unsafe impl Sync for SharedOut {}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize, d: usize, seed: u32) -> Rows {
        let number = |i: usize| ((i as u32 ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        Rows::from_vec(n, d, (0..n * d).map(number).collect())
    }

    /// The formula in f64.
    fn plain(q: &Rows, k: &Rows, v: &Rows, heads: Heads, spans: &[Range<usize>]) -> Vec<f64> {
        let (hd, group) = (heads.head_dim, heads.n_heads / heads.n_kv_heads);
        let mut out = vec![0f64; q.n() * q.d()];
        for span in spans {
            for (t, head) in span.clone().flat_map(|t| (0..heads.n_heads).map(move |h| (t, h))) {
                let kv = head / group * hd;
                let dot = |j: usize| -> f64 {
                    (0..hd).map(|i| q.row(t)[head * hd + i] as f64 * k.row(j)[kv + i] as f64).sum()
                };
                let scores: Vec<f64> = (span.start..=t).map(|j| dot(j) / (hd as f64).sqrt()).collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                for i in 0..hd {
                    let weighted =
                        scores.iter().zip(span.start..).map(|(s, j)| (s - max).exp() * v.row(j)[kv + i] as f64);
                    out[t * q.d() + head * hd + i] = weighted.sum::<f64>() / total;
                }
            }
        }
        out
    }

    #[test]
    fn it_follows_the_formula_and_all_kernels_agree_to_the_bit() {
        for (heads, hd) in [((4, 2), 20), ((3, 3), 64), ((2, 1), 6)] {
            let heads = Heads { n_heads: heads.0, n_kv_heads: heads.1, head_dim: hd };
            let spans = [0..1, 1..14, 14..15, 15..80];
            let q = rows(80, heads.n_heads * hd, 1);
            let (k, v) = (rows(80, heads.n_kv_heads * hd, 2), rows(80, heads.n_kv_heads * hd, 3));
            let expected = plain(&q, &k, &v, heads, &spans);
            let mut first: Option<Rows> = None;
            for kernel in Kernel::available() {
                let mut out = Rows::zeros(80, q.d());
                causal(kernel, &q, &k, &v, heads, &spans, &mut out);
                for (a, b) in out.data().iter().zip(&expected) {
                    assert!((*a as f64 - b).abs() < 2e-6, "{kernel:?} {a} {b}");
                }
                assert_eq!(*first.get_or_insert_with(|| out.clone()), out, "{kernel:?}");
            }
        }
    }

    #[test]
    fn a_sentence_does_not_see_its_neighbours() {
        let heads = Heads { n_heads: 2, n_kv_heads: 1, head_dim: 8 };
        let (q, k, v) = (rows(50, 16, 1), rows(50, 8, 2), rows(50, 8, 3));
        let part = |x: &Rows| Rows::from_vec(30, x.d(), x.data()[13 * x.d()..43 * x.d()].to_vec());
        let (mut all, mut alone) = (Rows::zeros(50, 16), Rows::zeros(30, 16));
        causal(Kernel::detect(), &q, &k, &v, heads, &[0..13, 13..43, 43..50], &mut all);
        causal(Kernel::detect(), &part(&q), &part(&k), &part(&v), heads, std::slice::from_ref(&(0..30)), &mut alone);
        assert_eq!(part(&all), alone);
    }
}
