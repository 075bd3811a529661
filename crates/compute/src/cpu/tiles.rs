//! How a matrix product is cut into tiles: which numbers are multiplied, how they are packed, and by which kernel.

#![allow(unsafe_code)] // what `vectorized` expands to

use std::cell::RefCell;
use std::sync::Mutex;

use half::f16;

use super::Precision;
use super::kernel::{KC, Kernel, Place, View, vectorized};
use super::transpose::{Stored, Word};
use crate::Dtype;

/// Operands of one kind and the kernel for them. A `Number` holds `PER` consecutive columns of a row.
pub(super) trait Tiles: Copy + Sync {
    /// What the kernel multiplies.
    type Number: Word + 'static;
    /// Columns in a number.
    const PER: usize;
    /// Rows are padded with zeros to a multiple of this many numbers.
    const PAD: usize;
    /// Columns of `x` that stand together in memory: all, or as many as a chunk has.
    const PART: usize;
    /// Rows that a row of `x` is the sum of: `PAD` numbers of each stand together.
    const X_SUMMANDS: usize = 1;
    /// The same for weights.
    const W_SUMMANDS: usize = 1;

    /// The kernel that everything but the tile itself runs on.
    fn kernel(self) -> Kernel;
    /// Rows of `x` and rows of weights in the largest tile.
    fn shape(self) -> (usize, usize);
    /// A tile may have fewer rows of `x`, but a multiple of this.
    fn rows_unit(self) -> usize {
        1
    }
    /// Rows of weights that one task computes, at the most and at the least: so many that their panels stay in the second-level
    /// cache, and that `x` is not fetched from beyond it more often than it can be.
    fn task_w_rows(self) -> (usize, usize);
    /// Numbers from one row of `x`, of `k` columns, to the next.
    fn stride(self, k: usize) -> usize;
    /// Columns of `k` weights that panels hold at a time: whole blocks of the stored type. Where sums are chains, each of
    /// these is one.
    fn chunk(self, stored: Dtype, k: usize) -> usize;
    /// A row of `x`; what is beyond it in `numbers` is set to zero.
    fn convert(self, row: &[f32], numbers: &mut [Self::Number]);
    /// How stored weights, an even number of columns, become numbers while they are turned; none if they need more than that.
    fn takes(self, stored: Dtype) -> Option<Stored>;
    /// What [`Tiles::unpack`] makes, to become numbers when it is turned.
    fn unpacked(self) -> Stored {
        Stored::Words
    }
    /// A piece of a stored row of weights; what is beyond it in `numbers` is set to zero.
    fn unpack(self, dtype: Dtype, src: &[u8], numbers: &mut [Self::Number]);
    /// `out[r, c] += sum over i of x[r, i] * panel[i, c]` for `rows` rows of `x` and as many columns as a tile has, `i` below
    /// `len`, each with its summands; `out` need not hold anything for the `first` part of a sum.
    fn tile(
        self,
        first: bool,
        rows: usize,
        len: usize,
        x: View<'_, Self::Number>,
        panel: &[Self::Number],
        out: Place<'_>,
    );
    /// Called on a thread before and after a batch of tiles.
    fn prepare(self, _begin: bool) {}
    /// Memory of packed rows that are no more, for those that will be: fresh memory would cost page faults, and zeros.
    fn spare() -> &'static Mutex<Vec<Lines<Self::Number>>>;
    /// Lends this thread's scratch memory. Must not be called inside itself.
    fn with_scratch<R>(f: impl FnOnce(&mut Scratch<Self::Number>) -> R) -> R;

    /// Numbers in a row of `k` columns, padding included.
    fn numbers(k: usize) -> usize {
        k.div_ceil(Self::PER).next_multiple_of(Self::PAD)
    }
}

/// Memory that a thread keeps between tasks: fresh memory would cost page faults.
#[derive(Default)]
pub(super) struct Scratch<N> {
    /// Weights, `[panel][columns][width]`.
    pub panels: Lines<N>,
    /// Rows of weights on their way into a panel.
    pub rows: Lines<N>,
    /// Rows of sums.
    pub sums: Lines<f32>,
    /// A row of `x` after its norm.
    pub normed: Lines<f32>,
}

/// Bytes of a cache line: a vector or a row of a tile that lies across two of them takes twice as long to load.
const LINE: usize = 64;

/// Numbers that begin with a cache line.
#[derive(Default)]
pub(super) struct Lines<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Word> Lines<T> {
    /// `len` numbers, whatever they are.
    pub(super) fn resize(&mut self, len: usize) -> &mut [T] {
        if self.data.len() < len + LINE / size_of::<T>() {
            *self = Lines::zeros(len);
        }
        self.len = len;
        &mut self.data[self.start..][..len]
    }

    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let data = vec![T::default(); len + LINE / size_of::<T>()];
        Lines { start: data.as_ptr().align_offset(LINE), len, data }
    }

    pub(super) fn as_slice(&self) -> &[T] {
        &self.data[self.start..][..self.len]
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
    const PART: usize = KC;

    fn kernel(self) -> Kernel {
        self.kernel
    }

    fn shape(self) -> (usize, usize) {
        self.kernel.tile_shape()
    }

    fn task_w_rows(self) -> (usize, usize) {
        match self.kernel {
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => (192, 48),
            // Machines with a smaller second-level cache.
            Kernel::Avx2 | Kernel::Portable => (96, 48),
        }
    }

    fn stride(self, _k: usize) -> usize {
        Kernel::STRIDE
    }

    fn chunk(self, _stored: Dtype, _k: usize) -> usize {
        KC
    }

    fn takes(self, stored: Dtype) -> Option<Stored> {
        match stored {
            Dtype::F32 if self.precision == Precision::F32 => Some(Stored::Words),
            Dtype::Bf16 if self.precision == Precision::F32 => Some(Stored::TwoBf16),
            _ => None,
        }
    }

    fn convert(self, row: &[f32], numbers: &mut [f32]) {
        let (numbers, rest) = numbers.split_at_mut(row.len());
        numbers.copy_from_slice(row);
        rest.fill(0.0);
        if self.precision == Precision::Bf16 {
            round_and_swap(self.kernel, numbers);
        }
    }

    fn unpack(self, dtype: Dtype, src: &[u8], numbers: &mut [f32]) {
        let n = src.len() / dtype.block_bytes() * dtype.block_len();
        let (numbers, rest) = numbers.split_at_mut(n);
        rest.fill(0.0);
        if self.precision == Precision::Bf16 {
            unpack_f32(self.kernel, dtype, src, Precision::F32, numbers);
            round_and_swap(self.kernel, numbers);
        } else {
            unpack_f32(self.kernel, dtype, src, self.precision, numbers);
        }
    }

    fn tile(self, first: bool, rows: usize, len: usize, x: View<'_, f32>, panel: &[f32], out: Place<'_>) {
        self.kernel.tile(first, (rows, self.shape().1), len, x, panel, out);
    }

    fn spare() -> &'static Mutex<Vec<Lines<f32>>> {
        static SPARE: Mutex<Vec<Lines<f32>>> = Mutex::new(Vec::new());
        &SPARE
    }

    fn with_scratch<R>(f: impl FnOnce(&mut Scratch<f32>) -> R) -> R {
        thread_local!(static SCRATCH: RefCell<Scratch<f32>> = RefCell::default());
        SCRATCH.with_borrow_mut(f)
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

vectorized! {
    /// Rounds to bf16, and exchanges the numbers of each pair, but the last where it has no partner: the instructions for
    /// pairs add the odd column before the even one, and so does every kernel.
    fn round_and_swap(numbers: &mut [f32]) {
        let (pairs, rest) = numbers.as_chunks_mut::<2>();
        for pair in pairs {
            *pair = [round_to_bf16(pair[1]), round_to_bf16(pair[0])];
        }
        rest.iter_mut().for_each(|x| *x = round_to_bf16(*x));
    }
}

vectorized! {
    /// Stored numbers to f32, rounded to f16 where the precision says so.
    pub(super) fn unpack_f32(dtype: Dtype, src: &[u8], precision: Precision, dst: &mut [f32]) {
        dtype.dequantize(src, dst);
        match precision {
            Precision::F16 if dtype != Dtype::F16 => dst.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
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
}
