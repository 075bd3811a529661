//! Softmax of a few rows at a time. What is summed over a row is summed in lanes, and the lanes of all rows together: a row
//! by itself would spend most of its time on its own sixteen.

#![allow(unsafe_code)] // what `vectorized` expands to

use super::elementwise::{exp, tree};
use super::kernel::{Kernel, vectorized};
use super::transpose::{Stored, transpose};

/// Rows at the most, and lanes of a row.
const LANES: usize = 16;

/// A number for each row and lane, `[row][lane]`, or turned.
type Square = [[f32; LANES]; LANES];

/// Softmax of `scale * scores` for up to 16 rows, each `stride` after the other and a multiple of 16 long.
pub(super) fn softmax(kernel: Kernel, rows: usize, len: usize, (scores, stride): (&mut [f32], usize), scale: f32) {
    assert!(rows <= LANES && len.is_multiple_of(LANES) && len <= stride);
    let turned = |lanes: &Square| {
        let mut turned = [[0f32; LANES]; LANES];
        transpose(
            kernel,
            Stored::Words,
            (LANES, LANES),
            (lanes.as_flattened(), LANES),
            (turned.as_flattened_mut(), LANES),
        );
        turned
    };
    let scores = &mut scores[..(rows - 1) * stride + len];
    let (mut lanes, mut factors) = ([[0f32; LANES]; LANES], [0f32; LANES]);
    largest_by_lane(kernel, scores, stride, len, &mut lanes);
    largest(kernel, &turned(&lanes), &mut factors);
    powers(kernel, scores, stride, len, scale, &factors, &mut lanes);
    inverse_sums(kernel, &turned(&lanes), &mut factors);
    multiply(kernel, scores, stride, len, &factors);
}

/// The larger number; unlike `f32::max` one instruction, as long as neither is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

vectorized! {
    fn largest_by_lane(scores: &[f32], stride: usize, len: usize, lanes: &mut Square) {
        for (row, lanes) in scores.chunks(stride).zip(lanes) {
            *lanes = [f32::NEG_INFINITY; LANES];
            for chunk in row[..len].as_chunks::<LANES>().0 {
                for i in 0..LANES {
                    lanes[i] = larger(chunk[i], lanes[i]);
                }
            }
        }
    }
}

vectorized! {
    fn largest(lanes: &Square, of_rows: &mut [f32; LANES]) {
        *of_rows = tree(lanes, larger);
    }
}

vectorized! {
    /// `e^(scale * (score - largest))`, and their sums by lane.
    fn powers(scores: &mut [f32], stride: usize, len: usize, scale: f32, largest: &[f32; LANES], sums: &mut Square) {
        for ((row, largest), sums) in scores.chunks_mut(stride).zip(largest).zip(sums) {
            let most = -(largest * scale);
            *sums = [0f32; LANES];
            for chunk in row[..len].as_chunks_mut::<LANES>().0 {
                for i in 0..LANES {
                    chunk[i] = exp(chunk[i].mul_add(scale, most));
                    sums[i] += chunk[i];
                }
            }
        }
    }
}

vectorized! {
    fn inverse_sums(lanes: &Square, of_rows: &mut [f32; LANES]) {
        *of_rows = tree(lanes, |a, b| a + b);
        of_rows.iter_mut().for_each(|sum| *sum = 1.0 / *sum);
    }
}

vectorized! {
    fn multiply(scores: &mut [f32], stride: usize, len: usize, factors: &[f32; LANES]) {
        for (row, factor) in scores.chunks_mut(stride).zip(factors) {
            row[..len].iter_mut().for_each(|score| *score *= *factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_formula_and_is_the_same_on_every_kernel() {
        for (rows, len, stride) in [(1, 16, 16), (12, 32, 32), (3, 48, 64), (16, 160, 176)] {
            let score = |i: usize| match i % 11 {
                3 => f32::NEG_INFINITY,
                _ => ((i * 37 % 101) as f32 - 50.0) * 0.21,
            };
            let before: Vec<f32> = (0..rows * stride).map(score).collect();
            let run = |kernel| {
                let mut scores = before.clone();
                softmax(kernel, rows, len, (&mut scores, stride), 0.3);
                scores
            };
            let expected = run(Kernel::Portable);
            for kernel in Kernel::available() {
                assert_eq!(run(kernel), expected, "{kernel:?}");
            }
            for (row, before) in expected.chunks(stride).zip(before.chunks(stride)) {
                let largest = before[..len].iter().copied().fold(f32::MIN, f32::max);
                let power = |x: f32| (0.3 * f64::from(x - largest)).exp();
                let sum: f64 = before[..len].iter().map(|x| power(*x)).sum();
                for (found, x) in row[..len].iter().zip(before) {
                    assert!((f64::from(*found) - power(*x) / sum).abs() < 1e-7, "{found} of {x}");
                }
                assert_eq!(row[len..], before[len..]);
            }
        }
    }
}
