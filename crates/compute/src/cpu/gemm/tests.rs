use super::*;
use crate::cpu::kernel::KC;
use crate::cpu::pairs::{Bf16Tiles, SplitTiles};
#[cfg(target_arch = "x86_64")]
use crate::cpu::pairs::{NarrowTiles, round_pairs, split_pairs};
use crate::cpu::tiles::F32Tiles;
use crate::cpu::{Kernel, Precision};
use crate::{Bytes, Dtype, Norm};
use half::{bf16, f16};
use proptest::prelude::*;

/// The definition, word for word; in each pair of columns the second comes first if `swapped`.
fn plain(x: &Rows, w: &[f32], n: usize, swapped: bool) -> Vec<f32> {
    let k = x.d();
    let order = |k: usize, len: usize| if swapped && (k ^ 1) < len { k ^ 1 } else { k };
    let dot = |x: &[f32], w: &[f32]| {
        let chain = |(x, w): (&[f32], &[f32])| {
            (0..x.len()).map(|i| order(i, x.len())).fold(0f32, |sum, i| w[i].mul_add(x[i], sum))
        };
        x.chunks(KC).zip(w.chunks(KC)).map(chain).reduce(|a, b| a + b).unwrap_or(0.0)
    };
    (0..x.n()).flat_map(|t| (0..n).map(move |r| (t, r))).map(|(t, r)| dot(x.row(t), &w[r * k..][..k])).collect()
}

/// The same in the order of AMX, one sum over all of k, of so many summands of either operand.
#[cfg(target_arch = "x86_64")]
fn plain_amx((x_summands, w_summands): (usize, usize), x: &Rows, w: &[f32]) -> Vec<f32> {
    // In plain Rust, as the twin of the tile is: this is also asked where there is no AMX.
    let pairs = |summands: usize, row: &[f32]| {
        let mut pairs = vec![0u32; summands * Bf16Tiles::numbers(row.len())];
        let to_pairs = if summands == 1 { round_pairs } else { split_pairs };
        to_pairs(Kernel::Portable, row, &mut pairs);
        pairs
    };
    let w: Vec<_> = w.chunks(x.d()).map(|w| pairs(w_summands, w)).collect();
    let x = (0..x.n()).map(|t| pairs(x_summands, x.row(t)));
    x.flat_map(|x| w.iter().map(|w| crate::cpu::amx::twin((x_summands, w_summands), &x, w)).collect::<Vec<_>>())
        .collect()
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            let h = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
            let h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
            (h >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn first([rows]: [Rows; 1]) -> Rows {
    rows
}

fn f32_tiles(kernel: Kernel) -> F32Tiles {
    F32Tiles { kernel, precision: Precision::F32 }
}

fn to_bf16(v: &[f32]) -> Vec<f32> {
    v.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
}

/// The numbers of packed rows, padding included.
fn rows_of<T: Tiles>(x: &Packed<T>) -> Vec<Vec<T::Number>> {
    let numbers = |columns: usize| T::X_SUMMANDS * T::numbers(columns.min(x.k));
    let part = |t, first: usize| x.rows(t, first).data[..numbers(T::PART.min(x.k - first))].iter().copied();
    (0..x.n).map(|t| (0..x.k).step_by(T::PART).flat_map(|first| part(t, first)).collect()).collect()
}

fn same_bits(a: &Rows, b: &[f32]) -> bool {
    a.data().iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_shape_gives_the_bits_of_the_definition(t in 1usize..70, k in 1usize..1700, n in 1usize..210, seed: u32) {
        let x = Rows::from_vec(t, k, numbers(t * k, seed));
        let stored: Vec<bf16> = numbers(n * k, !seed).into_iter().map(bf16::from_f32).collect();
        let bytes = stored.iter().flat_map(|w| w.to_le_bytes()).collect();
        let w = Tensor::new("w", Dtype::Bf16, vec![n, k], Bytes::from_vec(bytes));
        let wide: Vec<f32> = stored.iter().map(|w| w.to_f32()).collect();
        let expected = plain(&x, &wide, n, false);
        for kernel in Kernel::available() {
            let out = first(linear(&Packed::new(f32_tiles(kernel), &x, None), [&w]));
            prop_assert!(same_bits(&out, &expected), "{:?}", kernel);
        }
        let expected = plain(&Rows::from_vec(t, k, to_bf16(x.data())), &wide, n, true);
        for kernel in Kernel::available() {
            let tiles = F32Tiles { kernel, precision: Precision::Bf16 };
            prop_assert!(same_bits(&first(linear(&Packed::new(tiles, &x, None), [&w])), &expected), "{:?}", kernel);
            if let Some(tiles) = Bf16Tiles::new(kernel) {
                let out = first(linear(&Packed::new(tiles, &x, None), [&w]));
                #[cfg(target_arch = "x86_64")]
                let expected = if kernel == Kernel::Amx { plain_amx((1, 1), &x, &wide) } else { expected.clone() };
                prop_assert!(same_bits(&out, &expected), "pairs on {:?}", kernel);
            }
        }
        #[cfg(target_arch = "x86_64")]
        if Kernel::Amx.is_available() {
            let narrow = Packed::new(NarrowTiles::new(Kernel::Amx, Precision::F32).unwrap(), &x, None);
            let split = Packed::new(SplitTiles::new(Kernel::Amx, Precision::F32).unwrap(), &x, None);
            let expected = plain_amx((3, 1), &x, &wide);
            for w in [w, Tensor::from_f32("w", vec![n, k], &wide)] {
                prop_assert!(w.holds_bf16());
                prop_assert!(same_bits(&first(linear(&narrow, [&w])), &expected), "narrow {:?}", w);
            }
            let wide = numbers(n * k, !seed);
            let w = Tensor::from_f32("w", vec![n, k], &wide);
            prop_assert!(same_bits(&first(linear(&split, [&w])), &plain_amx((3, 3), &x, &wide)), "split");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours(t in 2usize..90, k in 1usize..900, n in 1usize..70, at: prop::sample::Index) {
        let at = at.index(t);
        let x = Rows::from_vec(t, k, numbers(t * k, 5));
        let alone = Rows::from_vec(1, k, x.row(at).to_vec());
        let w = Tensor::from_f32("w", vec![n, k], &numbers(n * k, 6));
        for kernel in Kernel::available() {
            let all = first(linear(&Packed::new(f32_tiles(kernel), &x, None), [&w]));
            prop_assert!(same_bits(&first(linear(&Packed::new(f32_tiles(kernel), &alone, None), [&w])), all.row(at)));
            if let Some(tiles) = Bf16Tiles::new(kernel) {
                let all = first(linear(&Packed::new(tiles, &x, None), [&w]));
                prop_assert!(same_bits(&first(linear(&Packed::new(tiles, &alone, None), [&w])), all.row(at)));
            }
            if let Some(tiles) = SplitTiles::new(kernel, Precision::F32) {
                let all = first(linear(&Packed::new(tiles, &x, None), [&w]));
                prop_assert!(same_bits(&first(linear(&Packed::new(tiles, &alone, None), [&w])), all.row(at)));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn f32_in_summands_is_as_exact_as_f32() {
    let (t, n) = (40, 50);
    for k in [576, 1536, 4096] {
        let (x, w) = (Rows::from_vec(t, k, numbers(t * k, 1)), numbers(n * k, 2));
        let narrow: Vec<f32> = to_bf16(&w);
        let errors = |w: &[f32], found: &[f32]| -> Vec<f64> {
            (found.iter().enumerate())
                .map(|(at, found)| {
                    let products = || x.row(at / n).iter().zip(&w[at % n * k..]).map(|(x, w)| *x as f64 * *w as f64);
                    (products().sum::<f64>() - *found as f64).abs() / products().map(f64::abs).sum::<f64>()
                })
                .collect()
        };
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
        let most = |errors: &[f64]| errors.iter().copied().fold(0.0, f64::max);
        let chains = errors(&w, &plain(&x, &w, n, false));
        for (w, summands) in [(&w, 3), (&narrow, 1)] {
            let found = errors(w, &plain_amx((3, summands), &x, w));
            assert!(most(&found) < 2f64.powi(-23), "{k}, {summands}: {}", most(&found));
            assert!(mean(&found) < mean(&chains), "{k}, {summands}: {} of {}", mean(&found), mean(&chains));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn weights_of_any_type_become_summands() {
    if !Kernel::Amx.is_available() {
        return;
    }
    let (t, k, n) = (20, 1056, 70);
    let x = Rows::from_vec(t, k, numbers(t * k, 1));
    let half: Vec<u8> = numbers(n * k, 2).into_iter().flat_map(|w| f16::from_f32(w).to_le_bytes()).collect();
    let blocks: Vec<u8> = numbers(n * k / 32, 3)
        .into_iter()
        .enumerate()
        .flat_map(|(i, d)| {
            f16::from_f32(d).to_le_bytes().into_iter().chain((0..32).map(move |j| (i * 31 + j * 7) as u8))
        })
        .collect();
    let wide = Tensor::from_f32("f32", vec![n, k], &numbers(n * k, 4));
    let narrow = Tensor::from_f32_rounded_to_bf16("bf16", vec![n, k], &numbers(n * k, 4));
    let stored = |dtype, bytes| Tensor::new("w", dtype, vec![n, k], Bytes::from_vec(bytes));
    for w in [stored(Dtype::F16, half), stored(Dtype::Q8_0, blocks), wide, narrow] {
        for precision in [Precision::F32, Precision::F16] {
            let mut values = w.to_f32();
            if precision == Precision::F16 {
                values.iter_mut().for_each(|w| *w = f16::from_f32(*w).to_f32());
            }
            let split = SplitTiles::new(Kernel::Amx, precision).unwrap();
            let found = first(linear(&Packed::new(split, &x, None), [&w]));
            assert!(same_bits(&found, &plain_amx((3, 3), &x, &values)), "{w:?} {precision:?}");
            if w.holds_bf16() {
                let narrow = NarrowTiles::new(Kernel::Amx, precision).unwrap();
                let found = first(linear(&Packed::new(narrow, &x, None), [&w]));
                assert!(same_bits(&found, &plain_amx((3, 1), &x, &values)), "{w:?} {precision:?}");
            }
        }
    }
}

#[test]
fn blocks_larger_than_a_task_fit_together() {
    let (t, k, n) = (TB + 33, 40, 200 + 7);
    let x = Rows::from_vec(t, k, numbers(t * k, 1));
    let w = numbers(n * k, 2);
    let tensor = Tensor::from_f32("w", vec![n, k], &w);
    for kernel in Kernel::available() {
        let out = first(linear(&Packed::new(f32_tiles(kernel), &x, None), [&tensor]));
        assert!(out.data() == plain(&x, &w, n, false), "{kernel:?}");
    }
}

#[test]
fn no_rows_give_no_rows() {
    let (x, w) = (Rows::zeros(0, 40), Tensor::from_f32("w", vec![100, 40], &numbers(4000, 1)));
    for kernel in Kernel::available() {
        let packed = Packed::new(f32_tiles(kernel), &x, None);
        assert_eq!(first(linear(&packed, [&w])), Rows::zeros(0, 100));
        assert_eq!(first(linear(&swiglu(&packed, &w, &w), [&Tensor::from_f32("v", vec![2, 100], &[0.5; 200])])).n(), 0);
        linear_add(&packed, &w, &mut Rows::zeros(0, 100));
    }
}

#[test]
fn f16_rounds_the_weights() {
    let (t, k, n) = (3, 50, 5);
    let x = Rows::from_vec(t, k, numbers(t * k, 1));
    let w = numbers(n * k, 2);
    let rounded: Vec<f32> = w.iter().map(|x| f16::from_f32(*x).to_f32()).collect();
    let tiles = F32Tiles { kernel: Kernel::detect(), precision: Precision::F16 };
    let out = first(linear(&Packed::new(tiles, &x, None), [&Tensor::from_f32("w", vec![n, k], &w)]));
    assert_eq!(out.data(), plain(&x, &rounded, n, false));
}

#[test]
fn fused_forms_give_the_bits_of_their_parts() {
    let (t, k, n) = (45, 130, 101);
    let (x, gain) = (Rows::from_vec(t, k, numbers(t * k, 1)), numbers(k, 4));
    let gate = Tensor::from_f32("gate", vec![n, k], &numbers(n * k, 2));
    let up = Tensor::from_f32("up", vec![n, k], &numbers(n * k, 3));
    for kernel in Kernel::available() {
        let mut normed = Rows::zeros(t, k);
        for (row, normed) in normed.data_mut().chunks_exact_mut(k).enumerate() {
            elementwise::rms_norm(kernel, x.row(row), Some(&gain), 1e-5, normed);
        }
        let apart = Packed::new(f32_tiles(kernel), &normed, None);
        let fused = Packed::new(f32_tiles(kernel), &x, Some(Norm { gain: Some(&gain), eps: 1e-5 }));
        assert_eq!(rows_of(&apart), rows_of(&fused));
        let [g, u] = linear(&apart, [&gate, &up]);
        assert_eq!([&g, &u], [&first(linear(&apart, [&gate])), &first(linear(&apart, [&up]))]);
        let mut expected = g.clone();
        elementwise::silu_mul(kernel, expected.data_mut(), u.data());
        let hidden = swiglu(&fused, &gate, &up);
        assert_eq!(rows_of(&hidden), rows_of(&Packed::new(f32_tiles(kernel), &expected, None)));
        let mut sum = expected.clone();
        linear_add(&fused, &gate, &mut sum);
        assert!(sum.data().iter().zip(expected.data()).zip(g.data()).all(|((sum, a), b)| *sum == a + b));
    }
}

#[test]
fn hidden_rows_are_packed_as_any_others() {
    for (t, n) in [(45, 101), (7, 96), (33, 194)] {
        let k = 40;
        let x = Rows::from_vec(t, k, numbers(t * k, 1));
        let [gate, up] = [2, 3].map(|seed| Tensor::from_f32("w", vec![n, k], &numbers(n * k, seed)));
        fn check<T: Tiles>(tiles: T, x: &Rows, gate: &Tensor, up: &Tensor)
        where
            T::Number: PartialEq + std::fmt::Debug,
        {
            let packed = Packed::new(tiles, x, None);
            let [mut g, u] = linear(&packed, [gate, up]);
            elementwise::silu_mul(tiles.kernel(), g.data_mut(), u.data());
            let expected = Packed::new(tiles, &g, None);
            let found = swiglu(&packed, gate, up);
            assert_eq!(rows_of(&found), rows_of(&expected));
        }
        for kernel in Kernel::available() {
            check(F32Tiles { kernel, precision: Precision::Bf16 }, &x, &gate, &up);
            if let Some(tiles) = Bf16Tiles::new(kernel) {
                check(tiles, &x, &gate, &up);
            }
            if let Some(tiles) = SplitTiles::new(kernel, Precision::F32) {
                check(tiles, &x, &gate, &up);
            }
        }
    }
}
