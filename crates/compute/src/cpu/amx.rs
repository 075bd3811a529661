//! Tiles of bf16 pairs on AMX (Intel, from 2023): 16 x 16 sums of 32 products in one instruction.
//!
//! Source: Intel Software Developer's Manual, TDPBF16PS. The intrinsics are not stable, the instructions are in inline
//! assembly. Each instruction makes two chains of 16 fused multiply-adds from 0, of the even and of the odd columns, adds
//! one to the other and the result to the sum ([`twin`] writes it out): an order of its own, so bf16 results differ in
//! the last bits from those of other kernels.

#![allow(unsafe_code)]

use std::arch::asm;
use std::sync::OnceLock;

/// Rows of weights in a tile: two registers of 16.
pub(super) const ROWS: usize = 32;

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

/// The weights are loaded past the first-level cache (`T1`), where `x` waits for the next rows of weights.
///
/// `out[r * width + c] += sum of w[r, i] * x[i, c]` over pairs, for 32 rows `r` and `width` (32 or 16) columns `c`; instead
/// of what is in `out`, zero is where the `first` part of a sum begins.
///
/// # Safety
/// The thread is prepared. `len` is a multiple of 16 and not 0; `w` holds 32 rows of `len` pairs `w_stride` apart, `x`
/// `len` rows of `width` pairs, `out` 32 rows of `width` numbers.
pub(super) unsafe fn tile(
    first: bool,
    width: usize,
    len: usize,
    x: *const u32,
    (w, w_stride): (*const u32, usize),
    out: *mut f32,
) {
    // Rows of `x` and of `out` are equally long.
    let (stride, w_stride) = (4 * width, 4 * w_stride);
    let lower = w.wrapping_byte_add(16 * w_stride);
    let lower_out = out.wrapping_byte_add(16 * stride);
    let steps = len / 16;
    if width == 32 {
        // SAFETY: the caller's promise; the registers are declared as clobbered.
        unsafe {
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
                "tileloaddt1 tmm4, [{w} + {ws}*1]",
                "tileloadd tmm6, [{x} + {stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{x} + {stride}*1 + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloaddt1 tmm5, [{lower} + {ws}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {w}, 64",
                "add {lower}, 64",
                "add {x}, 2048",
                "dec {n}",
                "jnz 3b",
                "tilestored [{out} + {stride}*1], tmm0",
                "tilestored [{out} + {stride}*1 + 64], tmm1",
                "tilestored [{lower_out} + {stride}*1], tmm2",
                "tilestored [{lower_out} + {stride}*1 + 64], tmm3",
                first = in(reg) first as u32,
                w = inout(reg) w => _,
                lower = inout(reg) lower => _,
                x = inout(reg) x => _,
                n = inout(reg) steps => _,
                ws = in(reg) w_stride,
                stride = in(reg) stride,
                out = in(reg) out,
                lower_out = in(reg) lower_out,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!(
                "test {first:e}, {first:e}",
                "jz 2f",
                "tilezero tmm0",
                "tilezero tmm2",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{out} + {stride}*1]",
                "tileloadd tmm2, [{lower_out} + {stride}*1]",
                "3:",
                "tileloaddt1 tmm4, [{w} + {ws}*1]",
                "tileloadd tmm6, [{x} + {stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloaddt1 tmm5, [{lower} + {ws}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "add {w}, 64",
                "add {lower}, 64",
                "add {x}, 1024",
                "dec {n}",
                "jnz 3b",
                "tilestored [{out} + {stride}*1], tmm0",
                "tilestored [{lower_out} + {stride}*1], tmm2",
                first = in(reg) first as u32,
                w = inout(reg) w => _,
                lower = inout(reg) lower => _,
                x = inout(reg) x => _,
                n = inout(reg) steps => _,
                ws = in(reg) w_stride,
                stride = in(reg) stride,
                out = in(reg) out,
                lower_out = in(reg) lower_out,
                out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
                options(nostack),
            );
        }
    }
}

/// One number of a tile in plain Rust: what the instructions compute, for tests.
#[cfg(test)]
pub(super) fn twin(x: &[u32], w: &[u32]) -> f32 {
    let even: fn(u32) -> f32 = |pair| f32::from_bits(pair << 16);
    let odd: fn(u32) -> f32 = |pair| f32::from_bits(pair & 0xffff_0000);
    x.chunks(16).zip(w.chunks(16)).fold(0f32, |sum, (x, w)| {
        let chain = |half: fn(u32) -> f32| x.iter().zip(w).fold(0f32, |c, (x, w)| half(*w).mul_add(half(*x), c));
        sum + (chain(even) + chain(odd))
    })
}
