//! Numbers without a pattern, the same every time: arithmetic on zeros would be faster than any model allows.

use llamascope_compute::{Bytes, Dtype, Rows, Tensor};

/// Marsaglia's xorshift generator (2003, Journal of Statistical Software 8, 14).
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new() -> Self {
        Noise(0x9e37_79b9_7f4a_7c15)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform from -1 to 1.
    pub(super) fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(super) fn index(&mut self, below: usize) -> usize {
        (self.bits() >> 32) as usize % below
    }

    pub(super) fn rows(&mut self, n: usize, d: usize) -> Rows {
        Rows::from_vec(n, d, (0..n * d).map(|_| self.number()).collect())
    }

    /// A matrix `[out, in]` of numbers up to `size`.
    pub(super) fn matrix(&mut self, dtype: Dtype, out: usize, inner: usize, size: f32) -> Tensor {
        let blocks = out * (inner / dtype.block_len());
        let mut bytes = Vec::with_capacity(blocks * dtype.block_bytes());
        for _ in 0..blocks {
            match dtype {
                // Factors and offsets of blocks in f16, then integers: see ggml-common.h.
                Dtype::Q8_0 => bytes.extend(Q8_0_SCALE.to_le_bytes()),
                Dtype::Q4_1 => bytes.extend([Q4_1_SCALE.to_le_bytes(), Q4_1_MIN.to_le_bytes()].concat()),
                Dtype::Bf16 => bytes.extend_from_slice(&(self.number() * size).to_le_bytes()[2..]),
                other => unreachable!("no benchmark has weights in {other}"),
            }
            while !bytes.len().is_multiple_of(dtype.block_bytes()) {
                bytes.extend_from_slice(&self.bits().to_le_bytes()[..2]);
            }
        }
        Tensor::new("noise", dtype, vec![out, inner], Bytes::from_vec(bytes))
    }
}

/// 2^-7 in f16: integers up to 127 become numbers up to 1.
const Q8_0_SCALE: u16 = 0x2000;
/// 2^-3 in f16: integers up to 15, with an offset of -1, become numbers from -1 to 0.875.
const Q4_1_SCALE: u16 = 0x3000;
/// -1 in f16.
const Q4_1_MIN: u16 = 0xbc00;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_are_spread_over_the_same_range() {
        for dtype in [Dtype::Bf16, Dtype::Q8_0, Dtype::Q4_1] {
            let numbers = Noise::new().matrix(dtype, 30, 64, 1.0).to_f32();
            let mean = numbers.iter().sum::<f32>() / numbers.len() as f32;
            let mean_square = numbers.iter().map(|x| x * x).sum::<f32>() / numbers.len() as f32;
            assert!(numbers.iter().all(|x| x.abs() <= 1.0), "{dtype}");
            assert!(mean.abs() < 0.1 && (mean_square - 1.0 / 3.0).abs() < 0.05, "{dtype}: {mean} {mean_square}");
        }
    }
}
