//! What training needs beside products: sums and dot products of a few chosen rows, and a step of Adam. Every number is
//! computed in an order that its arguments alone decide.

#![allow(unsafe_code)] // what `vectorized` expands to

use super::Cpu;
use super::elementwise::reduce;
use super::kernel::vectorized;

/// Lanes of a dot product.
const LANES: usize = 16;

/// A step of Adam (Kingma & Ba 2015, arXiv 1412.6980), as it is for all parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate over `1 - beta1^t`.
    pub rate: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of their squares.
    pub beta2: f32,
    /// `1 / sqrt(1 - beta2^t)`.
    pub unbias2: f32,
    /// Added to the root of the mean of squares.
    pub eps: f32,
    /// Factor on the gradient before all else.
    pub clip: f32,
}

impl Cpu {
    /// `out += sum over i ascending of weights[i] * matrix[ids[i]]` for rows of `out.len()` numbers.
    ///
    /// # Panics
    /// When a row is not there, or the lengths differ.
    pub fn add_rows(&self, matrix: &[f32], ids: &[u32], weights: &[f32], out: &mut [f32]) {
        assert_eq!(ids.len(), weights.len());
        add_rows(self.kernel, matrix, ids, weights, out);
    }

    /// `out[i] = matrix[ids[i]] . row`.
    ///
    /// # Panics
    /// When a row is not there, or the lengths differ.
    pub fn dot_rows(&self, matrix: &[f32], ids: &[u32], row: &[f32], out: &mut [f32]) {
        assert_eq!(ids.len(), out.len());
        dot_rows(self.kernel, matrix, ids, row, out);
    }

    /// Moves parameters by a step, and their moments with them.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn adam(&self, step: &AdamStep, gradient: &[f32], parameters: &mut [f32], moments: [&mut [f32]; 2]) {
        let [first, second] = moments;
        let n = gradient.len();
        assert!(parameters.len() == n && first.len() == n && second.len() == n);
        adam(self.kernel, step, gradient, parameters, first, second);
    }
}

/// The row `id`.
#[inline(always)]
fn row_of(matrix: &[f32], id: u32, d: usize) -> &[f32] {
    &matrix[id as usize * d..][..d]
}

vectorized! {
    /// Four rows at a time: one chain of fused multiply-adds for each number, in the order of the ids.
    fn add_rows(matrix: &[f32], ids: &[u32], weights: &[f32], out: &mut [f32]) {
        let d = out.len();
        let (fours, rest) = ids.as_chunks::<4>();
        for (ids, w) in fours.iter().zip(weights.as_chunks::<4>().0) {
            let [a, b, c, e] = ids.map(|id| row_of(matrix, id, d));
            for i in 0..d {
                out[i] = w[3].mul_add(e[i], w[2].mul_add(c[i], w[1].mul_add(b[i], w[0].mul_add(a[i], out[i]))));
            }
        }
        for (id, w) in rest.iter().zip(&weights[ids.len() - rest.len()..]) {
            for (out, x) in out.iter_mut().zip(row_of(matrix, *id, d)) {
                *out = w.mul_add(*x, *out);
            }
        }
    }
}

vectorized! {
    /// Each a sum in lanes.
    fn dot_rows(matrix: &[f32], ids: &[u32], row: &[f32], out: &mut [f32]) {
        let (whole, rest) = row.as_chunks::<LANES>();
        for (id, out) in ids.iter().zip(out.iter_mut()) {
            let (others, other_rest) = row_of(matrix, *id, row.len()).as_chunks::<LANES>();
            let mut lanes = [0f32; LANES];
            for (a, b) in whole.iter().zip(others) {
                for i in 0..LANES {
                    lanes[i] = a[i].mul_add(b[i], lanes[i]);
                }
            }
            for (lane, (a, b)) in lanes.iter_mut().zip(rest.iter().zip(other_rest)) {
                *lane = a.mul_add(*b, *lane);
            }
            *out = reduce(lanes, |a, b| a + b);
        }
    }
}

vectorized! {
    /// Moments, then parameters, in one pass over memory.
    fn adam(step: &AdamStep, gradient: &[f32], parameters: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        let AdamStep { rate, beta1, beta2, unbias2, eps, clip } = *step;
        let (new1, new2) = (1.0 - beta1, 1.0 - beta2);
        let moments = first.iter_mut().zip(second.iter_mut());
        for ((g, p), (m, v)) in gradient.iter().zip(parameters.iter_mut()).zip(moments) {
            let g = g * clip;
            *m = beta1.mul_add(*m, new1 * g);
            *v = beta2.mul_add(*v, new2 * g * g);
            *p -= rate * *m / v.sqrt().mul_add(unbias2, eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kernel, Precision};

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let number = |i: u32| ((i ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        (0..n as u32).map(number).collect()
    }

    fn cpus() -> impl Iterator<Item = Cpu> {
        Kernel::available().map(|kernel| Cpu::with_kernel(1, Precision::F32, kernel).unwrap())
    }

    #[test]
    fn chosen_rows_are_added_in_order_and_multiplied_on_every_kernel() {
        for (d, count) in [(1, 3), (19, 0), (40, 9), (576, 50)] {
            let (rows, matrix, start) = (7usize, numbers(7 * d, 1), numbers(d, 2));
            let ids: Vec<u32> = (0..count).map(|i| (i * 5 % rows) as u32).collect();
            let weights = numbers(count, 3);
            let mut expected = start.clone();
            for (id, w) in ids.iter().zip(&weights) {
                let row = &matrix[*id as usize * d..][..d];
                expected.iter_mut().zip(row).for_each(|(out, x)| *out = w.mul_add(*x, *out));
            }
            let mut products: Option<Vec<f32>> = None;
            for cpu in cpus() {
                let mut out = start.clone();
                cpu.add_rows(&matrix, &ids, &weights, &mut out);
                assert_eq!(out, expected);
                let mut dots = vec![f32::NAN; count];
                cpu.dot_rows(&matrix, &ids, &start, &mut dots);
                for (dot, id) in dots.iter().zip(&ids) {
                    let row = &matrix[*id as usize * d..][..d];
                    let exact: f64 = row.iter().zip(&start).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    assert!((f64::from(*dot) - exact).abs() < 1e-4, "{dot} {exact}");
                }
                assert_eq!(*products.get_or_insert_with(|| dots.clone()), dots);
            }
        }
    }

    #[test]
    fn adam_is_the_paper_s() {
        let (n, rate) = (37, 0.01f64);
        let (b1, b2, eps) = (0.9f64, 0.99f64, 1e-8f64);
        for cpu in cpus() {
            let (mut p, mut m, mut v) = (numbers(n, 1), vec![0f32; n], vec![0f32; n]);
            let mut exact: Vec<[f64; 3]> = p.iter().map(|p| [f64::from(*p), 0.0, 0.0]).collect();
            for t in 1..=5 {
                let g = numbers(n, 10 + t as u32);
                let step = AdamStep {
                    rate: (rate / (1.0 - b1.powi(t))) as f32,
                    beta1: b1 as f32,
                    beta2: b2 as f32,
                    unbias2: (1.0 / (1.0 - b2.powi(t)).sqrt()) as f32,
                    eps: eps as f32,
                    clip: 0.5,
                };
                cpu.adam(&step, &g, &mut p, [&mut m, &mut v]);
                for ([p, m, v], g) in exact.iter_mut().zip(&g) {
                    let g = 0.5 * f64::from(*g);
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    *p -= rate * (*m / (1.0 - b1.powi(t))) / ((*v / (1.0 - b2.powi(t))).sqrt() + eps);
                }
            }
            for (p, [exact, ..]) in p.iter().zip(&exact) {
                assert!((f64::from(*p) - exact).abs() < 1e-5, "{p} {exact}");
            }
        }
    }
}
