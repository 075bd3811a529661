//! Matrix products with weights in place: `out[t, n] = sum over k of x[t, k] * w[n, k]`.
//!
//! `x` is packed once into panels of `width` rows side by side (`[panel][k][width]`); weights are unpacked a few rows
//! and `KC` columns at a time into a buffer that stays in the first-level cache, whatever their stored type, and
//! serve as the broadcast operand (Goto & van de Geijn 2008 with the roles exchanged). The sum over k is made in chunks
//! of `KC`, each a tile's sum from 0, added in ascending order: a definition that knows no batch.

#![allow(unsafe_code)]

use rayon::prelude::*;

use super::elementwise;
use super::kernel::{MAX_ROWS, MAX_WIDTH, View};
use super::tiles::{KC, Tiles};
use crate::{Norm, Rows, Tensor};

/// Rows of weights that one task computes: a multiple of every kernel's tile.
const NB: usize = 96;
/// Rows of `x` that one task computes: with `KC` columns they take less than half of a second-level cache (256 was faster
/// than 128 and 512 on a Xeon with 2 MiB).
const TB: usize = 256;

/// Bytes of a cache line: a vector or a row of a tile that lies across two of them takes twice as long to load.
const LINE: usize = 64;

/// An array that begins with a cache line.
#[repr(align(64))]
struct Aligned<T, const N: usize>([T; N]);

/// Rows side by side in panels. The last panel is as wide as it must be: a full or a half width.
pub(super) struct Packed<T: Tiles> {
    n: usize,
    k: usize,
    tiles: T,
    /// Holds the panels from `start` on, where a cache line begins.
    data: Vec<T::Number>,
    start: usize,
}

impl<T: Tiles> Packed<T> {
    /// Packs rows, after a norm if one is given.
    pub(super) fn new(tiles: T, x: &Rows, norm: Option<Norm<'_>>) -> Self {
        let (n, k, width, numbers) = (x.n(), x.d(), tiles.width(), T::numbers(x.d()));
        let last = n % width;
        let padded = n / width * width + if last == 0 { 0 } else { width >> (last <= width / 2) as u32 };
        let mut data = vec![T::Number::default(); padded * numbers + LINE / size_of::<T::Number>()];
        let start = data.as_ptr().align_offset(LINE);
        data[start..][..padded * numbers].par_chunks_mut((width * numbers).max(1)).enumerate().for_each_init(
            Vec::new,
            |normed, (panel, data)| {
                let rows = &x.data()[panel * width * k..];
                let rows = &rows[..rows.len().min(width * k)];
                let rows = match norm {
                    Some(Norm { gain, eps }) => {
                        normed.resize(rows.len(), 0.0);
                        for (row, normed) in rows.chunks_exact(k).zip(normed.chunks_exact_mut(k)) {
                            elementwise::rms_norm(tiles.kernel(), row, gain, eps, normed);
                        }
                        &normed[..]
                    }
                    None => rows,
                };
                tiles.pack(rows, k, data.len() / numbers, data);
            },
        );
        Packed { n, k, tiles, data, start }
    }

    /// First row, width and numbers of a panel.
    fn panel(&self, panel: usize) -> (usize, usize, &[T::Number]) {
        let (width, numbers) = (self.tiles.width(), T::numbers(self.k));
        let first = panel * width;
        let width = if self.n - first <= width / 2 { width / 2 } else { width };
        (first, width, &self.data[self.start + first * numbers..][..width * numbers])
    }
}

/// A rectangle of a product: rows `t0..t0 + t` of `x` and rows `n0..n0 + n` of the weights.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub t0: usize,
    pub t: usize,
    pub n0: usize,
    pub n: usize,
}

/// The blocks of the product of `x_rows` rows with `w_rows` rows of weights, in parallel.
pub(super) fn blocks(x_rows: usize, w_rows: usize) -> impl IndexedParallelIterator<Item = Block> {
    let across = w_rows.div_ceil(NB);
    (0..x_rows.div_ceil(TB) * across).into_par_iter().map(move |task| {
        let (t0, n0) = (task / across * TB, task % across * NB);
        Block { t0, t: TB.min(x_rows - t0), n0, n: NB.min(w_rows - n0) }
    })
}

/// A block of the product into `out [t, n]`.
pub(super) fn multiply<T: Tiles>(x: &Packed<T>, w: &Tensor, block: Block, out: &mut Vec<f32>) {
    let Block { t0, t, n0, n } = block;
    let (tiles, dtype) = (x.tiles, w.dtype());
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    out.resize(t * n, 0.0);
    let stride = T::numbers(KC);
    let Aligned(weights) = &mut Aligned([T::Number::default(); MAX_ROWS * KC]);
    let Aligned(tile) = &mut Aligned([0f32; MAX_ROWS * MAX_WIDTH]);
    tiles.prepare(true);
    for k0 in (0..x.k).step_by(KC) {
        let kc = KC.min(x.k - k0);
        let len = T::numbers(kc);
        for r0 in (0..n).step_by(tiles.rows()) {
            let r_n = tiles.rows().min(n - r0);
            for (r, weights) in weights.chunks_exact_mut(stride).take(r_n).enumerate() {
                let row = &w.row(n0 + r0 + r)[k0 / block_len * block_bytes..][..kc / block_len * block_bytes];
                tiles.unpack(dtype, row, &mut weights[..len]);
            }
            for panel in t0 / tiles.width()..(t0 + t).div_ceil(tiles.width()) {
                let (start, width, data) = x.panel(panel);
                let data = &data[k0 / T::PER * width..][..len * width];
                tiles.tile(width, len, View { data, stride: width }, View { data: weights, stride }, tile);
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
    tiles.prepare(false);
}

/// `x . w^T`.
pub(super) fn linear<T: Tiles>(x: &Packed<T>, w: &Tensor) -> Rows {
    let mut out = Rows::zeros(x.n, w.n_rows());
    for_blocks(x, [w], &mut out, |[product], out| out.copy_from_slice(product));
    out
}

/// `into += x . w^T`.
pub(super) fn linear_add<T: Tiles>(x: &Packed<T>, w: &Tensor, into: &mut Rows) {
    for_blocks(x, [w], into, |[product], out| {
        out.iter_mut().zip(product).for_each(|(out, product)| *out += product);
    });
}

/// `silu(x . gate^T) * (x . up^T)`.
pub(super) fn swiglu<T: Tiles>(x: &Packed<T>, gate: &Tensor, up: &Tensor) -> Rows {
    let mut out = Rows::zeros(x.n, gate.n_rows());
    let kernel = x.tiles.kernel();
    for_blocks(x, [gate, up], &mut out, |[gate, up], out| elementwise::silu_mul(kernel, gate, up, out));
    out
}

/// Computes the same block of the products with several matrices, and hands each row of it to `finish`, with its place
/// in `out`.
fn for_blocks<T: Tiles, const N: usize>(
    x: &Packed<T>,
    w: [&Tensor; N],
    out: &mut Rows,
    finish: impl Fn([&[f32]; N], &mut [f32]) + Sync,
) {
    for w in w {
        assert_eq!(x.k, w.n_cols(), "{w:?} does not fit rows of {}", x.k);
        assert_eq!((out.n(), out.d()), (x.n, w.n_rows()), "{w:?}: rows and columns of the product");
    }
    let (d, out) = (out.d(), SharedOut(out.data_mut().as_mut_ptr()));
    let out = &out;
    blocks(x.n, d).for_each_init(
        || [const { Vec::new() }; N],
        |products, block| {
            for (w, product) in w.iter().zip(products.iter_mut()) {
                multiply(x, w, block, product);
            }
            for row in 0..block.t {
                let products = std::array::from_fn(|i| &products[i][row * block.n..][..block.n]);
                // SAFETY: the blocks of different tasks do not overlap, they lie inside `out` (checked above), and
                // nobody else touches `out` before all tasks are done.
                let out =
                    unsafe { std::slice::from_raw_parts_mut(out.0.add((block.t0 + row) * d + block.n0), block.n) };
                finish(products, out);
            }
        },
    );
}

/// A pointer that tasks may share because they write to places of their own.
struct SharedOut(*mut f32);

// SAFETY: only `for_blocks` uses it, in the way that is said there.
unsafe impl Sync for SharedOut {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tiles::{Bf16Tiles, F32Tiles};
    use crate::cpu::{Kernel, Precision};
    use crate::{Bytes, Dtype};
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

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                let h = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
                let h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
                (h >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
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
                let out = linear(&Packed::new(f32_tiles(kernel), &x, None), &w);
                prop_assert!(same_bits(&out, &expected), "{:?}", kernel);
            }
            let expected = plain(&Rows::from_vec(t, k, to_bf16(x.data())), &wide, n, true);
            for kernel in Kernel::available() {
                let tiles = F32Tiles { kernel, precision: Precision::Bf16 };
                prop_assert!(same_bits(&linear(&Packed::new(tiles, &x, None), &w), &expected), "{:?}", kernel);
                if let Some(tiles) = Bf16Tiles::new(kernel) {
                    let out = linear(&Packed::new(tiles, &x, None), &w);
                    if kernel == Kernel::Amx {
                        // An order of its own, whose bits the tile's test checks: here that the tiles fit together.
                        let close = |a: f32, b: f32| (a - b).abs() <= 1e-6 * k as f32;
                        prop_assert!(out.data().iter().zip(&expected).all(|(a, b)| close(*a, *b)));
                    } else {
                        prop_assert!(same_bits(&out, &expected), "pairs on {:?}", kernel);
                    }
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
                let all = linear(&Packed::new(f32_tiles(kernel), &x, None), &w);
                prop_assert!(same_bits(&linear(&Packed::new(f32_tiles(kernel), &alone, None), &w), all.row(at)));
                if let Some(tiles) = Bf16Tiles::new(kernel) {
                    let all = linear(&Packed::new(tiles, &x, None), &w);
                    prop_assert!(same_bits(&linear(&Packed::new(tiles, &alone, None), &w), all.row(at)));
                }
            }
        }
    }

    #[test]
    fn blocks_larger_than_a_task_fit_together() {
        let (t, k, n) = (TB + 33, 40, NB + 7);
        let x = Rows::from_vec(t, k, numbers(t * k, 1));
        let w = numbers(n * k, 2);
        let tensor = Tensor::from_f32("w", vec![n, k], &w);
        for kernel in Kernel::available() {
            let out = linear(&Packed::new(f32_tiles(kernel), &x, None), &tensor);
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
        let out = linear(&Packed::new(tiles, &x, None), &Tensor::from_f32("w", vec![n, k], &w));
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
            assert_eq!(apart.data[apart.start..][..45 * k], fused.data[fused.start..][..45 * k]);
            let [g, u] = [&gate, &up].map(|w| linear(&apart, w));
            let mut expected = Rows::zeros(t, n);
            elementwise::silu_mul(kernel, g.data(), u.data(), expected.data_mut());
            assert_eq!(swiglu(&fused, &gate, &up), expected);
            let hidden = expected.clone();
            linear_add(&fused, &gate, &mut expected);
            assert!(expected.data().iter().zip(hidden.data()).zip(g.data()).all(|((all, a), b)| *all == a + b));
        }
    }
}
