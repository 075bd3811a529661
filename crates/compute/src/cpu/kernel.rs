//! The instruction sets that there are kernels for, and which of them this machine has.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::x86;

/// Columns of weights in a chunk, whose sum is a chain of its own, but on AMX: a multiple of every block length.
pub(super) const KC: usize = 768;

/// Rows of weights in the largest tile.
pub(super) const MAX_ROWS: usize = 32;
/// Width of the largest tile.
pub(super) const MAX_WIDTH: usize = 32;

/// An instruction set that the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// x86-64 with AMX for bf16; for everything else the same as AVX-512.
    Amx,
    /// x86-64 with AVX-512 and its bf16 instructions; for everything else the same as AVX-512.
    Avx512Bf16,
    /// x86-64 with AVX-512F.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// Plain Rust with fused multiply-adds; on aarch64 the compiler turns it into NEON.
    Portable,
}

impl Kernel {
    /// All kernels.
    pub const ALL: [Kernel; 5] = [Kernel::Amx, Kernel::Avx512Bf16, Kernel::Avx512, Kernel::Avx2, Kernel::Portable];

    /// Distance of rows of weights, in numbers, at which the f32 tile of AVX-512 has their addresses for free: the sums of
    /// addresses would take a tenth of its time, on ports that it multiplies with.
    pub(super) const STRIDE: usize = 272;

    /// The best kernel of this machine.
    pub fn detect() -> Self {
        // Intel's AVX-512 does pairs of bf16 at half the speed of two f32 (measured on a Xeon of 2023), AMD's at twice.
        let worth_it = |kernel: &Kernel| *kernel != Kernel::Avx512Bf16 || is_amd();
        Kernel::available().find(worth_it).expect("the portable kernel runs everywhere")
    }

    /// The kernels that this machine can run.
    pub fn available() -> impl Iterator<Item = Kernel> {
        Kernel::ALL.into_iter().filter(|kernel| kernel.is_available())
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => Kernel::Avx512.is_available() && super::amx::is_available(),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Bf16 => Kernel::Avx512.is_available() && x86::has_chained_bf16(),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Kernel::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 | Kernel::Avx2 => false,
            Kernel::Portable => true,
        }
    }

    /// Its name, as `--kernel` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Amx => "amx",
            Kernel::Avx512Bf16 => "avx512bf16",
            Kernel::Avx512 => "avx512",
            Kernel::Avx2 => "avx2",
            Kernel::Portable => "portable",
        }
    }

    /// Rows of the broadcast operand in a tile.
    pub(super) fn rows(self) -> usize {
        match self {
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => 12,
            Kernel::Avx2 => 6,
            Kernel::Portable => 4,
        }
    }

    /// Numbers of the vector operand in a tile. A tile may also be half as wide.
    pub(super) fn width(self) -> usize {
        match self {
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => 32,
            Kernel::Avx2 | Kernel::Portable => 16,
        }
    }

    /// Brings numbers into the second-level cache that will be needed soon.
    #[inline]
    pub(super) fn prefetch<T>(self, numbers: &[T]) {
        #[cfg(target_arch = "x86_64")]
        for line in numbers.chunks(64 / size_of::<T>()) {
            x86::prefetch(line.as_ptr().cast());
        }
        let _ = numbers;
    }

    /// `out[r * width + c] += sum over i ascending of w[r * w_stride + i] * x[i * width + c]`, for `rows()` rows `r` and
    /// `width` columns `c` (`width()` or half of it): one chain of fused multiply-adds that goes on from what is in `out`,
    /// or from 0 if this is the `first` part of it.
    pub(super) fn tile(self, first: bool, width: usize, len: usize, x: &[f32], w: View<'_, f32>, out: &mut [f32]) {
        assert!(width == self.width() || 2 * width == self.width());
        assert!(len > 0 && out.len() >= self.rows() * width);
        assert!(x.len() >= len * width);
        assert!(w.data.len() >= (self.rows() - 1) * w.stride + len);
        match self {
            // SAFETY: the kernel is available (`Cpu::with_kernel` checked), and the lengths were just checked.
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => unsafe {
                match width {
                    32 if w.stride == Kernel::STRIDE => {
                        x86::tile_avx512::<2, { Kernel::STRIDE }>(first, len, x, w, out)
                    }
                    32 => x86::tile_avx512::<2, 0>(first, len, x, w, out),
                    _ => x86::tile_avx512::<1, 0>(first, len, x, w, out),
                }
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe {
                match width {
                    16 => x86::tile_avx2::<2>(first, len, x, w, out),
                    _ => x86::tile_avx2::<1>(first, len, x, w, out),
                }
            },
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 | Kernel::Avx2 => unreachable!("is_available is false"),
            Kernel::Portable => match width {
                16 => tile_portable::<16>(first, len, x, w, out),
                _ => tile_portable::<8>(first, len, x, w, out),
            },
        }
    }

    /// Rows of weights in a tile of bf16 pairs, where there are instructions for it.
    pub(super) fn bf16_rows(self) -> Option<usize> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => Some(super::amx::ROWS),
            Kernel::Avx512Bf16 => Some(12),
            _ => None,
        }
    }

    /// Columns of bf16 whose sum is a chain of its own. Tiles of AMX add 32 products at a time, so that even the longest
    /// sum is a short chain.
    pub(super) fn bf16_chunk(self) -> usize {
        if self == Kernel::Amx { usize::MAX } else { KC }
    }

    /// Roundings between a product and the sum that it ends up in, at the most, for a row of `k` columns of bf16.
    pub(super) fn bf16_depth(self, k: usize) -> usize {
        if self == Kernel::Amx { 17 + k.div_ceil(32) } else { chained_depth(k) }
    }

    /// To be called on a thread before (`begin`) and after tiles of bf16 pairs.
    pub(super) fn prepare_bf16(self, begin: bool) {
        #[cfg(target_arch = "x86_64")]
        if self == Kernel::Amx {
            super::amx::prepare(begin);
        }
        let _ = begin;
    }

    /// The same as [`Kernel::tile`] for pairs of bf16: 32 or 16 columns, `len` a multiple of 16. Each sum is a chain of
    /// fused multiply-adds, the odd number of a pair before the even one; on AMX see there.
    pub(super) fn tile_bf16(self, first: bool, width: usize, len: usize, x: &[u32], w: View<'_, u32>, out: &mut [f32]) {
        let rows = self.bf16_rows().expect("a kernel with instructions for bf16");
        assert!(width == 32 || width == 16);
        assert!(len > 0 && len.is_multiple_of(16));
        assert!(out.len() >= rows * width);
        assert!(x.len() >= len * width);
        assert!(w.data.len() >= (rows - 1) * w.stride + len);
        #[cfg(target_arch = "x86_64")]
        match self {
            // SAFETY: the kernel is available and the lengths were just checked; `Tiles::prepare` has been called.
            Kernel::Amx => unsafe {
                super::amx::tile(first, width, len, x.as_ptr(), (w.data.as_ptr(), w.stride), out.as_mut_ptr());
            },
            // SAFETY: as above.
            _ => unsafe {
                match width {
                    32 => x86::tile_avx512_bf16::<2>(first, len, x, w, out),
                    _ => x86::tile_avx512_bf16::<1>(first, len, x, w, out),
                }
            },
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("{first}: no kernel has instructions for bf16");
    }
}

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

/// Roundings between a product and the sum that it ends up in, at the most, for `k` columns in chunks of [`KC`].
pub(super) fn chained_depth(k: usize) -> usize {
    k.min(KC) + k.div_ceil(KC)
}

/// Defines a function whose body is compiled once for every instruction set; a first argument chooses.
///
/// What the body calls must be inlined into it (`#[inline(always)]`), or it stays behind in plain code: there a fused
/// multiply-add is a call. For the same reason this is a macro, and not a function that takes a closure.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name(kernel: $crate::cpu::kernel::Kernel, $($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $type),*) {
                    body($($arg),*)
                }

                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $type),*) {
                    body($($arg),*)
                }

                use $crate::cpu::kernel::Kernel;
                match kernel {
                    Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => {
                        // SAFETY: a kernel is only used where it is available: `Cpu::with_kernel` has checked.
                        return unsafe { avx512($($arg),*) };
                    }
                    // SAFETY: as above.
                    Kernel::Avx2 => return unsafe { avx2($($arg),*) },
                    Kernel::Portable => {}
                }
            }
            let _ = kernel;
            body($($arg),*)
        }
    };
}
pub(super) use vectorized;

/// A kernel that does not exist, or that this machine cannot run.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("kernel `{0}`: this machine can run {available}", available = Kernel::available().map(Kernel::name).collect::<Vec<_>>().join(", "))]
pub struct NoSuchKernel(String);

impl std::str::FromStr for Kernel {
    type Err = NoSuchKernel;

    fn from_str(name: &str) -> Result<Self, NoSuchKernel> {
        Kernel::available().find(|kernel| kernel.name() == name).ok_or_else(|| NoSuchKernel(name.to_owned()))
    }
}

/// Rows of weights, `stride` numbers apart.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    pub data: &'a [T],
    pub stride: usize,
}

#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_amd() -> bool {
    false
}

/// The safe twin of the other tiles, and the kernel of machines that have none of its own.
fn tile_portable<const W: usize>(first: bool, len: usize, x: &[f32], w: View<'_, f32>, out: &mut [f32]) {
    let mut sums = [[0f32; W]; 4];
    if !first {
        for (sums, out) in sums.iter_mut().zip(out.chunks_exact(W)) {
            sums.copy_from_slice(out);
        }
    }
    for (i, x) in x.chunks_exact(W).take(len).enumerate() {
        let x: &[f32; W] = x.try_into().expect("W numbers");
        for (r, sums) in sums.iter_mut().enumerate() {
            let w = w.data[r * w.stride + i];
            for c in 0..W {
                sums[c] = w.mul_add(x[c], sums[c]);
            }
        }
    }
    for (out, sums) in out.chunks_exact_mut(W).zip(&sums) {
        out.copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with all exponents a sum can meet, from a fixed seed.
    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next() * (8.0 * next()).exp()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn instructions_for_pairs_are_not_thrown_away_on_a_machine_known_to_chain_them() {
        // AMX comes with Intel's VDPBF16PS, which has been seen to be a chain.
        if Kernel::Amx.is_available() && is_x86_feature_detected!("avx512bf16") {
            assert!(Kernel::Avx512Bf16.is_available());
        }
    }

    #[test]
    fn kernels_are_chosen_by_name() {
        assert_eq!("portable".parse(), Ok(Kernel::Portable));
        assert_eq!("sse9".parse::<Kernel>(), Err(NoSuchKernel("sse9".into())));
        assert!(NoSuchKernel("sse9".into()).to_string().ends_with("portable"));
    }

    /// Pairs of bf16, none of them subnormal.
    fn noise_pairs(n: usize, seed: u64) -> Vec<u32> {
        let half = |x: f32| half::bf16::from_f32(x).to_bits() as u32;
        noise(2 * n, seed).chunks(2).map(|x| half(x[0]) | half(x[1]) << 16).collect()
    }

    #[test]
    fn pairs_of_bf16_are_chains_too() {
        let even = |pair: u32| f32::from_bits(pair << 16);
        let odd = |pair: u32| f32::from_bits(pair & 0xffff_0000);
        for kernel in Kernel::available() {
            let Some(rows) = kernel.bf16_rows() else { continue };
            for (width, len) in [(32, 16), (16, 16), (32, 48), (16, 304), (32, 384)] {
                let w_stride = len + 16;
                let (x, w) = (noise_pairs(len * width, 1), noise_pairs(rows * w_stride, 2));
                let mut out = vec![f32::NAN; rows * width];
                kernel.prepare_bf16(true);
                // In two parts that go on one from the other.
                let cut = len / 32 * 16;
                for part in [0..cut, cut..len].into_iter().filter(|part| !part.is_empty()) {
                    let w = View { data: &w[part.start..], stride: w_stride };
                    kernel.tile_bf16(part.start == 0, width, part.len(), &x[part.start * width..], w, &mut out);
                }
                kernel.prepare_bf16(false);
                for (r, c) in (0..rows).flat_map(|r| (0..width).map(move |c| (r, c))) {
                    let row = &w[r * w_stride..][..len];
                    let column: Vec<u32> = x[c..].iter().step_by(width).copied().collect();
                    let chain = || {
                        column
                            .iter()
                            .zip(row)
                            .fold(0f32, |sum, (x, w)| even(*w).mul_add(even(*x), odd(*w).mul_add(odd(*x), sum)))
                    };
                    let expected = match kernel {
                        #[cfg(target_arch = "x86_64")]
                        Kernel::Amx => super::super::amx::twin(&column, row),
                        _ => chain(),
                    };
                    assert_eq!(out[r * width + c].to_bits(), expected.to_bits(), "{kernel:?} {width} {len} {r} {c}");
                }
            }
        }
    }

    #[test]
    fn every_kernel_gives_the_bits_of_a_plain_chain() {
        for kernel in Kernel::available() {
            for width in [kernel.width(), kernel.width() / 2] {
                for len in [1, 2, 3, 17, 64, 300] {
                    let rows = kernel.rows();
                    for w_stride in [len + 5, Kernel::STRIDE] {
                        let (x, w) = (noise(len * width, 1), noise(rows * w_stride + len, 2));
                        // In one part, and in two that go on.
                        for cut in [0, len / 3] {
                            let mut out = vec![f32::NAN; rows * width];
                            for part in [0..cut, cut..len].into_iter().filter(|part| !part.is_empty()) {
                                let w = View { data: &w[part.start..], stride: w_stride };
                                kernel.tile(part.start == 0, width, part.len(), &x[part.start * width..], w, &mut out);
                            }
                            for (r, c) in (0..rows).flat_map(|r| (0..width).map(move |c| (r, c))) {
                                let chain =
                                    (0..len).fold(0f32, |sum, i| w[r * w_stride + i].mul_add(x[i * width + c], sum));
                                assert_eq!(out[r * width + c].to_bits(), chain.to_bits(), "{kernel:?} {width} {len}");
                            }
                        }
                    }
                }
            }
        }
    }

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
