//! The canonical form computed plainly in f64: slow, short, and the oracle for everything faster.

use crate::{Activation, Sae};

/// The active features of one row `x: [d_in]` (as it comes from the model), by value descending, then id ascending.
///
/// Products are summed in f64 and the value is rounded to f32 once, before it is compared with the f32 threshold.
///
/// # Panics
/// When `x` is not of length `d_in`.
pub fn encode(sae: &Sae, x: &[f32]) -> Vec<(u32, f32)> {
    assert_eq!(x.len(), sae.d_in(), "width of the row");
    let (shift, divisor) = sae.input_norm.shift_and_divisor(x);
    let bias = |i: usize| sae.input_bias.as_ref().map_or(0.0, |bias| f64::from(bias[i]));
    let x: Vec<f64> = x.iter().enumerate().map(|(i, &v)| (f64::from(v) - shift) / divisor - bias(i)).collect();

    let mut weights = vec![0.0; sae.d_in()];
    let mut features: Vec<(u32, f32)> = Vec::with_capacity(sae.d_sae());
    for feature in 0..sae.d_sae() {
        sae.w_enc.dtype().dequantize(sae.w_enc.row(feature), &mut weights);
        let product: f64 = weights.iter().zip(&x).map(|(&w, x)| f64::from(w) * x).sum();
        let h = f64::from(sae.scale) * product + f64::from(sae.bias[feature]);
        let gain = sae.gain.as_ref().map_or(1.0, |gain| f64::from(gain[feature]));
        features.push((feature as u32, (gain * h) as f32));
    }
    features.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    match &sae.activation {
        Activation::Relu => {}
        Activation::JumpRelu(thresholds) => features.retain(|&(id, value)| value > thresholds[id as usize]),
        Activation::TopK(k) => features.truncate(*k),
    }
    features.retain(|&(_, value)| value > 0.0);
    features
}
