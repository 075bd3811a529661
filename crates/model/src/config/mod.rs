//! The shape of a Llama: everything by which one model of the family differs from another, as data.

mod gguf;
mod huggingface;

use std::path::Path;

use crate::Error;

/// What is supported, for messages about what is not.
pub(crate) const SUPPORTED: &str = "LlamaForCausalLM (Llama 2, 3, 3.1, 3.2, SmolLM2)";

/// Base of the rotary wavelengths where a checkpoint names none (Llama 2's).
const DEFAULT_THETA: f64 = 10000.0;

/// Most decoder layers accepted; the largest Llama has 126.
const MAX_LAYERS: usize = 1 << 10;
/// Widest residual stream, attention or MLP accepted; the largest Llama's MLP has 53248.
const MAX_WIDTH: usize = 1 << 20;
/// Largest vocabulary accepted; Llama 3's has 128256 tokens.
const MAX_VOCAB: usize = 1 << 22;
/// Longest context accepted; 128 times Llama 3.1's.
const MAX_CONTEXT: usize = 1 << 24;

/// How far apart the two numbers of a rotated pair stand in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Number `i` turns with number `i + head_dim / 2` (Hugging Face checkpoints).
    Halves,
    /// Number `2 i` turns with number `2 i + 1` (GGUF files of architecture `llama`, whose q and k rows are permuted).
    Interleaved,
}

/// Changes to the rotation frequencies for long contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Llama 3.1's: low frequencies divided by `factor`, high ones kept, a smooth ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f32,
        /// `low_freq_factor`.
        low: f32,
        /// `high_freq_factor`.
        high: f32,
        /// `original_max_position_embeddings`.
        original_context: f32,
    },
    /// Divisors by frequency, `head_dim / 2` of them (GGUF's `rope_freqs.weight`).
    Divisors(Vec<f32>),
}

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f32,
    /// Long-context scaling.
    pub scaling: RopeScaling,
    /// Which numbers form a pair.
    pub layout: RopeLayout,
}

/// The hyperparameters of a decoder, as the checkpoint states them (checked: all sizes positive and within limits,
/// heads divide, head_dim even).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Decoder layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub d_ff: usize,
    /// Size of the vocabulary (rows of the embedding).
    pub vocab: usize,
    /// Epsilon of every RMSNorm.
    pub rms_eps: f32,
    /// Longest context in tokens (`max_position_embeddings`).
    pub context: usize,
    /// Rotary embedding.
    pub rope: Rope,
    /// Whether the head is the embedding.
    pub tied_head: bool,
}

impl Config {
    /// Itself, when the numbers make a model: `path` is where they were read, for messages.
    fn checked(self, path: &Path) -> Result<Self, Error> {
        let err = |what: String| Err(Error::unsupported(path, what));
        let sizes = [
            ("number of layers", self.n_layers, MAX_LAYERS),
            ("hidden size", self.d_model, MAX_WIDTH),
            ("number of attention heads", self.n_heads, MAX_WIDTH),
            ("number of key-value heads", self.n_kv_heads, self.n_heads),
            ("head size", self.head_dim, MAX_WIDTH),
            ("attention width (heads x head size)", self.n_heads.saturating_mul(self.head_dim), MAX_WIDTH),
            ("MLP width", self.d_ff, MAX_WIDTH),
            ("vocabulary", self.vocab, MAX_VOCAB),
            ("context length", self.context, MAX_CONTEXT),
        ];
        for (name, size, max) in sizes {
            if size == 0 || size > max {
                return err(format!("the {name} is {size}, expected 1 to {max}"));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let (heads, kv) = (self.n_heads, self.n_kv_heads);
            return err(format!("{heads} attention heads cannot share {kv} key-value heads evenly"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return err(format!("the head size is {}, but rotary embedding needs an even one", self.head_dim));
        }
        if !(self.rms_eps >= 0.0 && self.rms_eps < 1.0) {
            return err(format!("the RMSNorm epsilon is {}, expected 0 to 1", self.rms_eps));
        }
        if !(self.rope.theta.is_finite() && self.rope.theta >= 1.0) {
            return err(format!("the rotary base is {}, expected a finite number from 1", self.rope.theta));
        }
        if !self.rope.scaling.is_sound(self.head_dim / 2) {
            return err(format!("the rotary scaling makes no sense: {:?}", self.rope.scaling));
        }
        Ok(self)
    }
}

impl RopeScaling {
    /// Whether all factors are finite and positive, in order, and as many as `n_frequencies` where there is one each.
    fn is_sound(&self, n_frequencies: usize) -> bool {
        let divides = |x: f32| x.is_finite() && x > 0.0;
        match self {
            RopeScaling::None => true,
            RopeScaling::Linear { factor } => divides(*factor),
            RopeScaling::Llama3 { factor, low, high, original_context } => {
                [*factor, *low, *high, *original_context].into_iter().all(divides) && low < high
            }
            RopeScaling::Divisors(divisors) => divisors.len() == n_frequencies && divisors.iter().copied().all(divides),
        }
    }
}
