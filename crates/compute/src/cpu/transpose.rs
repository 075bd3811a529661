//! Rows to columns: how weights become panels.

#![allow(unsafe_code)]

use super::kernel::Kernel;
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
}

/// `dst[j * dst_stride + i] = src[i, j]` for `rows` rows `i`, `src_stride` numbers apart, and `columns` columns `j`.
pub(super) fn transpose<W: Word>(
    kernel: Kernel,
    shape: (usize, usize),
    (src, src_stride): (&[W], usize),
    dst: (&mut [W], usize),
) {
    // SAFETY: numbers of 32 bits without padding.
    let bytes = unsafe { std::slice::from_raw_parts(src.as_ptr().cast(), size_of_val(src)) };
    transpose_stored(kernel, Stored::Words, shape, (bytes, 4 * src_stride), dst);
}

/// The same for rows of stored words, `src_stride` bytes apart; `columns` counts words.
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
    let per = if stored == Stored::TwoBf16 { 2 } else { 1 };
    assert!(src.len() >= (rows - 1) * src_stride + 4 * columns);
    assert!(rows <= dst_stride && dst.len() >= (per * columns - 1) * dst_stride + rows);
    let (src, dst) = (src.as_ptr(), dst.as_mut_ptr().cast::<u32>());
    // Side of the squares that are turned in registers.
    let side = match kernel {
        Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 if rows >= 16 && columns >= 16 => 16,
        Kernel::Portable => usize::MAX,
        _ => 8,
    };
    let (whole_rows, whole_columns) = (rows / side * side, columns / side * side);
    #[cfg(target_arch = "x86_64")]
    for i in (0..whole_rows).step_by(side) {
        for j in (0..whole_columns).step_by(side) {
            // SAFETY: the square lies inside both, which was checked; kernels are only used where they are available
            // (`Cpu::with_kernel` checked).
            unsafe {
                let (src, dst) = (src.add(i * src_stride + 4 * j), dst.add(per * j * dst_stride + i));
                match (side, stored) {
                    (16, Stored::Words) => x86::turn_16x16::<false>(src, src_stride, dst, dst_stride),
                    (16, Stored::TwoBf16) => x86::turn_16x16::<true>(src, src_stride, dst, dst_stride),
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
                let word = src.add(i * src_stride + 4 * j).cast::<u32>().read_unaligned();
                let dst = dst.add(per * j * dst_stride + i);
                match stored {
                    Stored::Words => dst.write(word),
                    Stored::TwoBf16 => {
                        dst.write(word << 16);
                        dst.add(dst_stride).write(word & 0xffff_0000);
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
                transpose(kernel, (rows, columns), (&src, src_stride), (&mut dst[0], dst_stride));
                transpose_stored(kernel, Stored::Words, (rows, columns), stored, (&mut dst[1], dst_stride));
                let mut wide = vec![u32::MAX; 2 * columns * dst_stride];
                transpose_stored(kernel, Stored::TwoBf16, (rows, columns), stored, (&mut wide, dst_stride));
                for (at, found) in wide.iter().enumerate() {
                    let (j, i) = (at / dst_stride, at % dst_stride);
                    let half = |word: u32| if j % 2 == 0 { word << 16 } else { word & 0xffff_0000 };
                    let expected = if i < rows { half(src[i * src_stride + j / 2]) } else { u32::MAX };
                    assert_eq!(*found, expected, "{kernel:?} {rows}x{columns} widened");
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
