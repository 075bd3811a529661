//! How a matrix product is cut into tiles: which numbers are multiplied, how they are packed, and by which kernel.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::sync::Mutex;

use half::f16;

use super::Precision;
use super::kernel::{KC, Kernel, Place, View, vectorized};
use super::transpose::{Stored, Word};
#[cfg(target_arch = "x86_64")]
use super::x86;
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
    /// A piece of a stored row of weights, all summands of it; what is beyond it in `numbers` is set to zero.
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

/// Pairs of bf16, sums in f32, on machines that multiply such pairs. Rows of `x` are sums of `X` rows of bf16, weights of `W`:
/// of one, which is rounded, or of three, which is exact.
#[derive(Clone, Copy)]
pub(super) struct PairTiles<const X: usize, const W: usize> {
    kernel: Kernel,
    precision: Precision,
}

/// Both operands rounded to bf16.
pub(super) type Bf16Tiles = PairTiles<1, 1>;

/// Weights that are bf16 numbers, and f32 rows as sums of three.
pub(super) type NarrowTiles = PairTiles<3, 1>;

/// Both operands f32, as sums of three.
pub(super) type SplitTiles = PairTiles<3, 3>;

impl Bf16Tiles {
    /// None where the kernel has no such instruction.
    pub(super) fn new(kernel: Kernel) -> Option<Self> {
        kernel.bf16_shape().map(|_| PairTiles { kernel, precision: Precision::F32 })
    }
}

impl<const W: usize> PairTiles<3, W> {
    /// For weights rounded as the precision says. None where six products of pairs take longer than two of f32.
    pub(super) fn new(kernel: Kernel, precision: Precision) -> Option<Self> {
        (kernel == Kernel::Amx).then_some(PairTiles { kernel, precision })
    }
}

impl<const X: usize, const W: usize> Tiles for PairTiles<X, W> {
    type Number = u32;
    const PER: usize = 2;
    const PAD: usize = 16;
    const PART: usize = usize::MAX;
    const X_SUMMANDS: usize = X;
    const W_SUMMANDS: usize = W;

    fn kernel(self) -> Kernel {
        self.kernel
    }

    fn shape(self) -> (usize, usize) {
        self.kernel.bf16_shape().expect("checked by `new`")
    }

    fn rows_unit(self) -> usize {
        self.kernel.bf16_rows_unit()
    }

    fn task_w_rows(self) -> (usize, usize) {
        (192, 96)
    }

    fn stride(self, k: usize) -> usize {
        // An odd number of cache lines: rows a power of two apart would share their places in the cache.
        (Self::numbers(k).div_ceil(16) | 1) * 16 * X
    }

    fn chunk(self, stored: Dtype, k: usize) -> usize {
        match self.kernel {
            // Tiles of AMX go on from their sums: a chunk is what stays in the first-level cache of `x`. But sums that begin
            // and end in one need not be loaded, which is worth more, and where `x` is thrice as long it stays in no case.
            Kernel::Amx if X == 3 => KC,
            Kernel::Amx if k <= 576 => 576usize.next_multiple_of(stored.block_len()),
            Kernel::Amx if 384 % stored.block_len() == 0 => 384,
            Kernel::Amx => 256,
            _ => KC,
        }
    }

    fn takes(self, stored: Dtype) -> Option<Stored> {
        match stored {
            Dtype::Bf16 if W == 1 && self.precision == Precision::F32 => Some(Stored::Words),
            // Only weights that are bf16 numbers meet such rows.
            Dtype::F32 if (X, W) == (3, 1) && self.precision == Precision::F32 => Some(Stored::UpperHalves),
            Dtype::F32 if W == 3 && self.precision == Precision::F32 => Some(Stored::F32Summands),
            _ => None,
        }
    }

    fn convert(self, row: &[f32], numbers: &mut [u32]) {
        if X == 1 { round_pairs(self.kernel, row, numbers) } else { split_pairs(self.kernel, row, numbers) }
    }

    fn unpack(self, dtype: Dtype, src: &[u8], numbers: &mut [u32]) {
        let n = src.len() / dtype.block_bytes() * dtype.block_len();
        let mut wide = [0f32; KC];
        unpack_f32(self.kernel, dtype, src, self.precision, &mut wide[..n]);
        if W == 1 {
            round_pairs(self.kernel, &wide[..n], numbers);
        } else {
            split_pairs(self.kernel, &wide[..n], numbers);
        }
    }

    fn tile(self, first: bool, rows: usize, len: usize, x: View<'_, u32>, panel: &[u32], out: Place<'_>) {
        self.kernel.tile_bf16::<X, W>(first, rows, len, x, panel, out);
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
        pairs[row.len().div_ceil(2)..].fill(0);
    }
}

/// The 32 columns from which there are 16 pairs of each summand.
const SPLIT_TOGETHER: usize = 32;

/// The upper halves of three f32 whose lower halves are zero and whose sum is `x`: each is what is left of it, rounded to bf16.
/// What is not finite, or becomes so when it is rounded, gives NaN.
#[inline(always)]
pub(super) fn summands(x: f32) -> [u32; 3] {
    let nearest = |x: f32| {
        let bits = x.to_bits();
        bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000
    };
    let first = nearest(x);
    let left = x - f32::from_bits(first);
    let second = nearest(left);
    // Of 24 bits, 8 are left.
    [first, second, (left - f32::from_bits(second)).to_bits()]
}

/// Rows as three: 16 pairs of the first summands, 16 of the second, 16 of the third, and so on; zeros behind them.
fn split_pairs(kernel: Kernel, row: &[f32], numbers: &mut [u32]) {
    let (whole, rest) = row.as_chunks();
    let mut last = [[0f32; SPLIT_TOGETHER]; 1];
    last[0][..rest.len()].copy_from_slice(rest);
    let (pairs, padding) = numbers.as_chunks_mut().0.split_at_mut(whole.len());
    let (of_rest, padding) = padding.split_at_mut(rest.len().min(1));
    for (x, pairs) in [(whole, pairs), (&last, of_rest)] {
        match kernel {
            // SAFETY: a kernel is only used where it is available: `Cpu::with_kernel` has checked.
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => unsafe { x86::split_avx512(x, pairs) },
            _ => x.iter().zip(pairs).for_each(|(x, pairs)| split(x, pairs)),
        }
    }
    padding.as_flattened_mut().fill(0);
}

/// 32 numbers as 16 pairs of each summand.
fn split(x: &[f32; SPLIT_TOGETHER], pairs: &mut [u32; 3 * SPLIT_TOGETHER / 2]) {
    for (i, x) in x.as_chunks::<2>().0.iter().enumerate() {
        let [even, odd] = x.map(summands);
        for part in 0..3 {
            pairs[part * SPLIT_TOGETHER / 2 + i] = even[part] >> 16 | odd[part] & 0xffff_0000;
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
    fn a_number_is_the_sum_of_its_three_summands() {
        let numbers = (0..50_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        for x in numbers.chain([0.0, -0.0, 1.0, f32::NAN, f32::MAX, f32::MIN, f32::INFINITY]) {
            let [a, b, c] = summands(x).map(f32::from_bits);
            if !a.is_finite() {
                assert!((a + b + c).is_nan() && !(x.abs() < 3.389e38), "{x}");
            } else if x.abs() > 1e-30 {
                assert_eq!(a as f64 + b as f64 + c as f64, x as f64);
                assert!(b.abs() <= a.abs() / 256.0 && c.abs() <= a.abs() / 65536.0, "{x}");
                assert!([a, b, c].iter().all(|part| part.to_bits() & 0xffff == 0 && !part.is_subnormal()), "{x}");
            }
        }
    }

    #[test]
    fn summands_lie_sixteen_pairs_of_each_together() {
        for len in [1usize, 2, 31, 32, 33, 70] {
            let row: Vec<f32> = (0..len).map(|i| (i as f32 + 0.1).exp2()).collect();
            let mut numbers = vec![u32::MAX; len.div_ceil(32) * 48];
            split_pairs(Kernel::detect(), &row, &mut numbers);
            let mut plain = vec![u32::MAX; numbers.len()];
            split_pairs(Kernel::Portable, &row, &mut plain);
            assert_eq!(numbers, plain);
            for (at, pair) in numbers.into_iter().enumerate() {
                let (block, part, i) = (at / 48, at / 16 % 3, at % 16);
                let of = |column: usize| row.get(column).map_or(0, |x| summands(*x)[part] >> 16);
                let column = 32 * block + 2 * i;
                assert_eq!(pair, of(column) | of(column + 1) << 16, "{len} {at}");
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
