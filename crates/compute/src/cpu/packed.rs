//! Rows side by side in panels, as the tiles of a product meet them: `[panel][k][width]`.

use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use rayon::prelude::*;

use super::elementwise;
use super::tiles::{Lines, Tiles};
use super::transpose::transpose;
use crate::{Norm, Rows};

/// Rows side by side in panels. The last panel is as wide as it must be: a full or a half width.
pub(super) struct Packed<T: Tiles> {
    pub n: usize,
    pub k: usize,
    pub tiles: T,
    pub data: Lines<T::Number>,
}

impl<T: Tiles> Packed<T> {
    /// Room for rows, which holds whatever.
    fn room(tiles: T, n: usize, k: usize) -> Self {
        let (width, last) = (tiles.width(), n % tiles.width());
        let padded = n / width * width + if last == 0 { 0 } else { width >> (last <= width / 2) as u32 };
        let mut data = spare::<T>().pop().unwrap_or_default();
        data.resize(padded * T::numbers(k));
        Packed { n, k, tiles, data }
    }

    /// Room for rows of which all columns but the padding will be written.
    pub(super) fn padded(tiles: T, n: usize, k: usize) -> Self {
        let mut packed = Packed::room(tiles, n, k);
        let (numbers, columns) = (T::numbers(k), k.div_ceil(T::PER));
        if columns < numbers {
            for panel in packed.data.as_mut_slice().chunks_mut(tiles.width() * numbers) {
                let width = panel.len() / numbers;
                panel[columns * width..].fill(T::Number::default());
            }
        }
        packed
    }

    /// Packs rows, after a norm if one is given.
    pub(super) fn new(tiles: T, x: &Rows, norm: Option<Norm<'_>>) -> Self {
        let (k, width, numbers) = (x.d(), tiles.width(), T::numbers(x.d()));
        let mut packed = Packed::room(tiles, x.n(), k);
        packed.data.as_mut_slice().par_chunks_mut((width * numbers).max(1)).enumerate().for_each(|(panel, data)| {
            let rows = &x.data()[panel * width * k..];
            let rows = rows[..rows.len().min(width * k)].chunks_exact(k);
            let (count, width) = (rows.len(), data.len() / numbers);
            if count < width {
                data.fill(T::Number::default());
            }
            T::with_scratch(|scratch| {
                let normed = scratch.normed.resize(k);
                let converted = scratch.numbers.resize(count * numbers);
                for (row, converted) in rows.zip(converted.chunks_exact_mut(numbers)) {
                    match norm {
                        Some(Norm { gain, eps }) => {
                            elementwise::rms_norm(tiles.kernel(), row, gain, eps, normed);
                            tiles.convert(normed, converted);
                        }
                        None => tiles.convert(row, converted),
                    }
                }
                transpose(tiles.kernel(), (count, numbers), (converted, numbers), (data, width));
            });
        });
        packed
    }

    /// Width of a panel.
    pub(super) fn width(&self, panel: usize) -> usize {
        let width = self.tiles.width();
        if self.n - panel * width <= width / 2 { width / 2 } else { width }
    }

    /// The panels of the rows `t`, each with its width.
    pub(super) fn panels(&self, t: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let width = self.tiles.width();
        (t.start / width..t.end.div_ceil(width)).map(|panel| (panel, self.width(panel)))
    }

    /// The numbers of a panel.
    pub(super) fn panel(&self, panel: usize) -> &[T::Number] {
        let numbers = T::numbers(self.k);
        &self.data.as_slice()[panel * self.tiles.width() * numbers..][..self.width(panel) * numbers]
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
