//! A sparse autoencoder, whatever file it came from.

use llamascope_compute::Tensor;
use llamascope_record::Tap;

/// Which reading of a Llama Scope checkpoint is meant (see docs/numerics.md for the formulas).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Convention {
    Saelens,
    Openmoss,
    Neuronpedia,
}

/// What makes a pre-activation active.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// Active iff above zero.
    Relu,
    /// Active iff above the feature's threshold and above zero, `[d_sae]`.
    JumpRelu(Vec<f32>),
    /// Active iff among the `k` largest of the row (ties by ascending id) and above zero.
    TopK(usize),
}

/// How a row is changed before the encoder sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum InputNorm {
    /// Not at all.
    None,
    /// Scaled to length `sqrt(d_in)` (`constant_norm_rescale`).
    ConstantNorm,
    /// Mean removed, divided by the standard deviation (`layer_norm`; eps as in the source).
    LayerNorm {
        /// Added to the standard deviation.
        eps: f32,
    },
}

/// The encoder half of an SAE, brought to one form:
/// `h = scale * (W . norm(x - input_bias)) + bias`, `value = gain * h`, active iff the activation says so of `value`.
pub struct Sae {
    /// Where it reads.
    pub tap: Tap,
    /// `[d_sae, d_in]`, in the file's type and in place where the file has this layout.
    pub w_enc: Tensor,
    /// `[d_sae]`.
    pub bias: Vec<f32>,
    /// Subtracted from the row first, `[d_in]`.
    pub input_bias: Option<Vec<f32>>,
    /// Row normalisation.
    pub input_norm: InputNorm,
    /// Factor on the product.
    pub scale: f32,
    /// Factor on the pre-activation, `[d_sae]`; none means 1.
    pub gain: Option<Vec<f32>>,
    /// Which values are active.
    pub activation: Activation,
}
