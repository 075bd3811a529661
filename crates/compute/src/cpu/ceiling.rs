//! What a machine can do at the most: loops that multiply in registers alone, and one that only reads memory.
//!
//! They are what a benchmark compares kernels with. There is no clock here: each says how much it has done.

#![allow(unsafe_code)]

use std::hint::black_box;

use super::kernel::{Kernel, vectorized};
use super::{Cpu, Precision};

/// Operands of the loops: numbers with bits of no pattern, because circuits draw more power for them than for zeros.
const OPERANDS: [f32; 2] = [0.738_194_2, -0.614_935_4];

/// Memory to be read, a part for each thread of the device, which was also the first to touch it.
pub struct ReadBuffer(Vec<Vec<u64>>);

impl Cpu {
    /// On every thread, `rounds` rounds of multiply-adds with all operands in registers, in f32 or (for
    /// [`Precision::Bf16`]) in pairs of bf16. Returns how many floating-point operations that was in all; `None` where
    /// the kernel has no instructions for bf16.
    pub fn multiply_in_registers(&self, precision: Precision, rounds: u64) -> Option<u64> {
        if precision != Precision::Bf16 {
            self.pool.broadcast(|_| f32_loop(self.kernel, OPERANDS, rounds));
            return Some(rounds * f32_flops(self.kernel) * self.pool.current_num_threads() as u64);
        }
        let flops = bf16_flops(self.kernel)?;
        self.pool.broadcast(|_| bf16_loop(self.kernel, OPERANDS, rounds));
        Some(rounds * flops * self.pool.current_num_threads() as u64)
    }

    /// Memory of about `bytes` in all for [`Cpu::read_memory`].
    pub fn read_buffer(&self, bytes: usize) -> ReadBuffer {
        let part = bytes / size_of::<u64>() / self.pool.current_num_threads();
        ReadBuffer(self.pool.broadcast(|_| vec![1; part]))
    }

    /// Reads all of it once, each thread its part; returns how many bytes that was.
    ///
    /// # Panics
    /// When the buffer was made for more threads than this device has.
    pub fn read_memory(&self, buffer: &ReadBuffer) -> u64 {
        let threads = self.pool.current_num_threads();
        assert!(buffer.0.len() <= threads, "a buffer of {} threads for {threads}", buffer.0.len());
        self.pool.broadcast(|thread| {
            let mut sum = 0;
            sum_of(self.kernel, buffer.0.get(thread.index()).map_or(&[], Vec::as_slice), &mut sum);
            black_box(sum);
        });
        buffer.0.iter().map(|part| size_of_val(&part[..]) as u64).sum()
    }
}

vectorized! {
    /// In as many chains as the widest registers need to be kept waiting for memory alone.
    fn sum_of(numbers: &[u64], sum: &mut u64) {
        let mut sums = [0u64; 64];
        let chunks = numbers.chunks_exact(64);
        let rest = chunks.remainder();
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
        }
        *sum = sums.iter().chain(rest).fold(0, |sum, x| sum.wrapping_add(*x));
    }
}

/// Floating-point operations of a round of [`f32_loop`].
fn f32_flops(kernel: Kernel) -> u64 {
    match kernel {
        Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => 2 * 16 * 16,
        Kernel::Avx2 => 2 * 12 * 8,
        Kernel::Portable => 2 * 4 * 16,
    }
}

/// Floating-point operations of a round of [`bf16_loop`].
fn bf16_flops(kernel: Kernel) -> Option<u64> {
    match kernel {
        // Eight instructions of 16 x 16 sums of 32 products.
        Kernel::Amx => Some(8 * 2 * 16 * 16 * 32),
        // Sixteen instructions of 16 sums of two products.
        Kernel::Avx512Bf16 => Some(16 * 2 * 16 * 2),
        Kernel::Avx512 | Kernel::Avx2 | Kernel::Portable => None,
    }
}

/// Independent chains of fused multiply-adds, as many as hide their latency. Returns the sum of all.
fn f32_loop(kernel: Kernel, operands: [f32; 2], rounds: u64) -> f32 {
    match kernel {
        // SAFETY: the kernel is available: `Cpu::with_kernel` has checked.
        #[cfg(target_arch = "x86_64")]
        Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => unsafe { x86::f32_avx512(operands, rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => unsafe { x86::f32_avx2(operands, rounds) },
        #[cfg(not(target_arch = "x86_64"))]
        Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 | Kernel::Avx2 => unreachable!("is_available is false"),
        Kernel::Portable => {
            let [x, w] = operands.map(|x| black_box([x; 16]));
            // Zeros that the compiler does not know to be equal: it would make one chain of equal ones.
            let mut sums = black_box([[0f32; 16]; 4]);
            for _ in 0..rounds {
                for sums in &mut sums {
                    for c in 0..16 {
                        sums[c] = w[c].mul_add(x[c], sums[c]);
                    }
                }
            }
            black_box(sums).iter().flatten().sum()
        }
    }
}

/// The same for pairs of bf16 (the operands cut to bf16, the same in every place).
fn bf16_loop(kernel: Kernel, operands: [f32; 2], rounds: u64) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        let pairs = operands.map(|x| x.to_bits() >> 16 | x.to_bits() & 0xffff_0000);
        kernel.prepare_bf16(true);
        let sum = match kernel {
            // SAFETY: the kernel is available (`Cpu::with_kernel` has checked) and this thread prepared.
            Kernel::Amx => unsafe { x86::bf16_amx(pairs, rounds) },
            // SAFETY: as above.
            Kernel::Avx512Bf16 => unsafe { x86::bf16_avx512(pairs, rounds) },
            _ => unreachable!("bf16_flops is none"),
        };
        kernel.prepare_bf16(false);
        sum
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("{kernel:?} {operands:?} {rounds}: bf16_flops is none")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_avx512(operands: [f32; 2], rounds: u64) -> f32 {
        let [x, w] = operands.map(|x| _mm512_set1_ps(black_box(x)));
        // Zeros that the compiler does not know to be equal: it would make one chain of equal ones.
        let mut sums: [__m512; 16] = std::array::from_fn(|_| _mm512_set1_ps(black_box(0.0)));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(w, x, *sum);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(black_box(sum))).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_avx2(operands: [f32; 2], rounds: u64) -> f32 {
        let [x, w] = operands.map(|x| _mm256_set1_ps(black_box(x)));
        let mut sums: [__m256; 12] = std::array::from_fn(|_| _mm256_set1_ps(black_box(0.0)));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(w, x, *sum);
            }
        }
        let mut lanes = [[0f32; 8]; 12];
        for (lanes, sum) in lanes.iter_mut().zip(sums) {
            // SAFETY: eight numbers long.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
        }
        black_box(lanes).iter().flatten().sum()
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_avx512(pairs: [u32; 2], rounds: u64) -> f32 {
        // SAFETY: both are 64 bytes in which every bit pattern is valid.
        let bf16 = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
        let [x, w] = pairs.map(|x| bf16(_mm512_set1_epi32(black_box(x) as i32)));
        let mut sums: [__m512; 16] = std::array::from_fn(|_| _mm512_set1_ps(black_box(0.0)));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, w, x);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(black_box(sum))).sum()
    }

    /// # Safety
    /// AMX for bf16, and the thread prepared.
    pub(super) unsafe fn bf16_amx(pairs: [u32; 2], rounds: u64) -> f32 {
        let [x, w] = pairs.map(|pair| [pair; 256]);
        let mut sums = [0f32; 4 * 256];
        if rounds == 0 {
            return 0.0;
        }
        // SAFETY: the tiles are 16 rows of 64 bytes, `x` and `w` one of them and `sums` four; the registers are declared
        // as clobbered.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm4, [{w} + {stride}*1]",
                "tileloadd tmm5, [{w} + {stride}*1]",
                "tileloadd tmm6, [{x} + {stride}*1]",
                "tileloadd tmm7, [{x} + {stride}*1]",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {n}",
                "jnz 2b",
                "tilestored [{out} + {stride}*1], tmm0",
                "tilestored [{out} + {stride}*1 + 1024], tmm1",
                "tilestored [{out} + {stride}*1 + 2048], tmm2",
                "tilestored [{out} + {stride}*1 + 3072], tmm3",
                x = in(reg) x.as_ptr(),
                w = in(reg) w.as_ptr(),
                out = in(reg) sums.as_mut_ptr(),
                stride = in(reg) 64usize,
                n = inout(reg) rounds => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
        black_box(sums).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product of ones adds one to a sum, so the sums count the multiplications.
    #[test]
    fn loops_do_the_operations_that_they_claim() {
        for kernel in Kernel::available() {
            for rounds in [1, 7, 100] {
                assert_eq!(2.0 * f32_loop(kernel, [1.0; 2], rounds), (rounds * f32_flops(kernel)) as f32, "{kernel:?}");
                if let Some(flops) = bf16_flops(kernel) {
                    assert_eq!(2.0 * bf16_loop(kernel, [1.0; 2], rounds), (rounds * flops) as f32, "{kernel:?}");
                }
            }
        }
    }

    #[test]
    fn every_thread_works() {
        for kernel in Kernel::available() {
            let [one, three] =
                [1, 3].map(|threads| Cpu::with_kernel(threads, Precision::F32, kernel).expect("threads"));
            for precision in [Precision::F32, Precision::Bf16] {
                let flops = one.multiply_in_registers(precision, 5);
                assert_eq!(flops.is_some(), precision == Precision::F32 || kernel.bf16_shape().is_some());
                assert_eq!(three.multiply_in_registers(precision, 5), flops.map(|flops| 3 * flops));
            }
        }
    }

    #[test]
    fn all_memory_is_read() {
        for kernel in Kernel::available() {
            let mut sum = 0;
            sum_of(kernel, &(0..1000).collect::<Vec<u64>>(), &mut sum);
            assert_eq!(sum, 499_500);
            let cpu = Cpu::with_kernel(2, Precision::F32, kernel).expect("threads");
            assert_eq!(cpu.read_memory(&cpu.read_buffer(4096)), 4096);
        }
    }
}
