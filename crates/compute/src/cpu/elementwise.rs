//! What is done number by number or row by row: in fixed lanes, so that every instruction set gives the same bits.

#![allow(unsafe_code)] // what `vectorized` expands to

use super::kernel::vectorized;

/// Lanes of a sum over a row.
const LANES: usize = 16;

/// Lane sums to one, in a fixed tree.
#[inline(always)]
pub(super) fn reduce(lanes: [f32; LANES], op: impl Fn(f32, f32) -> f32) -> f32 {
    tree(&lanes.map(|lane| [lane]), op)[0]
}

/// The same for several rows side by side, `[lane][row]`.
#[inline(always)]
pub(super) fn tree<const N: usize>(lanes: &[[f32; N]; LANES], op: impl Fn(f32, f32) -> f32) -> [f32; N] {
    // Loops, and not `array::from_fn`: that is compiled without the instructions of the function that it is called in.
    let mut sums = *lanes;
    for half in [8, 4, 2, 1] {
        let (low, high) = sums.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high) {
            a.iter_mut().zip(b).for_each(|(a, b)| *a = op(*a, *b));
        }
    }
    sums[0]
}

/// Combines all of a row lane by lane, then the lanes.
#[inline(always)]
pub(super) fn fold(row: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = step(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *x);
    }
    reduce(lanes, op)
}

vectorized! {
    /// RMSNorm of a row.
    pub(super) fn rms_norm(x: &[f32], gain: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        let squares = fold(x, 0.0, |sum, x| x.mul_add(x, sum), |a, b| a + b);
        let inverse = 1.0 / (squares / x.len() as f32 + eps).sqrt();
        for (out, x) in out.iter_mut().zip(x) {
            *out = *x * inverse;
        }
        if let Some(gain) = gain {
            for (out, gain) in out.iter_mut().zip(gain) {
                *out *= *gain;
            }
        }
    }
}

/// `e^x` to about one unit in the last place, 0 below the smallest normal number: a polynomial on `[-ln2/2, ln2/2]`
/// after Cody and Waite's reduction. Of our own because the system's differs from machine to machine.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let bounded = x.clamp(-87.3, 88.7);
    let shifted = bounded.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-1.428_606_8e-6, n.mul_add(-0.693_145_75, bounded));
    let mut p = 1.987_569_1e-4f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, c);
    }
    let p = p.mul_add(r * r, r) + 1.0;
    // 2^n in two steps: n reaches 128, which is not an exponent. A cast would look for what has no integer.
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let (low, high) = (n >> 1, n - (n >> 1));
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    let result = p * power(low) * power(high);
    if x < -87.3 { 0.0 } else { result }
}

vectorized! {
    /// `gate = silu(gate) * up`.
    pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + exp(-*gate)) * *up;
        }
    }
}

vectorized! {
    /// `x += y`.
    pub(super) fn add(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += *y;
        }
    }
}

vectorized! {
    /// Turns the pairs of the heads of one row (Su et al. 2021, arXiv 2104.09864).
    pub(super) fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32], interleaved: bool) {
        for head in heads.chunks_exact_mut(2 * cos.len()) {
            if interleaved {
                for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                    let [x, y] = *pair;
                    *pair = [x * cos - y * sin, y * cos + x * sin];
                }
            } else {
                let (first, second) = head.split_at_mut(cos.len());
                for (((x, y), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
                }
            }
        }
    }
}

/// Whether no number is infinite or NaN.
#[inline(always)]
pub(super) fn all_finite(row: &[f32]) -> bool {
    row.iter().fold(0u32, |worst, x| worst.max(x.to_bits() & 0x7f80_0000)) != 0x7f80_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kernel;

    #[test]
    fn exp_is_right_to_two_units_in_the_last_place() {
        let mut worst = 0f64;
        for i in -873_000..887_000 {
            let x = i as f32 * 1e-4;
            let exact = (x as f64).exp();
            let ulp = (exact as f32).next_up() as f64 - exact as f32 as f64;
            worst = worst.max((exp(x) as f64 - exact).abs() / ulp);
        }
        assert!(worst < 2.0, "{worst} units");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert!(exp(200.0).is_infinite() || exp(200.0) > 3e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let row: Vec<f32> = (0..173).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.21).collect();
        let gain: Vec<f32> = row.iter().map(|x| 1.0 + x * 0.01).collect();
        let run = |kernel: Kernel| {
            let (mut norm, mut gate, mut sum) = (row.clone(), row.clone(), row.clone());
            let mut heads = [row[..160].to_vec(), row[..160].to_vec()];
            heads.iter_mut().zip([false, true]).for_each(|(heads, interleaved)| {
                rotate(kernel, heads, &row[..40], &gain[..40], interleaved);
            });
            rms_norm(kernel, &row, Some(&gain), 1e-5, &mut norm);
            silu_mul(kernel, &mut gate, &gain);
            add(kernel, &mut sum, &gain);
            [norm, gate, sum, heads.concat()].concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let expected = run(Kernel::Portable);
        for kernel in Kernel::available() {
            assert_eq!(run(kernel), expected, "{kernel:?}");
        }
    }

    #[test]
    fn rms_norm_follows_its_formula() {
        let x = vec![3.0, -4.0, 0.0, 5.0, 1.0];
        let mut normed = x.clone();
        let rms = ((9.0 + 16.0 + 25.0 + 1.0) / 5.0f64 + 1e-5).sqrt();
        let expected: Vec<f64> = x.iter().zip([1.0, 2.0, 3.0, 4.0, 5.0]).map(|(x, g)| *x as f64 / rms * g).collect();
        rms_norm(Kernel::detect(), &x, Some(&[1.0, 2.0, 3.0, 4.0, 5.0]), 1e-5, &mut normed);
        for (a, b) in normed.iter().zip(expected) {
            assert!((*a as f64 - b).abs() < 1e-6 * b.abs().max(1.0));
        }
    }

    #[test]
    fn both_rope_layouts_turn_the_same_pairs() {
        let (cos, sin) = ([0.8f32, 0.6], [0.6f32, 0.8]);
        for kernel in Kernel::available() {
            let mut halves = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
            let mut pairs = [1.0, 3.0, 2.0, 4.0, 5.0, 7.0, 6.0, 8.0];
            rotate(kernel, &mut halves, &cos, &sin, false);
            rotate(kernel, &mut pairs, &cos, &sin, true);
            let turned = |a: f32, b: f32, c: f32, d: f32| {
                [a * 0.8 - c * 0.6, b * 0.6 - d * 0.8, c * 0.8 + a * 0.6, d * 0.6 + b * 0.8]
            };
            assert_eq!(halves[..4], turned(1.0, 2.0, 3.0, 4.0));
            assert_eq!(halves[4..], turned(5.0, 6.0, 7.0, 8.0));
            assert_eq!([0, 2, 1, 3, 4, 6, 5, 7].map(|i| pairs[i]), halves);
        }
    }

    #[test]
    fn what_is_not_finite_is_seen() {
        assert!(all_finite(&[0.0, f32::MAX, f32::MIN_POSITIVE / 2.0]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!all_finite(&[1.0, bad, 2.0]));
        }
    }
}
