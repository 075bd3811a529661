//! Matrix products with weights in place: `out[t, n] = sum over k of x[t, k] * w[n, k]`.
//!
//! `x` is packed once into panels of `width` rows side by side (`[panel][k][width]`); weights are unpacked a few rows
//! and `KC` columns at a time into a buffer that stays in the first-level cache, whatever their stored type, and
//! serve as the broadcast operand (Goto & van de Geijn 2008 with the roles exchanged). The sum over k is made in chunks
//! of `KC`, each a chain of fused multiply-adds from 0, added in ascending order: a definition that knows no batch.

#![allow(unsafe_code)]

use half::f16;
use rayon::prelude::*;

use super::Precision;
use super::kernel::{Kernel, MAX_ROWS, MAX_WIDTH, View};
use crate::{Dtype, Rows, Tensor};

/// Columns of weights in a chunk: a multiple of every block length, small enough for 12 rows to stay in L1.
pub(super) const KC: usize = 768;
/// Rows of weights that one task computes: a multiple of every kernel's tile.
const NB: usize = 96;
/// Rows of `x` that one task computes: with `KC` columns they fill a second-level cache.
const TB: usize = 512;

/// Stored numbers to f32, rounded as the precision says.
#[inline(always)]
pub(super) fn unpack(dtype: Dtype, src: &[u8], precision: Precision, dst: &mut [f32]) {
    dtype.dequantize(src, dst);
    match precision {
        Precision::F32 => {}
        Precision::F16 if dtype == Dtype::F16 => {}
        Precision::F16 => dst.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        Precision::Bf16 if dtype == Dtype::Bf16 => {}
        Precision::Bf16 => dst.iter_mut().for_each(|x| *x = round_to_bf16(*x)),
    }
}

/// To the nearest bf16, ties to even. NaN stays NaN.
#[inline(always)]
fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    if x.is_nan() { x } else { f32::from_bits(rounded) }
}

/// Rows side by side in panels. The last panel is as wide as it must be: a full or a half width.
pub(super) struct Packed {
    n: usize,
    k: usize,
    width: usize,
    data: Vec<f32>,
}

impl Packed {
    pub(super) fn new(kernel: Kernel, precision: Precision, x: &Rows) -> Self {
        let (n, k, width) = (x.n(), x.d(), kernel.width());
        let last = n % width;
        let padded = n / width * width + if last == 0 { 0 } else { width >> (last <= width / 2) as u32 };
        let mut data = vec![0.0; padded * k];
        data.par_chunks_mut((width * k).max(1)).enumerate().for_each(|(panel, data)| {
            kernel.vectorize(|| {
                let w = data.len() / k;
                let rows = (panel * width)..n.min(panel * width + w);
                for (c, row) in rows.enumerate() {
                    for (x, out) in x.row(row).iter().zip(data[c..].iter_mut().step_by(w)) {
                        *out = if precision == Precision::Bf16 { round_to_bf16(*x) } else { *x };
                    }
                }
            });
        });
        Packed { n, k, width, data }
    }

    /// First row, width and numbers of a panel.
    fn panel(&self, panel: usize) -> (usize, usize, &[f32]) {
        let start = panel * self.width;
        let data = &self.data[start * self.k..];
        let data = &data[..data.len().min(self.width * self.k)];
        (start, data.len() / self.k, data)
    }
}

/// Columns `n0..n0 + n` of the product for the rows `t0..t0 + t` into `out[t, n]`.
pub(super) fn block(
    kernel: Kernel,
    precision: Precision,
    x: &Packed,
    w: &Tensor,
    (t0, t): (usize, usize),
    (n0, n): (usize, usize),
    out: &mut [f32],
) {
    let (dtype, rows) = (w.dtype(), kernel.rows());
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    let mut weights = [0f32; MAX_ROWS * KC];
    let mut tile = [0f32; MAX_ROWS * MAX_WIDTH];
    for k0 in (0..x.k).step_by(KC) {
        let kc = KC.min(x.k - k0);
        for r0 in (0..n).step_by(rows) {
            let r_n = rows.min(n - r0);
            kernel.vectorize(|| {
                for (r, weights) in weights.chunks_exact_mut(KC).take(r_n).enumerate() {
                    let row = &w.row(n0 + r0 + r)[k0 / block_len * block_bytes..][..kc / block_len * block_bytes];
                    unpack(dtype, row, precision, &mut weights[..kc]);
                }
            });
            for panel in t0 / x.width..(t0 + t).div_ceil(x.width) {
                let (start, width, data) = x.panel(panel);
                let view = View { data: &data[k0 * width..][..kc * width], stride: width };
                kernel.tile(width, kc, view, View { data: &weights, stride: KC }, &mut tile);
                let t_n = width.min(x.n - start);
                let out = &mut out[(start - t0) * n..][..t_n * n];
                for (c, out) in out.chunks_exact_mut(n).enumerate() {
                    let sums = tile[c..].iter().step_by(width);
                    let out = out[r0..r0 + r_n].iter_mut().zip(sums);
                    if k0 == 0 {
                        out.for_each(|(out, sum)| *out = *sum);
                    } else {
                        out.for_each(|(out, sum)| *out += *sum);
                    }
                }
            }
        }
    }
}

/// Calls `task` for every block of the product of `n_rows` rows with `w_rows` rows of weights, in parallel:
/// `task((t0, t), (n0, n))`.
pub(super) fn blocks(n_rows: usize, w_rows: usize) -> impl ParallelIterator<Item = ((usize, usize), (usize, usize))> {
    let w_blocks = w_rows.div_ceil(NB);
    (0..n_rows.div_ceil(TB) * w_blocks).into_par_iter().map(move |task| {
        let (t0, n0) = (task / w_blocks * TB, task % w_blocks * NB);
        ((t0, TB.min(n_rows - t0)), (n0, NB.min(w_rows - n0)))
    })
}

/// `out = x . w^T`.
pub(super) fn linear(kernel: Kernel, precision: Precision, x: &Rows, w: &Tensor, out: &mut Rows) {
    assert_eq!(x.d(), w.n_cols(), "{w:?} does not fit rows of {}", x.d());
    assert_eq!((out.n(), out.d()), (x.n(), w.n_rows()));
    let packed = Packed::new(kernel, precision, x);
    let (d, out) = (out.d(), SharedOut(out.data_mut().as_mut_ptr()));
    let out = &out;
    blocks(x.n(), w.n_rows()).for_each_init(
        || vec![0f32; TB * NB],
        |scratch, ((t0, t), (n0, n))| {
            let scratch = &mut scratch[..t * n];
            block(kernel, precision, &packed, w, (t0, t), (n0, n), scratch);
            for (row, sums) in scratch.chunks_exact(n).enumerate() {
                // SAFETY: the blocks of different tasks do not overlap, `(t0 + row) * d + n0 + n <= out.len()`, and
                // nobody else touches `out` before all tasks are done.
                let out = unsafe { std::slice::from_raw_parts_mut(out.0.add((t0 + row) * d + n0), n) };
                out.copy_from_slice(sums);
            }
        },
    );
}

/// A pointer that tasks may share because they write to places of their own.
struct SharedOut(*mut f32);

// SAFETY: only `linear` uses it, in the way that is said there.
unsafe impl Sync for SharedOut {}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    /// The definition, word for word.
    fn plain(x: &Rows, w: &[f32], n: usize) -> Vec<f32> {
        let k = x.d();
        let dot = |x: &[f32], w: &[f32]| {
            let chunks = x.chunks(KC).zip(w.chunks(KC));
            let sums = chunks.map(|(x, w)| x.iter().zip(w).fold(0f32, |sum, (x, w)| w.mul_add(*x, sum)));
            sums.reduce(|a, b| a + b).unwrap_or(0.0)
        };
        (0..x.n()).flat_map(|t| (0..n).map(move |r| (t, r))).map(|(t, r)| dot(x.row(t), &w[r * k..][..k])).collect()
    }

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                let h = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
                let h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
                (h >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_shape_gives_the_bits_of_the_definition(t in 1usize..70, k in 1usize..1700, n in 1usize..210, seed: u32) {
            let x = Rows::from_vec(t, k, numbers(t * k, seed));
            let stored: Vec<bf16> = numbers(n * k, !seed).into_iter().map(bf16::from_f32).collect();
            let bytes = stored.iter().flat_map(|w| w.to_le_bytes()).collect();
            let w = Tensor::new("w", Dtype::Bf16, vec![n, k], crate::Bytes::from_vec(bytes));
            let wide: Vec<f32> = stored.iter().map(|w| w.to_f32()).collect();
            let expected = plain(&x, &wide, n);
            for kernel in Kernel::available() {
                let mut out = Rows::zeros(t, n);
                linear(kernel, Precision::F32, &x, &w, &mut out);
                let same = out.data().iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                prop_assert!(same, "{:?}", kernel);
            }
        }
    }

    #[test]
    fn blocks_larger_than_a_task_fit_together() {
        let (t, k, n) = (TB + 33, 40, NB + 7);
        let x = Rows::from_vec(t, k, numbers(t * k, 1));
        let w = numbers(n * k, 2);
        for kernel in Kernel::available() {
            let mut out = Rows::zeros(t, n);
            linear(kernel, Precision::F32, &x, &Tensor::from_f32("w", vec![n, k], &w), &mut out);
            assert!(out.data() == plain(&x, &w, n), "{kernel:?}");
        }
    }

    #[test]
    fn bf16_rounds_both_operands_and_f16_the_weights() {
        let (t, k, n) = (3, 50, 5);
        let x = Rows::from_vec(t, k, numbers(t * k, 1));
        let w = numbers(n * k, 2);
        let tensor = Tensor::from_f32("w", vec![n, k], &w);
        let to_bf16 = |v: &[f32]| v.iter().map(|x| bf16::from_f32(*x).to_f32()).collect::<Vec<_>>();
        let w_f16: Vec<f32> = w.iter().map(|x| f16::from_f32(*x).to_f32()).collect();
        let mut out = Rows::zeros(t, n);
        linear(Kernel::detect(), Precision::Bf16, &x, &tensor, &mut out);
        assert_eq!(out.data(), plain(&Rows::from_vec(t, k, to_bf16(x.data())), &to_bf16(&w), n));
        linear(Kernel::detect(), Precision::F16, &x, &tensor, &mut out);
        assert_eq!(out.data(), plain(&x, &w_f16, n));
    }

    #[test]
    fn rounding_to_bf16_agrees_with_half() {
        for x in numbers(5000, 3).into_iter().chain([0.0, -0.0, f32::INFINITY, f32::MAX, 1e-40, 1.00390625, 1.01171875]) {
            assert_eq!(round_to_bf16(x).to_bits(), bf16::from_f32(x).to_f32().to_bits(), "{x}");
        }
        assert!(round_to_bf16(f32::NAN).is_nan());
    }
}
