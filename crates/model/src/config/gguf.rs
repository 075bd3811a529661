//! The metadata of a GGUF file of architecture `llama` (ggml's docs/gguf.md; what llama.cpp's `convert_hf_to_gguf.py`
//! writes).

use std::path::Path;

use llamascope_weights::Gguf;

use super::{Config, DEFAULT_THETA, Rope, RopeLayout, RopeScaling, SUPPORTED};
use crate::Error;

impl Config {
    /// The metadata of an open file, with the sizes of its tensors where the metadata has none.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        let path = gguf.tensors.path();
        check_variant(path, gguf)?;

        let n_heads = size(gguf, "llama.attention.head_count")?;
        let d_model = size(gguf, "llama.embedding_length")?;
        let head_dim = head_dim(path, gguf, d_model, n_heads)?;
        let embedding = gguf.tensors.get("token_embd.weight")?;
        Config {
            n_layers: size(gguf, "llama.block_count")?,
            d_model,
            n_heads,
            n_kv_heads: opt_size(gguf, "llama.attention.head_count_kv")?.unwrap_or(n_heads),
            head_dim,
            d_ff: size(gguf, "llama.feed_forward_length")?,
            vocab: embedding.n_rows(),
            rms_eps: gguf.f64("llama.attention.layer_norm_rms_epsilon")? as f32,
            context: size(gguf, "llama.context_length")?,
            rope: rope(path, gguf, head_dim)?,
            tied_head: !gguf.tensors.contains("output.weight"),
        }
        .checked(path)
    }
}

/// Saturates, where a size does not fit: the limits refuse it afterwards.
fn opt_size(gguf: &Gguf, key: &str) -> Result<Option<usize>, Error> {
    Ok(gguf.opt_u64(key)?.map(|size| usize::try_from(size).unwrap_or(usize::MAX)))
}

fn size(gguf: &Gguf, key: &str) -> Result<usize, Error> {
    Ok(usize::try_from(gguf.u64(key)?).unwrap_or(usize::MAX))
}

fn check_variant(path: &Path, gguf: &Gguf) -> Result<(), Error> {
    let architecture = gguf.str("general.architecture")?;
    let what = if architecture != "llama" {
        format!("its architecture is `{architecture}`; supported: `llama`, that is {SUPPORTED}")
    } else if let Some(experts) = gguf.opt_u64("llama.expert_count")?.filter(|experts| *experts > 0) {
        format!("a mixture of {experts} experts; only dense models are supported")
    } else if let Some(parts) = gguf.opt_u64("split.count")?.filter(|parts| *parts > 1) {
        format!("one of {parts} parts; join them first: llama-gguf-split --merge FIRST_PART WHOLE.gguf")
    } else {
        return Ok(());
    };
    Err(Error::unsupported(path, what))
}

fn head_dim(path: &Path, gguf: &Gguf, d_model: usize, n_heads: usize) -> Result<usize, Error> {
    let head_dim = match opt_size(gguf, "llama.attention.key_length")? {
        Some(head_dim) => head_dim,
        None if n_heads > 0 && d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => {
            let what = format!(
                "no `llama.attention.key_length`, and the width {d_model} does not divide into {n_heads} heads"
            );
            return Err(Error::unsupported(path, what));
        }
    };
    for (key, why) in [
        ("llama.attention.value_length", "keys and values of different widths are not supported"),
        ("llama.rope.dimension_count", "only heads that are rotated whole are supported"),
    ] {
        if let Some(other) = opt_size(gguf, key)?.filter(|other| *other != head_dim) {
            return Err(Error::unsupported(path, format!("`{key}` is {other}, the head size is {head_dim}; {why}")));
        }
    }
    Ok(head_dim)
}

fn rope(path: &Path, gguf: &Gguf, head_dim: usize) -> Result<Rope, Error> {
    let theta = gguf.opt_f64("llama.rope.freq_base")?.unwrap_or(DEFAULT_THETA) as f32;
    let kind = gguf.opt_str("llama.rope.scaling.type")?.unwrap_or("none");
    let factor = match kind {
        "none" => None,
        "linear" => Some(gguf.f64("llama.rope.scaling.factor")? as f32),
        other => {
            let what = format!(
                "rope scaling of type `{other}`; supported: `none`, `linear`, and llama3's `rope_freqs.weight`"
            );
            return Err(Error::unsupported(path, what));
        }
    };
    let scaling = if gguf.tensors.contains("rope_freqs.weight") {
        let divisors = gguf.tensors.get("rope_freqs.weight")?.expect_shape(&[head_dim / 2]);
        let divisors = divisors.map_err(|source| Error::Shape { path: path.into(), source })?;
        RopeScaling::Divisors(divisors.to_f32().iter().map(|divisor| divisor * factor.unwrap_or(1.0)).collect())
    } else {
        factor.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor })
    };
    Ok(Rope { theta, scaling, layout: RopeLayout::Interleaved })
}
