//! The instruction sets that there are kernels for, and which of them this machine has.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::x86;

/// Columns of weights in a chunk, whose sum is a chain of its own, but on AMX: a multiple of every block length.
pub(super) const KC: usize = 768;

/// Calls a function that is compiled for every number of rows.
macro_rules! with_rows {
    ($rows:expr, [$($row:literal)*], $constant:ident => $call:expr) => {
        match $rows {
            $($row => {
                const $constant: usize = $row;
                $call
            })*
            rows => unreachable!("{rows} rows in a tile"),
        }
    };
}

/// An instruction set that the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// x86-64 with AMX for matrix products; for everything else the same as AVX-512.
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

    /// Distance of the rows of `x`, in numbers, at which tiles have their addresses for free: the sums of addresses would take
    /// a twentieth of their time, on ports that multiply. An odd number of cache lines, so that rows do not share their places
    /// in the cache.
    pub(super) const STRIDE: usize = KC + 16;

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

    /// Rows and columns of the largest tile of a product: as many as leave registers for the operands. More columns need
    /// fewer loads for each multiplication.
    pub(super) fn tile_shape(self) -> (usize, usize) {
        match self {
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => (8, 48),
            Kernel::Avx2 => (6, 16),
            Kernel::Portable => (4, 16),
        }
    }

    /// Rows and columns of the largest tile of attention, where columns are keys or numbers of a head: two vectors at the
    /// most, for heads of 64 and sentences of 25.
    pub(super) fn attention_shape(self) -> (usize, usize) {
        match self {
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => (12, 32),
            Kernel::Avx2 | Kernel::Portable => self.tile_shape(),
        }
    }

    /// The product of rows of `x` with a panel, `[len][width]`: `sum over i ascending of x[r, i] * panel[i * width + c]`, a
    /// chain of fused multiply-adds from 0. It is what `out` becomes if this is the `first` part of a sum, and is added
    /// to it otherwise. `rows` and `width` are those of [`Kernel::tile_shape`], where rows of `x` must be
    /// [`Kernel::STRIDE`] apart, or of [`Kernel::attention_shape`]; the rows at the most.
    pub(super) fn tile(
        self,
        first: bool,
        (rows, width): (usize, usize),
        len: usize,
        x: View<'_, f32>,
        panel: &[f32],
        out: Place<'_>,
    ) {
        let (of_product, of_attention) = (self.tile_shape(), self.attention_shape());
        let is_product = rows <= of_product.0 && width == of_product.1 && x.stride == Kernel::STRIDE;
        assert!(rows > 0 && (is_product || rows <= of_attention.0 && width == of_attention.1));
        check(rows, width, (len, len), &x, panel, &out);
        match self {
            // SAFETY: the kernel is available (`Cpu::with_kernel` checked), and the lengths were just checked.
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 => unsafe {
                match width {
                    48 => with_rows!(rows, [1 2 3 4 5 6 7 8], R => {
                        x86::tile_avx512::<R, 3, { Kernel::STRIDE }>(first, len, x, panel, out);
                    }),
                    _ => with_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], R => {
                        x86::tile_avx512::<R, 2, 0>(first, len, x, panel, out);
                    }),
                }
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe {
                if x.stride == Kernel::STRIDE {
                    with_rows!(rows, [1 2 3 4 5 6], R => {
                        x86::tile_avx2::<R, 2, { Kernel::STRIDE }>(first, len, x, panel, out);
                    });
                } else {
                    with_rows!(rows, [1 2 3 4 5 6], R => x86::tile_avx2::<R, 2, 0>(first, len, x, panel, out));
                }
            },
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Amx | Kernel::Avx512Bf16 | Kernel::Avx512 | Kernel::Avx2 => unreachable!("is_available is false"),
            Kernel::Portable => with_rows!(rows, [1 2 3 4], R => tile_portable::<R, 16>(first, len, x, panel, out)),
        }
    }

    /// Rows and columns of the largest tile of bf16 pairs, where there are instructions for it.
    pub(super) fn bf16_shape(self) -> Option<(usize, usize)> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => Some(super::amx::SHAPE),
            Kernel::Avx512Bf16 => Some((8, 48)),
            _ => None,
        }
    }

    /// The rows of a tile of bf16 pairs are a multiple of this.
    pub(super) fn bf16_rows_unit(self) -> usize {
        if self == Kernel::Amx { 16 } else { 1 }
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

    /// The same as [`Kernel::tile`] for pairs of bf16, `len` a multiple of 16: the odd number of a pair is added before the
    /// even one. On AMX a sum is not a chain from 0 but goes on from what is in `out`, and operands may be made of several
    /// summands, `X` of `x` and `W` of the panel; see there.
    pub(super) fn tile_bf16<const X: usize, const W: usize>(
        self,
        first: bool,
        rows: usize,
        len: usize,
        x: View<'_, u32>,
        panel: &[u32],
        out: Place<'_>,
    ) {
        let (most, width) = self.bf16_shape().expect("a kernel with instructions for bf16");
        assert!(rows > 0 && rows <= most && rows.is_multiple_of(self.bf16_rows_unit()));
        assert!(len.is_multiple_of(16) && ((X, W) == (1, 1) || self == Kernel::Amx));
        check(rows, width, (X * len, W * len), &x, panel, &out);
        #[cfg(target_arch = "x86_64")]
        match self {
            // SAFETY: the kernel is available and the lengths were just checked; `Tiles::prepare` has been called.
            Kernel::Amx => unsafe { super::amx::tile::<X, W>(first, rows, len, x, panel, out) },
            // SAFETY: as above.
            _ => unsafe {
                with_rows!(rows, [1 2 3 4 5 6 7 8], R => x86::tile_avx512_bf16::<R, 3>(first, len, x, panel, out));
            },
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("{first}: no kernel has instructions for bf16");
    }
}

/// What every tile needs of its operands: so many numbers in a row of `x` and in a column of the panel.
fn check<N>(rows: usize, width: usize, (x_len, len): (usize, usize), x: &View<'_, N>, panel: &[N], out: &Place<'_>) {
    assert!(len > 0 && panel.len() >= len * width);
    assert!(x.data.len() >= (rows - 1) * x.stride + x_len);
    assert!(out.stride >= width && out.data.len() >= (rows - 1) * out.stride + width);
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

/// Rows of an operand, `stride` numbers apart.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    pub data: &'a [T],
    pub stride: usize,
}

/// Where the sums of a tile are, its rows `stride` numbers apart.
pub(super) struct Place<'a> {
    pub data: &'a mut [f32],
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
fn tile_portable<const R: usize, const W: usize>(
    first: bool,
    len: usize,
    x: View<'_, f32>,
    panel: &[f32],
    out: Place<'_>,
) {
    let mut sums = [[0f32; W]; R];
    for (i, panel) in panel.as_chunks::<W>().0.iter().enumerate().take(len) {
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = x.data[r * x.stride + i];
            for c in 0..W {
                sums[c] = x.mul_add(panel[c], sums[c]);
            }
        }
    }
    for (out, sums) in out.data.chunks_mut(out.stride).zip(&sums) {
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = if first { *sum } else { *out + sum };
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Numbers with all exponents a sum can meet, from a fixed seed.
    pub(in crate::cpu) fn noise(n: usize, seed: u64) -> Vec<f32> {
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

    /// Numbers that no tile writes.
    const UNTOUCHED: f32 = 7.25;

    /// A sum in two parts, of rows and into rows with something between them, for so many summands of `x` and of the panel;
    /// returns the sums.
    fn in_parts<N: Copy>(
        (rows, width): (usize, usize),
        parts: [std::ops::Range<usize>; 2],
        (x_summands, summands): (usize, usize),
        (x, x_stride): (&[N], usize),
        panel: &[N],
        tile: impl Fn(bool, usize, View<'_, N>, &[N], Place<'_>),
    ) -> Vec<f32> {
        let stride = width + 5;
        let mut out = vec![UNTOUCHED; rows * stride];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        for (i, part) in parts.enumerate() {
            let of_x = part.start * x_summands..(rows - 1) * x_stride + part.end * x_summands;
            let x = View { data: &x[of_x], stride: x_stride };
            let panel = &panel[part.start * summands * width..part.end * summands * width];
            tile(i == 0, part.len(), x, panel, Place { data: &mut out[..rows * stride - 5], stride });
        }
        assert!(out.chunks(stride).all(|row| row[width..] == [UNTOUCHED; 5]));
        out.chunks(stride).flat_map(|row| row[..width].to_vec()).collect()
    }

    #[test]
    fn pairs_of_bf16_are_chains_too() {
        let even = |pair: u32| f32::from_bits(pair << 16);
        let odd = |pair: u32| f32::from_bits(pair & 0xffff_0000);
        let chain = |x: &[u32], w: &[u32]| {
            let pairs = x.iter().zip(w);
            pairs.fold(0f32, |sum, (x, w)| even(*w).mul_add(even(*x), odd(*w).mul_add(odd(*x), sum)))
        };
        for kernel in Kernel::available() {
            match kernel {
                #[cfg(target_arch = "x86_64")]
                Kernel::Amx => {
                    use super::super::amx::twin;
                    check_pairs::<1, 1>(kernel, |x, w, _| twin((1, 1), x, w));
                    check_pairs::<3, 1>(kernel, |x, w, _| twin((3, 1), x, w));
                    check_pairs::<3, 3>(kernel, |x, w, _| twin((3, 3), x, w));
                }
                _ if kernel.bf16_shape().is_none() => {}
                _ => check_pairs::<1, 1>(kernel, |x, w, cut| match cut < x.len() {
                    true => chain(&x[..cut], &w[..cut]) + chain(&x[cut..], &w[cut..]),
                    false => chain(x, w),
                }),
            }
        }
    }

    /// Compares all shapes with a twin, which gets a row, a column, and where they were cut.
    fn check_pairs<const X: usize, const W: usize>(kernel: Kernel, twin: impl Fn(&[u32], &[u32], usize) -> f32) {
        let (most, width) = kernel.bf16_shape().expect("only asked of kernels with instructions for bf16");
        for rows in (1..=most).filter(|rows| rows.is_multiple_of(kernel.bf16_rows_unit())) {
            for (len, cut) in [(16, 16), (48, 16), (304, 160), (384, 384)] {
                let x_stride = X * len + 16;
                let (x, panel) = (noise_pairs(rows * x_stride, 1), noise_pairs(W * len * width, 2));
                let tile = |first, len, x: View<'_, u32>, panel: &[u32], out: Place<'_>| {
                    kernel.prepare_bf16(true);
                    kernel.tile_bf16::<X, W>(first, rows, len, x, panel, out);
                    kernel.prepare_bf16(false);
                };
                let found = in_parts((rows, width), [0..cut, cut..len], (X, W), (&x, x_stride), &panel, tile);
                for (at, found) in found.iter().enumerate() {
                    let row = &x[at / width * x_stride..][..X * len];
                    let column: Vec<u32> = panel[at % width..].iter().step_by(width).copied().collect();
                    let expected = twin(row, &column, cut);
                    assert_eq!(found.to_bits(), expected.to_bits(), "{kernel:?} {X} {W} {rows} {len} {at}");
                }
            }
        }
    }

    #[test]
    fn every_kernel_gives_the_bits_of_plain_chains() {
        for kernel in Kernel::available() {
            for ((most, width), strides) in
                [(kernel.tile_shape(), [Kernel::STRIDE; 2]), (kernel.attention_shape(), [333, 500])]
            {
                for (rows, x_stride) in (1..=most).flat_map(|rows| strides.map(|stride| (rows, stride))) {
                    for (len, cut) in [(1, 1), (2, 1), (3, 3), (17, 8), (64, 64), (301, 100)] {
                        let (x, panel) = (noise(rows * x_stride, 1), noise(len * width, 2));
                        let tile = |first, len, x: View<'_, f32>, panel: &[f32], out: Place<'_>| {
                            kernel.tile(first, (rows, width), len, x, panel, out);
                        };
                        let parts = [0..cut, cut..len];
                        let found = in_parts((rows, width), parts.clone(), (1, 1), (&x, x_stride), &panel, tile);
                        for (at, found) in found.iter().enumerate() {
                            let (row, column) = (&x[at / width * x_stride..], &panel[at % width..]);
                            let chain = |part: std::ops::Range<usize>| {
                                part.fold(0f32, |sum, i| row[i].mul_add(column[i * width], sum))
                            };
                            let [first, second] = parts.clone().map(chain);
                            let expected = if cut < len { first + second } else { first };
                            assert_eq!(found.to_bits(), expected.to_bits(), "{kernel:?} {rows}x{width} {len} {at}");
                        }
                    }
                }
            }
        }
    }
}
