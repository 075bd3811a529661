//! Rows to columns: how weights become panels.

#![allow(unsafe_code)]

use super::kernel::Kernel;
use super::pairs::summands;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// A number of 32 bits, every pattern of which is one.
pub(super) trait Word: Copy + Default + Send + Sync {}

impl Word for f32 {}
impl Word for u32 {}

/// How stored words of 32 bits, in the order of bytes of this machine, are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// As they are.
    Words,
    /// Each is two bf16, the first in the low half, which become two f32.
    TwoBf16,
    /// Each is a bf16 in its upper half; two become one word, the first in the low half.
    UpperHalves,
    /// Each is an f32, of which two become a word of each of their three [`summands`]; 16 words of one stand together.
    F32Summands,
}

impl Stored {
    /// So many words become a number, or a number of each summand.
    fn taken(self) -> usize {
        if matches!(self, Stored::UpperHalves | Stored::F32Summands) { 2 } else { 1 }
    }

    /// Words that become so many numbers, or so many of each summand.
    pub(super) fn words(self, numbers: usize) -> usize {
        if self == Stored::TwoBf16 { numbers.div_ceil(2) } else { self.taken() * numbers }
    }

    /// The row that number `j` is in, or the first of the rows.
    fn row(self, j: usize) -> usize {
        match self {
            Stored::Words | Stored::UpperHalves => j,
            Stored::TwoBf16 => 2 * j,
            Stored::F32Summands => j / 16 * 48 + j % 16,
        }
    }

    /// The last of them.
    fn last_row(self, j: usize) -> usize {
        let others = match self {
            Stored::Words | Stored::UpperHalves => 0,
            Stored::TwoBf16 => 1,
            Stored::F32Summands => 32,
        };
        self.row(j) + others
    }
}

/// `dst[j * dst_stride + i] = src[i, j]` for `rows` rows `i`, `src_stride` words apart, and `columns` columns `j` of words,
/// each taken as `stored` says.
pub(super) fn transpose<W: Word>(
    kernel: Kernel,
    stored: Stored,
    shape: (usize, usize),
    (src, src_stride): (&[W], usize),
    dst: (&mut [W], usize),
) {
    // SAFETY: numbers of 32 bits without padding.
    let bytes = unsafe { std::slice::from_raw_parts(src.as_ptr().cast(), size_of_val(src)) };
    transpose_stored(kernel, stored, shape, (bytes, 4 * src_stride), dst);
}

/// The same for rows of stored bytes, `src_stride` bytes apart; `columns` counts words.
pub(super) fn transpose_stored<W: Word>(
    kernel: Kernel,
    stored: Stored,
    (rows, columns): (usize, usize),
    (src, src_stride): (&[u8], usize),
    (dst, dst_stride): (&mut [W], usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    let taken = stored.taken();
    assert!(columns.is_multiple_of(taken));
    let columns = columns / taken;
    assert!(src.len() >= (rows - 1) * src_stride + 4 * taken * columns);
    assert!(rows <= dst_stride && dst.len() >= stored.last_row(columns - 1) * dst_stride + rows);
    let (src, dst) = (src.as_ptr(), dst.as_mut_ptr().cast::<u32>());
    // Side of the squares that are turned in registers.
    let side = match kernel {
        Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 if rows >= 16 && columns >= 16 => 16,
        Kernel::Portable => usize::MAX,
        _ if taken > 1 => usize::MAX,
        _ => 8,
    };
    let (whole_rows, whole_columns) = (rows / side * side, columns / side * side);
    #[cfg(target_arch = "x86_64")]
    for i in (0..whole_rows).step_by(side) {
        for j in (0..whole_columns).step_by(side) {
            // SAFETY: the square lies inside both, which was checked; kernels are only used where they are available
            // (`Cpu::with_kernel` checked).
            unsafe {
                let (src, dst) = (src.add(i * src_stride + 4 * taken * j), dst.add(stored.row(j) * dst_stride + i));
                match (side, stored) {
                    (16, Stored::Words) => x86::turn_16x16::<false>(src, src_stride, dst, dst_stride),
                    (16, Stored::TwoBf16) => x86::turn_16x16::<true>(src, src_stride, dst, dst_stride),
                    (_, Stored::UpperHalves) => x86::turn_upper_16x16(src, src_stride, dst, dst_stride),
                    (_, Stored::F32Summands) => x86::turn_summands_16x16(src, src_stride, dst, dst_stride),
                    (_, Stored::Words) => x86::turn_8x8::<false>(src, src_stride, dst, dst_stride),
                    (_, Stored::TwoBf16) => x86::turn_8x8::<true>(src, src_stride, dst, dst_stride),
                }
            }
        }
    }
    for i in 0..rows {
        for j in if i < whole_rows { whole_columns..columns } else { 0..columns } {
            // SAFETY: inside both, which was checked; every pattern of bits is a number.
            unsafe {
                let src = src.add(i * src_stride + 4 * taken * j).cast::<u32>();
                let dst = dst.add(stored.row(j) * dst_stride + i);
                let word = src.read_unaligned();
                match stored {
                    Stored::Words => dst.write(word),
                    Stored::TwoBf16 => {
                        dst.write(word << 16);
                        dst.add(dst_stride).write(word & 0xffff_0000);
                    }
                    Stored::UpperHalves => dst.write(word >> 16 | src.add(1).read_unaligned() & 0xffff_0000),
                    Stored::F32Summands => {
                        let pair = [word, src.add(1).read_unaligned()].map(|word| summands(f32::from_bits(word)));
                        for (part, (even, odd)) in pair[0].into_iter().zip(pair[1]).enumerate() {
                            dst.add(16 * part * dst_stride).write(even >> 16 | odd & 0xffff_0000);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_finds_its_place_and_nothing_else_is_touched() {
        for (rows, columns) in [(0, 3), (1, 1), (8, 8), (16, 96), (7, 9), (17, 40), (32, 5), (50, 35)] {
            let (src_stride, dst_stride) = (columns + 3, rows + 5);
            let src: Vec<u32> = (0..(rows * src_stride) as u32).map(|i| i << 16 | ((7 * i) & 0xffff)).collect();
            // Stored rows begin anywhere, and the last one ends with its last word.
            let mut stored = vec![0u8];
            stored.extend(src.iter().flat_map(|word| word.to_ne_bytes()));
            stored.truncate((1 + 4 * src.len()).saturating_sub(12).max(1));
            for kernel in Kernel::available() {
                let mut dst = [vec![u32::MAX; columns * dst_stride], vec![u32::MAX; columns * dst_stride]];
                let stored = (&stored[1..], 4 * src_stride);
                transpose(kernel, Stored::Words, (rows, columns), (&src, src_stride), (&mut dst[0], dst_stride));
                transpose_stored(kernel, Stored::Words, (rows, columns), stored, (&mut dst[1], dst_stride));
                let mut wide = vec![u32::MAX; 2 * columns * dst_stride];
                transpose_stored(kernel, Stored::TwoBf16, (rows, columns), stored, (&mut wide, dst_stride));
                for (at, found) in wide.iter().enumerate() {
                    let (j, i) = (at / dst_stride, at % dst_stride);
                    let half = |word: u32| if j % 2 == 0 { word << 16 } else { word & 0xffff_0000 };
                    let expected = if i < rows { half(src[i * src_stride + j / 2]) } else { u32::MAX };
                    assert_eq!(*found, expected, "{kernel:?} {rows}x{columns} widened");
                }
                let mut halves = vec![u32::MAX; columns * dst_stride];
                let pairs = columns / 2;
                transpose_stored(kernel, Stored::UpperHalves, (rows, 2 * pairs), stored, (&mut halves, dst_stride));
                for (at, found) in halves.iter().enumerate() {
                    let (j, i) = (at / dst_stride, at % dst_stride);
                    let upper = |j: usize| src[i * src_stride + j] >> 16;
                    let is_number = i < rows && j < pairs;
                    let expected = if is_number { upper(2 * j) | upper(2 * j + 1) << 16 } else { u32::MAX };
                    assert_eq!(*found, expected, "{kernel:?} {rows}x{columns} upper halves");
                }
                let mut split = vec![u32::MAX; pairs.div_ceil(16) * 48 * dst_stride];
                transpose_stored(kernel, Stored::F32Summands, (rows, 2 * pairs), stored, (&mut split, dst_stride));
                for (at, found) in split.iter().enumerate() {
                    let (row, i) = (at / dst_stride, at % dst_stride);
                    let (j, part) = (row / 48 * 16 + row % 16, row / 16 % 3);
                    let upper = |j: usize| summands(f32::from_bits(src[i * src_stride + j]))[part] >> 16;
                    let is_number = i < rows && j < pairs;
                    let expected = if is_number { upper(2 * j) | upper(2 * j + 1) << 16 } else { u32::MAX };
                    assert_eq!(*found, expected, "{kernel:?} {rows}x{columns} summands");
                }
                for (at, found) in dst.iter().flat_map(|dst| dst.iter().enumerate()) {
                    let (j, i) = (at / dst_stride, at % dst_stride);
                    let expected = if i < rows { src[i * src_stride + j] } else { u32::MAX };
                    assert_eq!(*found, expected, "{kernel:?} {rows}x{columns}");
                }
            }
        }
    }
}
