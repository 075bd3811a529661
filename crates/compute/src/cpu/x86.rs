//! Tiles in the vector instructions of x86-64. Each sum is a chain of its own lane.

#![allow(unsafe_code)]

use super::kernel::View;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// `STRIDE` is that of `w`, or 0 where the compiler does not know it.
///
/// # Safety
/// AVX-512F; `x` holds `len` rows of `16 * V`, `w` 12 rows of `len`, `out` `12 * 16 * V` numbers.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile_avx512<const V: usize, const STRIDE: usize>(
    first: bool,
    len: usize,
    x: &[f32],
    w: View<'_, f32>,
    out: &mut [f32],
) {
    // SAFETY: `out` holds 12 rows of 16 * V numbers.
    let mut sums = unsafe { sums_avx512::<V>(first, out) };
    let (mut at, mut w_at) = (x.as_ptr(), w.data.as_ptr());
    let stride = if STRIDE > 0 { STRIDE } else { w.stride };
    for _ in 0..len {
        let mut xs = [_mm512_setzero_ps(); V];
        for (v, x) in xs.iter_mut().enumerate() {
            // SAFETY: row `i` of x holds 16 * V numbers.
            *x = unsafe { _mm512_loadu_ps(at.add(16 * v)) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `r` of w holds `len` numbers.
            let w = _mm512_set1_ps(unsafe { *w_at.add(r * stride) });
            for v in 0..V {
                sums[v] = _mm512_fmadd_ps(w, xs[v], sums[v]);
            }
        }
        at = at.wrapping_add(16 * V);
        w_at = w_at.wrapping_add(1);
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds 12 rows of 16 * V numbers.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add((r * V + v) * 16), sum) };
        }
    }
}

/// Sums to go on from.
///
/// # Safety
/// AVX-512F; `out` holds `12 * 16 * V` numbers.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn sums_avx512<const V: usize>(first: bool, out: &[f32]) -> [[__m512; V]; 12] {
    let mut sums = [[_mm512_setzero_ps(); V]; 12];
    if !first {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *sum = unsafe { _mm512_loadu_ps(out.as_ptr().add((r * V + v) * 16)) };
            }
        }
    }
    sums
}

/// Asks for a cache line, if there is one.
#[inline]
pub(super) fn prefetch(line: *const i8) {
    // SAFETY: a hint, which may name any address; SSE is part of x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line) };
}

/// Whether there are instructions for pairs of bf16 and they are chains of fused multiply-adds, the odd number first, as
/// Intel describes VDPBF16PS: seen on a Xeon, and asked of every other machine.
pub(super) fn has_chained_bf16() -> bool {
    static CHAINED: OnceLock<bool> = OnceLock::new();
    *CHAINED.get_or_init(|| {
        // SAFETY: the feature has just been found.
        is_x86_feature_detected!("avx512bf16") && (0..256).all(|seed| unsafe { is_chained(seed) })
    })
}

/// One step of 16 chains, with operands of many sizes.
///
/// # Safety
/// AVX-512F and BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn is_chained(seed: u32) -> bool {
    let noise = |i: u32| (seed * 1021 + i).wrapping_mul(0x9e37_79b9) ^ (seed + 31 * i).wrapping_mul(0x85eb_ca6b);
    // Signs and fractions at random, exponents within 16 of 1.
    let number = |bits: u32| f32::from_bits(bits & 0x807f_ffff | (0x77 + (bits >> 27)) << 23);
    let pairs: [u32; 32] = std::array::from_fn(|i| {
        let [low, high] = [2 * i as u32, 2 * i as u32 + 1].map(|i| number(noise(i)).to_bits());
        low >> 16 | high & 0xffff_0000
    });
    let start: [f32; 16] = std::array::from_fn(|i| number(noise(100 + i as u32)));
    // SAFETY: arrays of 64 bytes, in which every bit pattern is valid.
    let [x, w] = [0, 16].map(|at| unsafe { std::mem::transmute(_mm512_loadu_si512(pairs[at..].as_ptr().cast())) });
    let mut sums = [0f32; 16];
    // SAFETY: as above.
    unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_dpbf16_ps(_mm512_loadu_ps(start.as_ptr()), x, w)) };
    let (even, odd) = (|p: u32| f32::from_bits(p << 16), |p: u32| f32::from_bits(p & 0xffff_0000));
    (0..16).all(|i| {
        let (x, w) = (pairs[i], pairs[i + 16]);
        let chain = even(x).mul_add(even(w), odd(x).mul_add(odd(w), start[i]));
        chain.to_bits() == sums[i].to_bits()
    })
}

/// # Safety
/// AVX-512F and BF16; `x` holds `len` rows of `16 * V` pairs, `w` 12 rows of `len`, `out` `12 * 16 * V` numbers.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn tile_avx512_bf16<const V: usize>(
    first: bool,
    len: usize,
    x: &[u32],
    w: View<'_, u32>,
    out: &mut [f32],
) {
    // SAFETY: both are 64 bytes in which every bit pattern is valid.
    let pairs = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
    // SAFETY: `out` holds 12 rows of 16 * V numbers.
    let mut sums = unsafe { sums_avx512::<V>(first, out) };
    let (mut at, w_at) = (x.as_ptr(), w.data.as_ptr());
    for i in 0..len {
        let mut xs = [_mm512_setzero_si512(); V];
        for (v, x) in xs.iter_mut().enumerate() {
            // SAFETY: row `i` of x holds 16 * V pairs.
            *x = unsafe { _mm512_loadu_si512(at.add(16 * v).cast()) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `r` of w holds `len` pairs.
            let w = _mm512_set1_epi32(unsafe { *w_at.add(r * w.stride + i) } as i32);
            for v in 0..V {
                sums[v] = _mm512_dpbf16_ps(sums[v], pairs(w), pairs(xs[v]));
            }
        }
        at = at.wrapping_add(16 * V);
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds 12 rows of 16 * V numbers.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add((r * V + v) * 16), sum) };
        }
    }
}

/// Chains of fused multiply-adds from 0 of `x` with the first `n` numbers of 32 rows of bf16 (`PER` 2) or f32 (`PER` 1), a
/// lane for each row. While it is at work, as many bytes of the rows `ahead` are asked for.
///
/// # Safety
/// AVX-512F and BW; each of `rows` is valid for `n` numbers. `x` holds `n` numbers and zeros up to a whole number of
/// `16 * PER`.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn chains_avx512<const PER: usize>(
    n: usize,
    x: &[f32],
    rows: &[*const u8; 32],
    ahead: &[*const u8; 32],
    sums: &mut [f32; 32],
) {
    debug_assert!(x.len() >= n.next_multiple_of(16 * PER));
    let mut chains = [_mm512_setzero_ps(); 2];
    for (block, x) in x.chunks_exact(16 * PER).take(n.div_ceil(16 * PER)).enumerate() {
        let left = n - block * 16 * PER;
        for (half, chains) in chains.iter_mut().enumerate() {
            let words: [__m512i; 16] = std::array::from_fn(|r| {
                let at = rows[16 * half + r].wrapping_add(64 * block);
                prefetch(ahead[16 * half + r].wrapping_add(64 * block).cast());
                // SAFETY: the first `left` numbers from here on are valid, and no others are loaded.
                unsafe {
                    match PER {
                        2 => _mm512_maskz_loadu_epi16(u32::MAX >> (32 - left.min(32)), at.cast()),
                        _ => _mm512_maskz_loadu_epi32(u16::MAX >> (16 - left.min(16)), at.cast()),
                    }
                }
            });
            for (words, x) in transpose_16x16(words).into_iter().zip(x.chunks_exact(PER)) {
                if PER == 2 {
                    let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words));
                    let odd = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000u32 as i32)));
                    *chains = _mm512_fmadd_ps(even, _mm512_set1_ps(x[0]), *chains);
                    *chains = _mm512_fmadd_ps(odd, _mm512_set1_ps(x[1]), *chains);
                } else {
                    *chains = _mm512_fmadd_ps(_mm512_castsi512_ps(words), _mm512_set1_ps(x[0]), *chains);
                }
            }
        }
    }
    for (sums, chains) in sums.chunks_exact_mut(16).zip(chains) {
        // SAFETY: 16 numbers.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), chains) };
    }
}

/// The same as [`transpose_8x8`] for 16 rows and 16 columns.
///
/// # Safety
/// AVX-512F; `src` and `dst` are valid for 16 rows of 16 words, their strides apart; if `ADD`, those of `dst` can be read.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn transpose_16x16_to<const ADD: bool>(
    src: *const f32,
    src_stride: usize,
    dst: *mut f32,
    dst_stride: usize,
) {
    // SAFETY: the caller's promise.
    let rows = std::array::from_fn(|i| unsafe { _mm512_loadu_si512(src.add(i * src_stride).cast()) });
    for (j, column) in transpose_16x16(rows).into_iter().enumerate() {
        let column = _mm512_castsi512_ps(column);
        // SAFETY: the caller's promise.
        unsafe {
            let dst = dst.add(j * dst_stride);
            _mm512_storeu_ps(dst, if ADD { _mm512_add_ps(_mm512_loadu_ps(dst), column) } else { column });
        }
    }
}

/// Rows of 16 words to columns.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose_16x16(rows: [__m512i; 16]) -> [__m512i; 16] {
    let pairs: [__m512i; 16] = std::array::from_fn(|i| {
        let (a, b) = (rows[i & !1], rows[i | 1]);
        if i % 2 == 0 { _mm512_unpacklo_epi32(a, b) } else { _mm512_unpackhi_epi32(a, b) }
    });
    // `fours[4 * i + j]` holds column `4 * l + j` of the rows from `4 * i` on in its quarter `l`.
    let fours: [__m512i; 16] = std::array::from_fn(|i| {
        let (a, b) = (pairs[i & !3 | (i >> 1 & 1)], pairs[i & !3 | 2 | (i >> 1 & 1)]);
        if i % 2 == 0 { _mm512_unpacklo_epi64(a, b) } else { _mm512_unpackhi_epi64(a, b) }
    });
    std::array::from_fn(|column| {
        let (l, j) = (column / 4, column % 4);
        let halves = [(fours[j], fours[4 + j]), (fours[8 + j], fours[12 + j])].map(|(a, b)| match l % 2 {
            0 => _mm512_shuffle_i32x4::<0x88>(a, b),
            _ => _mm512_shuffle_i32x4::<0xdd>(a, b),
        });
        match l / 2 {
            0 => _mm512_shuffle_i32x4::<0x88>(halves[0], halves[1]),
            _ => _mm512_shuffle_i32x4::<0xdd>(halves[0], halves[1]),
        }
    })
}

/// # Safety
/// AVX2 and FMA; `x` holds `len` rows of `8 * V`, `w` 6 rows of `len`, `out` `6 * 8 * V` numbers.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tile_avx2<const V: usize>(first: bool, len: usize, x: &[f32], w: View<'_, f32>, out: &mut [f32]) {
    let mut sums = [[_mm256_setzero_ps(); V]; 6];
    // Plain loops over indices known to the compiler: an iterator over all sums keeps them in memory, not in registers.
    if !first {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `out` holds 6 rows of 8 * V numbers.
                *sum = unsafe { _mm256_loadu_ps(out.as_ptr().add((r * V + v) * 8)) };
            }
        }
    }
    let (x_at, w_at) = (x.as_ptr(), w.data.as_ptr());
    let mut step = |i: usize| {
        let mut xs = [_mm256_setzero_ps(); V];
        for (v, x) in xs.iter_mut().enumerate() {
            // SAFETY: row `i` of x holds 8 * V numbers.
            *x = unsafe { _mm256_loadu_ps(x_at.add((i * V + v) * 8)) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `r` of w holds `len` numbers.
            let w = _mm256_set1_ps(unsafe { *w_at.add(r * w.stride + i) });
            for v in 0..V {
                sums[v] = _mm256_fmadd_ps(w, xs[v], sums[v]);
            }
        }
    };
    // By four: half of the addresses come for free, which counts where another thread shares the core (a tenth faster).
    let whole = len / 4 * 4;
    for i in (0..whole).step_by(4) {
        step(i);
        step(i + 1);
        step(i + 2);
        step(i + 3);
    }
    (whole..len).for_each(step);
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds 6 rows of 8 * V numbers.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add((r * V + v) * 8), sum) };
        }
    }
}

/// `dst[j * dst_stride + i] = src[i * src_stride + j]` for 8 rows and 8 columns of words of 32 bits; or, if `ADD`, `+=` of f32.
///
/// # Safety
/// AVX; `src` and `dst` are valid for 8 rows of 8 words, their strides apart; if `ADD`, those of `dst` can be read.
#[target_feature(enable = "avx")]
#[inline]
pub(super) unsafe fn transpose_8x8<const ADD: bool>(
    src: *const f32,
    src_stride: usize,
    dst: *mut f32,
    dst_stride: usize,
) {
    // SAFETY: the caller's promise.
    let row = |i: usize| unsafe { _mm256_loadu_ps(src.add(i * src_stride)) };
    let pairs = |a: usize, b: usize| {
        let (a, b) = (row(a), row(b));
        (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b))
    };
    let ((a0, a1), (b0, b1)) = (pairs(0, 1), pairs(2, 3));
    let ((c0, c1), (d0, d1)) = (pairs(4, 5), pairs(6, 7));
    let fours = |a: __m256, b: __m256| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
    let ((e0, e1), (e2, e3)) = (fours(a0, b0), fours(a1, b1));
    let ((f0, f1), (f2, f3)) = (fours(c0, d0), fours(c1, d1));
    for (j, (low, high)) in [(e0, f0), (e1, f1), (e2, f2), (e3, f3)].into_iter().enumerate() {
        let columns = [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)];
        for (j, column) in [j, j + 4].into_iter().zip(columns) {
            // SAFETY: the caller's promise.
            unsafe {
                let dst = dst.add(j * dst_stride);
                _mm256_storeu_ps(dst, if ADD { _mm256_add_ps(_mm256_loadu_ps(dst), column) } else { column });
            }
        }
    }
}
