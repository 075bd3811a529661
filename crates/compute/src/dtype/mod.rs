//! How numbers are stored, and how stored numbers become f32.
//!
//! The block types are ggml's (`ggml-common.h`), read as its reference `dequantize_row_*` do (`ggml-quants.c`).

mod blocks;

use std::fmt;

/// A storage type, little-endian. The quantised ones are ggml's, in blocks of 32 or 256 along a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
}

impl Dtype {
    /// Every storage type.
    pub const ALL: [Dtype; 11] = [
        Dtype::F32,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::Q8_0,
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Q4K,
        Dtype::Q5K,
        Dtype::Q6K,
    ];

    /// Its name as safetensors and ggml write it: `BF16`, `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::Q8_0 => "Q8_0",
            Dtype::Q4_0 => "Q4_0",
            Dtype::Q4_1 => "Q4_1",
            Dtype::Q5_0 => "Q5_0",
            Dtype::Q5_1 => "Q5_1",
            Dtype::Q4K => "Q4_K",
            Dtype::Q5K => "Q5_K",
            Dtype::Q6K => "Q6_K",
        }
    }

    /// Numbers in a block (1 for the float types).
    #[inline]
    pub const fn block_len(self) -> usize {
        match self {
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => 1,
            Dtype::Q8_0 | Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q5_0 | Dtype::Q5_1 => 32,
            Dtype::Q4K | Dtype::Q5K | Dtype::Q6K => 256,
        }
    }

    /// Bytes of a block.
    #[inline]
    pub const fn block_bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::Q8_0 => 34,
            Dtype::Q4_0 => 18,
            Dtype::Q4_1 => 20,
            Dtype::Q5_0 => 22,
            Dtype::Q5_1 => 24,
            Dtype::Q4K => 144,
            Dtype::Q5K => 176,
            Dtype::Q6K => 210,
        }
    }

    /// Turns whole blocks into f32. `src` holds `dst.len() / block_len` blocks, at any alignment.
    ///
    /// Always inlined, so that a kernel compiled for wider registers gets these loops in those registers. The result
    /// is the same to the bit whatever the registers: one rounding for each product and each sum, none fused.
    ///
    /// # Panics
    /// When the lengths do not belong together.
    #[inline(always)]
    pub fn dequantize(self, src: &[u8], dst: &mut [f32]) {
        let n_blocks = dst.len() / self.block_len();
        assert_eq!(n_blocks * self.block_len(), dst.len(), "{self}: not whole blocks");
        assert_eq!(n_blocks * self.block_bytes(), src.len(), "{self}: bytes of {} numbers", dst.len());
        match self {
            Dtype::F32 => blocks::each!(blocks::f32, src, dst),
            Dtype::F16 => blocks::each!(blocks::f16, src, dst),
            Dtype::Bf16 => blocks::each!(blocks::bf16, src, dst),
            Dtype::Q8_0 => blocks::each!(blocks::q8_0, src, dst),
            Dtype::Q4_0 => blocks::each!(blocks::q4_0, src, dst),
            Dtype::Q4_1 => blocks::each!(blocks::q4_1, src, dst),
            Dtype::Q5_0 => blocks::each!(blocks::q5_0, src, dst),
            Dtype::Q5_1 => blocks::each!(blocks::q5_1, src, dst),
            Dtype::Q4K => blocks::each!(blocks::q4_k, src, dst),
            Dtype::Q5K => blocks::each!(blocks::q5_k, src, dst),
            Dtype::Q6K => blocks::each!(blocks::q6_k, src, dst),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(dtype: Dtype, src: &[u8]) -> Vec<f32> {
        let mut dst = vec![f32::NAN; src.len() / dtype.block_bytes() * dtype.block_len()];
        dtype.dequantize(src, &mut dst);
        dst
    }

    fn le(bits: impl IntoIterator<Item = u16>) -> Vec<u8> {
        bits.into_iter().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn every_f16_widens_as_half_does() {
        for (bits, wide) in (0..=u16::MAX).zip(numbers(Dtype::F16, &le(0..=u16::MAX))) {
            let expected = half::f16::from_bits(bits).to_f32();
            assert!(wide.to_bits() == expected.to_bits() || wide.is_nan() && expected.is_nan(), "{bits:#06x}");
        }
    }

    #[test]
    fn every_bf16_is_the_upper_half_of_an_f32() {
        for (bits, wide) in (0..=u16::MAX).zip(numbers(Dtype::Bf16, &le(0..=u16::MAX))) {
            assert_eq!(wide.to_bits() >> 16, u32::from(bits));
        }
    }

    #[test]
    fn a_q4_1_block_is_scale_times_nibble_plus_minimum() {
        let mut block = le([half::f16::from_f32(0.5).to_bits(), half::f16::from_f32(-2.0).to_bits()]);
        block.extend((0..16u8).map(|i| i | (15 - i) << 4));
        let expected: Vec<f32> = (0..16).chain((0..16).rev()).map(|q| q as f32 * 0.5 - 2.0).collect();
        assert_eq!(numbers(Dtype::Q4_1, &block), expected);
    }

    #[test]
    fn unaligned_floats_are_read() {
        let bytes: Vec<u8> = [7].into_iter().chain(1.5f32.to_le_bytes()).chain((-3f32).to_le_bytes()).collect();
        assert_eq!(numbers(Dtype::F32, &bytes[1..]), [1.5, -3.0]);
    }

    #[test]
    fn block_sizes_are_those_of_the_readers() {
        for dtype in Dtype::ALL {
            let mut dst = vec![f32::NAN; 3 * 256];
            dtype.dequantize(&vec![0; dst.len() / dtype.block_len() * dtype.block_bytes()], &mut dst);
            assert!(dst.iter().all(|v| *v == 0.0), "{dtype}: a number was not written");
        }
    }

    #[test]
    #[should_panic(expected = "Q4_1: not whole blocks")]
    fn half_a_block_panics() {
        Dtype::Q4_1.dequantize(&[0; 10], &mut [0.0; 16]);
    }

    #[test]
    #[should_panic(expected = "Q8_0: bytes of 32 numbers")]
    fn too_few_bytes_panic() {
        Dtype::Q8_0.dequantize(&[0; 33], &mut [0.0; 32]);
    }
}
