//! Chains of one row with weights that stand anywhere: the few candidates of a row in an SAE.

#![allow(unsafe_code)]

use super::kernel::{KC, Kernel};
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Rows of weights that [`Kernel::chains`] takes together.
pub(super) const TOGETHER: usize = 32;

/// Some rows of weights, anywhere in memory.
pub(super) enum Scattered<'a> {
    /// Stored bf16.
    Bf16([&'a [u8]; TOGETHER]),
    /// Unpacked.
    F32([&'a [f32]; TOGETHER]),
}

impl Kernel {
    /// A chain of fused multiply-adds from 0 of `x` with each of the rows. Stored rows `ahead`, which will be needed next,
    /// are brought closer.
    pub(super) fn chains(self, x: &[f32], rows: &Scattered<'_>, ahead: [&[u8]; TOGETHER]) -> [f32; TOGETHER] {
        let n = x.len();
        let fits = match rows {
            Scattered::Bf16(rows) => rows.iter().all(|row| row.len() >= 2 * n),
            Scattered::F32(rows) => rows.iter().all(|row| row.len() >= n),
        };
        assert!(fits && n <= KC);
        let mut sums = [0f32; TOGETHER];
        #[cfg(target_arch = "x86_64")]
        if matches!(self, Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512) {
            // Products of these zeros change no sum, but that of -0 becomes 0.
            let mut padded = [0f32; KC];
            padded[..n].copy_from_slice(x);
            let ahead = ahead.map(<[u8]>::as_ptr);
            // SAFETY: the kernel is available (`Cpu::with_kernel` checked), and the lengths were just checked.
            unsafe {
                match rows {
                    Scattered::Bf16(rows) => {
                        x86::chains_avx512::<2>(n, &padded, &rows.map(<[u8]>::as_ptr), &ahead, &mut sums);
                    }
                    Scattered::F32(rows) => {
                        let rows = rows.map(|row| row.as_ptr().cast());
                        x86::chains_avx512::<1>(n, &padded, &rows, &ahead, &mut sums);
                    }
                }
            }
            return sums;
        }
        let _ = ahead;
        for (r, sum) in sums.iter_mut().enumerate() {
            *sum = match rows {
                Scattered::Bf16(rows) => {
                    let bf16 = |bytes: &[u8; 2]| half::bf16::from_le_bytes(*bytes).to_f32();
                    rows[r].as_chunks().0.iter().map(bf16).zip(x).fold(0.0, |sum, (w, x)| w.mul_add(*x, sum))
                }
                Scattered::F32(rows) => rows[r].iter().zip(x).fold(0.0, |sum, (w, x)| w.mul_add(*x, sum)),
            };
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::tests::noise;

    #[test]
    fn chains_of_scattered_rows_are_plain_chains() {
        for n in [1, 15, 16, 17, 31, 32, 33, 300, KC] {
            let (x, w) = (noise(n, 1), noise(TOGETHER * n, 2));
            let wide: Vec<&[f32]> = w.chunks_exact(n).collect();
            let stored: Vec<Vec<u8>> = (wide.iter())
                .map(|row| row.iter().flat_map(|w| half::bf16::from_f32(*w).to_le_bytes()).collect())
                .collect();
            let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
            let rounded: Vec<f32> = w.iter().map(|w| half::bf16::from_f32(*w).to_f32()).collect();
            let plain = |w: &[f32]| -> Vec<f32> {
                w.chunks_exact(n).map(|row| row.iter().zip(&x).fold(0f32, |sum, (w, x)| w.mul_add(*x, sum))).collect()
            };
            for kernel in Kernel::available() {
                let ahead = std::array::from_fn(|r| stored[TOGETHER - 1 - r]);
                let f32s = kernel.chains(&x, &Scattered::F32(std::array::from_fn(|r| wide[r])), ahead);
                assert_eq!(f32s[..], plain(&w), "{kernel:?} {n}");
                let bf16s = kernel.chains(&x, &Scattered::Bf16(std::array::from_fn(|r| stored[r])), ahead);
                assert_eq!(bf16s[..], plain(&rounded), "{kernel:?} {n}");
            }
        }
    }
}
