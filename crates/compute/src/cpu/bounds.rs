//! How far a product in bf16 can be from the one in f32, and so what a feature's value is at the most and at the least.
//!
//! With `x^` and `w^` the rounded operands and `d = x - x^`,
//!
//! `|fl(w^ . x^) - fl(w . x)| <= |w| |d| + |w - w^| |x^| + (g1 + g2) |w| |x|`
//!
//! by Cauchy and Schwarz, where `g = n u / (1 - n u)` covers the roundings of a sum of depth `n` (Higham 2002, section
//! 3.1): `g1` those of the first pass, `g2` those of the f32 path. For stored bf16 weights `w = w^`. All norms and
//! bounds are rounded up by more than their own rounding.

#![allow(unsafe_code)] // what `vectorized` expands to

use rayon::prelude::*;

use super::encode::LOOKED_AT;
use super::kernel::{Kernel, vectorized};
use super::tiles::{round_to_bf16, unpack_f32};
use super::{Precision, elementwise};
use crate::{Dtype, EncoderSpec, Rows, Select, Tensor};

/// Unit roundoff of f32.
const U: f32 = 1.0 / (1 << 24) as f32;
/// More than the rounding of anything that is computed for a bound.
const UP: f32 = 1.0 + 1e-5;
/// More than what flushing subnormal numbers to zero can change in a sum.
const TINY: f32 = 1e-30;
/// Lengths of a matrix's rows, for the bounds.
pub(super) struct WeightNorms {
    /// `|w|`, rounded up.
    length: Vec<f32>,
    /// `|w - w^|`, rounded up.
    rounding: Vec<f32>,
}

impl WeightNorms {
    pub(super) fn new(kernel: Kernel, w: &Tensor) -> Self {
        let norms = (0..w.n_rows()).into_par_iter().with_min_len(64).map_init(
            || vec![0f32; w.n_cols()],
            |row, r| {
                unpack_f32(kernel, w.dtype(), w.row(r), Precision::F32, row);
                let mut norms = [0f32; 2];
                norms_of(kernel, row, &mut norms);
                (norms[0], if w.dtype() == Dtype::Bf16 { 0.0 } else { norms[1] })
            },
        );
        let (length, rounding) = norms.unzip();
        WeightNorms { length, rounding }
    }
}

vectorized! {
    /// Length of a row, and of what rounding it to bf16 changes; both rounded up.
    fn norms_of(row: &[f32], norms: &mut [f32; 2]) {
        let squares = elementwise::fold(row, 0.0, |sum, x| x.mul_add(x, sum), |a, b| a + b);
        let change = |sum: f32, x: f32| {
            let d = x - round_to_bf16(x);
            d.mul_add(d, sum)
        };
        let changes = elementwise::fold(row, 0.0, change, |a, b| a + b);
        *norms = [squares.sqrt() * UP * UP, changes.sqrt() * UP * UP];
    }
}

/// Factors of the rows in their bounds.
pub(super) struct RowBounds {
    /// For the length of the weights.
    length: Vec<f32>,
    /// For what rounding changes of the weights.
    rounding: Vec<f32>,
}

impl RowBounds {
    /// `depth`: roundings between a product and the sum that it ends up in, those of both passes together.
    pub(super) fn new(kernel: Kernel, x: &Rows, depth: usize) -> Self {
        let accumulation = depth as f32 * U * 1.01;
        let bounds = (0..x.n()).into_par_iter().with_min_len(16).map(|row| {
            let mut norms = [0f32; 2];
            norms_of(kernel, x.row(row), &mut norms);
            let [length, change] = norms;
            // |x^| is at most 2^-8 longer than |x|.
            ((change + accumulation * length * 1.01) * UP, length * 1.01)
        });
        let (length, rounding) = bounds.unzip();
        RowBounds { length, rounding }
    }

    /// Those of a row.
    pub(super) fn of(&self, row: usize) -> RowBound {
        RowBound { length: self.length[row], rounding: self.rounding[row] }
    }
}

/// What a row brings to the bounds of its values.
#[derive(Clone, Copy)]
pub(super) struct RowBound {
    length: f32,
    rounding: f32,
}

/// What a feature's value must exceed.
pub(super) fn threshold_of(select: Select<'_>, id: usize) -> f32 {
    if let Select::Above(thresholds) = select { thresholds[id] } else { 0.0 }
}

/// One feature of an encoder.
pub(super) struct Feature {
    length: f32,
    rounding: f32,
    scale: f32,
    bias: f32,
    gain: f32,
    /// Rounded down.
    pub threshold: f32,
}

/// What [`glance`] looks at of some features: `slope * dot + start + length * row's + rounding * row's + share * |dot|` is more
/// than a value.
pub(super) struct Glance {
    slope: [f32; LOOKED_AT],
    start: [f32; LOOKED_AT],
    length: [f32; LOOKED_AT],
    rounding: [f32; LOOKED_AT],
    share: [f32; LOOKED_AT],
    threshold: [f32; LOOKED_AT],
}

impl Glance {
    /// Of up to [`LOOKED_AT`] features.
    pub(super) fn new(features: &[Feature]) -> Self {
        let none = [0f32; LOOKED_AT];
        let (slope, start, length, rounding, share, threshold) = (none, none, none, none, none, none);
        let mut glance = Glance { slope, start, length, rounding, share, threshold };
        for (i, feature) in features.iter().enumerate() {
            let Feature { scale, bias, gain, .. } = *feature;
            let (slope, start) = (scale * gain, bias * gain);
            // Four times as many roundings as there are.
            let share = 32.0 * U;
            let more = share * start.abs() + 2.0 * TINY * (slope.abs() + gain.abs() + 1.0);
            let steep = slope.abs() * (1.0 + 1e-4);
            // Products that were rounded by more than U say nothing: with a NaN everything is possible.
            let sound = scale == 0.0 || gain == 0.0 || (slope.is_finite() && slope.abs() > TINY);
            glance.slope[i] = slope;
            glance.start[i] = if sound { start + more } else { f32::NAN };
            glance.length[i] = steep * feature.length;
            glance.rounding[i] = steep * feature.rounding;
            glance.share[i] = steep * share;
            glance.threshold[i] = feature.threshold;
        }
        glance
    }
}

impl Feature {
    pub(super) fn new(id: usize, norms: &WeightNorms, spec: &EncoderSpec<'_>) -> Self {
        let (length, rounding) = (norms.length[id], norms.rounding[id]);
        let threshold = threshold_of(spec.select, id).max(0.0) * (1.0 - U) - TINY;
        let gain = spec.gain.map_or(1.0, |gain| gain[id]);
        Feature { length, rounding, scale: spec.scale, bias: spec.bias[id], gain, threshold }
    }

    /// Its value's bounds where the first pass says `dot` (without a bound: infinite, never NaN).
    pub(super) fn bounds(&self, dot: f32, row: RowBound) -> (f32, f32) {
        let bound = (self.length * row.length + self.rounding * row.rounding) * UP + TINY;
        let product = self.scale * dot;
        let value = (product + self.bias) * self.gain;
        // The last term covers the roundings of the values themselves, here and in f32.
        let error = self.scale.abs() * bound + 8.0 * U * (product.abs() + self.bias.abs());
        let error = error * self.gain.abs() * UP + TINY;
        let upper = value + error;
        // A NaN is no reason to drop a feature: the exact value decides.
        (f32::max(value - error, f32::NEG_INFINITY), if upper.is_nan() { f32::INFINITY } else { upper })
    }
}

vectorized! {
    /// For each feature a bit, those of a [`Glance`] together: whether it may be active, and not below the `floor`, in a row
    /// whose dot products these are. Cheaper than [`Feature::bounds`], and never says no where that says yes.
    pub(super) fn glance(dots: &[f32], features: &[Glance], row: RowBound, floor: f32, bits: &mut [u32]) {
        let (whole, rest) = dots.as_chunks::<LOOKED_AT>();
        for ((dots, features), bits) in whole.iter().zip(features).zip(bits.iter_mut()) {
            *bits = not_ruled_out(dots, features, row, floor);
        }
        if !rest.is_empty() {
            let mut padded = [0f32; LOOKED_AT];
            padded[..rest.len()].copy_from_slice(rest);
            // Numbers beyond the last are no features.
            let features_left = u32::MAX >> (LOOKED_AT - rest.len());
            bits[whole.len()] = not_ruled_out(&padded, &features[whole.len()], row, floor) & features_left;
        }
    }
}

#[inline(always)]
fn not_ruled_out(dots: &[f32; LOOKED_AT], features: &Glance, row: RowBound, floor: f32) -> u32 {
    let mut ruled_out = [0u32; LOOKED_AT];
    for j in 0..LOOKED_AT {
        let (dot, threshold) = (dots[j], features.threshold[j]);
        let share = features.share[j] * dot.abs();
        let more = features.length[j].mul_add(row.length, features.rounding[j].mul_add(row.rounding, share));
        let most = features.slope[j].mul_add(dot, features.start[j]) + more;
        let least = if floor > threshold { floor } else { threshold };
        ruled_out[j] = if most < least { 1 << j } else { 0 };
    }
    !ruled_out.iter().fold(0, |all, bit| all | bit)
}
