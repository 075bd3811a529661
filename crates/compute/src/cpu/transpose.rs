//! Rows to columns: how rows become panels, and sums become rows.

#![allow(unsafe_code)]

use super::kernel::Kernel;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// A number of 32 bits.
pub(super) trait Word: Copy + Default + Send + Sync + std::ops::Add<Output = Self> {}

impl Word for f32 {}
impl Word for u32 {}

/// `dst[j * dst_stride + i] = src[i * src_stride + j]` for `rows` rows `i` and `columns` columns `j`.
pub(super) fn transpose<W: Word>(
    kernel: Kernel,
    (rows, columns): (usize, usize),
    src: (&[W], usize),
    (dst, dst_stride): (&mut [W], usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(rows <= dst_stride && dst.len() >= (columns - 1) * dst_stride + rows);
    // SAFETY: checked.
    unsafe { transpose_to::<W, false>(kernel, (rows, columns), src, dst.as_mut_ptr(), dst_stride) };
}

/// The same into memory that need not hold anything yet; or, if `ADD`, what stands there is added to.
///
/// # Safety
/// `dst` is valid for writes of `columns` rows of `rows` words `dst_stride` apart, and if `ADD` the words are f32 and can be
/// read.
pub(super) unsafe fn transpose_to<W: Word, const ADD: bool>(
    kernel: Kernel,
    (rows, columns): (usize, usize),
    (src, src_stride): (&[W], usize),
    dst: *mut W,
    dst_stride: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns <= src_stride && src.len() >= (rows - 1) * src_stride + columns);
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
            let src = src[i * src_stride + j..].as_ptr().cast();
            // SAFETY: words have 32 bits and are only moved, or f32 and added; the square lies inside both (`src` was
            // checked, `dst` is the caller's promise); kernels are only used where they are available
            // (`Cpu::with_kernel` checked).
            unsafe {
                let dst = dst.add(j * dst_stride + i).cast();
                match side {
                    16 => x86::transpose_16x16_to::<ADD>(src, src_stride, dst, dst_stride),
                    _ => x86::transpose_8x8::<ADD>(src, src_stride, dst, dst_stride),
                }
            }
        }
    }
    for i in 0..rows {
        for j in if i < whole_rows { whole_columns..columns } else { 0..columns } {
            let word = src[i * src_stride + j];
            // SAFETY: the caller's promise.
            unsafe {
                let dst = dst.add(j * dst_stride + i);
                dst.write(if ADD { dst.read() + word } else { word });
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

    #[test]
    fn what_stands_there_is_added_to() {
        for (rows, columns) in [(1, 1), (8, 8), (16, 33), (7, 9), (17, 40), (35, 50)] {
            let (src_stride, dst_stride) = (columns + 3, rows + 5);
            let src: Vec<f32> = (0..rows * src_stride).map(|i| i as f32 * 0.37).collect();
            let before: Vec<f32> = (0..columns * dst_stride).map(|i| i as f32 * 1.3 - 50.0).collect();
            for kernel in Kernel::available() {
                let mut dst = before.clone();
                // SAFETY: there are `columns` rows of `dst_stride`.
                unsafe {
                    transpose_to::<f32, true>(
                        kernel,
                        (rows, columns),
                        (&src, src_stride),
                        dst.as_mut_ptr(),
                        dst_stride,
                    );
                }
                for (at, found) in dst.iter().enumerate() {
                    let (j, i) = (at / dst_stride, at % dst_stride);
                    let expected = before[at] + if i < rows { src[i * src_stride + j] } else { 0.0 };
                    assert_eq!(*found, expected, "{kernel:?} {rows}x{columns}");
                }
            }
        }
    }
}
