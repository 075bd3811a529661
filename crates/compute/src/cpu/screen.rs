//! Sparse encoding at the speed of bf16 with the answer of f32, to the bit.
//!
//! A first pass multiplies in bf16 and bounds its own error; whatever could be active in f32, by that bound, is computed
//! again as the f32 path computes it. With `x^` and `w^` the rounded operands and `d = x - x^`,
//!
//! `|fl(w^ . x^) - fl(w . x)| <= |w| |d| + |w - w^| |x^| + (g1 + g2) |w| |x|`
//!
//! by Cauchy and Schwarz, where `g = n u / (1 - n u)` covers the roundings of a sum of depth `n` (Higham 2002, section
//! 3.1): `g1` those of the first pass, `g2` those of the f32 path. For stored bf16 weights `w = w^`. All norms and
//! bounds are rounded up by more than their own rounding.

#![allow(unsafe_code)] // what `vectorized` expands to

use rayon::prelude::*;

use super::encode::{Active, gather, tasks};
use super::gemm::{self, Packed, Piece};
use super::kernel::{Kernel, MAX_WIDTH, vectorized};
use super::tiles::{KC, Scratch, Tiles, round_to_bf16, unpack_f32};
use super::{Precision, elementwise};
use crate::{Dtype, EncoderSpec, Rows, Select, Sparse, Tensor};

/// Unit roundoff of f32.
const U: f32 = 1.0 / (1 << 24) as f32;
/// More than the rounding of anything that is computed for a bound.
const UP: f32 = 1.0 + 1e-5;
/// More than what flushing subnormal numbers to zero can change in a sum.
const TINY: f32 = 1e-30;
/// Candidates of a row that are computed together: chains of their own, so that the units stay busy.
const TOGETHER: usize = 8;

/// Lengths of a matrix's rows, for the bounds.
pub(super) struct WeightNorms {
    /// `|w|`, rounded up.
    length: Vec<f32>,
    /// `|w - w^|`, rounded up.
    rounding: Vec<f32>,
}

impl WeightNorms {
    pub(super) fn new(kernel: Kernel, w: &Tensor) -> Self {
        let norms = (0..w.n_rows()).into_par_iter().with_min_len(64).map_init(
            || vec![0f32; w.n_cols()],
            |row, r| {
                unpack_f32(kernel, w.dtype(), w.row(r), Precision::F32, row);
                let mut norms = [0f32; 2];
                norms_of(kernel, row, &mut norms);
                (norms[0], if w.dtype() == Dtype::Bf16 { 0.0 } else { norms[1] })
            },
        );
        let (length, rounding) = norms.unzip();
        WeightNorms { length, rounding }
    }
}

vectorized! {
    /// Length of a row, and of what rounding it to bf16 changes; both rounded up.
    fn norms_of(row: &[f32], norms: &mut [f32; 2]) {
        let squares = elementwise::fold(row, 0.0, |sum, x| x.mul_add(x, sum), |a, b| a + b);
        let change = |sum: f32, x: f32| {
            let d = x - round_to_bf16(x);
            d.mul_add(d, sum)
        };
        let changes = elementwise::fold(row, 0.0, change, |a, b| a + b);
        *norms = [squares.sqrt() * UP * UP, changes.sqrt() * UP * UP];
    }
}

/// Factors of the rows in their bounds.
struct RowBounds {
    /// For the length of the weights.
    length: Vec<f32>,
    /// For what rounding changes of the weights.
    rounding: Vec<f32>,
}

impl RowBounds {
    /// `depth`: roundings between a product and the sum that it ends up in, those of both passes together.
    fn new(kernel: Kernel, x: &Rows, depth: usize) -> Self {
        let accumulation = depth as f32 * U * 1.01;
        let bounds = (0..x.n()).into_par_iter().with_min_len(16).map(|row| {
            let mut norms = [0f32; 2];
            norms_of(kernel, x.row(row), &mut norms);
            let [length, change] = norms;
            // |x^| is at most 2^-8 longer than |x|.
            ((change + accumulation * length * 1.01) * UP, length * 1.01)
        });
        let (length, rounding) = bounds.unzip();
        RowBounds { length, rounding }
    }

    /// Those of a piece, padded with zeros.
    fn of(&self, piece: Piece) -> [[f32; MAX_WIDTH]; 2] {
        [&self.length, &self.rounding].map(|all| {
            let mut some = [0f32; MAX_WIDTH];
            some[..piece.t].copy_from_slice(&all[piece.t0..][..piece.t]);
            some
        })
    }
}

/// The active features of every row. The first pass runs on `tiles` that round both operands to bf16.
pub(super) fn encode<T: Tiles>(tiles: T, x: &Rows, w: &Tensor, norms: &WeightNorms, spec: &EncoderSpec<'_>) -> Sparse {
    let kernel = tiles.kernel();
    let k = x.d();
    let depth = kernel.bf16_depth(k.min(KC)) + k.min(KC) + 2 * k.div_ceil(KC);
    let bounds = RowBounds::new(kernel, x, depth);
    let packed = Packed::new(tiles, x, None);
    let candidates: Vec<Vec<Candidate>> = tasks(x.n(), w.n_rows(), &spec.select)
        .into_par_iter()
        .with_max_len(1)
        .map(|(rows, blocks)| {
            let mut possible = Possible::new(rows, spec.select);
            T::with_scratch(|Scratch { weights, sums: [sums, _], chunk, .. }| {
                for block in blocks {
                    gemm::multiply(&packed, w, block, weights, chunk, sums);
                    for (piece, begin) in gemm::pieces(&packed, block) {
                        let dots = &mut sums.as_mut_slice()[begin..];
                        possible.take(kernel, piece, dots, norms, bounds.of(piece), spec);
                    }
                }
            });
            possible.finish(spec.select)
        })
        .collect();

    let mut by_row: Vec<Vec<u32>> = vec![Vec::new(); x.n()];
    candidates.iter().flatten().for_each(|candidate| by_row[candidate.row as usize].push(candidate.id));
    let active: Vec<Vec<Active>> = by_row
        .par_iter()
        .enumerate()
        .map_init(
            || vec![0f32; TOGETHER * KC],
            |unpacked, (row, candidates)| {
                let mut active = Vec::new();
                for ids in candidates.chunks(TOGETHER) {
                    let mut sums = [0f32; TOGETHER];
                    exact_dots(kernel, x.row(row), w, ids, unpacked, &mut sums);
                    for (&id, dot) in ids.iter().zip(sums) {
                        let h = spec.scale.mul_add(dot, spec.bias[id as usize]);
                        let value = spec.gain.map_or(h, |gain| h * gain[id as usize]);
                        if value > threshold_of(spec.select, id as usize) && value > 0.0 {
                            active.push(Active { row: row as u32, id, value });
                        }
                    }
                }
                active
            },
        )
        .collect();
    let candidates = by_row.iter().map(Vec::len).sum();
    Sparse { candidates, ..gather(x.n(), &active, spec) }
}

/// What a feature's value must exceed.
fn threshold_of(select: Select<'_>, id: usize) -> f32 {
    if let Select::Above(thresholds) = select { thresholds[id] } else { 0.0 }
}

/// A feature that may be active, with what its value is at the least and at the most.
#[derive(Clone, Copy)]
struct Candidate {
    row: u32,
    id: u32,
    lower: f32,
    upper: f32,
}

/// The candidates of a task so far.
struct Possible {
    rows: std::ops::Range<usize>,
    candidates: Vec<Candidate>,
    /// By row, what a value surely needs to be among the `k` largest: the `k`th largest of the lower bounds.
    floors: Vec<f32>,
    /// Number of candidates from which on they are gone through for what is no longer possible.
    limit: usize,
}

impl Possible {
    fn new(rows: std::ops::Range<usize>, select: Select<'_>) -> Self {
        let mut possible = Possible { floors: vec![0.0; rows.len()], rows, candidates: Vec::new(), limit: usize::MAX };
        if let Select::TopK(k) = select {
            possible.limit = possible.enough(k);
        }
        possible
    }

    fn enough(&self, k: usize) -> usize {
        k.saturating_add(16).saturating_mul(2 * self.rows.len())
    }

    /// Dot products of the first pass of a piece, `[n][width]`; they become upper bounds.
    fn take(
        &mut self,
        kernel: Kernel,
        piece: Piece,
        dots: &mut [f32],
        norms: &WeightNorms,
        rows: [[f32; MAX_WIDTH]; 2],
        spec: &EncoderSpec<'_>,
    ) {
        let first = piece.t0 - self.rows.start;
        let mut floors = [0f32; MAX_WIDTH];
        floors[..piece.t].copy_from_slice(&self.floors[first..][..piece.t]);
        for (id, dots) in (piece.n0..piece.n0 + piece.n).zip(dots.chunks_exact_mut(piece.width)) {
            let feature = Feature {
                length: norms.length[id],
                rounding: norms.rounding[id],
                scale: spec.scale,
                bias: spec.bias[id],
                gain: spec.gain.map_or(1.0, |gain| gain[id]),
                threshold: threshold_of(spec.select, id).max(0.0) * (1.0 - U) - TINY,
            };
            let mut lower = [0f32; MAX_WIDTH];
            let mut any = false;
            bounds_of(kernel, dots, &mut lower, feature, &rows, &floors, &mut any);
            if any {
                for (at, (&upper, &lower)) in dots.iter().zip(&lower).take(piece.t).enumerate() {
                    if is_possible(upper, feature.threshold, floors[at]) {
                        self.candidates.push(Candidate { row: (piece.t0 + at) as u32, id: id as u32, lower, upper });
                    }
                }
            }
        }
        if let Select::TopK(k) = spec.select && self.candidates.len() > self.limit {
            self.forget(k);
            self.limit = self.candidates.len().saturating_add(self.enough(k) / 2);
        }
    }

    /// Drops what is surely not among the `k` largest of its row.
    fn forget(&mut self, k: usize) {
        if k == 0 {
            self.candidates.clear();
        }
        self.candidates.sort_unstable_by(|a, b| a.row.cmp(&b.row).then(b.lower.total_cmp(&a.lower)));
        for row in self.candidates.chunk_by(|a, b| a.row == b.row) {
            if let Some(last) = row.get(k - 1) {
                let floor = &mut self.floors[last.row as usize - self.rows.start];
                *floor = floor.max(last.lower);
            }
        }
        let (floors, start) = (&self.floors, self.rows.start);
        self.candidates.retain(|candidate| !(candidate.upper < floors[candidate.row as usize - start]));
    }

    fn finish(mut self, select: Select<'_>) -> Vec<Candidate> {
        if let Select::TopK(k) = select {
            self.forget(k);
        }
        self.candidates
    }
}

/// A NaN is no reason to drop a feature: the exact value decides.
#[inline(always)]
fn is_possible(upper: f32, threshold: f32, floor: f32) -> bool {
    !(upper <= threshold) & !(upper < floor)
}

/// One feature of an encoder.
#[derive(Clone, Copy)]
struct Feature {
    length: f32,
    rounding: f32,
    scale: f32,
    bias: f32,
    gain: f32,
    /// Rounded down.
    threshold: f32,
}

vectorized! {
    /// Dot products of the first pass of one feature with some rows to what its values are at the most, and at the least
    /// (never NaN); and whether any of them may be active.
    fn bounds_of(
        dots: &mut [f32],
        lower: &mut [f32; MAX_WIDTH],
        feature: Feature,
        rows: &[[f32; MAX_WIDTH]; 2],
        floors: &[f32; MAX_WIDTH],
        any: &mut bool,
    ) {
        let Feature { length, rounding, scale, bias, gain, threshold } = feature;
        let [row_length, row_rounding] = rows;
        let mut possible = 0u32;
        for j in 0..dots.len().min(MAX_WIDTH) {
            let bound = (length * row_length[j] + rounding * row_rounding[j]) * UP + TINY;
            let product = scale * dots[j];
            let value = (product + bias) * gain;
            // The last term covers the roundings of the values themselves, here and in f32.
            let error = (scale.abs() * bound + 8.0 * U * (product.abs() + bias.abs())) * gain.abs() * UP + TINY;
            dots[j] = value + error;
            lower[j] = f32::max(value - error, f32::NEG_INFINITY);
            possible |= u32::from(is_possible(dots[j], threshold, floors[j]));
        }
        *any = possible != 0;
    }
}

/// `sums[i] = w[ids[i]] . x` in the order of the f32 path: chunks of `KC`, each a chain from 0.
fn exact_dots(kernel: Kernel, x: &[f32], w: &Tensor, ids: &[u32], unpacked: &mut [f32], sums: &mut [f32; TOGETHER]) {
    let (dtype, k) = (w.dtype(), x.len());
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    for k0 in (0..k).step_by(KC) {
        let kc = KC.min(k - k0);
        for (id, unpacked) in ids.iter().zip(unpacked.chunks_exact_mut(KC)) {
            let row = &w.row(*id as usize)[k0 / block_len * block_bytes..][..kc / block_len * block_bytes];
            unpack_f32(kernel, dtype, row, Precision::F32, &mut unpacked[..kc]);
        }
        let mut chains = [0f32; TOGETHER];
        chains_of(kernel, &x[k0..k0 + kc], unpacked, &mut chains);
        for (sum, chain) in sums.iter_mut().zip(chains) {
            *sum = if k0 == 0 { chain } else { *sum + chain };
        }
    }
}

vectorized! {
    /// Chains of fused multiply-adds of `x` with each of the rows, `KC` apart.
    fn chains_of(x: &[f32], rows: &[f32], chains: &mut [f32; TOGETHER]) {
        let n = x.len();
        let row = |r: usize| &rows[r * KC..][..n];
        // By name, so that each chain has a register of its own.
        let [r0, r1, r2, r3, r4, r5, r6, r7] = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
        let [mut c0, mut c1, mut c2, mut c3, mut c4, mut c5, mut c6, mut c7] = [0f32; TOGETHER];
        for i in 0..n {
            c0 = r0[i].mul_add(x[i], c0);
            c1 = r1[i].mul_add(x[i], c1);
            c2 = r2[i].mul_add(x[i], c2);
            c3 = r3[i].mul_add(x[i], c3);
            c4 = r4[i].mul_add(x[i], c4);
            c5 = r5[i].mul_add(x[i], c5);
            c6 = r6[i].mul_add(x[i], c6);
            c7 = r7[i].mul_add(x[i], c7);
        }
        *chains = [c0, c1, c2, c3, c4, c5, c6, c7];
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::dense;
    use super::super::tiles::{Bf16Tiles, F32Tiles};
    use super::*;
    use crate::Bytes;

    fn same(found: &Sparse, expected: &Sparse) -> bool {
        found.ptr == expected.ptr && found.ids == expected.ids && found.vals == expected.vals
    }

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let hash = |i: u32| {
            let h = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
            (h ^ h >> 13).wrapping_mul(0xc2b2_ae35)
        };
        (0..n as u32).map(|i| (hash(i) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn stored(values: &[f32], shape: Vec<usize>, dtype: Dtype) -> Tensor {
        match dtype {
            Dtype::Bf16 => Tensor::from_f32_rounded_to_bf16("w", shape, values),
            Dtype::F16 => {
                let bytes = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
                Tensor::new("w", Dtype::F16, shape, Bytes::from_vec(bytes))
            }
            _ => Tensor::from_f32("w", shape, values),
        }
    }

    /// Both ways to a first pass: with instructions for pairs of bf16, and, so that the bounds are tested on every
    /// machine, with rounded f32.
    fn screened(kernel: Kernel, x: &Rows, w: &Tensor, spec: &EncoderSpec<'_>) -> Vec<Sparse> {
        let norms = WeightNorms::new(kernel, w);
        let rounded = F32Tiles { kernel, precision: Precision::Bf16 };
        let pairs = Bf16Tiles::new(kernel).map(|tiles| encode(tiles, x, w, &norms, spec));
        [encode(rounded, x, w, &norms, spec)].into_iter().chain(pairs).collect()
    }

    #[test]
    fn it_gives_the_bits_of_the_dense_path() {
        for (n, d, d_sae) in [(70, 24, 250), (33, 1001, 130), (5, 1600, 97)] {
            let x = Rows::from_vec(n, d, numbers(n * d, 1).iter().map(|x| x * 3.0).collect());
            let (bias, gain) = (numbers(d_sae, 3), numbers(d_sae, 4).iter().map(|g| g.abs() + 0.2).collect::<Vec<_>>());
            let thresholds: Vec<f32> = numbers(d_sae, 5).iter().map(|t| (d as f32).sqrt() * (t + 1.0)).collect();
            for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
                let w = stored(&numbers(d_sae * d, 2), vec![d_sae, d], dtype);
                for select in [Select::Above(&thresholds), Select::Positive, Select::TopK(1), Select::TopK(20)] {
                    for gain in [None, Some(&gain[..])] {
                        let spec = EncoderSpec { scale: 1.7, bias: &bias, gain, select };
                        for kernel in Kernel::available() {
                            let expected = dense(kernel, &x, &w, &spec);
                            for found in screened(kernel, &x, &w, &spec) {
                                assert!(found.candidates >= found.ids.len());
                                assert!(same(&found, &expected), "{kernel:?} {dtype:?} {select:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    /// Rows on which bf16 goes wrong as far as it can: every rounding of x in the direction of the weights, large terms
    /// that cancel, thresholds at the very value and next to it.
    #[test]
    fn values_on_the_edge_are_decided_as_in_f32() {
        let (n, d, d_sae) = (40, 512, 160);
        let w = numbers(d_sae * d, 7);
        let w = stored(&w, vec![d_sae, d], Dtype::Bf16);
        let signs: Vec<f32> = w.to_f32().iter().map(|w| w.signum()).collect();
        let mut x: Vec<f32> = numbers(n * d, 8);
        for (row, x) in x.chunks_exact_mut(d).enumerate() {
            for (i, x) in x.iter_mut().enumerate() {
                // Just below the middle between two bf16 numbers: rounds against the sign of a weight of feature `row`.
                let base = f32::from_bits(x.to_bits() & 0xffff_0000 | 0x7fff);
                *x = base.abs() * signs[row * d + i] * if i % 2 == 0 { 1000.0 } else { 1.0 };
            }
        }
        let x = Rows::from_vec(n, d, x);
        let bias = vec![0.0; d_sae];
        for kernel in Kernel::available() {
            let all =
                dense(kernel, &x, &w, &EncoderSpec { scale: 1.0, bias: &bias, gain: None, select: Select::Positive });
            for nudge in [-1i32, 0, 1] {
                // Every feature's threshold is one of its own values, or that value's neighbour.
                let mut thresholds = vec![f32::MAX; d_sae];
                for (id, value) in all.ids.iter().zip(&all.vals) {
                    thresholds[*id as usize] = f32::from_bits((value.to_bits() as i32 + nudge) as u32);
                }
                let spec = EncoderSpec { scale: 1.0, bias: &bias, gain: None, select: Select::Above(&thresholds) };
                let expected = dense(kernel, &x, &w, &spec);
                assert!(!expected.ids.is_empty() || nudge > 0);
                for found in screened(kernel, &x, &w, &spec) {
                    assert!(same(&found, &expected), "{kernel:?} {nudge}");
                }
            }
            // The last of the k largest is hardly apart from the next.
            for k in [1, 5, 40] {
                let spec = EncoderSpec { scale: 1.0, bias: &bias, gain: None, select: Select::TopK(k) };
                let expected = dense(kernel, &x, &w, &spec);
                for found in screened(kernel, &x, &w, &spec) {
                    assert!(same(&found, &expected), "{kernel:?} top {k}");
                }
            }
        }
    }

    #[test]
    fn few_features_are_computed_twice() {
        let (n, d, d_sae) = (64, 768, 2000);
        let x = Rows::from_vec(n, d, numbers(n * d, 1));
        let w = stored(&numbers(d_sae * d, 2), vec![d_sae, d], Dtype::Bf16);
        // About three standard deviations: one feature in a thousand.
        let thresholds = vec![(d as f32 / 9.0).sqrt() * 3.0; d_sae];
        let spec = EncoderSpec { scale: 1.0, bias: &vec![0.0; d_sae], gain: None, select: Select::Above(&thresholds) };
        let top = EncoderSpec { select: Select::TopK(3), ..spec };
        for kernel in Kernel::available() {
            for (spec, most) in [(&spec, n * d_sae / 100), (&top, 3 * 5 * n)] {
                for found in screened(kernel, &x, &w, spec) {
                    assert!(found.candidates < most, "{kernel:?}: {} of {}", found.candidates, n * d_sae);
                }
            }
        }
    }

    #[test]
    fn equal_values_at_the_edge_of_top_k_go_to_the_smaller_id() {
        let (n, d, d_sae) = (3, 40, 700);
        let x = Rows::from_vec(n, d, numbers(n * d, 1));
        // Every row of weights stands there seven times.
        let w: Vec<f32> = (0..d_sae).flat_map(|j| numbers(d, 2 + j as u32 % 100)).collect();
        let w = stored(&w, vec![d_sae, d], Dtype::Bf16);
        let spec = EncoderSpec { scale: 1.0, bias: &vec![0.0; d_sae], gain: None, select: Select::TopK(17) };
        for kernel in Kernel::available() {
            let expected = dense(kernel, &x, &w, &spec);
            assert_eq!(expected.ids[..3], expected.ids[1..4].iter().map(|id| id - 100).collect::<Vec<_>>());
            for found in screened(kernel, &x, &w, &spec) {
                assert!(same(&found, &expected));
            }
        }
    }
}
