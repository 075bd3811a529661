//! How a matrix product is cut into tiles: which numbers are multiplied, how they are packed, and by which kernel.

#![allow(unsafe_code)] // what `vectorized` expands to

use std::cell::RefCell;
use std::sync::Mutex;

use half::f16;

use super::Precision;
use super::kernel::{KC, Kernel, View, vectorized};
use super::transpose::Word;
use crate::Dtype;

/// Operands of one kind and the kernel for them. A `Number` holds `PER` consecutive columns of a row.
pub(super) trait Tiles: Copy + Sync {
    /// What the kernel multiplies.
    type Number: Word + 'static;
    /// Columns in a number.
    const PER: usize;
    /// Rows are padded with zeros to a multiple of this many numbers.
    const PAD: usize;
    /// Whether a panel's piece is worth asking for before its turn: where tiles are loaded faster than the cache gives
    /// them, asking takes from what it can give.
    const AHEAD: bool;

    /// The kernel that everything but the tile itself runs on.
    fn kernel(self) -> Kernel;
    /// Rows of weights in a tile.
    fn rows(self) -> usize;
    /// Rows of weights that one task computes: a whole number of tiles, whose sums stay in the second-level cache.
    fn task_w_rows(self) -> usize;
    /// Rows of `x` in a tile; it may also be half of them.
    fn width(self) -> usize;
    /// Columns of weights in a chunk, or more than there are: a whole number of steps.
    fn chunk(self) -> usize;
    /// Numbers of a row of `k` weights that are unpacked at a time: all of them, or whole blocks of the stored type and a
    /// divisor of those in a chunk; so few that a panel of `x` stays in the first-level cache with them.
    fn step(self, stored: Dtype, k: usize) -> usize;
    /// Distance of unpacked rows of `step` numbers. Rows a power of two apart would share their places in the cache.
    fn stride(self, step: usize) -> usize {
        step + 16
    }
    /// A row of `x`; what is beyond it in `numbers` is set to zero.
    fn convert(self, row: &[f32], numbers: &mut [Self::Number]);
    /// Columns of `x` side by side, `[n, width]`, as they stand in a panel: `n` divided by `PER`, rounded up, times `width`
    /// numbers.
    fn convert_columns(self, width: usize, columns: &[f32], numbers: &mut [Self::Number]);
    /// A piece of a stored row of weights; what is beyond it in `numbers` is set to zero.
    fn unpack(self, dtype: Dtype, src: &[u8], numbers: &mut [Self::Number]);
    /// `out[r, c] += sum over i of w[r, i] * x[i, c]` for `rows()` rows of `w` and `width` columns of `x`; instead of what
    /// is in `out`, zero is where the `first` part of a chunk begins.
    fn tile(
        self,
        first: bool,
        width: usize,
        len: usize,
        x: &[Self::Number],
        w: View<'_, Self::Number>,
        out: &mut [f32],
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
    /// Unpacked weights, `[rows, step]`.
    pub weights: Lines<N>,
    /// Sums of up to two products.
    pub sums: [Lines<f32>; 2],
    /// Sums of a chunk that are still to be added to others.
    pub chunk: Lines<f32>,
    /// A row of `x` after its norm.
    pub normed: Lines<f32>,
    /// Rows of `x` to be packed.
    pub numbers: Lines<N>,
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

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data[self.start..][..self.len]
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
    const AHEAD: bool = true;

    fn kernel(self) -> Kernel {
        self.kernel
    }

    fn rows(self) -> usize {
        self.kernel.rows()
    }

    fn task_w_rows(self) -> usize {
        96
    }

    fn width(self) -> usize {
        self.kernel.width()
    }

    fn chunk(self) -> usize {
        KC
    }

    fn step(self, stored: Dtype, _k: usize) -> usize {
        if 192 % stored.block_len() == 0 { 192 } else { 256 }
    }

    fn stride(self, _step: usize) -> usize {
        Kernel::STRIDE
    }

    fn convert(self, row: &[f32], numbers: &mut [f32]) {
        let (numbers, rest) = numbers.split_at_mut(row.len());
        numbers.copy_from_slice(row);
        rest.fill(0.0);
        if self.precision == Precision::Bf16 {
            round_and_swap(self.kernel, 1, numbers);
        }
    }

    fn convert_columns(self, width: usize, columns: &[f32], numbers: &mut [f32]) {
        numbers.copy_from_slice(columns);
        if self.precision == Precision::Bf16 {
            round_and_swap(self.kernel, width, numbers);
        }
    }

    fn unpack(self, dtype: Dtype, src: &[u8], numbers: &mut [f32]) {
        let n = src.len() / dtype.block_bytes() * dtype.block_len();
        let (numbers, rest) = numbers.split_at_mut(n);
        rest.fill(0.0);
        if self.precision == Precision::Bf16 {
            unpack_f32(self.kernel, dtype, src, Precision::F32, numbers);
            round_and_swap(self.kernel, 1, numbers);
        } else {
            unpack_f32(self.kernel, dtype, src, self.precision, numbers);
        }
    }

    fn tile(self, first: bool, width: usize, len: usize, x: &[f32], w: View<'_, f32>, out: &mut [f32]) {
        self.kernel.tile(first, width, len, x, w, out);
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
    const AHEAD: bool = false;

    fn kernel(self) -> Kernel {
        self.kernel
    }

    fn rows(self) -> usize {
        self.kernel.bf16_rows().expect("checked by `new`")
    }

    fn task_w_rows(self) -> usize {
        // Tiles of AMX are so fast that fetching `x` from beyond the cache for fewer takes as long as they do.
        if self.kernel == Kernel::Amx { 192 } else { 96 }
    }

    fn width(self) -> usize {
        32
    }

    fn chunk(self) -> usize {
        self.kernel.bf16_chunk()
    }

    fn step(self, stored: Dtype, k: usize) -> usize {
        match k {
            // Sums that begin and end in one step need not be loaded, which is worth more than room in the cache.
            ..=576 if self.kernel == Kernel::Amx => Self::numbers(k),
            _ if 384 % stored.block_len() == 0 => 192,
            _ => 128,
        }
    }

    fn convert(self, row: &[f32], numbers: &mut [u32]) {
        round_pairs(self.kernel, row, numbers);
        numbers[row.len().div_ceil(2)..].fill(0);
    }

    fn convert_columns(self, width: usize, columns: &[f32], numbers: &mut [u32]) {
        pair_columns(self.kernel, width, columns, numbers);
    }

    fn unpack(self, dtype: Dtype, src: &[u8], numbers: &mut [u32]) {
        let n = src.len() / dtype.block_bytes() * dtype.block_len();
        if dtype == Dtype::Bf16 && n.is_multiple_of(2) {
            copy_pairs(self.kernel, src, numbers);
        } else {
            let mut wide = [0f32; KC];
            unpack_f32(self.kernel, dtype, src, Precision::F32, &mut wide[..n]);
            round_pairs(self.kernel, &wide[..n], numbers);
        }
        numbers[n.div_ceil(2)..].fill(0);
    }

    fn tile(self, first: bool, width: usize, len: usize, x: &[u32], w: View<'_, u32>, out: &mut [f32]) {
        self.kernel.tile_bf16(first, width, len, x, w, out);
    }

    fn prepare(self, begin: bool) {
        self.kernel.prepare_bf16(begin);
    }

    fn spare() -> &'static Mutex<Vec<Lines<u32>>> {
        static SPARE: Mutex<Vec<Lines<u32>>> = Mutex::new(Vec::new());
        &SPARE
    }

    fn with_scratch<R>(f: impl FnOnce(&mut Scratch<u32>) -> R) -> R {
        thread_local!(static SCRATCH: RefCell<Scratch<u32>> = RefCell::default());
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
    /// Rounds to bf16, and exchanges the numbers of each pair of rows of `width`, the last row apart where it has no
    /// partner: the instructions for pairs add the odd column before the even one, and so does every kernel.
    fn round_and_swap(width: usize, numbers: &mut [f32]) {
        if width == 1 {
            let (pairs, rest) = numbers.as_chunks_mut::<2>();
            for pair in pairs {
                *pair = [round_to_bf16(pair[1]), round_to_bf16(pair[0])];
            }
            rest.iter_mut().for_each(|x| *x = round_to_bf16(*x));
        } else {
            for pair in numbers.chunks_mut(2 * width) {
                let (even, odd) = pair.split_at_mut(width);
                if odd.is_empty() {
                    even.iter_mut().for_each(|x| *x = round_to_bf16(*x));
                }
                for (even, odd) in even.iter_mut().zip(odd) {
                    (*even, *odd) = (round_to_bf16(*odd), round_to_bf16(*even));
                }
            }
        }
    }
}

vectorized! {
    /// Rows of `width` to rows of pairs, each of two of them.
    fn pair_columns(width: usize, columns: &[f32], pairs: &mut [u32]) {
        for (pairs, columns) in pairs.chunks_exact_mut(width).zip(columns.chunks(2 * width)) {
            let (even, odd) = columns.split_at(width);
            for (pair, even) in pairs.iter_mut().zip(even) {
                *pair = round_to_bf16(*even).to_bits() >> 16;
            }
            for (pair, odd) in pairs.iter_mut().zip(odd) {
                *pair |= round_to_bf16(*odd).to_bits() & 0xffff_0000;
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

    #[test]
    fn columns_become_what_their_rows_become() {
        let (n, width) = (7, 16);
        let rows: Vec<f32> = (0..n * width).map(|i| (i * 37 % 101) as f32 * 0.731 - 30.0).collect();
        let columns: Vec<f32> = (0..n * width).map(|i| rows[i % width * n + i / width]).collect();
        fn check<T: Tiles>(tiles: T, n: usize, width: usize, rows: &[f32], columns: &[f32])
        where
            T::Number: PartialEq + std::fmt::Debug,
        {
            let numbers = n.div_ceil(T::PER);
            let mut panel = vec![T::Number::default(); numbers * width];
            tiles.convert_columns(width, columns, &mut panel);
            for (c, row) in rows.chunks_exact(n).enumerate() {
                let mut expected = vec![T::Number::default(); T::numbers(n)];
                tiles.convert(row, &mut expected);
                let found: Vec<_> = panel[c..].iter().step_by(width).copied().collect();
                assert_eq!(found, expected[..numbers]);
            }
        }
        for kernel in Kernel::available() {
            check(F32Tiles { kernel, precision: Precision::F32 }, n, width, &rows, &columns);
            check(F32Tiles { kernel, precision: Precision::Bf16 }, n, width, &rows, &columns);
            if let Some(tiles) = Bf16Tiles::new(kernel) {
                check(tiles, n, width, &rows, &columns);
            }
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
