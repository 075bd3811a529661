//! Tiles in the vector instructions of x86-64. Each sum is a chain of its own lane.

#![allow(unsafe_code)]

use super::kernel::{Place, View};
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// A tile of `16 * V` columns. `STRIDE` is that of `x`, or 0 where the compiler does not know it.
///
/// # Safety
/// AVX-512F; `x` holds `R` rows of `len`, `panel` `len` rows of `16 * V`, `out` `R` rows of `16 * V`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile_avx512<const R: usize, const V: usize, const STRIDE: usize>(
    first: bool,
    len: usize,
    x: View<'_, f32>,
    panel: &[f32],
    out: Place<'_>,
) {
    // By two where addresses are free. Where they are not, the compiler would keep more of them than it has registers.
    let unrolled = if STRIDE > 0 { 2 } else { 1 };
    let stride = if STRIDE > 0 { STRIDE } else { x.stride };
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    let (mut x_at, mut at) = (x.data.as_ptr(), panel.as_ptr());
    // SAFETY: there are `u + 1` more columns of x and rows of the panel.
    let step = |x_at: *const f32, at: *const f32, u: usize, sums: &mut [[__m512; V]; R]| unsafe {
        let row: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(at.add((u * V + v) * 16)));
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = _mm512_set1_ps(*x_at.wrapping_add(r * stride).add(u));
            for v in 0..V {
                sums[v] = _mm512_fmadd_ps(x, row[v], sums[v]);
            }
        }
    };
    for _ in 0..len / unrolled {
        for u in 0..unrolled {
            step(x_at, at, u, &mut sums);
        }
        (x_at, at) = (x_at.wrapping_add(unrolled), at.wrapping_add(16 * V * unrolled));
    }
    for u in 0..len % unrolled {
        step(x_at, at, u, &mut sums);
    }
    // SAFETY: `out` holds so many rows.
    unsafe { put_avx512(first, &sums, out) };
}

/// Puts sums where they belong, or adds them to what is there.
///
/// # Safety
/// AVX-512F; `out` holds `R` rows of `16 * V`.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn put_avx512<const R: usize, const V: usize>(first: bool, sums: &[[__m512; V]; R], out: Place<'_>) {
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let at = out.data.as_mut_ptr().add(r * out.stride + 16 * v);
                _mm512_storeu_ps(at, if first { sum } else { _mm512_add_ps(_mm512_loadu_ps(at), sum) });
            }
        }
    }
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
/// AVX-512F and BF16; `x` holds `R` rows of `len` pairs, `panel` `len` rows of `16 * V` pairs, `out` `R` rows of `16 * V`.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn tile_avx512_bf16<const R: usize, const V: usize>(
    first: bool,
    len: usize,
    x: View<'_, u32>,
    panel: &[u32],
    out: Place<'_>,
) {
    // SAFETY: both are 64 bytes in which every bit pattern is valid.
    let pairs = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for i in 0..len {
        // SAFETY: row `i` of the panel holds 16 * V pairs.
        let row: [__m512bh; V] =
            std::array::from_fn(|v| unsafe { pairs(_mm512_loadu_si512(panel.as_ptr().add((i * V + v) * 16).cast())) });
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `r` of x holds `len` pairs.
            let x = pairs(_mm512_set1_epi32(unsafe { *x.data.as_ptr().add(r * x.stride + i) } as i32));
            for v in 0..V {
                sums[v] = _mm512_dpbf16_ps(sums[v], x, row[v]);
            }
        }
    }
    // SAFETY: `out` holds so many rows.
    unsafe { put_avx512(first, &sums, out) };
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

/// The same as [`turn_8x8`] for 16 rows and 16 columns.
///
/// # Safety
/// AVX-512F; `src` is valid for 16 rows of 16 words, `dst` for 16 rows of 16, or 32 if `WIDEN`, their strides apart.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn turn_16x16<const WIDEN: bool>(
    src: *const u8,
    src_stride: usize,
    dst: *mut u32,
    dst_stride: usize,
) {
    // SAFETY: the caller's promise.
    let rows = std::array::from_fn(|i| unsafe { _mm512_loadu_si512(src.add(i * src_stride).cast()) });
    // SAFETY: as above.
    let put = |row: usize, words| unsafe { _mm512_storeu_si512(dst.add(row * dst_stride).cast(), words) };
    for (j, words) in transpose_16x16(rows).into_iter().enumerate() {
        if WIDEN {
            put(2 * j, _mm512_slli_epi32::<16>(words));
            put(2 * j + 1, _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000u32 as i32)));
        } else {
            put(j, words);
        }
    }
}

/// The same for 16 rows of 32 words, whose upper halves become 16 words.
///
/// # Safety
/// AVX-512F and BW; `src` is valid for 16 rows of 32 words, `dst` for 16 rows of 16, their strides apart.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) unsafe fn turn_upper_16x16(src: *const u8, src_stride: usize, dst: *mut u32, dst_stride: usize) {
    let rows = std::array::from_fn(|i| {
        // SAFETY: the caller's promise.
        let [a, b] = [0, 64].map(|at| unsafe { _mm512_loadu_si512(src.add(i * src_stride + at).cast()) });
        upper_halves(a, b)
    });
    for (j, words) in transpose_16x16(rows).into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(dst.add(j * dst_stride).cast(), words) };
    }
}

/// The same for 16 rows of 32 f32, of whose three [`summands`](super::pairs::summands) each become 16 words in rows of `dst`.
///
/// # Safety
/// AVX-512F and BW; `src` is valid for 16 rows of 32 numbers, `dst` for 48 rows of 16, their strides apart.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) unsafe fn turn_summands_16x16(src: *const u8, src_stride: usize, dst: *mut u32, dst_stride: usize) {
    for half in 0..2 {
        // SAFETY: the caller's promise.
        let rows = std::array::from_fn(|i| unsafe { _mm512_loadu_si512(src.add(i * src_stride + 64 * half).cast()) });
        for (j, columns) in transpose_16x16(rows).as_chunks::<2>().0.iter().enumerate() {
            let [even, odd] = columns.map(|column| summands(_mm512_castsi512_ps(column)));
            for (part, (even, odd)) in even.into_iter().zip(odd).enumerate() {
                let odd = _mm512_and_si512(odd, _mm512_set1_epi32(0xffff_0000u32 as i32));
                let words = _mm512_or_si512(_mm512_srli_epi32::<16>(even), odd);
                // SAFETY: the caller's promise.
                unsafe { _mm512_storeu_si512(dst.add((16 * part + 8 * half + j) * dst_stride).cast(), words) };
            }
        }
    }
}

/// 32 numbers [rounded to bf16](super::tiles::round_to_bf16) as 16 pairs.
///
/// # Safety
/// AVX-512F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn round_avx512(x: &[[f32; 32]], pairs: &mut [[u32; 16]]) {
    let round = |x: __m512| {
        let rounded = plus_half_bf16(x);
        let subnormal = _mm512_testn_epi32_mask(rounded, _mm512_set1_epi32(0x7f80_0000));
        let rounded = _mm512_mask_and_epi32(rounded, subnormal, rounded, _mm512_set1_epi32(i32::MIN));
        _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), _mm512_castps_si512(x))
    };
    for (x, pairs) in x.iter().zip(pairs) {
        // SAFETY: 32 numbers.
        let [a, b] = [0, 16].map(|at| round(unsafe { _mm512_loadu_ps(x.as_ptr().add(at)) }));
        // SAFETY: 16 pairs.
        unsafe { _mm512_storeu_si512(pairs.as_mut_ptr().cast(), upper_halves(a, b)) };
    }
}

/// 32 numbers as 16 pairs of each of their summands.
///
/// # Safety
/// AVX-512F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn split_avx512(x: &[[f32; 32]], pairs: &mut [[u32; 48]]) {
    for (x, pairs) in x.iter().zip(pairs) {
        // SAFETY: 32 numbers, and below 48.
        let [a, b] = [0, 16].map(|at| summands(unsafe { _mm512_loadu_ps(x.as_ptr().add(at)) }));
        for (part, (a, b)) in a.into_iter().zip(b).enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(pairs.as_mut_ptr().add(16 * part).cast(), upper_halves(a, b)) };
        }
    }
}

/// [`summands`](super::pairs::summands) of 16 numbers.
#[target_feature(enable = "avx512f")]
#[inline]
fn summands(x: __m512) -> [__m512i; 3] {
    let nearest = |x: __m512| _mm512_and_si512(plus_half_bf16(x), _mm512_set1_epi32(0xffff_0000u32 as i32));
    let first = nearest(x);
    let left = _mm512_sub_ps(x, _mm512_castsi512_ps(first));
    let second = nearest(left);
    [first, second, _mm512_castps_si512(_mm512_sub_ps(left, _mm512_castsi512_ps(second)))]
}

/// Words whose upper half is the nearest bf16, ties to even.
#[target_feature(enable = "avx512f")]
#[inline]
fn plus_half_bf16(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd)
}

/// The upper halves of 32 words.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn upper_halves(a: __m512i, b: __m512i) -> __m512i {
    const UPPER: [u16; 32] = {
        let mut at = [0; 32];
        let mut i = 0;
        while i < 32 {
            at[i] = 2 * i as u16 + 1;
            i += 1;
        }
        at
    };
    // SAFETY: 64 bytes.
    let upper = unsafe { _mm512_loadu_si512(UPPER.as_ptr().cast()) };
    _mm512_permutex2var_epi16(a, upper, b)
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
    let mut columns = rows;
    for j in 0..4 {
        let halves = |low: usize| (fours[4 * low + j], fours[4 * low + 4 + j]);
        let ((a, b), (c, d)) = (halves(0), halves(2));
        let even = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
        let odd = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
        columns[j] = _mm512_shuffle_i32x4::<0x88>(even.0, even.1);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even.0, even.1);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1);
    }
    columns
}

/// A tile of `8 * V` columns. `STRIDE` is that of `x`, or 0 where the compiler does not know it.
///
/// # Safety
/// AVX2 and FMA; `x` holds `R` rows of `len`, `panel` `len` rows of `8 * V`, `out` `R` rows of `8 * V`.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tile_avx2<const R: usize, const V: usize, const STRIDE: usize>(
    first: bool,
    len: usize,
    x: View<'_, f32>,
    panel: &[f32],
    out: Place<'_>,
) {
    let mut sums = [[_mm256_setzero_ps(); V]; R];
    let (x_at, at) = (x.data.as_ptr(), panel.as_ptr());
    let stride = if STRIDE > 0 { STRIDE } else { x.stride };
    let mut step = |i: usize| {
        // SAFETY: row `i` of the panel holds 8 * V numbers.
        let row: [__m256; V] = std::array::from_fn(|v| unsafe { _mm256_loadu_ps(at.add((i * V + v) * 8)) });
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `r` of x holds `len` numbers.
            let x = _mm256_set1_ps(unsafe { *x_at.add(r * stride + i) });
            for v in 0..V {
                sums[v] = _mm256_fmadd_ps(x, row[v], sums[v]);
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
            // SAFETY: `out` holds so many rows.
            unsafe {
                let at = out.data.as_mut_ptr().add(r * out.stride + 8 * v);
                _mm256_storeu_ps(at, if first { sum } else { _mm256_add_ps(_mm256_loadu_ps(at), sum) });
            }
        }
    }
}

/// `dst[j * dst_stride + i] = src[i, j]` for 8 rows `i`, `src_stride` bytes apart, and 8 columns of words of 32 bits. Or, if
/// `WIDEN`, each word is two bf16, which become f32 in two rows of `dst`.
///
/// # Safety
/// AVX2; `src` is valid for 8 rows of 8 words, `dst` for 8 rows of 8, or 16 if `WIDEN`, their strides apart.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn turn_8x8<const WIDEN: bool>(src: *const u8, src_stride: usize, dst: *mut u32, dst_stride: usize) {
    // SAFETY: the caller's promise.
    let row = |i: usize| unsafe { _mm256_loadu_ps(src.add(i * src_stride).cast()) };
    let pairs = |a: usize, b: usize| {
        let (a, b) = (row(a), row(b));
        (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b))
    };
    let ((a0, a1), (b0, b1)) = (pairs(0, 1), pairs(2, 3));
    let ((c0, c1), (d0, d1)) = (pairs(4, 5), pairs(6, 7));
    let fours = |a: __m256, b: __m256| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
    let ((e0, e1), (e2, e3)) = (fours(a0, b0), fours(a1, b1));
    let ((f0, f1), (f2, f3)) = (fours(c0, d0), fours(c1, d1));
    // SAFETY: the caller's promise.
    let put = |row: usize, words| unsafe { _mm256_storeu_si256(dst.add(row * dst_stride).cast(), words) };
    for (j, (low, high)) in [(e0, f0), (e1, f1), (e2, f2), (e3, f3)].into_iter().enumerate() {
        let columns = [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)];
        for (j, column) in [j, j + 4].into_iter().zip(columns) {
            let words = _mm256_castps_si256(column);
            if WIDEN {
                put(2 * j, _mm256_slli_epi32::<16>(words));
                put(2 * j + 1, _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000u32 as i32)));
            } else {
                put(j, words);
            }
        }
    }
}
