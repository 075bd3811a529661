//! Rows as the tiles of a product meet them: converted, one after the other, `[row][column]`.

use std::sync::{MutexGuard, PoisonError};

use rayon::prelude::*;

use super::elementwise;
use super::kernel::View;
use super::tiles::{LINE, Lines, Tiles};
use crate::{Norm, Rows};

/// Converted rows, each beginning with a cache line.
pub(super) struct Packed<T: Tiles> {
    pub n: usize,
    pub k: usize,
    pub tiles: T,
    data: Lines<T::Number>,
    stride: usize,
}

/// Rows that a thread converts at least.
const ROWS: usize = 16;

impl<T: Tiles> Packed<T> {
    /// Room for rows, which holds whatever; padded to the rows of the largest tile, whose values do not matter.
    fn room(tiles: T, n: usize, k: usize) -> Self {
        let line = LINE / size_of::<T::Number>();
        // An odd number of lines: rows a power of two apart would share their places in the cache.
        let stride = (T::numbers(k).div_ceil(line) | 1) * line;
        let mut data = spare::<T>().pop().unwrap_or_default();
        data.resize(n.next_multiple_of(tiles.rows_unit()) * stride);
        Packed { n, k, tiles, data, stride }
    }

    /// Rows of which all columns but the padding will be written, by [`Packed::columns`].
    pub(super) fn padded(tiles: T, n: usize, k: usize) -> Self {
        let mut packed = Packed::room(tiles, n, k);
        for row in packed.data.as_mut_slice().chunks_exact_mut(packed.stride) {
            row[k.div_ceil(T::PER)..T::numbers(k)].fill(T::Number::default());
        }
        packed
    }

    /// Packs rows, after a norm if one is given.
    pub(super) fn new(tiles: T, x: &Rows, norm: Option<Norm<'_>>) -> Self {
        let (k, numbers) = (x.d(), T::numbers(x.d()));
        let mut packed = Packed::room(tiles, x.n(), k);
        let rows = packed.data.as_mut_slice().par_chunks_exact_mut(packed.stride);
        rows.take(x.n()).enumerate().with_min_len(ROWS).for_each(|(row, packed)| {
            let packed = &mut packed[..numbers];
            match norm {
                Some(Norm { gain, eps }) => T::with_scratch(|scratch| {
                    let normed = scratch.normed.resize(k);
                    elementwise::rms_norm(tiles.kernel(), x.row(row), gain, eps, normed);
                    tiles.convert(normed, packed);
                }),
                None => tiles.convert(x.row(row), packed),
            }
        });
        packed
    }

    /// Rows from `t` on, from a column on.
    pub(super) fn rows(&self, t: usize, column: usize) -> View<'_, T::Number> {
        View { data: &self.data.as_slice()[t * self.stride + column / T::PER..], stride: self.stride }
    }

    /// Numbers of a row from some column on, to write to: the pointer to the first and the distance of rows.
    pub(super) fn as_mut_ptr(&mut self) -> (*mut T::Number, usize) {
        (self.data.as_mut_slice().as_mut_ptr(), self.stride)
    }
}

impl<T: Tiles> Drop for Packed<T> {
    fn drop(&mut self) {
        let mut spare = spare::<T>();
        if spare.len() < KEPT {
            spare.push(std::mem::take(&mut self.data));
        }
    }
}

/// Pieces of memory kept for later: a product packs its operand, an MLP also what it hides.
const KEPT: usize = 2;

fn spare<T: Tiles>() -> MutexGuard<'static, Vec<Lines<T::Number>>> {
    T::spare().lock().unwrap_or_else(PoisonError::into_inner)
}
