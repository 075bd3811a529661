//! Matrix products with weights in place: `out[t, n] = sum over k of x[t, k] * w[n, k]`.
//!
//! `x` is packed once into panels of `width` rows side by side (`[panel][k][width]`). A task takes a block of `x` and some
//! rows of weights (Goto & van de Geijn 2008): it unpacks `step` columns of the weights, whatever their stored type, into
//! a buffer that stays in the second-level cache, and lets every panel meet them, a piece of it being in the first-level
//! cache all the while. The sum over k is made in chunks ([`Tiles::chunk`]), each a chain from 0 that goes on through the
//! steps of the chunk, added in ascending order: a definition that knows neither batch nor step.
//!
//! Sums stand as the tiles leave them, `[n][width]` for each panel. That is how a panel of the next product's `x` stands
//! too: what goes from one product into the next (SwiGLU) is never turned into rows.

#![allow(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use super::elementwise;
use super::kernel::View;
use super::packed::Packed;
use super::tiles::{Lines, Scratch, Tiles};
use super::transpose::transpose_to;
use crate::{Rows, Tensor};

/// Rows of `x` that one task computes, where there are enough of them for all threads: weights are unpacked once for so
/// many, and their sums stay in the second-level cache. A multiple of every kernel's width.
const TB: usize = 512;
/// The least that is worth unpacking weights for.
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

impl Block {
    fn rows(&self) -> Range<usize> {
        self.t0..self.t0 + self.t
    }
}

/// Rows of `x` that a task takes, out of `x_rows`, if there are `others` tasks for each such block.
pub(super) fn rows_of_a_task(x_rows: usize, others: usize) -> usize {
    let wanted = TASKS * rayon::current_num_threads();
    let mut rows = TB;
    while rows > LEAST_TB && x_rows.div_ceil(rows) * others < wanted {
        rows /= 2;
    }
    rows
}

/// The blocks of the product of `x_rows` rows with `w_rows` rows of weights.
pub(super) fn blocks<T: Tiles>(
    tiles: T,
    x_rows: usize,
    w_rows: usize,
    task_rows: usize,
) -> impl Iterator<Item = Block> {
    let task_w_rows = tiles.task_w_rows();
    (0..x_rows).step_by(task_rows).flat_map(move |t0| {
        let t = task_rows.min(x_rows - t0);
        (0..w_rows).step_by(task_w_rows).map(move |n0| Block { t0, t, n0, n: task_w_rows.min(w_rows - n0) })
    })
}

/// A block of the product: its sums, panel after panel, `[n][width]` (`n` rounded up to whole tiles).
pub(super) fn multiply<'a, T: Tiles>(
    x: &Packed<T>,
    w: &Tensor,
    block: Block,
    weights: &mut Lines<T::Number>,
    chunk: &mut Lines<f32>,
    sums: &'a mut Lines<f32>,
) -> &'a mut [f32] {
    let (tiles, dtype) = (x.tiles, w.dtype());
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    let stored = |row, columns: Range<usize>| {
        &w.row(row)[columns.start / block_len * block_bytes..columns.end.div_ceil(block_len) * block_bytes]
    };
    let padded_n = block.n.next_multiple_of(tiles.rows());
    let size = x.panels(block.rows()).map(|(_, width)| width).sum::<usize>() * padded_n;
    let step = tiles.step(dtype, x.k);
    let stride = tiles.stride(step);
    let weights = weights.resize(padded_n * stride);
    let sums = sums.resize(size);
    tiles.prepare(true);
    for k0 in (0..x.k).step_by(tiles.chunk()) {
        let k_end = x.k.min(k0.saturating_add(tiles.chunk()));
        let into = if k0 == 0 { &mut *sums } else { chunk.resize(size) };
        for from in (k0..k_end).step_by(step * T::PER) {
            let to = k_end.min(from + step * T::PER);
            let len = T::numbers(to - from);
            for (row, weights) in (block.n0..block.n0 + block.n).zip(weights.chunks_exact_mut(stride)) {
                tiles.unpack(dtype, stored(row, from..to), &mut weights[..len]);
            }
            // While the tiles are at work, what comes next comes closer, a share with each of them: the weights of the next
            // step, and a panel's piece before its turn.
            let (next_n0, next) = match to < x.k {
                true => (block.n0, to..x.k.min(to + step * T::PER)),
                false => (block.n0 + block.n, 0..x.k.min(step * T::PER)),
            };
            let mut next_rows = next_n0..w.n_rows().min(next_n0 + block.n);
            let tiles_in_step = x.panels(block.rows()).count() * (padded_n / tiles.rows());
            let rows_share = block.n.div_ceil(tiles_in_step);
            let mut into = &mut into[..];
            let piece = |(panel, width)| (&x.panel(panel)[from / T::PER * width..][..len * width], width);
            let mut panels = x.panels(block.rows()).map(piece).peekable();
            while let Some((data, width)) = panels.next() {
                let next_piece = panels.peek().filter(|_| T::AHEAD).map_or(&[][..], |(piece, _)| piece);
                let share = next_piece.len().div_ceil(padded_n / tiles.rows()).max(1);
                let mut shares = next_piece.chunks(share);
                let (here, rest) = into.split_at_mut(padded_n * width);
                for (out, weights) in
                    here.chunks_exact_mut(tiles.rows() * width).zip(weights.chunks_exact(tiles.rows() * stride))
                {
                    tiles.kernel().prefetch(shares.next().unwrap_or_default());
                    for row in next_rows.by_ref().take(rows_share) {
                        tiles.kernel().prefetch(stored(row, next.clone()));
                    }
                    tiles.tile(from == k0, width, len, data, View { data: weights, stride }, out);
                }
                into = rest;
            }
        }
        if k0 > 0 {
            elementwise::add(tiles.kernel(), sums, chunk.as_slice());
        }
    }
    tiles.prepare(false);
    sums
}

/// What one panel of a block has come to.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// First row of `x`.
    pub t0: usize,
    /// Rows of `x`.
    pub t: usize,
    /// First row of the weights.
    pub n0: usize,
    /// Rows of the weights.
    pub n: usize,
    /// Columns of the sums: `t`, rounded up.
    pub width: usize,
}

/// The panels of a block, each with where its sums begin.
pub(super) fn pieces<T: Tiles>(x: &Packed<T>, block: Block) -> impl Iterator<Item = (Piece, usize)> {
    let padded_n = block.n.next_multiple_of(x.tiles.rows());
    x.panels(block.rows()).scan(0, move |at, (panel, width)| {
        let begin = *at;
        *at += padded_n * width;
        let t0 = panel * x.tiles.width();
        Some((Piece { t0, t: width.min(x.n - t0), n0: block.n0, n: block.n, width }, begin))
    })
}

/// `x . w^T` for several matrices.
pub(super) fn linear<T: Tiles, const N: usize>(x: &Packed<T>, w: [&Tensor; N]) -> [Rows; N] {
    // Not set to zero first: that would go through all of it once more.
    let mut out = w.map(|w| Vec::with_capacity(x.n * w.n_rows()));
    let places: [_; N] = std::array::from_fn(|i| Places::<false> { d: w[i].n_rows(), data: out[i].as_mut_ptr() });
    products(x, &w.map(|w| [w]), |matrix, piece, [sums]| {
        // SAFETY: there is room for `n` rows, and pieces of different tasks do not overlap.
        unsafe { places[matrix].put(x.tiles, piece, sums) };
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
    let places = Places::<true> { d: into.d(), data: into.data_mut().as_mut_ptr() };
    products(x, &[[w]], |_, piece, [sums]| {
        // SAFETY: there are `n` rows, and pieces of different tasks do not overlap.
        unsafe { places.put(x.tiles, piece, sums) };
    });
}

/// `silu(x . gate^T) * (x . up^T)`, packed for the next product.
pub(super) fn swiglu<T: Tiles>(x: &Packed<T>, gate: &Tensor, up: &Tensor) -> Packed<T> {
    let mut hidden = Packed::padded(x.tiles, x.n, gate.n_rows());
    let numbers = T::numbers(hidden.k);
    let shared = Shared(hidden.data.as_mut_slice().as_mut_ptr());
    let shared = &shared;
    products(x, &[[gate, up]], |_, piece, [gate, up]| {
        let len = piece.n * piece.width;
        elementwise::silu_mul(x.tiles.kernel(), &mut gate[..len], &up[..len]);
        let at = piece.t0 * numbers + piece.n0 / T::PER * piece.width;
        // SAFETY: a panel begins at `t0 * numbers`, and these columns of it (`n0` is a multiple of `PER`) belong to this
        // piece alone; nobody else touches `hidden` before all are done.
        let panel = unsafe { std::slice::from_raw_parts_mut(shared.0.add(at), piece.n.div_ceil(T::PER) * piece.width) };
        x.tiles.convert_columns(piece.width, &gate[..len], panel);
    });
    hidden
}

/// Computes the products with some groups of matrices, and hands each piece to `finish`: the group, and the sums of its
/// matrices.
fn products<T: Tiles, const N: usize>(
    x: &Packed<T>,
    groups: &[[&Tensor; N]],
    finish: impl Fn(usize, Piece, [&mut [f32]; N]) + Sync,
) {
    for w in groups.iter().flatten() {
        assert_eq!(x.k, w.n_cols(), "{w:?} does not fit rows of {}", x.k);
    }
    let across = groups.iter().map(|group| group[0].n_rows().div_ceil(x.tiles.task_w_rows())).sum();
    let task_rows = rows_of_a_task(x.n, across);
    let tasks: Vec<(usize, Block)> = (groups.iter().enumerate())
        .flat_map(|(group, w)| blocks(x.tiles, x.n, w[0].n_rows(), task_rows).map(move |block| (group, block)))
        .collect();
    tasks.par_iter().with_max_len(1).for_each(|&(group, block)| {
        T::with_scratch(|scratch| {
            let Scratch { weights, sums, chunk, .. } = scratch;
            for (w, sums) in groups[group].iter().zip(sums.iter_mut()) {
                assert_eq!(w.n_rows(), groups[group][0].n_rows(), "{w:?}: rows of a group");
                multiply(x, w, block, weights, chunk, sums);
            }
            for (piece, begin) in pieces(x, block) {
                let mut sums = sums.iter_mut();
                let sums = std::array::from_fn(|_| {
                    let sums = sums.next().expect("scratch for two products");
                    &mut sums.as_mut_slice()[begin..][..piece.n * piece.width]
                });
                finish(group, piece, sums);
            }
        });
    });
}

/// A pointer that tasks may share because they write to places of their own.
struct Shared<N>(*mut N);

// SAFETY: only `swiglu` uses it, in the way that is said there.
unsafe impl<N: Send> Sync for Shared<N> {}

/// The rows of a product, `d` wide, which tasks fill piece by piece; or, if `ADD`, to which they add.
struct Places<const ADD: bool> {
    d: usize,
    data: *mut f32,
}

// SAFETY: nothing but `put` uses the pointer, whose callers promise that no two tasks write to the same place.
unsafe impl<const ADD: bool> Sync for Places<ADD> {}

impl<const ADD: bool> Places<ADD> {
    /// Turns the sums of a piece into rows where they belong.
    ///
    /// # Safety
    /// There is memory for all rows of the piece, which nobody else uses meanwhile; if `ADD`, there are numbers in it.
    unsafe fn put<T: Tiles>(&self, tiles: T, piece: Piece, sums: &[f32]) {
        let Piece { t0, t, n0, n, width } = piece;
        assert!(n0 + n <= self.d);
        // SAFETY: the caller's promise.
        unsafe {
            let first = self.data.add(t0 * self.d + n0);
            transpose_to::<f32, ADD>(tiles.kernel(), (n, t), (sums, width), first, self.d);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::KC;
    use crate::cpu::tiles::{Bf16Tiles, F32Tiles};
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

    /// The same in the order of AMX: one sum over all of k.
    #[cfg(target_arch = "x86_64")]
    fn plain_amx(x: &Rows, w: &Tensor) -> Vec<f32> {
        let tiles = Bf16Tiles::new(Kernel::Amx).expect("only asked where there is AMX");
        let pairs = |row: &[f32]| {
            let mut pairs = vec![0u32; Bf16Tiles::numbers(row.len())];
            tiles.convert(row, &mut pairs);
            pairs
        };
        let x: Vec<_> = (0..x.n()).map(|t| pairs(x.row(t))).collect();
        let w: Vec<_> = w.to_f32().chunks(w.n_cols()).map(pairs).collect();
        x.iter().flat_map(|x| w.iter().map(|w| crate::cpu::amx::twin(x, w))).collect()
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
                    let expected = if kernel == Kernel::Amx { plain_amx(&x, &w) } else { expected.clone() };
                    prop_assert!(same_bits(&out, &expected), "pairs on {:?}", kernel);
                }
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
            assert_eq!(apart.data.as_slice(), fused.data.as_slice());
            let [g, u] = linear(&apart, [&gate, &up]);
            assert_eq!([&g, &u], [&first(linear(&apart, [&gate])), &first(linear(&apart, [&up]))]);
            let mut expected = g.clone();
            elementwise::silu_mul(kernel, expected.data_mut(), u.data());
            let hidden = swiglu(&fused, &gate, &up);
            assert_eq!(hidden.data.as_slice(), Packed::new(f32_tiles(kernel), &expected, None).data.as_slice());
            let mut sum = expected.clone();
            linear_add(&fused, &gate, &mut sum);
            assert!(sum.data().iter().zip(expected.data()).zip(g.data()).all(|((sum, a), b)| *sum == a + b));
        }
    }

    #[test]
    fn hidden_rows_in_bf16_are_packed_as_any_others() {
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
                // What stands in the columns beyond the last row does not matter.
                for t in 0..x.n() {
                    let of = |x: &Packed<T>| {
                        let (panel, c) = (t / tiles.width(), t % tiles.width());
                        x.panel(panel)[c..].iter().step_by(x.width(panel)).copied().collect::<Vec<_>>()
                    };
                    assert_eq!(of(&found), of(&expected), "row {t}");
                }
            }
            for kernel in Kernel::available() {
                check(F32Tiles { kernel, precision: Precision::Bf16 }, &x, &gate, &up);
                if let Some(tiles) = Bf16Tiles::new(kernel) {
                    check(tiles, &x, &gate, &up);
                }
            }
        }
    }
}
