//! Writes small SAEs to disk.

use std::path::Path;

use half::bf16;
use safetensors::tensor::{Dtype, TensorView, serialize};

/// A tensor to be written: f32, or rounded to bf16.
pub struct Named<'a>(pub &'a str, pub &'a [usize], pub &'a [f32]);

pub fn write_tensors(path: &Path, dtype: Dtype, tensors: &[Named]) {
    let encoded: Vec<Vec<u8>> = tensors
        .iter()
        .map(|Named(_, _, values)| match dtype {
            Dtype::BF16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&encoded)
        .map(|(Named(name, shape, _), bytes)| (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, serialize(views, None).unwrap()).unwrap();
}

/// Numbers in -1..1 that bf16 holds exactly, from a linear congruential generator.
pub fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0) as f32
    };
    (0..len).map(|_| bf16::from_f32(next()).to_f32()).collect()
}

/// The numbers of an SAE, features along the rows of `enc: [d_sae, d_in]` and the columns of `dec: [d_in, d_sae]`.
pub struct Numbers {
    pub d_in: usize,
    pub d_sae: usize,
    pub enc: Vec<f32>,
    pub b_enc: Vec<f32>,
    pub dec: Vec<f32>,
    pub b_dec: Vec<f32>,
}

impl Numbers {
    /// Decoder lengths differ from feature to feature by up to a factor of about 30.
    pub fn new(d_in: usize, d_sae: usize) -> Self {
        let mut dec = numbers(3, d_in * d_sae);
        for (i, v) in dec.iter_mut().enumerate() {
            *v *= [0.125, 0.5, 1.0, 4.0][i % d_sae % 4];
        }
        let (enc, b_enc, b_dec) = (numbers(1, d_sae * d_in), numbers(2, d_sae), numbers(4, d_in));
        Numbers { d_in, d_sae, enc, b_enc, dec, b_dec }
    }

    /// w_j.x
    pub fn product(&self, feature: usize, x: &[f64]) -> f64 {
        self.enc[feature * self.d_in..][..self.d_in].iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum()
    }

    /// n_j
    pub fn norm(&self, feature: usize) -> f64 {
        (0..self.d_in).map(|i| f64::from(self.dec[i * self.d_sae + feature]).powi(2)).sum::<f64>().sqrt()
    }
}

pub fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col])).collect()
}

/// As [`llamascope_sae::reference::encode`] orders features; those of no value left out.
pub fn ordered(values: impl Iterator<Item = (u32, f64)>) -> Vec<(u32, f64)> {
    let mut features: Vec<_> = values.collect();
    features.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    features
}

pub fn assert_close(found: &[(u32, f32)], expected: &[(u32, f64)]) {
    let ids = |n: usize| (found.get(n).map(|f| f.0), expected.get(n).map(|e| e.0));
    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    for (n, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_eq!(f.0, e.0, "{:?}", ids(n));
        assert!((f64::from(f.1) - e.1).abs() <= 1e-5 * e.1.abs(), "feature {}: {} for {}", f.0, f.1, e.1);
    }
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}
