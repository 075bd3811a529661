//! Tiles of bf16 pairs on AMX (Intel, from 2023): 16 x 16 sums of 32 products in one instruction.
//!
//! They serve f32 as well, at two to three times the speed of its own instructions: an f32 is the sum of three bf16, its
//! summands. Of rows of `x` in three and weights that are bf16 numbers, all products are exact, so that, as with fused
//! multiply-adds, only sums round. Of weights in three as well, six of nine products are computed, the others being too small
//! to count.
//!
//! Source: Intel Software Developer's Manual, TDPBF16PS. The intrinsics are not stable, the instructions are in inline
//! assembly. Each instruction makes two chains of 16 fused multiply-adds from 0, of the even and of the odd columns, adds
//! one to the other and the result to the sum ([`twin`] writes it out): an order of its own, so results differ in the
//! last bits from those of other kernels.

#![allow(unsafe_code)]

use std::arch::asm;
use std::sync::OnceLock;

use super::kernel::{Place, View};

/// Rows and columns of the largest tile: two registers of 16 each way.
pub(super) const SHAPE: (usize, usize) = (32, 32);

/// Whether this machine has AMX for bf16 and the system lets us use it.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && is_permitted())
}

/// CPUID leaf 7: bit 22 of EDX is AMX-BF16, bit 24 AMX-TILE.
fn has_instructions() -> bool {
    let highest = std::arch::x86_64::__cpuid(0).eax;
    let needed = 1 << 22 | 1 << 24;
    highest >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & needed == needed
}

/// Linux gives the registers' state to a process that asks for it (arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    let result: i64;
    // SAFETY: a system call that reads and writes no memory of ours; it clobbers rcx and r11 as all do.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") 158i64 => result,
            in("rdi") 0x1023i64,
            in("rsi") 18i64,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// Shapes of the eight registers: 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

const SHAPES: Shapes = {
    let mut shapes = [0; 64];
    shapes[0] = 1;
    let mut register = 0;
    while register < 8 {
        shapes[16 + 2 * register] = 64;
        shapes[48 + register] = 16;
        register += 1;
    }
    Shapes(shapes)
};

/// Sets the registers of this thread up, or gives them back.
pub(super) fn prepare(begin: bool) {
    debug_assert!(is_available());
    // SAFETY: AMX is there (`Cpu::with_kernel` checked), SHAPES is 64 valid bytes, and nothing else uses the registers.
    unsafe {
        if begin {
            asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly));
        } else {
            asm!("tilerelease", options(nostack, nomem));
        }
    }
}

/// `out[r, c] += sum of x[r, i] * panel[i, c]` over pairs, for 32 or 16 rows and 32 columns; instead of what is in `out`, zero
/// is where the `first` part of a sum begins. The panel is loaded past the first-level cache (`T1`), where `x` waits for the
/// next one. Every 16 pairs of `x` are followed by the same of its other summands, `X` in all, and so are 16 rows of the panel
/// by those of its `W`; of `X` and `W` summands, 1 or 3, the products are computed that [`products`] lists.
///
/// # Safety
/// The thread is prepared. `len` is a multiple of 16 and not 0; `x` holds `rows` rows of `X * len` pairs, `panel` `W * len`
/// rows of 32 pairs, `out` `rows` rows of 32 numbers.
pub(super) unsafe fn tile<const X: usize, const W: usize>(
    first: bool,
    rows: usize,
    len: usize,
    x: View<'_, u32>,
    panel: &[u32],
    out: Place<'_>,
) {
    let (x_stride, stride) = (4 * x.stride, 4 * out.stride);
    let (x, out) = (x.data.as_ptr(), out.data.as_mut_ptr());
    let (lower, lower_out) = (x.wrapping_byte_add(16 * x_stride), out.wrapping_byte_add(16 * stride));
    let steps = len / 16;
    /// The tile for 32 rows: summands of weights, by their places in bytes, and those of `x` that each meets.
    macro_rules! tile_32 {
        ($($w:literal: $($x:literal)*),*) => {
            asm!(
                "test {first:e}, {first:e}",
                "jz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{out} + {stride}*1]",
                "tileloadd tmm1, [{out} + {stride}*1 + 64]",
                "tileloadd tmm2, [{lower_out} + {stride}*1]",
                "tileloadd tmm3, [{lower_out} + {stride}*1 + 64]",
                "3:",
                $(
                    concat!("tileloaddt1 tmm6, [{w} + {ws}*1 + ", $w, "]"),
                    concat!("tileloaddt1 tmm7, [{w} + {ws}*1 + ", $w, " + 64]"),
                    $(
                        concat!("tileloadd tmm4, [{x} + {xs}*1 + ", $x, "]"),
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        concat!("tileloadd tmm5, [{lower} + {xs}*1 + ", $x, "]"),
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                    )*
                )*
                "add {w}, {w_step}",
                "add {x}, {x_step}",
                "add {lower}, {x_step}",
                "dec {n}",
                "jnz 3b",
                "tilestored [{out} + {stride}*1], tmm0",
                "tilestored [{out} + {stride}*1 + 64], tmm1",
                "tilestored [{lower_out} + {stride}*1], tmm2",
                "tilestored [{lower_out} + {stride}*1 + 64], tmm3",
                w_step = const 2048 * W,
                x_step = const 64 * X,
                first = in(reg) first as u32,
                w = inout(reg) panel.as_ptr() => _,
                x = inout(reg) x => _,
                lower = inout(reg) lower => _,
                n = inout(reg) steps => _,
                ws = in(reg) 128usize,
                xs = in(reg) x_stride,
                stride = in(reg) stride,
                out = in(reg) out,
                lower_out = in(reg) lower_out,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    /// The same for 16 rows.
    macro_rules! tile_16 {
        ($($w:literal: $($x:literal)*),*) => {
            asm!(
                "test {first:e}, {first:e}",
                "jz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{out} + {stride}*1]",
                "tileloadd tmm1, [{out} + {stride}*1 + 64]",
                "3:",
                $(
                    concat!("tileloaddt1 tmm6, [{w} + {ws}*1 + ", $w, "]"),
                    concat!("tileloaddt1 tmm7, [{w} + {ws}*1 + ", $w, " + 64]"),
                    $(
                        concat!("tileloadd tmm4, [{x} + {xs}*1 + ", $x, "]"),
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                    )*
                )*
                "add {w}, {w_step}",
                "add {x}, {x_step}",
                "dec {n}",
                "jnz 3b",
                "tilestored [{out} + {stride}*1], tmm0",
                "tilestored [{out} + {stride}*1 + 64], tmm1",
                w_step = const 2048 * W,
                x_step = const 64 * X,
                first = in(reg) first as u32,
                w = inout(reg) panel.as_ptr() => _,
                x = inout(reg) x => _,
                n = inout(reg) steps => _,
                ws = in(reg) 128usize,
                xs = in(reg) x_stride,
                stride = in(reg) stride,
                out = in(reg) out,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    // SAFETY: the caller's promise; the registers are declared as clobbered.
    unsafe {
        match (rows, X, W) {
            (32, 1, 1) => tile_32!(0: 0),
            (32, 3, 1) => tile_32!(0: 0 64 128),
            (32, 3, 3) => tile_32!(0: 0 64 128, 2048: 0 64, 4096: 0),
            (16, 1, 1) => tile_16!(0: 0),
            (16, 3, 1) => tile_16!(0: 0 64 128),
            (16, 3, 3) => tile_16!(0: 0 64 128, 2048: 0 64, 4096: 0),
            _ => unreachable!("{rows} rows of {X} summands, weights of {W}"),
        }
    }
}

/// Which summands of `X` and of `W` are multiplied with one another, in this order: all whose product counts beside the
/// rounding of an f32. Each summand is at most 2^-8 of the one before, so that of 3 and 3 those left out are at most 2^-23 of
/// the whole in all, the last bit of an f32, and 2^-26 in the mean, as much as rounding a product.
#[cfg(test)]
fn products(x: usize, w: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..w).flat_map(move |of_w| (0..x - of_w).map(move |of_x| (of_x, of_w)))
}

/// One number of a tile in plain Rust: what the instructions compute, for tests.
#[cfg(test)]
pub(super) fn twin((x_summands, w_summands): (usize, usize), x: &[u32], w: &[u32]) -> f32 {
    let even: fn(u32) -> f32 = |pair| f32::from_bits(pair << 16);
    let odd: fn(u32) -> f32 = |pair| f32::from_bits(pair & 0xffff_0000);
    let steps = x.chunks(16 * x_summands).zip(w.chunks(16 * w_summands));
    steps.fold(0f32, |sum, (x, w)| {
        products(x_summands, w_summands).fold(sum, |sum, (of_x, of_w)| {
            let (x, w) = (&x[16 * of_x..][..16], &w[16 * of_w..][..16]);
            let chain = |half: fn(u32) -> f32| x.iter().zip(w).fold(0f32, |c, (x, w)| half(*w).mul_add(half(*x), c));
            sum + (chain(even) + chain(odd))
        })
    })
}
