//! Matrix products with weights in place: `out[t, n] = sum over k of x[t, k] * w[n, k]`.
//!
//! A task takes a block of the rows of `x` and some rows of weights (Goto & van de Geijn 2008): it turns a chunk of the
//! weights, whatever their stored type, into panels, `[panel][k][width]`, that stay in the second-level cache, and lets a
//! few rows of `x` after the other meet all of them, these rows being in the first-level cache all the while. Weights are so
//! the vectors of a tile, and numbers of `x` its scalars: sums leave it as rows, and whoever wants them (the next product,
//! the residual stream, an SAE's thresholds) takes them row by row while they are still in the first-level cache.
//!
//! The sum over k is made in chunks ([`Tiles::chunk`]), each a chain from 0, added in ascending order: a definition that
//! knows no batch.

#![allow(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use super::elementwise;
use super::kernel::Place;
use super::packed::Packed;
use super::tiles::{Lines, Scratch, Tiles};
use super::transpose::{transpose, transpose_stored};
use crate::{Rows, Tensor};

/// Rows of `x` that one task computes, where there are enough of them for all threads: weights are turned once for so
/// many, and their sums, if there are several chunks, stay in the second-level cache.
const TB: usize = 512;
/// The least that is worth turning weights for, and a divisor of what a task takes. A multiple of every tile's rows but those
/// of 6, which end a block with a smaller tile.
const LEAST_TB: usize = 64;
/// Tasks for each thread that even out what one of them takes longer.
const TASKS: usize = 4;

/// A rectangle of a product: rows `t0..t0 + t` of `x` and rows `n0..n0 + n` of the weights.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub t0: usize,
    pub t: usize,
    pub n0: usize,
    pub n: usize,
}

/// Rows of `x` and rows of weights of one task.
#[derive(Clone, Copy)]
pub(super) struct TaskSize {
    rows: usize,
    w_rows: usize,
}

impl TaskSize {
    /// That of products of `x_rows` rows of `x` with groups of so many rows of weights, each of which stands for `n` matrices.
    /// Fewer rows of weights come first: fewer rows of `x` would have them turned more often.
    pub(super) fn new<T: Tiles>(
        tiles: T,
        x_rows: usize,
        groups: impl Iterator<Item = usize> + Clone,
        n: usize,
    ) -> Self {
        let wanted = TASKS * rayon::current_num_threads();
        let width = tiles.shape().1;
        let (most, least) = tiles.task_w_rows();
        let [most, least] = [most, least].map(|w_rows| (w_rows / n).next_multiple_of(width));
        // Where there is nothing to divide, dividing makes no tasks.
        let least = if groups.clone().all(|w_rows| w_rows <= least) { most } else { least };
        // In equal parts.
        let rows = |parts: usize| x_rows.div_ceil(parts).next_multiple_of(LEAST_TB).max(LEAST_TB);
        let mut parts = x_rows.div_ceil(TB).max(1);
        let mut size = TaskSize { rows: rows(parts), w_rows: most };
        let tasks = |size: TaskSize| {
            x_rows.div_ceil(size.rows) * groups.clone().map(|w_rows| w_rows.div_ceil(size.w_rows)).sum::<usize>()
        };
        while size.w_rows > least && tasks(size) < wanted {
            size.w_rows -= width;
        }
        while size.rows > LEAST_TB && tasks(size) < wanted {
            parts += 1;
            size.rows = rows(parts);
        }
        size
    }

    /// The blocks of the product of `x_rows` rows with `w_rows` rows of weights.
    pub(super) fn blocks(self, x_rows: usize, w_rows: usize) -> impl Iterator<Item = Block> {
        (0..x_rows).step_by(self.rows).flat_map(move |t0| {
            let t = self.rows.min(x_rows - t0);
            (0..w_rows).step_by(self.w_rows).map(move |n0| Block { t0, t, n0, n: self.w_rows.min(w_rows - n0) })
        })
    }
}

/// A block of the products with some matrices of one shape. `finish` gets every row of `x` with its sums, those of each
/// matrix.
pub(super) fn multiply<T: Tiles, const N: usize>(
    x: &Packed<T>,
    w: [&Tensor; N],
    block: Block,
    scratch: &mut Scratch<T::Number>,
    mut finish: impl FnMut(usize, [&mut [f32]; N]),
) {
    let (tiles, dtype) = (x.tiles, w[0].dtype());
    let (rows, width) = tiles.shape();
    let padded_n = block.n.next_multiple_of(width);
    let chunk = tiles.chunk(dtype, x.k);
    // Sums of a single chunk are done with as soon as they are computed.
    let kept_rows = if x.k <= chunk { rows } else { block.t.next_multiple_of(tiles.rows_unit()) };
    let stride = N * padded_n + 16;
    let Scratch { panels, rows: turning, sums, .. } = scratch;
    let sums = sums.resize(kept_rows * stride);
    for from in (0..x.k).step_by(chunk) {
        let columns = from..x.k.min(from + chunk);
        let len = T::numbers(columns.len());
        let height = T::W_SUMMANDS * len;
        let panels = panels.resize(N * padded_n * height);
        for (w, panels) in w.iter().zip(panels.chunks_exact_mut(padded_n * height)) {
            turn(tiles, w, block.n0..block.n0 + block.n, columns.clone(), turning, panels);
        }
        tiles.prepare(true);
        for t in (0..block.t).step_by(rows) {
            let count = rows.min(block.t - t);
            let sums = &mut sums[if x.k <= chunk { 0 } else { t * stride }..];
            for (panel, column) in panels.chunks_exact(height * width).zip((0..).step_by(width)) {
                let out = Place { data: &mut sums[column..], stride };
                let x = x.rows(block.t0 + t, from);
                tiles.tile(from == 0, count.next_multiple_of(tiles.rows_unit()), len, x, panel, out);
            }
            if columns.end == x.k {
                for (t, sums) in (block.t0 + t..).zip(sums.chunks_mut(stride)).take(count) {
                    let mut matrices = sums.chunks_mut(padded_n);
                    let sums = std::array::from_fn(|_| &mut matrices.next().expect("N of them")[..block.n]);
                    finish(t, sums);
                }
            }
        }
        tiles.prepare(false);
    }
}

/// Turns columns of some rows of weights into panels. Columns of a panel beyond the last row hold whatever.
fn turn<T: Tiles>(
    tiles: T,
    w: &Tensor,
    rows: Range<usize>,
    columns: Range<usize>,
    turning: &mut Lines<T::Number>,
    panels: &mut [T::Number],
) {
    let (dtype, width) = (w.dtype(), tiles.shape().1);
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    let bytes = columns.start / block_len * block_bytes..columns.end / block_len * block_bytes;
    let (len, numbers) = (T::W_SUMMANDS * T::numbers(columns.len()), columns.len().div_ceil(T::PER));
    // Words are whole, and whole pairs of them.
    let even = columns.len().is_multiple_of(2) && cfg!(target_endian = "little");
    let taken = tiles.takes(dtype).filter(|_| even);
    // An odd number of vectors: rows a power of two apart would share their places in the cache.
    let stride = (len.div_ceil(16) | 1) * 16;
    let turning = turning.resize(TOGETHER * stride);
    for (panel, first) in panels.chunks_exact_mut(len * width).zip(rows.clone().step_by(width)) {
        let last = rows.end.min(first + width);
        for some in (first..last).step_by(TOGETHER) {
            let count = TOGETHER.min(last - some);
            let column = &mut panel[some - first..];
            if let Some(taken) = taken {
                let stored = &w.bytes()[some * w.row_bytes() + bytes.start..];
                let words = bytes.len() / 4;
                transpose_stored(tiles.kernel(), taken, (count, words), (stored, w.row_bytes()), (column, width));
            } else {
                for (row, numbers) in (some..some + count).zip(turning.chunks_exact_mut(stride)) {
                    tiles.unpack(dtype, &w.row(row)[bytes.clone()], &mut numbers[..len]);
                }
                transpose(tiles.kernel(), (count, len), (turning, stride), (column, width));
            }
        }
        if taken.is_some() && !numbers.is_multiple_of(T::PAD) {
            let whole = T::W_SUMMANDS * (numbers - numbers % T::PAD);
            for part in panel[whole * width..].chunks_exact_mut(T::PAD * width) {
                part[numbers % T::PAD * width..].fill(T::Number::default());
            }
        }
    }
}

/// Rows of weights that are turned together: the side of the largest square that is turned in registers.
const TOGETHER: usize = 16;

/// `x . w^T` for several matrices.
pub(super) fn linear<T: Tiles, const N: usize>(x: &Packed<T>, w: [&Tensor; N]) -> [Rows; N] {
    // Not set to zero first: that would go through all of it once more.
    let mut out = w.map(|w| Vec::with_capacity(x.n * w.n_rows()));
    let places: [_; N] = std::array::from_fn(|i| Shared { data: out[i].as_mut_ptr(), stride: w[i].n_rows() });
    products(x, &w.map(|w| [w]), |matrix, t, n0, [sums]| {
        // SAFETY: there is room for `n` rows as long as a row of sums, and the part of a row from `n0` on is that of one task.
        unsafe { places[matrix].at(t, n0).copy_from_nonoverlapping(sums.as_ptr(), sums.len()) };
    });
    std::array::from_fn(|i| {
        let mut data = std::mem::take(&mut out[i]);
        // SAFETY: all rows and all columns were put.
        unsafe { data.set_len(x.n * w[i].n_rows()) };
        Rows::from_vec(x.n, w[i].n_rows(), data)
    })
}

/// `into += x . w^T`.
pub(super) fn linear_add<T: Tiles>(x: &Packed<T>, w: &Tensor, into: &mut Rows) {
    assert_eq!((into.n(), into.d()), (x.n, w.n_rows()), "{w:?}: shape of the product");
    let place = Shared { stride: into.d(), data: into.data_mut().as_mut_ptr() };
    products(x, &[[w]], |_, t, n0, [sums]| {
        // SAFETY: there are `n` rows as long as a row of sums, and the part of a row from `n0` on is that of one task.
        let into = unsafe { std::slice::from_raw_parts_mut(place.at(t, n0), sums.len()) };
        elementwise::add(x.tiles.kernel(), into, sums);
    });
}

/// `silu(x . gate^T) * (x . up^T)`, packed for the next product.
pub(super) fn swiglu<T: Tiles>(x: &Packed<T>, gate: &Tensor, up: &Tensor) -> Packed<T> {
    Packed::filled(x.tiles, x.n, gate.n_rows(), |place| {
        products(x, &[[gate, up]], |_, t, n0, [gate, up]| {
            elementwise::silu_mul(x.tiles.kernel(), gate, up);
            // SAFETY: there are `n` rows as long as a row of sums, and the part of a row from `n0` on is that of one task.
            unsafe { place.put(t, n0, gate) };
        });
    })
}

/// Computes the products with some groups of matrices, and hands each row of each block to `finish`: the group, the row of
/// `x`, the first row of weights, and the sums of the group's matrices.
fn products<T: Tiles, const N: usize>(
    x: &Packed<T>,
    groups: &[[&Tensor; N]],
    finish: impl Fn(usize, usize, usize, [&mut [f32]; N]) + Sync,
) {
    assert!(x.k > 0, "rows of no columns");
    for group in groups {
        for w in group {
            assert_eq!(x.k, w.n_cols(), "{w:?} does not fit rows of {}", x.k);
            assert_eq!(w.n_rows(), group[0].n_rows(), "{w:?}: rows of a group");
        }
    }
    let size = TaskSize::new(x.tiles, x.n, groups.iter().map(|group| group[0].n_rows()), N);
    let tasks: Vec<(usize, Block)> = (groups.iter().enumerate())
        .flat_map(|(group, w)| size.blocks(x.n, w[0].n_rows()).map(move |block| (group, block)))
        .collect();
    tasks.par_iter().with_max_len(1).for_each(|&(group, block)| {
        T::with_scratch(|scratch| {
            multiply(x, groups[group], block, scratch, |t, sums| finish(group, t, block.n0, sums));
        });
    });
}

/// Rows that tasks write to, each to a part of its own.
pub(super) struct Shared {
    pub data: *mut f32,
    pub stride: usize,
}

// SAFETY: nothing but `at` gives the pointer away, whose callers say why no two tasks write to the same place.
unsafe impl Sync for Shared {}

impl Shared {
    /// Where column `n` of row `t` is.
    ///
    /// # Safety
    /// There is such a place.
    pub(super) unsafe fn at(&self, t: usize, n: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.data.add(t * self.stride + n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::KC;
    #[cfg(target_arch = "x86_64")]
    use crate::cpu::tiles::NarrowTiles;
    use crate::cpu::tiles::{Bf16Tiles, F32Tiles, SplitTiles};
    use crate::cpu::{Kernel, Precision};
    use crate::{Bytes, Dtype, Norm};
    use half::{bf16, f16};
    use proptest::prelude::*;

    /// The definition, word for word; in each pair of columns the second comes first if `swapped`.
    fn plain(x: &Rows, w: &[f32], n: usize, swapped: bool) -> Vec<f32> {
        let k = x.d();
        let order = |k: usize, len: usize| if swapped && (k ^ 1) < len { k ^ 1 } else { k };
        let dot = |x: &[f32], w: &[f32]| {
            let chain = |(x, w): (&[f32], &[f32])| {
                (0..x.len()).map(|i| order(i, x.len())).fold(0f32, |sum, i| w[i].mul_add(x[i], sum))
            };
            x.chunks(KC).zip(w.chunks(KC)).map(chain).reduce(|a, b| a + b).unwrap_or(0.0)
        };
        (0..x.n()).flat_map(|t| (0..n).map(move |r| (t, r))).map(|(t, r)| dot(x.row(t), &w[r * k..][..k])).collect()
    }

    /// The same in the order of AMX, one sum over all of k, of so many summands of either operand.
    #[cfg(target_arch = "x86_64")]
    fn plain_amx((x_summands, w_summands): (usize, usize), x: &Rows, w: &[f32]) -> Vec<f32> {
        let rounded = Bf16Tiles::new(Kernel::Amx).expect("only asked where there is AMX");
        let split = SplitTiles::new(Kernel::Amx, Precision::F32).expect("as above");
        let pairs = |summands: usize, row: &[f32]| {
            let mut pairs = vec![0u32; summands * Bf16Tiles::numbers(row.len())];
            if summands == 1 {
                rounded.convert(row, &mut pairs)
            } else {
                split.convert(row, &mut pairs)
            }
            pairs
        };
        let w: Vec<_> = w.chunks(x.d()).map(|w| pairs(w_summands, w)).collect();
        let x = (0..x.n()).map(|t| pairs(x_summands, x.row(t)));
        x.flat_map(|x| w.iter().map(|w| crate::cpu::amx::twin((x_summands, w_summands), &x, w)).collect::<Vec<_>>())
            .collect()
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

    fn first([rows]: [Rows; 1]) -> Rows {
        rows
    }

    fn f32_tiles(kernel: Kernel) -> F32Tiles {
        F32Tiles { kernel, precision: Precision::F32 }
    }

    fn to_bf16(v: &[f32]) -> Vec<f32> {
        v.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
    }

    /// The numbers of packed rows, padding included.
    fn rows_of<T: Tiles>(x: &Packed<T>) -> Vec<Vec<T::Number>> {
        let numbers = |columns: usize| T::X_SUMMANDS * T::numbers(columns.min(x.k));
        let part = |t, first: usize| x.rows(t, first).data[..numbers(T::PART.min(x.k - first))].iter().copied();
        (0..x.n).map(|t| (0..x.k).step_by(T::PART).flat_map(|first| part(t, first)).collect()).collect()
    }

    fn same_bits(a: &Rows, b: &[f32]) -> bool {
        a.data().iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_shape_gives_the_bits_of_the_definition(t in 1usize..70, k in 1usize..1700, n in 1usize..210, seed: u32) {
            let x = Rows::from_vec(t, k, numbers(t * k, seed));
            let stored: Vec<bf16> = numbers(n * k, !seed).into_iter().map(bf16::from_f32).collect();
            let bytes = stored.iter().flat_map(|w| w.to_le_bytes()).collect();
            let w = Tensor::new("w", Dtype::Bf16, vec![n, k], Bytes::from_vec(bytes));
            let wide: Vec<f32> = stored.iter().map(|w| w.to_f32()).collect();
            let expected = plain(&x, &wide, n, false);
            for kernel in Kernel::available() {
                let out = first(linear(&Packed::new(f32_tiles(kernel), &x, None), [&w]));
                prop_assert!(same_bits(&out, &expected), "{:?}", kernel);
            }
            let expected = plain(&Rows::from_vec(t, k, to_bf16(x.data())), &wide, n, true);
            for kernel in Kernel::available() {
                let tiles = F32Tiles { kernel, precision: Precision::Bf16 };
                prop_assert!(same_bits(&first(linear(&Packed::new(tiles, &x, None), [&w])), &expected), "{:?}", kernel);
                if let Some(tiles) = Bf16Tiles::new(kernel) {
                    let out = first(linear(&Packed::new(tiles, &x, None), [&w]));
                    #[cfg(target_arch = "x86_64")]
                    let expected = if kernel == Kernel::Amx { plain_amx((1, 1), &x, &wide) } else { expected.clone() };
                    prop_assert!(same_bits(&out, &expected), "pairs on {:?}", kernel);
                }
            }
            #[cfg(target_arch = "x86_64")]
            if Kernel::Amx.is_available() {
                let narrow = Packed::new(NarrowTiles::new(Kernel::Amx, Precision::F32).unwrap(), &x, None);
                let split = Packed::new(SplitTiles::new(Kernel::Amx, Precision::F32).unwrap(), &x, None);
                let expected = plain_amx((3, 1), &x, &wide);
                for w in [w, Tensor::from_f32("w", vec![n, k], &wide)] {
                    prop_assert!(w.holds_bf16());
                    prop_assert!(same_bits(&first(linear(&narrow, [&w])), &expected), "narrow {:?}", w);
                }
                let wide = numbers(n * k, !seed);
                let w = Tensor::from_f32("w", vec![n, k], &wide);
                prop_assert!(same_bits(&first(linear(&split, [&w])), &plain_amx((3, 3), &x, &wide)), "split");
            }
        }

        #[test]
        fn a_row_does_not_depend_on_its_neighbours(t in 2usize..90, k in 1usize..900, n in 1usize..70, at: prop::sample::Index) {
            let at = at.index(t);
            let x = Rows::from_vec(t, k, numbers(t * k, 5));
            let alone = Rows::from_vec(1, k, x.row(at).to_vec());
            let w = Tensor::from_f32("w", vec![n, k], &numbers(n * k, 6));
            for kernel in Kernel::available() {
                let all = first(linear(&Packed::new(f32_tiles(kernel), &x, None), [&w]));
                prop_assert!(same_bits(&first(linear(&Packed::new(f32_tiles(kernel), &alone, None), [&w])), all.row(at)));
                if let Some(tiles) = Bf16Tiles::new(kernel) {
                    let all = first(linear(&Packed::new(tiles, &x, None), [&w]));
                    prop_assert!(same_bits(&first(linear(&Packed::new(tiles, &alone, None), [&w])), all.row(at)));
                }
                if let Some(tiles) = SplitTiles::new(kernel, Precision::F32) {
                    let all = first(linear(&Packed::new(tiles, &x, None), [&w]));
                    prop_assert!(same_bits(&first(linear(&Packed::new(tiles, &alone, None), [&w])), all.row(at)));
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn f32_in_summands_is_as_exact_as_f32() {
        let (t, n) = (40, 50);
        for k in [576, 1536, 4096] {
            let (x, w) = (Rows::from_vec(t, k, numbers(t * k, 1)), numbers(n * k, 2));
            let narrow: Vec<f32> = to_bf16(&w);
            let errors = |w: &[f32], found: &[f32]| -> Vec<f64> {
                (found.iter().enumerate())
                    .map(|(at, found)| {
                        let products =
                            || x.row(at / n).iter().zip(&w[at % n * k..]).map(|(x, w)| *x as f64 * *w as f64);
                        (products().sum::<f64>() - *found as f64).abs() / products().map(f64::abs).sum::<f64>()
                    })
                    .collect()
            };
            let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
            let most = |errors: &[f64]| errors.iter().copied().fold(0.0, f64::max);
            let chains = errors(&w, &plain(&x, &w, n, false));
            for (w, summands) in [(&w, 3), (&narrow, 1)] {
                let found = errors(w, &plain_amx((3, summands), &x, w));
                assert!(most(&found) < 2f64.powi(-23), "{k}, {summands}: {}", most(&found));
                assert!(mean(&found) < mean(&chains), "{k}, {summands}: {} of {}", mean(&found), mean(&chains));
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn weights_of_any_type_become_summands() {
        if !Kernel::Amx.is_available() {
            return;
        }
        let (t, k, n) = (20, 1056, 70);
        let x = Rows::from_vec(t, k, numbers(t * k, 1));
        let half: Vec<u8> = numbers(n * k, 2).into_iter().flat_map(|w| f16::from_f32(w).to_le_bytes()).collect();
        let blocks: Vec<u8> = numbers(n * k / 32, 3)
            .into_iter()
            .enumerate()
            .flat_map(|(i, d)| {
                f16::from_f32(d).to_le_bytes().into_iter().chain((0..32).map(move |j| (i * 31 + j * 7) as u8))
            })
            .collect();
        let wide = Tensor::from_f32("f32", vec![n, k], &numbers(n * k, 4));
        let narrow = Tensor::from_f32_rounded_to_bf16("bf16", vec![n, k], &numbers(n * k, 4));
        let stored = |dtype, bytes| Tensor::new("w", dtype, vec![n, k], Bytes::from_vec(bytes));
        for w in [stored(Dtype::F16, half), stored(Dtype::Q8_0, blocks), wide, narrow] {
            for precision in [Precision::F32, Precision::F16] {
                let mut values = w.to_f32();
                if precision == Precision::F16 {
                    values.iter_mut().for_each(|w| *w = f16::from_f32(*w).to_f32());
                }
                let split = SplitTiles::new(Kernel::Amx, precision).unwrap();
                let found = first(linear(&Packed::new(split, &x, None), [&w]));
                assert!(same_bits(&found, &plain_amx((3, 3), &x, &values)), "{w:?} {precision:?}");
                if w.holds_bf16() {
                    let narrow = NarrowTiles::new(Kernel::Amx, precision).unwrap();
                    let found = first(linear(&Packed::new(narrow, &x, None), [&w]));
                    assert!(same_bits(&found, &plain_amx((3, 1), &x, &values)), "{w:?} {precision:?}");
                }
            }
        }
    }

    #[test]
    fn blocks_larger_than_a_task_fit_together() {
        let (t, k, n) = (TB + 33, 40, 200 + 7);
        let x = Rows::from_vec(t, k, numbers(t * k, 1));
        let w = numbers(n * k, 2);
        let tensor = Tensor::from_f32("w", vec![n, k], &w);
        for kernel in Kernel::available() {
            let out = first(linear(&Packed::new(f32_tiles(kernel), &x, None), [&tensor]));
            assert!(out.data() == plain(&x, &w, n, false), "{kernel:?}");
        }
    }

    #[test]
    fn no_rows_give_no_rows() {
        let (x, w) = (Rows::zeros(0, 40), Tensor::from_f32("w", vec![100, 40], &numbers(4000, 1)));
        for kernel in Kernel::available() {
            let packed = Packed::new(f32_tiles(kernel), &x, None);
            assert_eq!(first(linear(&packed, [&w])), Rows::zeros(0, 100));
            assert_eq!(
                first(linear(&swiglu(&packed, &w, &w), [&Tensor::from_f32("v", vec![2, 100], &[0.5; 200])])).n(),
                0
            );
            linear_add(&packed, &w, &mut Rows::zeros(0, 100));
        }
    }

    #[test]
    fn f16_rounds_the_weights() {
        let (t, k, n) = (3, 50, 5);
        let x = Rows::from_vec(t, k, numbers(t * k, 1));
        let w = numbers(n * k, 2);
        let rounded: Vec<f32> = w.iter().map(|x| f16::from_f32(*x).to_f32()).collect();
        let tiles = F32Tiles { kernel: Kernel::detect(), precision: Precision::F16 };
        let out = first(linear(&Packed::new(tiles, &x, None), [&Tensor::from_f32("w", vec![n, k], &w)]));
        assert_eq!(out.data(), plain(&x, &rounded, n, false));
    }

    #[test]
    fn fused_forms_give_the_bits_of_their_parts() {
        let (t, k, n) = (45, 130, 101);
        let (x, gain) = (Rows::from_vec(t, k, numbers(t * k, 1)), numbers(k, 4));
        let gate = Tensor::from_f32("gate", vec![n, k], &numbers(n * k, 2));
        let up = Tensor::from_f32("up", vec![n, k], &numbers(n * k, 3));
        for kernel in Kernel::available() {
            let mut normed = Rows::zeros(t, k);
            for (row, normed) in normed.data_mut().chunks_exact_mut(k).enumerate() {
                elementwise::rms_norm(kernel, x.row(row), Some(&gain), 1e-5, normed);
            }
            let apart = Packed::new(f32_tiles(kernel), &normed, None);
            let fused = Packed::new(f32_tiles(kernel), &x, Some(Norm { gain: Some(&gain), eps: 1e-5 }));
            assert_eq!(rows_of(&apart), rows_of(&fused));
            let [g, u] = linear(&apart, [&gate, &up]);
            assert_eq!([&g, &u], [&first(linear(&apart, [&gate])), &first(linear(&apart, [&up]))]);
            let mut expected = g.clone();
            elementwise::silu_mul(kernel, expected.data_mut(), u.data());
            let hidden = swiglu(&fused, &gate, &up);
            assert_eq!(rows_of(&hidden), rows_of(&Packed::new(f32_tiles(kernel), &expected, None)));
            let mut sum = expected.clone();
            linear_add(&fused, &gate, &mut sum);
            assert!(sum.data().iter().zip(expected.data()).zip(g.data()).all(|((sum, a), b)| *sum == a + b));
        }
    }

    #[test]
    fn hidden_rows_are_packed_as_any_others() {
        for (t, n) in [(45, 101), (7, 96), (33, 194)] {
            let k = 40;
            let x = Rows::from_vec(t, k, numbers(t * k, 1));
            let [gate, up] = [2, 3].map(|seed| Tensor::from_f32("w", vec![n, k], &numbers(n * k, seed)));
            fn check<T: Tiles>(tiles: T, x: &Rows, gate: &Tensor, up: &Tensor)
            where
                T::Number: PartialEq + std::fmt::Debug,
            {
                let packed = Packed::new(tiles, x, None);
                let [mut g, u] = linear(&packed, [gate, up]);
                elementwise::silu_mul(tiles.kernel(), g.data_mut(), u.data());
                let expected = Packed::new(tiles, &g, None);
                let found = swiglu(&packed, gate, up);
                assert_eq!(rows_of(&found), rows_of(&expected));
            }
            for kernel in Kernel::available() {
                check(F32Tiles { kernel, precision: Precision::Bf16 }, &x, &gate, &up);
                if let Some(tiles) = Bf16Tiles::new(kernel) {
                    check(tiles, &x, &gate, &up);
                }
                if let Some(tiles) = SplitTiles::new(kernel, Precision::F32) {
                    check(tiles, &x, &gate, &up);
                }
            }
        }
    }
}
