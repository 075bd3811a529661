//! Causal attention over ragged spans, a tile of queries at a time: `softmax(q . k^T / sqrt(head_dim)) . v`.
//!
//! Both products use the GEMM's tile kernel: keys in panels of keys (`[panel][head_dim][width]`), values in panels of
//! dimensions (`[panel][len][width]`), queries where they are. Scores of one tile of queries are all that is held; keys after
//! the last query of the tile are not touched, and those after a query inside it get the weight 0.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::gemm::Shared;
use super::kernel::{Kernel, Place, View};
use super::softmax::softmax;
use super::tiles::Lines;
use super::transpose::{Stored, transpose};
use crate::{Heads, Rows};

/// Spans of one task together have about this many rows: fewer would not be worth the hand-over.
const TASK_ROWS: usize = 64;

pub(super) fn causal(kernel: Kernel, q: &Rows, k: &Rows, v: &Rows, heads: Heads, spans: &[Range<usize>]) -> Rows {
    let group = heads.n_heads / heads.n_kv_heads;
    assert_eq!(group * heads.n_kv_heads, heads.n_heads, "whole groups of heads");
    assert_eq!((q.d(), k.d()), (heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim));
    let (n, d) = (q.n(), q.d());
    let mut covered = 0;
    for span in spans {
        assert_eq!(span.start, covered, "spans in order, without a gap");
        covered = span.end;
    }
    assert_eq!(covered, n, "spans cover all rows");
    // Not set to zero first: that would go through all of it once more.
    let mut out = Vec::with_capacity(n * d);
    let shared = Shared { data: out.as_mut_ptr(), stride: d };
    let mean = q.n().div_ceil(spans.len().max(1)).max(1);
    let tasks = (0..spans.len() * heads.n_kv_heads).into_par_iter().with_min_len(TASK_ROWS.div_ceil(mean));
    tasks.for_each(|task| {
        let (span, kv) = (spans[task / heads.n_kv_heads].clone(), task % heads.n_kv_heads);
        thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
        SCRATCH.with_borrow_mut(|scratch| {
            let packed = scratch.pack(kernel, k, v, &span, kv, heads.head_dim);
            for head in kv * group..(kv + 1) * group {
                scratch.attend(kernel, packed, q, &span, head, |row, part| {
                    // SAFETY: each (row, head) belongs to one task alone and has its place in `out`, `[n, n_heads * head_dim]`;
                    // `part` holds `head_dim` numbers.
                    unsafe {
                        let at = shared.at(row, head * heads.head_dim);
                        at.copy_from_nonoverlapping(part.as_ptr(), heads.head_dim);
                    }
                });
            }
        });
    });
    // SAFETY: the spans are all rows, and every head of a row was written.
    unsafe { out.set_len(n * d) };
    Rows::from_vec(n, d, out)
}

/// Memory that a thread keeps: keys and values of one head of one span, and what a tile of queries needs.
#[derive(Default)]
struct Scratch {
    /// `[panel of keys][head_dim][width]`, the last panel padded with whatever.
    keys: Lines<f32>,
    /// `[panel of dimensions][len][width]`, likewise.
    values: Lines<f32>,
    scores: Lines<f32>,
    sums: Lines<f32>,
}

/// Sizes of what is packed.
#[derive(Clone, Copy)]
struct Packed {
    len: usize,
    head_dim: usize,
    /// `head_dim` in whole panels.
    dims: usize,
}

impl Scratch {
    fn pack(&mut self, kernel: Kernel, k: &Rows, v: &Rows, span: &Range<usize>, kv: usize, head_dim: usize) -> Packed {
        let (len, width) = (span.len(), kernel.attention_shape().1);
        let dims = head_dim.next_multiple_of(width);
        let keys = self.keys.resize(len.next_multiple_of(width) * head_dim);
        for (panel, keys) in keys.chunks_exact_mut(width * head_dim).enumerate() {
            let first = panel * width;
            let stored = &k.data()[(span.start + first) * k.d() + kv * head_dim..];
            transpose(kernel, Stored::Words, (width.min(len - first), head_dim), (stored, k.d()), (keys, width));
        }
        let values = self.values.resize(len * dims);
        for (panel, values) in values.chunks_exact_mut((len * width).max(1)).enumerate() {
            let columns = panel * width..head_dim.min((panel + 1) * width);
            for (row, value) in span.clone().zip(values.chunks_exact_mut(width)) {
                value[..columns.len()].copy_from_slice(&v.row(row)[kv * head_dim..][columns.clone()]);
            }
        }
        Packed { len, head_dim, dims }
    }

    /// Calls `put(row, out[head_dim])` for every row of the span.
    fn attend(
        &mut self,
        kernel: Kernel,
        packed: Packed,
        q: &Rows,
        span: &Range<usize>,
        head: usize,
        mut put: impl FnMut(usize, &[f32]),
    ) {
        let (rows, width) = kernel.attention_shape();
        let Packed { len, head_dim, dims } = packed;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let stride = len.next_multiple_of(width);
        let (keys, values) = (self.keys.as_slice(), self.values.as_slice());
        let scores = self.scores.resize(rows * stride);
        let sums = self.sums.resize(rows * dims);
        for first in (0..len).step_by(rows) {
            let count = rows.min(len - first);
            let seen = first + count;
            let queries = &q.data()[(span.start + first) * q.d() + head * head_dim..];
            for (panel, keys) in keys.chunks_exact(width * head_dim).take(seen.div_ceil(width)).enumerate() {
                let out = Place { data: &mut scores[panel * width..], stride };
                kernel.tile(true, (count, width), head_dim, View { data: queries, stride: q.d() }, keys, out);
            }
            // A weight of e^-inf is 0; whole panels keep the vectors whole.
            let padded = seen.next_multiple_of(width);
            for (r, scores) in scores.chunks_exact_mut(stride).take(count).enumerate() {
                scores[first + r + 1..padded].fill(f32::NEG_INFINITY);
            }
            softmax(kernel, count, padded, (scores, stride), scale);
            for (panel, values) in values.chunks_exact(len * width).enumerate() {
                let out = Place { data: &mut sums[panel * width..], stride: dims };
                kernel.tile(true, (count, width), seen, View { data: scores, stride }, values, out);
            }
            for (r, sums) in sums.chunks_exact(dims).take(count).enumerate() {
                put(span.start + first + r, &sums[..head_dim]);
            }
        }
    }
}

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
                let out = causal(kernel, &q, &k, &v, heads, &spans);
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
        let all = causal(Kernel::detect(), &q, &k, &v, heads, &[0..13, 13..43, 43..50]);
        let alone = causal(Kernel::detect(), &part(&q), &part(&k), &part(&v), heads, std::slice::from_ref(&(0..30)));
        assert_eq!(part(&all), alone);
    }
}
