//! Rows as the tiles of a product meet them: converted, one after the other, `[part][row][column]`.

#![allow(unsafe_code)]

use std::sync::{MutexGuard, PoisonError};

use rayon::prelude::*;

use super::elementwise;
use super::kernel::View;
use super::tiles::{Lines, Tiles};
use crate::{Norm, Rows};

/// Converted rows, cut into parts of so many columns as a tile takes, each beginning with a cache line.
pub(super) struct Packed<T: Tiles> {
    pub n: usize,
    pub k: usize,
    pub tiles: T,
    data: Lines<T::Number>,
    shape: Shape,
}

/// Where numbers are.
#[derive(Clone, Copy)]
struct Shape {
    /// Rows of a part.
    rows: usize,
    /// Numbers from one row of a part to the next.
    stride: usize,
}

impl Shape {
    fn at<T: Tiles>(self, t: usize, column: usize) -> usize {
        (column / T::PART * self.rows + t) * self.stride + column % T::PART / T::PER * T::X_SUMMANDS
    }
}

/// Rows that a thread converts at least.
const ROWS: usize = 16;

impl<T: Tiles> Packed<T> {
    /// Packs rows, after a norm if one is given.
    pub(super) fn new(tiles: T, x: &Rows, norm: Option<Norm<'_>>) -> Self {
        Packed::filled(tiles, x.n(), x.d(), |place| {
            (0..x.n()).into_par_iter().with_min_len(ROWS).for_each(|t| match norm {
                Some(Norm { gain, eps }) => T::with_scratch(|scratch| {
                    let normed = scratch.normed.resize(x.d());
                    elementwise::rms_norm(tiles.kernel(), x.row(t), gain, eps, normed);
                    // SAFETY: the place of a whole row, which is that of one thread.
                    unsafe { place.put(t, 0, normed) };
                }),
                // SAFETY: as above.
                None => unsafe { place.put(t, 0, x.row(t)) },
            });
        })
    }

    /// Packs rows that `fill` puts where they belong.
    pub(super) fn filled(tiles: T, n: usize, k: usize, fill: impl FnOnce(&Places<T>)) -> Self {
        // What stands in rows that fill the largest tile does not matter.
        let shape = Shape { rows: n.next_multiple_of(tiles.rows_unit()), stride: tiles.stride(k) };
        let mut data = spare::<T>().pop().unwrap_or_default();
        let numbers = data.resize(k.div_ceil(T::PART) * shape.rows * shape.stride);
        fill(&Places { tiles, data: numbers.as_mut_ptr(), shape, k });
        Packed { n, k, tiles, data, shape }
    }

    /// Rows from `t` on, from a column on, which is the first of a part or, if there is one part, any.
    pub(super) fn rows(&self, t: usize, column: usize) -> View<'_, T::Number> {
        View { data: &self.data.as_slice()[self.shape.at::<T>(t, column)..], stride: self.shape.stride }
    }
}

/// Where rows are put that are being packed, by any number of threads.
pub(super) struct Places<T: Tiles> {
    tiles: T,
    data: *mut T::Number,
    shape: Shape,
    k: usize,
}

// SAFETY: nothing but `put` uses the pointer, whose callers promise that no two threads write to the same place.
unsafe impl<T: Tiles> Sync for Places<T> {}

impl<T: Tiles> Places<T> {
    /// Converts columns of row `t`, from `column` on, a multiple of `PER`, and of `PER * PAD` where rows are sums. Behind the
    /// last column of all come zeros.
    ///
    /// # Safety
    /// The row has these columns, which nobody else puts meanwhile.
    pub(super) unsafe fn put(&self, t: usize, mut column: usize, mut values: &[f32]) {
        while !values.is_empty() {
            let (here, rest) = values.split_at(values.len().min(T::PART - column % T::PART));
            let after = column + here.len();
            let end = if after == self.k { T::numbers(after) } else { after / T::PER };
            // SAFETY: the caller's promise; a row has room for its padding.
            let numbers = unsafe {
                let first = self.data.add(self.shape.at::<T>(t, column));
                std::slice::from_raw_parts_mut(first, T::X_SUMMANDS * (end - column / T::PER))
            };
            self.tiles.convert(here, numbers);
            (column, values) = (after, rest);
        }
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
