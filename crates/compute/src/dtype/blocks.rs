//! One function a storage type: the bytes of a block in, its numbers out. Layouts after ggml's `ggml-common.h`.
//!
//! Fixed-size arrays and constant trip counts leave no bounds check in a loop, so each becomes straight vector code.
//! Scales are f16, widened first; then one product and at most one sum a number, as in ggml's reference.

/// Runs one of the functions below over all blocks of `src`. A macro, because a function passed as an argument is
/// called through a shim that is compiled by itself, without the caller's wider registers.
macro_rules! each {
    ($block:path, $src:expr, $dst:expr) => {
        for (src, dst) in $src.as_chunks().0.iter().zip($dst.as_chunks_mut().0) {
            $block(src, dst);
        }
    };
}
pub(super) use each;

#[inline(always)]
pub fn f32(b: &[u8; 4], y: &mut [f32; 1]) {
    *y = [f32::from_le_bytes(*b)];
}

#[inline(always)]
pub fn f16(b: &[u8; 2], y: &mut [f32; 1]) {
    *y = [widen(b)];
}

#[inline(always)]
pub fn bf16(b: &[u8; 2], y: &mut [f32; 1]) {
    *y = [f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)];
}

/// d, 32 signed numbers.
#[inline(always)]
pub fn q8_0(b: &[u8; 34], y: &mut [f32; 32]) {
    along_the_block();
    let d = widen(at(b, 0));
    let q: &[u8; 32] = at(b, 2);
    for i in 0..32 {
        y[i] = d * f32::from(q[i] as i8);
    }
}

/// d, 32 nibbles less 8.
#[inline(always)]
pub fn q4_0(b: &[u8; 18], y: &mut [f32; 32]) {
    along_the_block();
    scale_centred(widen(at(b, 0)), 8.0, &nibbles(at(b, 2)), y);
}

/// d, m, 32 nibbles.
#[inline(always)]
pub fn q4_1(b: &[u8; 20], y: &mut [f32; 32]) {
    along_the_block();
    scale_shift(widen(at(b, 0)), widen(at(b, 2)), &nibbles(at(b, 4)), y);
}

/// d, 32 fifth bits, 32 nibbles; less 16.
#[inline(always)]
pub fn q5_0(b: &[u8; 22], y: &mut [f32; 32]) {
    along_the_block();
    scale_centred(widen(at(b, 0)), 16.0, &with_fifth_bits(nibbles(at(b, 6)), at(b, 2)), y);
}

/// d, m, 32 fifth bits, 32 nibbles.
#[inline(always)]
pub fn q5_1(b: &[u8; 24], y: &mut [f32; 32]) {
    along_the_block();
    scale_shift(widen(at(b, 0)), widen(at(b, 2)), &with_fifth_bits(nibbles(at(b, 8)), at(b, 4)), y);
}

/// d, dmin, 8 six-bit scales and minima, 256 nibbles: 32 low ones, then their 32 high ones, a scale each.
#[inline(always)]
pub fn q4_k(b: &[u8; 144], y: &mut [f32; 256]) {
    let (scales, minima) = scales_minima(b);
    let qs: &[u8; 128] = at(b, 16);
    for (j, y) in y.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        along_the_block();
        let q: &[u8; 32] = at(qs, j * 32);
        let (mut low, mut high) = ([0; 32], [0; 32]);
        for i in 0..32 {
            low[i] = q[i] & 15;
            high[i] = q[i] >> 4;
        }
        let [low_y, high_y] = y.as_chunks_mut().0 else { unreachable!("64 is twice 32") };
        scale_shift(scales[2 * j], -minima[2 * j], &low, low_y);
        scale_shift(scales[2 * j + 1], -minima[2 * j + 1], &high, high_y);
    }
}

/// As Q4_K, with 32 bytes before the nibbles: bit j of byte i is the fifth bit of number i of group j.
#[inline(always)]
pub fn q5_k(b: &[u8; 176], y: &mut [f32; 256]) {
    let (scales, minima) = scales_minima(b);
    let (qh, qs): (&[u8; 32], &[u8; 128]) = (at(b, 16), at(b, 48));
    for (j, y) in y.as_chunks_mut().0.iter_mut().enumerate() {
        along_the_block();
        let low: &[u8; 32] = at(qs, j / 2 * 32);
        let mut q = [0; 32];
        for i in 0..32 {
            q[i] = low[i] >> (j % 2 * 4) & 15 | (qh[i] >> j & 1) << 4;
        }
        scale_shift(scales[j], -minima[j], &q, y);
    }
}

/// 256 low nibbles, 256 upper bit pairs, 16 signed scales, d; less 32. In each half of the block, group g of 32
/// numbers has its nibbles in byte group g % 2 (low ones first) and its bit pairs at bits 2g.
#[inline(always)]
pub fn q6_k(b: &[u8; 210], y: &mut [f32; 256]) {
    let d = widen(at(b, 208));
    for (half, y) in y.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        along_the_block();
        let (low, high): (&[u8; 64], &[u8; 32]) = (at(b, half * 64), at(b, 128 + half * 32));
        let mut q = [0; 128];
        for i in 0..32 {
            q[i] = low[i] & 15 | (high[i] & 3) << 4;
            q[i + 32] = low[i + 32] & 15 | (high[i] >> 2 & 3) << 4;
            q[i + 64] = low[i] >> 4 | (high[i] >> 4 & 3) << 4;
            q[i + 96] = low[i + 32] >> 4 | high[i] >> 6 << 4;
        }
        for (s, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            along_the_block();
            let d = d * f32::from(b[192 + half * 8 + s] as i8);
            for i in 0..16 {
                y[i] = d * (f32::from(q[s * 16 + i]) - 32.0);
            }
        }
    }
}

/// Keeps the compiler from vectorising across blocks, which it otherwise prefers to vectors along a block: with
/// gathers and scatters, four times slower. A fence of the compiler's only; no instruction comes of it.
#[inline(always)]
fn along_the_block() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// `N` bytes from an offset that is inside the block by the block's layout.
#[inline(always)]
fn at<const N: usize>(block: &[u8], offset: usize) -> &[u8; N] {
    block[offset..].first_chunk().expect("inside the block")
}

#[inline(always)]
fn scale_shift(d: f32, m: f32, q: &[u8; 32], y: &mut [f32; 32]) {
    for i in 0..32 {
        y[i] = d * f32::from(q[i]) + m;
    }
}

#[inline(always)]
fn scale_centred(d: f32, centre: f32, q: &[u8; 32], y: &mut [f32; 32]) {
    for i in 0..32 {
        y[i] = d * (f32::from(q[i]) - centre);
    }
}

/// 16 low nibbles, then the 16 high ones.
#[inline(always)]
fn nibbles(b: &[u8; 16]) -> [u8; 32] {
    let mut q = [0; 32];
    for i in 0..16 {
        q[i] = b[i] & 15;
        q[i + 16] = b[i] >> 4;
    }
    q
}

/// Bit i of `bits` on top of nibble i.
#[inline(always)]
fn with_fifth_bits(mut q: [u8; 32], bits: &[u8; 4]) -> [u8; 32] {
    for i in 0..32 {
        q[i] |= (bits[i / 8] >> (i % 8) & 1) << 4;
    }
    q
}

/// The eight scales and eight minima of a Q4_K or Q5_K block, as factors. Their six bits are packed into 12 bytes:
/// the first four of each in the low bits of bytes 0..4 and 4..8, the last four in nibbles of bytes 8..12 with their
/// upper two bits on top of the first.
#[inline(always)]
fn scales_minima(b: &[u8]) -> ([f32; 8], [f32; 8]) {
    let (d, dmin) = (widen(at(b, 0)), widen(at(b, 2)));
    let p: &[u8; 12] = at(b, 4);
    let mut scales = [0.0; 8];
    let mut minima = [0.0; 8];
    for j in 0..4 {
        scales[j] = d * f32::from(p[j] & 63);
        minima[j] = dmin * f32::from(p[j + 4] & 63);
        scales[j + 4] = d * f32::from(p[j + 8] & 15 | p[j] >> 6 << 4);
        minima[j + 4] = dmin * f32::from(p[j + 8] >> 4 | p[j + 4] >> 6 << 4);
    }
    (scales, minima)
}

/// An f16 as f32, by integer arithmetic without a branch: it vectorises where there is no conversion instruction,
/// and `half` would ask the processor for its features at every number.
#[inline(always)]
fn widen(b: &[u8; 2]) -> f32 {
    const EXPONENT: u32 = 0x7c00 << 13;
    const REBIAS: u32 = (127 - 15) << 23;
    let h = u32::from(u16::from_le_bytes(*b));
    let bits = (h & 0x7fff) << 13;
    let exponent = bits & EXPONENT;
    let normal = bits + REBIAS;
    // 2^-14 + m less 2^-14: the subtraction renormalises without ever touching a subnormal f32, which would be slow.
    let subnormal = (f32::from_bits(normal + (1 << 23)) - f32::from_bits(REBIAS + (1 << 23))).to_bits();
    let magnitude = if exponent == 0 {
        subnormal
    } else if exponent == EXPONENT {
        normal + REBIAS
    } else {
        normal
    };
    f32::from_bits(magnitude | (h & 0x8000) << 16)
}
