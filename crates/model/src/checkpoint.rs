//! A model on disk: a Hugging Face folder or a GGUF file. Foreign tensor names stop here.

use std::path::{Path, PathBuf};

use llamascope_compute::Tensor;
use llamascope_weights::TensorMap;

use crate::{Config, Error, Tokenizer};

/// The tensors of one decoder layer; matrices are `[out, in]`, norms are vectors.
pub struct LayerWeights {
    /// Gain of the norm before attention, `[d_model]`.
    pub attn_norm: Vec<f32>,
    /// `[n_heads * head_dim, d_model]`.
    pub q: Tensor,
    /// `[n_kv_heads * head_dim, d_model]`.
    pub k: Tensor,
    /// `[n_kv_heads * head_dim, d_model]`.
    pub v: Tensor,
    /// `[d_model, n_heads * head_dim]`.
    pub o: Tensor,
    /// Gain of the norm before the MLP, `[d_model]`.
    pub mlp_norm: Vec<f32>,
    /// `[d_ff, d_model]`.
    pub gate: Tensor,
    /// `[d_ff, d_model]`.
    pub up: Tensor,
    /// `[d_model, d_ff]`.
    pub down: Tensor,
}

/// An open model: config and tokenizer read, weights mapped and untouched.
pub struct Checkpoint {
    /// Hyperparameters.
    pub config: Config,
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// The mapped tensors.
    pub tensors: TensorMap,
    /// Files besides the tensors (config.json, tokenizer.json).
    pub files: Vec<PathBuf>,
}

impl Checkpoint {
    /// Opens a folder in Hugging Face layout, or a `.gguf` file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let _ = path;
        unimplemented!()
    }

    /// The token embedding, `[vocab, d_model]`.
    pub fn embedding(&self) -> Result<Tensor, Error> {
        unimplemented!()
    }

    /// The tensors of layer `layer`, shapes checked.
    pub fn layer(&self, layer: usize) -> Result<LayerWeights, Error> {
        let _ = layer;
        unimplemented!()
    }

    /// Gain of the norm after the last layer, `[d_model]`.
    pub fn final_norm(&self) -> Result<Vec<f32>, Error> {
        unimplemented!()
    }

    /// The unembedding, `[vocab, d_model]` (the embedding where tied).
    pub fn head(&self) -> Result<Tensor, Error> {
        unimplemented!()
    }
}
