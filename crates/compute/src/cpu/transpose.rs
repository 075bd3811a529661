//! Rows to columns: how rows become panels, and sums become rows.

#![allow(unsafe_code)]

use super::kernel::Kernel;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// A number of 32 bits.
pub(super) trait Word: Copy + Default + Send + Sync {}

impl Word for f32 {}
impl Word for u32 {}

/// Side of the squares that are turned in registers.
const SIDE: usize = 8;

/// `dst[j * dst_stride + i] = src[i * src_stride + j]` for `rows` rows `i` and `columns` columns `j`.
pub(super) fn transpose<W: Word>(
    kernel: Kernel,
    (rows, columns): (usize, usize),
    (src, src_stride): (&[W], usize),
    (dst, dst_stride): (&mut [W], usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns <= src_stride && src.len() >= (rows - 1) * src_stride + columns);
    assert!(rows <= dst_stride && dst.len() >= (columns - 1) * dst_stride + rows);
    let (whole_rows, whole_columns) = match kernel {
        Kernel::Portable => (0, 0),
        _ => (rows / SIDE * SIDE, columns / SIDE * SIDE),
    };
    #[cfg(target_arch = "x86_64")]
    for i in (0..whole_rows).step_by(SIDE) {
        for j in (0..whole_columns).step_by(SIDE) {
            let (src, dst) = (src[i * src_stride + j..].as_ptr(), dst[j * dst_stride + i..].as_mut_ptr());
            // SAFETY: words have 32 bits and are only moved; the square lies inside both (checked above); a kernel other
            // than the portable one is only used where there is AVX (`Cpu::with_kernel` checked).
            unsafe { x86::transpose_8x8(src.cast(), src_stride, dst.cast(), dst_stride) };
        }
    }
    for i in 0..rows {
        for j in if i < whole_rows { whole_columns..columns } else { 0..columns } {
            dst[j * dst_stride + i] = src[i * src_stride + j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_finds_its_place_and_nothing_else_is_touched() {
        for (rows, columns) in [(0, 3), (1, 1), (8, 8), (16, 96), (7, 9), (17, 40), (32, 5)] {
            let (src_stride, dst_stride) = (columns + 3, rows + 5);
            let src: Vec<u32> = (0..(rows * src_stride) as u32).collect();
            for kernel in Kernel::available() {
                let mut dst = vec![u32::MAX; columns * dst_stride];
                transpose(kernel, (rows, columns), (&src, src_stride), (&mut dst, dst_stride));
                for (at, found) in dst.iter().enumerate() {
                    let (j, i) = (at / dst_stride, at % dst_stride);
                    let expected = if i < rows { (i * src_stride + j) as u32 } else { u32::MAX };
                    assert_eq!(*found, expected, "{kernel:?} {rows}x{columns}");
                }
            }
        }
    }
}
