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
    let words = tiles.unpacked().words(T::numbers(columns.len()));
    let stride = (words.div_ceil(16) | 1) * 16;
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
                    tiles.unpack(dtype, &w.row(row)[bytes.clone()], &mut numbers[..words]);
                }
                transpose(tiles.kernel(), tiles.unpacked(), (count, words), (turning, stride), (column, width));
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
mod tests;
