//! The shape of a Llama: everything by which one model of the family differs from another, as data.

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
