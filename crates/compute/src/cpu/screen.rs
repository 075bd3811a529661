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

use super::encode::{Active, gather};
use super::gemm::{self, Packed};
use super::kernel::{Kernel, vectorized};
use super::tiles::{Bf16Tiles, KC, round_to_bf16, unpack_f32};
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

/// Factors of a row in its bounds.
struct RowBound {
    /// For the length of the weights.
    length: f32,
    /// For what rounding changes of the weights.
    rounding: f32,
}

/// The active features of every row; `None` where the selection needs all values or the machine has no bf16 tiles.
pub(super) fn encode(
    kernel: Kernel,
    x: &Rows,
    w: &Tensor,
    norms: &WeightNorms,
    spec: &EncoderSpec<'_>,
) -> Option<Sparse> {
    let tiles = Bf16Tiles::new(kernel)?;
    let zeros;
    let thresholds = match spec.select {
        Select::Above(thresholds) => thresholds,
        Select::Positive => {
            zeros = vec![0.0; w.n_rows()];
            &zeros
        }
        Select::TopK(_) => return None,
    };
    let k = x.d();
    let chunks = k.div_ceil(KC);
    let depth = kernel.bf16_depth(k.min(KC)) + k.min(KC) + 2 * chunks;
    let accumulation = depth as f32 * U * 1.01;
    let row_bounds: Vec<RowBound> = (0..x.n())
        .into_par_iter()
        .map(|row| {
            let mut norms = [0f32; 2];
            norms_of(kernel, x.row(row), &mut norms);
            let [length, change] = norms;
            // |x^| is at most 2^-8 longer than |x|.
            RowBound { length: (change + accumulation * length * 1.01) * UP, rounding: length * 1.01 }
        })
        .collect();

    let packed = Packed::new(tiles, x, None);
    let blocks: Vec<Vec<(u32, u32)>> = gemm::blocks(x.n(), w.n_rows())
        .map_init(Vec::new, |dots, block| {
            gemm::multiply(&packed, w, block, dots);
            let n0 = block.n0;
            let features = Features {
                length: &norms.length[n0..][..block.n],
                rounding: &norms.rounding[n0..][..block.n],
                bias: &spec.bias[n0..][..block.n],
                gain: spec.gain.map(|gain| &gain[n0..][..block.n]),
                threshold: &thresholds[n0..][..block.n],
                scale: spec.scale,
            };
            let mut candidates = Vec::new();
            for (row, dots) in (block.t0..).zip(dots.chunks_exact_mut(block.n)) {
                upper_excess(kernel, dots, &features, &row_bounds[row]);
                // A NaN is no reason to drop a feature: the exact value decides.
                let possible = dots.iter().zip(n0..).filter(|(excess, _)| **excess > 0.0 || excess.is_nan());
                candidates.extend(possible.map(|(_, id)| (row as u32, id as u32)));
            }
            candidates
        })
        .collect();

    let mut by_row: Vec<Vec<u32>> = vec![Vec::new(); x.n()];
    blocks.iter().flatten().for_each(|(row, id)| by_row[*row as usize].push(*id));
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
                        if value > thresholds[id as usize] && value > 0.0 {
                            active.push(Active { row: row as u32, id, value });
                        }
                    }
                }
                active
            },
        )
        .collect();
    let candidates = by_row.iter().map(Vec::len).sum();
    Some(Sparse { candidates, ..gather(x.n(), &active, spec) })
}

/// The features of a block.
struct Features<'a> {
    length: &'a [f32],
    rounding: &'a [f32],
    bias: &'a [f32],
    gain: Option<&'a [f32]>,
    threshold: &'a [f32],
    scale: f32,
}

vectorized! {
    /// Dot products of the first pass to how far above its threshold (and above zero) a value may be at the most.
    fn upper_excess(dots: &mut [f32], features: &Features<'_>, row: &RowBound) {
        let Features { length, rounding, bias, gain, threshold, scale } = *features;
        for j in 0..dots.len() {
            let gain = gain.map_or(1.0, |gain| gain[j]);
            let bound = (length[j] * row.length + rounding[j] * row.rounding) * UP + TINY;
            let (product, bias) = (scale * dots[j], bias[j]);
            let value = (product + bias) * gain;
            // The last term covers the roundings of the values themselves, here and in f32.
            let error = (scale.abs() * bound + 8.0 * U * (product.abs() + bias.abs())) * gain.abs() * UP;
            dots[j] = value + error - threshold[j].max(0.0) * (1.0 - U) + TINY;
        }
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
    use super::*;
    use crate::Bytes;

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

    fn kernels() -> impl Iterator<Item = Kernel> {
        Kernel::available().filter(|kernel| Bf16Tiles::new(*kernel).is_some())
    }

    #[test]
    fn it_gives_the_bits_of_the_dense_path() {
        for (n, d, d_sae) in [(70, 24, 250), (33, 1001, 130), (5, 1600, 97)] {
            let x = Rows::from_vec(n, d, numbers(n * d, 1).iter().map(|x| x * 3.0).collect());
            let (bias, gain) = (numbers(d_sae, 3), numbers(d_sae, 4).iter().map(|g| g.abs() + 0.2).collect::<Vec<_>>());
            let thresholds: Vec<f32> = numbers(d_sae, 5).iter().map(|t| (d as f32).sqrt() * (t + 1.0)).collect();
            for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
                let w = stored(&numbers(d_sae * d, 2), vec![d_sae, d], dtype);
                for select in [Select::Above(&thresholds), Select::Positive] {
                    for gain in [None, Some(&gain[..])] {
                        let spec = EncoderSpec { scale: 1.7, bias: &bias, gain, select };
                        for kernel in kernels() {
                            let expected = dense(kernel, &x, &w, &spec);
                            let found = encode(kernel, &x, &w, &WeightNorms::new(kernel, &w), &spec).unwrap();
                            assert!(found.candidates >= found.ids.len());
                            assert_eq!(found.vals.len(), expected.vals.len(), "{kernel:?} {dtype:?}");
                            assert!(
                                found.ptr == expected.ptr && found.ids == expected.ids && found.vals == expected.vals
                            );
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
        for kernel in kernels() {
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
                let found = encode(kernel, &x, &w, &WeightNorms::new(kernel, &w), &spec).unwrap();
                assert!(!expected.ids.is_empty() || nudge > 0);
                assert!(
                    found.ptr == expected.ptr && found.ids == expected.ids && found.vals == expected.vals,
                    "{nudge}"
                );
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
        for kernel in kernels() {
            let found = encode(kernel, &x, &w, &WeightNorms::new(kernel, &w), &spec).unwrap();
            assert!(found.candidates < n * d_sae / 100, "{kernel:?}: {} of {}", found.candidates, n * d_sae);
        }
    }
}
