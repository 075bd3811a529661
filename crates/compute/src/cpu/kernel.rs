//! The tile kernels: the only place that knows an instruction set.

#![allow(unsafe_code)]

/// Rows of weights in a tile of the widest kernel; the others use fewer.
pub(super) const MAX_ROWS: usize = 12;
/// Width of a tile of the widest kernel.
pub(super) const MAX_WIDTH: usize = 32;

/// An instruction set that the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// x86-64 with AVX-512F.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// Plain Rust with fused multiply-adds; on aarch64 the compiler turns it into NEON.
    Portable,
}

impl Kernel {
    /// All kernels, best first.
    pub const ALL: [Kernel; 3] = [Kernel::Avx512, Kernel::Avx2, Kernel::Portable];

    /// The best kernel of this machine.
    pub fn detect() -> Self {
        *Kernel::ALL.iter().find(|kernel| kernel.is_available()).expect("the portable kernel runs everywhere")
    }

    /// The kernels that this machine can run, best first.
    pub fn available() -> impl Iterator<Item = Kernel> {
        Kernel::ALL.into_iter().filter(|kernel| kernel.is_available())
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
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
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx512 | Kernel::Avx2 => false,
            Kernel::Portable => true,
        }
    }

    /// Its name, as `--kernel` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Avx512 => "avx512",
            Kernel::Avx2 => "avx2",
            Kernel::Portable => "portable",
        }
    }

    /// Rows of the broadcast operand in a tile.
    pub(super) fn rows(self) -> usize {
        match self {
            Kernel::Avx512 => 12,
            Kernel::Avx2 => 6,
            Kernel::Portable => 4,
        }
    }

    /// Numbers of the vector operand in a tile. A tile may also be half as wide.
    pub(super) fn width(self) -> usize {
        match self {
            Kernel::Avx512 => 32,
            Kernel::Avx2 | Kernel::Portable => 16,
        }
    }

    /// `out[r * width + c] = sum over i ascending of w[r * w_stride + i] * x[i * x_stride + c]`, for `rows()` rows `r`
    /// and `width` columns `c` (`width()` or half of it), each sum one chain of fused multiply-adds from 0.
    pub(super) fn tile(self, width: usize, len: usize, x: View<'_>, w: View<'_>, out: &mut [f32]) {
        assert!(width == self.width() || 2 * width == self.width());
        assert!(out.len() >= self.rows() * width);
        if len == 0 {
            return out[..self.rows() * width].fill(0.0);
        }
        assert!(x.data.len() >= (len - 1) * x.stride + width);
        assert!(w.data.len() >= (self.rows() - 1) * w.stride + len);
        match self {
            // SAFETY: the kernel is available (`Cpu::with_kernel` checked), and the lengths were just checked.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe {
                match width {
                    32 => x86::tile_avx512::<2>(len, x, w, out),
                    _ => x86::tile_avx512::<1>(len, x, w, out),
                }
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe {
                match width {
                    16 => x86::tile_avx2::<2>(len, x, w, out),
                    _ => x86::tile_avx2::<1>(len, x, w, out),
                }
            },
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx512 | Kernel::Avx2 => unreachable!("not available on this architecture"),
            Kernel::Portable => match width {
                16 => tile_portable::<16>(len, x, w, out),
                _ => tile_portable::<8>(len, x, w, out),
            },
        }
    }

    /// Runs plain code compiled for this instruction set: what is inlined into `f` becomes wide vectors.
    #[inline(always)]
    pub(super) fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        match self {
            // SAFETY: the kernel is available: `Cpu::with_kernel` checked.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { x86::with_avx512(f) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { x86::with_avx2(f) },
            _ => f(),
        }
    }
}

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

/// A strided operand of a tile.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

/// The safe twin of the other tiles, and the kernel of machines that have none of its own.
fn tile_portable<const W: usize>(len: usize, x: View<'_>, w: View<'_>, out: &mut [f32]) {
    let mut sums = [[0f32; W]; 4];
    for i in 0..len {
        let x: &[f32; W] = x.data[i * x.stride..][..W].try_into().expect("W numbers");
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::View;
    use std::arch::x86_64::*;

    /// # Safety
    /// AVX-512F; `x` holds `len` rows of `16 * V`, `w` 12 rows of `len`, `out` `12 * 16 * V` numbers.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn tile_avx512<const V: usize>(len: usize, x: View<'_>, w: View<'_>, out: &mut [f32]) {
        let mut sums = [[_mm512_setzero_ps(); V]; 12];
        let (mut at, w_at) = (x.data.as_ptr(), w.data.as_ptr());
        for i in 0..len {
            let mut xs = [_mm512_setzero_ps(); V];
            for (v, x) in xs.iter_mut().enumerate() {
                // SAFETY: row `i` of x holds 16 * V numbers.
                *x = unsafe { _mm512_loadu_ps(at.add(16 * v)) };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row `r` of w holds `len` numbers.
                let w = _mm512_set1_ps(unsafe { *w_at.add(r * w.stride + i) });
                for v in 0..V {
                    sums[v] = _mm512_fmadd_ps(w, xs[v], sums[v]);
                }
            }
            at = at.wrapping_add(x.stride);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: `out` holds 12 rows of 16 * V numbers.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr().add((r * V + v) * 16), sum) };
            }
        }
    }

    /// # Safety
    /// AVX2 and FMA; `x` holds `len` rows of `8 * V`, `w` 6 rows of `len`, `out` `6 * 8 * V` numbers.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tile_avx2<const V: usize>(len: usize, x: View<'_>, w: View<'_>, out: &mut [f32]) {
        let mut sums = [[_mm256_setzero_ps(); V]; 6];
        let (mut at, w_at) = (x.data.as_ptr(), w.data.as_ptr());
        for i in 0..len {
            let mut xs = [_mm256_setzero_ps(); V];
            for (v, x) in xs.iter_mut().enumerate() {
                // SAFETY: row `i` of x holds 8 * V numbers.
                *x = unsafe { _mm256_loadu_ps(at.add(8 * v)) };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row `r` of w holds `len` numbers.
                let w = _mm256_set1_ps(unsafe { *w_at.add(r * w.stride + i) });
                for v in 0..V {
                    sums[v] = _mm256_fmadd_ps(w, xs[v], sums[v]);
                }
            }
            at = at.wrapping_add(x.stride);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: `out` holds 6 rows of 8 * V numbers.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr().add((r * V + v) * 8), sum) };
            }
        }
    }

    /// # Safety
    /// The features must be there.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    #[inline]
    pub(super) unsafe fn with_avx512<R>(f: impl FnOnce() -> R) -> R {
        f()
    }

    /// # Safety
    /// The features must be there.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) unsafe fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
        f()
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

    #[test]
    fn kernels_are_chosen_by_name() {
        assert_eq!("portable".parse(), Ok(Kernel::Portable));
        assert_eq!("sse9".parse::<Kernel>(), Err(NoSuchKernel("sse9".into())));
        assert!(NoSuchKernel("sse9".into()).to_string().ends_with("portable"));
    }

    #[test]
    fn every_kernel_gives_the_bits_of_a_plain_chain() {
        for kernel in Kernel::available() {
            for width in [kernel.width(), kernel.width() / 2] {
                for len in [0, 1, 2, 3, 17, 64, 300] {
                    let rows = kernel.rows();
                    let (x_stride, w_stride) = (width + 3, len + 5);
                    let x = noise(len.max(1) * x_stride, 1);
                    let w = noise(rows * w_stride, 2);
                    let mut out = vec![f32::NAN; rows * width];
                    kernel.tile(
                        width,
                        len,
                        View { data: &x, stride: x_stride },
                        View { data: &w, stride: w_stride },
                        &mut out,
                    );
                    for r in 0..rows {
                        for c in 0..width {
                            let chain =
                                (0..len).fold(0f32, |sum, i| w[r * w_stride + i].mul_add(x[i * x_stride + c], sum));
                            assert_eq!(out[r * width + c].to_bits(), chain.to_bits(), "{kernel:?} {width} {len}");
                        }
                    }
                }
            }
        }
    }
}
