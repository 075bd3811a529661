//! What losses over a vocabulary are made of: sums of exponentials, and of differences weighted by them. Blocks are
//! summed in f32 lanes and blocks of a row in f64, so that a loss is right to a few millionths of itself and the same on
//! every instruction set.

#![allow(unsafe_code)] // what `vectorized` expands to

use super::Cpu;
use super::elementwise::{exp, fold};
use super::kernel::vectorized;

/// Numbers that are summed in f32: 16 to a lane.
const BLOCK: usize = 256;

vectorized! {
    /// The largest number of a row, and `powers[i] = e^(x[i] - largest)` with their sum.
    fn exponentials(x: &[f32], powers: &mut [f32], largest: &mut f32, sum: &mut f64) {
        *largest = fold(x, f32::NEG_INFINITY, f32::max, f32::max);
        *sum = 0.0;
        for (x, powers) in x.chunks(BLOCK).zip(powers.chunks_mut(BLOCK)) {
            for (x, power) in x.iter().zip(powers.iter_mut()) {
                *power = exp(*x - *largest);
            }
            *sum += f64::from(fold(powers, 0.0, |sum, x| sum + x, |a, b| a + b));
        }
    }
}

vectorized! {
    /// `sum of weights[i] * (a[i] - b[i])`; `products` is room for a block.
    fn weighted(weights: &[f32], a: &[f32], b: &[f32], products: &mut [f32; BLOCK], sum: &mut f64) {
        *sum = 0.0;
        for ((weights, a), b) in weights.chunks(BLOCK).zip(a.chunks(BLOCK)).zip(b.chunks(BLOCK)) {
            for (((product, weight), a), b) in products.iter_mut().zip(weights).zip(a).zip(b) {
                *product = *weight * (*a - *b);
            }
            *sum += f64::from(fold(&products[..weights.len()], 0.0, |sum, x| sum + x, |a, b| a + b));
        }
    }
}

/// Probabilities of a row of logits, not yet divided by their sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Powers {
    /// `e^(logit - largest logit)`.
    pub powers: Vec<f32>,
    /// Their sum.
    pub sum: f64,
    /// Logarithm of the sum of the logits' exponentials.
    pub log_sum_exp: f64,
}

impl Cpu {
    /// The powers of a row of logits, on the calling thread.
    pub fn powers(&self, logits: &[f32]) -> Powers {
        let (mut powers, mut largest, mut sum) = (vec![0.0; logits.len()], 0.0, 0.0);
        exponentials(self.kernel, logits, &mut powers, &mut largest, &mut sum);
        Powers { powers, sum, log_sum_exp: f64::from(largest) + sum.ln() }
    }

    /// The expectation of `a - b` under the probabilities, on the calling thread.
    pub fn expected_difference(&self, powers: &Powers, a: &[f32], b: &[f32]) -> f64 {
        let mut sum = 0.0;
        weighted(self.kernel, &powers.powers, a, b, &mut [0.0; BLOCK], &mut sum);
        sum / powers.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kernel, Precision};

    /// Logits as a model has them: most near -5, a few large, over a vocabulary that no block divides.
    fn logits(seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..49_157).map(|_| -5.0 + 6.0 * next() + if next() > 0.999 { 18.0 * next() } else { 0.0 }).collect()
    }

    fn exact(logits: &[f32]) -> f64 {
        let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        most + logits.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>().ln()
    }

    #[test]
    fn sums_over_a_vocabulary_are_those_of_f64() {
        let cpu = Cpu::new(1, Precision::F32).unwrap();
        for seed in 0..8 {
            let (a, b) = (logits(seed), logits(seed + 100));
            let (powers, lse) = (cpu.powers(&a), exact(&a));
            assert!((powers.log_sum_exp - lse).abs() < 1e-6, "{} {lse}", powers.log_sum_exp);
            let difference: f64 =
                a.iter().zip(&b).map(|(a, b)| (f64::from(*a) - lse).exp() * (f64::from(*a) - f64::from(*b))).sum();
            let found = cpu.expected_difference(&powers, &a, &b);
            assert!((found - difference).abs() < 1e-5 * difference.abs().max(1.0), "{found} {difference}");
        }
        assert_eq!(cpu.powers(&[3e38, 0.0]).log_sum_exp, f64::from(3e38f32));
    }

    #[test]
    fn every_kernel_gives_the_same_bits() {
        let (a, b) = (logits(1), logits(2));
        let run = |kernel| {
            let cpu = Cpu::with_kernel(1, Precision::F32, kernel).unwrap();
            let powers = cpu.powers(&a);
            let difference = cpu.expected_difference(&powers, &a, &b);
            (powers, difference)
        };
        let expected = run(Kernel::Portable);
        assert!(Kernel::available().all(|kernel| run(kernel) == expected));
    }
}
