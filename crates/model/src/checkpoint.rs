//! A model on disk: a Hugging Face folder or a GGUF file. Foreign tensor names stop here.
//!
//! Names: transformers' `modeling_llama.py`, and ggml's `gguf-py/gguf/constants.py` for architecture `llama`.

use std::path::{Path, PathBuf};

use llamascope_compute::{Dtype, Tensor};
use llamascope_weights::{Gguf, TensorMap};

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
    /// What the checkpoint calls its architecture: `LlamaForCausalLM`, or `llama` in a GGUF file.
    pub architecture: String,
    /// Hyperparameters.
    pub config: Config,
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// The mapped tensors.
    pub tensors: TensorMap,
    /// Files besides the tensors (config.json, tokenizer.json, tokenizer_config.json); none beside a GGUF file.
    pub files: Vec<PathBuf>,
    names: &'static Names,
}

/// The tensors of one storage type, for a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtypeShare {
    /// Storage type.
    pub dtype: Dtype,
    /// How many tensors have it.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Names of the tensors in a file; those of a layer stand behind `layers`, the number and a dot.
struct Names {
    embedding: &'static str,
    final_norm: &'static str,
    head: &'static str,
    layers: &'static str,
    attn_norm: &'static str,
    q: &'static str,
    k: &'static str,
    v: &'static str,
    o: &'static str,
    mlp_norm: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
}

const HUGGING_FACE: Names = Names {
    embedding: "model.embed_tokens.weight",
    final_norm: "model.norm.weight",
    head: "lm_head.weight",
    layers: "model.layers.",
    attn_norm: "input_layernorm.weight",
    q: "self_attn.q_proj.weight",
    k: "self_attn.k_proj.weight",
    v: "self_attn.v_proj.weight",
    o: "self_attn.o_proj.weight",
    mlp_norm: "post_attention_layernorm.weight",
    gate: "mlp.gate_proj.weight",
    up: "mlp.up_proj.weight",
    down: "mlp.down_proj.weight",
};

const GGUF: Names = Names {
    embedding: "token_embd.weight",
    final_norm: "output_norm.weight",
    head: "output.weight",
    layers: "blk.",
    attn_norm: "attn_norm.weight",
    q: "attn_q.weight",
    k: "attn_k.weight",
    v: "attn_v.weight",
    o: "attn_output.weight",
    mlp_norm: "ffn_norm.weight",
    gate: "ffn_gate.weight",
    up: "ffn_up.weight",
    down: "ffn_down.weight",
};

impl Checkpoint {
    /// Opens a folder in Hugging Face layout, or a `.gguf` file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let metadata = path.metadata().map_err(|source| Error::Io { path: path.into(), source })?;
        let checkpoint = if metadata.is_dir() {
            Checkpoint::open_folder(path)?
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            Checkpoint::open_gguf(path)?
        } else {
            let hint = match path.parent().filter(|folder| folder.join("config.json").exists()) {
                Some(folder) => format!("; give its folder instead: {}", folder.display()),
                None => String::new(),
            };
            let what = format!("expected a folder with a config.json, or a .gguf file{hint}");
            return Err(Error::unsupported(path, what));
        };
        if let Some(name) = checkpoint.tensors.names().find(|name| name.ends_with(".bias")) {
            let what = format!("it has a bias, `{name}`; only layers without biases are supported");
            return Err(Error::unsupported(path, what));
        }
        Ok(checkpoint)
    }

    fn open_folder(folder: &Path) -> Result<Self, Error> {
        let config_path = folder.join("config.json");
        if !config_path.exists() {
            return Err(Error::unsupported(
                folder,
                "no config.json in it; expected a folder in Hugging Face layout, or a .gguf file",
            ));
        }
        let config = Config::read(&config_path)?;
        let files = ["config.json", "tokenizer.json", "tokenizer_config.json"].map(|name| folder.join(name));
        Ok(Checkpoint {
            architecture: "LlamaForCausalLM".into(),
            tokenizer: Tokenizer::from_folder(folder, config.vocab)?,
            tensors: TensorMap::open_folder(folder)?,
            files: files.into_iter().filter(|file| file.exists()).collect(),
            names: &HUGGING_FACE,
            config,
        })
    }

    fn open_gguf(path: &Path) -> Result<Self, Error> {
        let gguf = Gguf::open(path)?;
        let config = Config::from_gguf(&gguf)?;
        Ok(Checkpoint {
            architecture: "llama".into(),
            tokenizer: Tokenizer::from_gguf(&gguf, config.vocab)?,
            tensors: gguf.tensors,
            files: Vec::new(),
            names: &GGUF,
            config,
        })
    }

    /// The token embedding, `[vocab, d_model]`.
    pub fn embedding(&self) -> Result<Tensor, Error> {
        self.tensor(self.names.embedding, &[self.config.vocab, self.config.d_model])
    }

    /// The tensors of layer `layer`, shapes checked.
    pub fn layer(&self, layer: usize) -> Result<LayerWeights, Error> {
        let Config { d_model, d_ff, head_dim, .. } = self.config;
        let (q_width, kv_width) = (self.config.n_heads * head_dim, self.config.n_kv_heads * head_dim);
        let names = self.names;
        let tensor = |name: &str, shape: &[usize]| self.tensor(&format!("{}{layer}.{name}", names.layers), shape);
        Ok(LayerWeights {
            attn_norm: tensor(names.attn_norm, &[d_model])?.to_f32(),
            q: tensor(names.q, &[q_width, d_model])?,
            k: tensor(names.k, &[kv_width, d_model])?,
            v: tensor(names.v, &[kv_width, d_model])?,
            o: tensor(names.o, &[d_model, q_width])?,
            mlp_norm: tensor(names.mlp_norm, &[d_model])?.to_f32(),
            gate: tensor(names.gate, &[d_ff, d_model])?,
            up: tensor(names.up, &[d_ff, d_model])?,
            down: tensor(names.down, &[d_model, d_ff])?,
        })
    }

    /// Gain of the norm after the last layer, `[d_model]`.
    pub fn final_norm(&self) -> Result<Vec<f32>, Error> {
        Ok(self.tensor(self.names.final_norm, &[self.config.d_model])?.to_f32())
    }

    /// The unembedding, `[vocab, d_model]` (the embedding where tied).
    pub fn head(&self) -> Result<Tensor, Error> {
        let name = if self.config.tied_head { self.names.embedding } else { self.names.head };
        self.tensor(name, &[self.config.vocab, self.config.d_model])
    }

    /// How the tensors are stored, most bytes first.
    pub fn dtypes(&self) -> Result<Vec<DtypeShare>, Error> {
        let mut shares: Vec<DtypeShare> = Vec::new();
        for name in self.tensors.names() {
            let tensor = self.tensors.get(name)?;
            let bytes = tensor.bytes().len() as u64;
            match shares.iter_mut().find(|share| share.dtype == tensor.dtype()) {
                Some(share) => {
                    share.tensors += 1;
                    share.bytes += bytes;
                }
                None => shares.push(DtypeShare { dtype: tensor.dtype(), tensors: 1, bytes }),
            }
        }
        // Stable, and the names are sorted: the same file always gives the same order.
        shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
        Ok(shares)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let shape_error = |source| Error::Shape { path: self.tensors.path().into(), source };
        self.tensors.get(name)?.expect_shape(shape).map_err(shape_error)
    }
}
