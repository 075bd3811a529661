//! How a matrix product is cut into tiles: which numbers are multiplied, how they are packed, and by which kernel.

#![allow(unsafe_code)] // what `vectorized` expands to

use half::f16;

use super::Precision;
use super::kernel::{Kernel, View, vectorized};
use crate::Dtype;

/// Columns of weights in a chunk: a multiple of every block length, small enough for the rows of a tile to stay in L1.
pub(super) const KC: usize = 768;

/// Operands of one kind and the kernel for them. A `Number` holds `PER` consecutive columns of a row.
pub(super) trait Tiles: Copy + Sync {
    /// What the kernel multiplies.
    type Number: Copy + Default + Send + Sync;
    /// Columns in a number.
    const PER: usize;
    /// Rows are padded with zeros to a multiple of this many numbers.
    const PAD: usize;

    /// The kernel that everything but the tile itself runs on.
    fn kernel(self) -> Kernel;
    /// Rows of weights in a tile.
    fn rows(self) -> usize;
    /// Rows of `x` in a tile; it may also be half of them.
    fn width(self) -> usize;
    /// `rows [n, k]` side by side: `panel [k / PER, width]`. The padding is already zero.
    fn pack(self, rows: &[f32], k: usize, width: usize, panel: &mut [Self::Number]);
    /// A piece of a stored row of weights; what is beyond it in `dst` is set to zero.
    fn unpack(self, dtype: Dtype, src: &[u8], dst: &mut [Self::Number]);
    /// `out[r, c] = sum over i of w[r, i] * x[i, c]` for `rows()` rows of `w` and `width` columns of `x`.
    fn tile(self, width: usize, len: usize, x: View<'_, Self::Number>, w: View<'_, Self::Number>, out: &mut [f32]);
    /// Called on a thread before and after a batch of tiles.
    fn prepare(self, _begin: bool) {}

    /// Numbers in a row of `k` columns, padding included.
    fn numbers(k: usize) -> usize {
        k.div_ceil(Self::PER).next_multiple_of(Self::PAD)
    }
}

/// Products and sums in f32, operands rounded as the precision says.
#[derive(Clone, Copy)]
pub(super) struct F32Tiles {
    pub kernel: Kernel,
    pub precision: Precision,
}

impl Tiles for F32Tiles {
    type Number = f32;
    const PER: usize = 1;
    const PAD: usize = 1;

    fn kernel(self) -> Kernel {
        self.kernel
    }

    fn rows(self) -> usize {
        self.kernel.rows()
    }

    fn width(self) -> usize {
        self.kernel.width()
    }

    fn pack(self, rows: &[f32], k: usize, width: usize, panel: &mut [f32]) {
        pack_f32(self.kernel, rows, k, width, self.precision == Precision::Bf16, panel);
    }

    fn unpack(self, dtype: Dtype, src: &[u8], dst: &mut [f32]) {
        let n = src.len() / dtype.block_bytes() * dtype.block_len();
        unpack_f32(self.kernel, dtype, src, self.precision, &mut dst[..n]);
        if self.precision == Precision::Bf16 {
            swap_pairs(&mut dst[..n]);
        }
    }

    fn tile(self, width: usize, len: usize, x: View<'_, f32>, w: View<'_, f32>, out: &mut [f32]) {
        self.kernel.tile(width, len, x, w, out);
    }
}

/// Pairs of bf16, sums in f32, on machines that multiply such pairs.
#[derive(Clone, Copy)]
pub(super) struct Bf16Tiles {
    kernel: Kernel,
}

impl Bf16Tiles {
    /// None where the kernel has no such instruction.
    pub(super) fn new(kernel: Kernel) -> Option<Self> {
        kernel.bf16_rows().map(|_| Bf16Tiles { kernel })
    }
}

impl Tiles for Bf16Tiles {
    type Number = u32;
    const PER: usize = 2;
    const PAD: usize = 16;

    fn kernel(self) -> Kernel {
        self.kernel
    }

    fn rows(self) -> usize {
        self.kernel.bf16_rows().expect("checked by `new`")
    }

    fn width(self) -> usize {
        32
    }

    fn pack(self, rows: &[f32], k: usize, width: usize, panel: &mut [u32]) {
        pack_bf16(self.kernel, rows, k, width, panel);
    }

    fn unpack(self, dtype: Dtype, src: &[u8], dst: &mut [u32]) {
        let n = src.len() / dtype.block_bytes() * dtype.block_len();
        if dtype == Dtype::Bf16 && n.is_multiple_of(2) {
            copy_pairs(self.kernel, src, dst);
        } else {
            let mut wide = [0f32; KC];
            unpack_f32(self.kernel, dtype, src, Precision::F32, &mut wide[..n]);
            round_pairs(self.kernel, &wide[..n], dst);
        }
        dst[n.div_ceil(2)..].fill(0);
    }

    fn tile(self, width: usize, len: usize, x: View<'_, u32>, w: View<'_, u32>, out: &mut [f32]) {
        self.kernel.tile_bf16(width, len, x, w, out);
    }

    fn prepare(self, begin: bool) {
        self.kernel.prepare_bf16(begin);
    }
}

/// To the nearest bf16, ties to even, as an f32; what has no normal bf16 becomes zero, because the instructions for pairs
/// of bf16 take it for zero. NaN stays NaN.
#[inline(always)]
pub(super) fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    let rounded = if rounded & 0x7f80_0000 == 0 { rounded & 0x8000_0000 } else { rounded };
    if x.is_nan() { x } else { f32::from_bits(rounded) }
}

/// The instructions add the odd column of a pair before the even one: so does every kernel.
#[inline(always)]
fn swap_pairs(row: &mut [f32]) {
    for pair in row.chunks_exact_mut(2) {
        pair.swap(0, 1);
    }
}

/// Columns that are turned together: what is written stays in the first-level cache.
const TOGETHER: usize = 16;

vectorized! {
    /// `rows [n, k]` to `panel [k, width]`; for bf16 rounded, and the columns of each pair exchanged.
    fn pack_f32(rows: &[f32], k: usize, width: usize, bf16: bool, panel: &mut [f32]) {
        for (from, panel) in (0..k).step_by(TOGETHER).zip(panel.chunks_mut(TOGETHER * width)) {
            for (c, row) in rows.chunks_exact(k).enumerate() {
                let mut columns = [0f32; TOGETHER];
                let columns = &mut columns[..TOGETHER.min(k - from)];
                columns.copy_from_slice(&row[from..][..columns.len()]);
                if bf16 {
                    columns.iter_mut().for_each(|x| *x = round_to_bf16(*x));
                    swap_pairs(columns);
                }
                for (x, out) in columns.iter().zip(panel[c..].iter_mut().step_by(width)) {
                    *out = *x;
                }
            }
        }
    }
}

vectorized! {
    /// `rows [n, k]` to `panel [k / 2, width]` of pairs.
    fn pack_bf16(rows: &[f32], k: usize, width: usize, panel: &mut [u32]) {
        for (from, panel) in (0..k).step_by(2 * TOGETHER).zip(panel.chunks_mut(TOGETHER * width)) {
            for (c, row) in rows.chunks_exact(k).enumerate() {
                let mut pairs = [0u32; TOGETHER];
                to_pairs(&row[from..k.min(from + 2 * TOGETHER)], &mut pairs);
                for (pair, out) in pairs.iter().zip(panel[c..].iter_mut().step_by(width)) {
                    *out = *pair;
                }
            }
        }
    }
}

/// The even column in the low half, as it lies in memory.
#[inline(always)]
fn to_pairs(row: &[f32], pairs: &mut [u32]) {
    let whole = row.chunks_exact(2);
    let rest = whole.remainder();
    let count = row.len() / 2;
    for (pair, x) in pairs.iter_mut().zip(whole) {
        *pair = round_to_bf16(x[0]).to_bits() >> 16 | round_to_bf16(x[1]).to_bits() & 0xffff_0000;
    }
    if let [x] = rest {
        pairs[count] = round_to_bf16(*x).to_bits() >> 16;
    }
}

vectorized! {
    fn round_pairs(row: &[f32], pairs: &mut [u32]) {
        to_pairs(row, pairs);
    }
}

vectorized! {
    /// Stored bf16 as pairs. Subnormal ones stay: the instructions take them for zero.
    fn copy_pairs(src: &[u8], pairs: &mut [u32]) {
        for (pair, bytes) in pairs.iter_mut().zip(src.chunks_exact(4)) {
            *pair = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        }
    }
}

vectorized! {
    /// Stored numbers to f32, rounded as the precision says.
    pub(super) fn unpack_f32(dtype: Dtype, src: &[u8], precision: Precision, dst: &mut [f32]) {
        dtype.dequantize(src, dst);
        match precision {
            Precision::F16 if dtype != Dtype::F16 => dst.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
            Precision::Bf16 => dst.iter_mut().for_each(|x| *x = round_to_bf16(*x)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn rounding_to_bf16_agrees_with_half_on_normal_numbers() {
        let numbers = (0..50_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        let ties = [0x3f80_8000, 0x3f81_8000].map(f32::from_bits);
        for x in numbers.chain([0.0, -0.0, f32::INFINITY, f32::MAX]).chain(ties) {
            let exact = bf16::from_f32(x).to_f32();
            let expected = if exact.is_subnormal() { 0.0f32.copysign(exact) } else { exact };
            let rounded = round_to_bf16(x);
            assert!(rounded.to_bits() == expected.to_bits() || (x.is_nan() && rounded.is_nan()), "{x}");
        }
    }

    #[test]
    fn pairs_lie_as_in_memory_and_odd_rows_end_with_half_a_pair() {
        let row = [1.0f32, 2.0, 3.0, -4.0, 5.0];
        let mut pairs = [0u32; 3];
        to_pairs(&row, &mut pairs);
        let bits = |x: f32| bf16::from_f32(x).to_bits() as u32;
        assert_eq!(pairs, [bits(1.0) | bits(2.0) << 16, bits(3.0) | bits(-4.0) << 16, bits(5.0)]);
    }
}
