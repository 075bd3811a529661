//! Tiles of pairs of bf16: of numbers that are rounded to bf16, and of f32 numbers as sums of three.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::sync::Mutex;

use super::Precision;
use super::kernel::{KC, Kernel, Place, View};
use super::tiles::{Lines, Scratch, Tiles, round_to_bf16, unpack_f32};
use super::transpose::Stored;
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::Dtype;

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
    /// For weights rounded as the precision says. None but on AMX: in vectors, instructions for pairs do at most twice as many products as
    /// those of f32, and three or six are needed for one.
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

    fn unpacked(self) -> Stored {
        if W == 1 { Stored::Words } else { Stored::F32Summands }
    }

    fn convert(self, row: &[f32], numbers: &mut [u32]) {
        if X == 1 { round_pairs(self.kernel, row, numbers) } else { split_pairs(self.kernel, row, numbers) }
    }

    fn unpack(self, dtype: Dtype, src: &[u8], numbers: &mut [u32]) {
        /// Columns that are f32 on their way: whole blocks of any type.
        const PIECE: usize = 256;
        let mut wide = [0f32; PIECE];
        let bytes = PIECE / dtype.block_len() * dtype.block_bytes();
        let mut pieces = numbers.chunks_mut(self.unpacked().words(PIECE / Self::PER));
        for (src, numbers) in src.chunks(bytes).zip(&mut pieces) {
            let wide = &mut wide[..src.len() / dtype.block_bytes() * dtype.block_len()];
            unpack_f32(self.kernel, dtype, src, self.precision, wide);
            match self.unpacked() {
                Stored::F32Summands => numbers.iter_mut().zip(&*wide).for_each(|(number, x)| *number = x.to_bits()),
                _ => round_pairs(self.kernel, wide, numbers),
            }
        }
        pieces.for_each(|numbers| numbers.fill(0));
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

/// Columns of 16 pairs.
const TOGETHER: usize = 32;

/// 32 numbers rounded to bf16, the even column of each pair in the low half, as it lies in memory.
fn round(x: &[f32; TOGETHER], pairs: &mut [u32; TOGETHER / 2]) {
    for (pair, x) in pairs.iter_mut().zip(x.as_chunks::<2>().0) {
        *pair = round_to_bf16(x[0]).to_bits() >> 16 | round_to_bf16(x[1]).to_bits() & 0xffff_0000;
    }
}

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

/// Defines a function that turns rows into pairs, 32 numbers after the other into so many, zeros behind the last: by a function
/// in registers where there is one, or by its plain twin.
macro_rules! rows_to_pairs {
    ($(#[$meta:meta])* $name:ident, $pairs:expr, $wide:ident, $plain:ident) => {
        $(#[$meta])*
        pub(super) fn $name(kernel: Kernel, row: &[f32], numbers: &mut [u32]) {
            let blocks = |x: &[[f32; TOGETHER]], pairs: &mut [[u32; $pairs]]| match kernel {
                // SAFETY: a kernel is only used where it is available: `Cpu::with_kernel` has checked.
                #[cfg(target_arch = "x86_64")]
                Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => unsafe { x86::$wide(x, pairs) },
                _ => x.iter().zip(pairs).for_each(|(x, pairs)| $plain(x, pairs)),
            };
            let (whole, rest) = row.as_chunks();
            let (of_whole, of_rest) = numbers.split_at_mut(whole.len() * $pairs);
            blocks(whole, of_whole.as_chunks_mut().0);
            if !of_rest.is_empty() {
                let (mut last, mut pairs) = ([0f32; TOGETHER], [[0u32; $pairs]; 1]);
                last[..rest.len()].copy_from_slice(rest);
                blocks(&[last], &mut pairs);
                let (of_last, padding) = of_rest.split_at_mut(of_rest.len().min($pairs));
                of_last.copy_from_slice(&pairs[0][..of_last.len()]);
                padding.fill(0);
            }
        }
    };
}

rows_to_pairs! {
    /// Rows rounded to bf16.
    round_pairs, TOGETHER / 2, round_avx512, round
}

rows_to_pairs! {
    /// Rows as three: 16 pairs of the first summands, 16 of the second, 16 of the third, and so on.
    split_pairs, 3 * TOGETHER / 2, split_avx512, split
}

/// 32 numbers as 16 pairs of each summand.
fn split(x: &[f32; TOGETHER], pairs: &mut [u32; 3 * TOGETHER / 2]) {
    for (i, x) in x.as_chunks::<2>().0.iter().enumerate() {
        let [even, odd] = x.map(summands);
        for part in 0..3 {
            pairs[part * TOGETHER / 2 + i] = even[part] >> 16 | odd[part] & 0xffff_0000;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn a_number_is_the_sum_of_its_three_summands() {
        let numbers = (0..50_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        for x in numbers.chain([0.0, -0.0, 1.0, f32::NAN, f32::MAX, f32::MIN, f32::INFINITY]) {
            let [a, b, c] = summands(x).map(f32::from_bits);
            if !a.is_finite() {
                assert!((a + b + c).is_nan() && (x.is_nan() || x.abs() > 3.389e38), "{x}");
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
        let bits = |x: f32| bf16::from_f32(x).to_bits() as u32;
        let expected = [bits(1.0) | bits(2.0) << 16, bits(3.0) | bits(-4.0) << 16, bits(5.0)];
        for len in [3, 16, 40] {
            let mut pairs = vec![u32::MAX; len];
            round_pairs(Kernel::detect(), &row, &mut pairs);
            assert_eq!(pairs[..3], expected);
            assert!(pairs[3..].iter().all(|pair| *pair == 0));
        }
    }

    #[test]
    fn every_kernel_rounds_alike() {
        let special =
            [f32::NAN, f32::INFINITY, -f32::MAX, -0.0, 1e-40, -1e-39, f32::MIN_POSITIVE, f32::from_bits(0x007f_ffff)];
        let row: Vec<f32> =
            (0..40_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761))).chain(special).collect();
        let mut of_kernels = Kernel::available().map(|kernel| {
            let mut pairs = vec![u32::MAX; Bf16Tiles::numbers(row.len())];
            round_pairs(kernel, &row, &mut pairs);
            pairs
        });
        let first = of_kernels.next().expect("the portable kernel");
        assert!(of_kernels.all(|pairs| pairs == first));
    }
}
